"""Ignore rules, as distbackup writes them."""

from __future__ import annotations

import pytest

from distbackupd.model.errors import UsageError
from distbackupd.planning.patterns import Rules, check_rule


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
