from __future__ import annotations

import pytest
from sdbus import DbusAccessDeniedError, DbusFailedError, DbusNoReplyError, SdBusLibraryError

from distbackupd.control.trouble import why


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TimeoutError(), "the system bus does not answer"),
        (SdBusLibraryError("File: x Line: 3. y returned error number: 2"), "there is no system bus"),
        (SdBusLibraryError("File: x Line: 3. y returned error number: 111"), "there is no system bus"),
        (SdBusLibraryError("File: x Line: 3. y returned error number: 107"), "the system bus has ended"),
        (
            SdBusLibraryError("File: x Line: 3. y returned error number: 13"),
            "the system bus cannot be used (Permission denied)",
        ),
        (DbusNoReplyError("Connection terminated"), "the system bus has ended"),
        (DbusAccessDeniedError("not you"), "the system bus does not allow it (not you)"),
        (DbusFailedError("that"), "that"),
        (DbusFailedError(), "DbusFailedError"),
    ],
)
def test_why(error: BaseException, words: str) -> None:
    assert why(error) == words
