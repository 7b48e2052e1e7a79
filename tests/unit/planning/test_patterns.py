"""Ignore rules, as distbackup writes them."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from distbackupd.model.errors import UsageError
from distbackupd.planning.patterns import Rules, check_new_rule, check_rule, doubt


@pytest.mark.parametrize(
    ("rule", "name", "priority"),
    [
        ("Thumbs.db", b"Thumbs.db", 0),
        ("Thumbs.db", b"Thumbs_db", None),
        ("Thumbs.db", b"my Thumbs.db", None),
        ("*.tmp", b"a.tmp", 0),
        ("*.tmp", b".tmp", 0),
        ("*.tmp", b"a.tmp~", None),
        ("*.tmp", b"line\nbreak.tmp", 0),
        ("*.tmp", b"\xff\xfe.tmp", 0),
        ("[ab]*", b"beta", 0),
        ("[!ab]*", b"beta", None),
        ("?name", b"name", 0),
        ("?name", b"xname", None),
        ("? a?c", b" abc", 0),
        (":*.tmp", b"*.tmp", 0),
        (":*.tmp", b"a.tmp", None),
        ("/^\\.", b".hidden", 0),
        ("/^\\.", b"not.hidden", None),
        ("/cache", b"my cache here", 0),
        ("!*.jpg", b"a.jpg", 1),
        ("!!*.jpg", b"a.jpg", 2),
        ("!!!:[x]", b"[x]", 3),
        ("! *.jpg", b"a.jpg", 1),
        ("  *.tmp  ", b"a.tmp", 0),
        ("A*", b"abc", None),
        ("a", b"a\n", None),
    ],
)
def test_priority_of_one_rule_is_as_documented(rule: str, name: bytes, priority: int | None) -> None:
    assert Rules([rule]).priority(name) == priority


def test_priority_first_matching_rule_decides() -> None:
    rules = Rules(["!keep.tmp", "*.tmp", "!!*"])
    assert [rules.priority(name) for name in (b"keep.tmp", b"a.tmp", b"other")] == [1, 0, 2]


def test_priority_own_rules_come_before_inherited_ones() -> None:
    above = Rules(["*.iso", "*.tmp"])
    rules = Rules(["!!*.iso"], above)
    assert [rules.priority(name) for name in (b"a.iso", b"a.tmp", b"a")] == [2, 0, None]
    assert above.priority(b"a.iso") == 0


def test_empty_without_rules_matches_nothing() -> None:
    assert Rules().empty
    assert Rules().priority(b"anything") is None
    assert not Rules([], Rules(["a"])).empty


@pytest.mark.parametrize("rule", ["", "!", "!!", ":", "?", "/", "/(", "/[", "/*a", "  "])
def test_check_rule_without_a_meaning_says_so(rule: str) -> None:
    with pytest.raises(UsageError, match=r"is no (pattern|regular expression)"):
        check_rule(rule)


@pytest.mark.parametrize(
    ("rule", "instead"),
    [
        ("cache/", "write 'cache' for whatever is called so"),
        (
            "sub/build",
            "write 'build' for whatever is called so, in the folder and below, or set that pattern for the folder 'sub'",
        ),
        ("a/b/c", "the folder 'a/b' below"),
        ("**/build", "write 'build' for"),
        ("**/", "nothing was changed"),
        ("./x", "write 'x' for"),
        ("../x", "write 'x' for"),
        (".", "nothing was changed"),
        ("..", "nothing was changed"),
        ("*/node_modules/**", "write 'node_modules' for"),
        ("cache/*", "write 'cache' for"),
        ("*.d/", "write '*.d' for"),
        ("?cache/", "write 'cache' for"),
        (":cache/", "write 'cache' for"),
        (":..", "nothing was changed"),
        ("!cache/", "write '!cache' for"),
        ("!!*/x", "write '!!x' for"),
        ("/cache/", "write 'cache' for"),
        ("/home/anna/cache", "the folder 'home/anna' below"),
        ("/^cache/$", "write 'cache' for"),
        ("/[ab]/x", "nothing was changed"),
        ("/\\.git/", "nothing was changed"),
        ("a\0b", "nothing was changed"),
    ],
)
def test_check_new_rule_that_can_match_no_name_says_what_to_write_instead(rule: str, instead: str) -> None:
    with pytest.raises(UsageError, match="can match no name, for patterns are matched against names") as refused:
        check_new_rule(rule)
    assert instead in str(refused.value)
    check_rule(rule)  # one that is stored already goes on doing nothing


@pytest.mark.parametrize(
    "rule",
    [
        "cache",
        "*.tmp",
        ".*",
        "...",
        "[!/]x",
        "x[a/]",
        "/a/?b",
        "/a(/b)?c",
        "/a|b/c",
        "/[^/]+",
        "/x/*",
        "/.",
        "/a/{0}",
        "[",
        "?[",
    ],
)
def test_check_new_rule_that_could_match_is_taken(rule: str) -> None:
    check_new_rule(rule)


@given(
    st.from_regex(r"(!{0,2})[:?/]?[a-z./*\[\]?|^$()\\]{1,8}", fullmatch=True),
    st.from_regex(r"[a-z.\[\]*?|^$()\\]{1,6}", fullmatch=True),
)
def test_what_check_new_rule_refuses_matches_nothing(rule: str, name: str) -> None:
    try:
        check_rule(rule)
    except UsageError:
        assume(False)
    try:
        check_new_rule(rule)
    except UsageError:
        assert name in (".", "..") or Rules([rule]).priority(name.encode()) is None


@pytest.mark.parametrize("rule", ["/cache", "/*a", "!/cache", "/cache*", "/a.b"])
def test_doubt_of_a_regular_expression_that_looks_like_a_path(rule: str) -> None:
    if rule == "/*a":
        with pytest.raises(UsageError, match=r"write '\*a', without"):
            check_new_rule(rule)
        return
    said = doubt(rule)
    assert said is not None
    assert said.startswith("'/' begins a regular expression, which may match anywhere in a name")
    assert said.endswith(f"write '{rule.replace('/', '')}'")


@pytest.mark.parametrize("rule", ["cache", "*.tmp", "/^cache$", "/\\.tmp", "?/x", ":/x", "!x"])
def test_doubt_of_what_does_as_it_looks_is_none(rule: str) -> None:
    assert doubt(rule) is None


def test_ignoring_tells_the_rule_that_decides() -> None:
    rules = Rules(["!keep*", "*.tmp"], Rules(["x", "*"]))
    assert [rules.ignoring(name) for name in (b"keep.tmp", b"a.tmp", b"x", b"y")] == [None, 1, 2, 3]
