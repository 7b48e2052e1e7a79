"""Extended attributes as one blob."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from distbackupd.catalogue.encoding import decode_xattrs, encode_xattrs


@settings(max_examples=50, derandomize=True, deadline=None, database=None)
@given(st.lists(st.tuples(st.binary(max_size=255), st.binary(max_size=3000)), max_size=5).map(tuple))
def test_decode_gives_what_was_encoded(xattrs: tuple[tuple[bytes, bytes], ...]) -> None:
    assert decode_xattrs(encode_xattrs(xattrs)) == xattrs


def test_decode_largest_value_comes_back() -> None:
    xattrs = ((b"user.large", b"x" * 65536),)
    assert decode_xattrs(encode_xattrs(xattrs)) == xattrs


def test_decode_truncated_blob_is_refused_everywhere() -> None:
    blob = encode_xattrs(((b"user.a", b"value"), (b"user.b", b"")))
    whole = {len(encode_xattrs(((b"user.a", b"value"),))), len(blob), 0}
    for length in set(range(len(blob))) - whole:
        with pytest.raises(ValueError, match="truncated"):
            decode_xattrs(blob[:length])
