"""What goes wrong with the bus, as the second half of a sentence."""

from __future__ import annotations

import errno
import os
import re

from sdbus import DbusAccessDeniedError, DbusNoReplyError, SdBusLibraryError

_NUMBER = re.compile(r"error number: (\d+)")
_NO_BUS = {errno.ENOENT, errno.ECONNREFUSED}
_ENDED = {errno.ENOTCONN, errno.ECONNRESET, errno.EPIPE}


def why(error: BaseException) -> str:
    """``there is no system bus``, ``the system bus does not answer``, or what the bus said itself."""
    if isinstance(error, TimeoutError):
        return "the system bus does not answer"
    if isinstance(error, DbusNoReplyError) and str(error) == "Connection terminated":
        return "the system bus has ended"
    if isinstance(error, DbusAccessDeniedError):
        return f"the system bus does not allow it ({error})"
    number = _NUMBER.search(str(error)) if isinstance(error, SdBusLibraryError) else None
    if number is None:
        return str(error) or type(error).__name__
    code = int(number[1])
    if code in _NO_BUS:
        return "there is no system bus"
    return "the system bus has ended" if code in _ENDED else f"the system bus cannot be used ({os.strerror(code)})"
