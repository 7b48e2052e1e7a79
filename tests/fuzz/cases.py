"""What strangers may write, for the fuzzers."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from tests.fuzzing import fuzzed

LONGEST = timedelta(seconds=5)
"""Nothing that a stranger wrote takes longer, on a busy machine."""


def cases(number: int) -> settings:
    """So many, or with ``--fuzz=FACTOR`` so many times as many; each has to end soon."""
    return settings(fuzzed(number), deadline=LONGEST)


def is_fit_to_be_told(error: BaseException, most: int = 1000) -> bool:
    """Whether a terminal and a journal can show the sentence, as one line that is not endless."""
    return str(error).isprintable() and 0 < len(str(error)) < most


NASTY_TEXT = st.text(max_size=40) | st.sampled_from(
    [
        "",
        "\0",
        "a\nb",
        "\x1b[2J\x1b]0;x\x07",
        "\ud800",
        "\udcff",
        "²",
        "$HOME",
        "%s%n",
        "../../etc",
        "/",
        "x" * 100_000,
        "\u202e",
    ]
)
NASTY_NUMBERS = st.integers() | st.sampled_from([-1, 0, 2**31, 2**63, 2**64, 10**400]) | st.floats()
SCALARS = st.none() | st.booleans() | NASTY_NUMBERS | NASTY_TEXT
JSON_VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NASTY_TEXT, inner, max_size=4), max_leaves=12
)


def json_objects(**values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects that have some of these keys, with what is meant or anything else, and perhaps others."""
    meant = st.fixed_dictionaries({}, optional={name: value | JSON_VALUES for name, value in values.items()})
    others = st.dictionaries(NASTY_TEXT, JSON_VALUES, max_size=2)
    return st.tuples(others, meant).map(lambda both: both[0] | both[1])


NO_JSON = st.sampled_from(
    [
        b"",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"1" * 100_000,
        b'{"uuid": ' + b"9" * 5000 + b"}",
        b"\xff\xfe{\x00}\x00",
        b"\xef\xbb\xbf{}",
        b'{"hash": NaN}',
        b"\0" * 4096,
    ]
)


@st.composite
def damaged(draw: st.DrawFn, texts: st.SearchStrategy[bytes]) -> bytes:
    """A text with some bytes replaced, cut out or put in."""
    text = bytearray(draw(texts))
    for _ in range(draw(st.integers(0, 4))):
        position = draw(st.integers(0, len(text)))
        text[position : position + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
    return bytes(text)


def texts_of(objects: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """JSON as a stranger leaves it: whole, damaged, or none at all."""
    whole = objects.map(lambda value: json.dumps(value).encode())
    return whole | damaged(whole) | NO_JSON | st.binary(max_size=200)
