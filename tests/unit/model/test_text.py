"""Sizes, times and paths as people say and write them."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from distbackupd.model.errors import UsageError
from distbackupd.model.text import join_words, parse_size, printable, say_count, say_duration, say_size

ANY = settings(max_examples=100, derandomize=True, deadline=None, database=None)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("500G", 500 * 10**9),
        ("7.4T", 7_400_000_000_000),
        ("10 GB", 10**10),
        ("2GiB", 2 << 30),
        ("1Ki", 1024),
        ("1.5kib", 1536),
        ("7,927,384,932,352", 7_927_384_932_352),
        ("1'000_000 000", 10**9),
        (" 12 m ", 12_000_000),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_parse_size_as_people_write_it(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "-5", "12Q", "G", "1.2.3", "1e9", "0x10", "ten", "5 bytes", "1,5G,", ".5G", "\u0665", "9" * 30, "8E6", "10E"],
)
def test_parse_size_what_is_none_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_size(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.00 kB"),
        (9_994, "9.99 kB"),
        (9_996, "10.0 kB"),
        (17_400, "17.4 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (212 * 10**9, "212 GB"),
        (7_927_384_932_352, "7.93 TB"),
        (2**63 - 1, "9.22 EB"),
        (10**22, "10000 EB"),
        (-1500, "-1.50 kB"),
    ],
)
def test_say_size_has_three_digits(size: int, said: str) -> None:
    assert say_size(size) == said


@ANY
@given(st.integers(0, 2**62))
def test_say_size_can_be_read_again_within_its_digits(size: int) -> None:
    said = say_size(size)
    if "byte" in said:
        assert said.split()[0] == str(size)
    else:
        assert abs(parse_size(said) - size) <= size * 0.006


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-1, "0.0 s"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (10, "10 s"),
        (99, "99 s"),
        (100, "2 min"),
        (3600, "1 h"),
        (6000, "1 h 40 min"),
        (86400, "24 h"),
        (3 * 86400, "3 days"),
    ],
)
def test_say_duration_has_what_matters(seconds: float, said: str) -> None:
    assert say_duration(seconds) == said


def test_say_count_knows_one_and_many() -> None:
    assert (say_count(1, "file"), say_count(0, "file"), say_count(12345, "file")) == ("1 file", "0 files", "12,345 files")
    assert (say_count(1, "copy", "copies"), say_count(2, "copy", "copies")) == ("1 copy", "2 copies")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"plain", "plain"),
        ("ä€𝄞".encode(), "ä€𝄞"),
        (b"line\nbreak\t\x1b[31m\x7f", "line\\nbreak\\t\\x1b[31m\\x7f"),
        (b"\xff\xfe", "\\xff\\xfe"),
        ("\u202e\u200b".encode(), "\\u202e\\u200b"),
    ],
)
def test_printable_escapes_what_a_terminal_must_not_get(raw: bytes, said: str) -> None:
    assert printable(raw) == said


@ANY
@given(st.one_of(st.binary(), st.text()))
def test_printable_anything_is_one_printable_line(raw: str | bytes) -> None:
    said = printable(raw)
    assert said.isprintable()
    said.encode()


def test_join_words_reads_like_a_sentence() -> None:
    assert [join_words(list(words)) for words in ("", "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]
