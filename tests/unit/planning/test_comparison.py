"""What changed in a folder."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import Phase, given, settings

from distbackupd.model.files import Attributes, Entry, EntryFlag, EntryKind, KnownEntry
from distbackupd.planning.comparison import FolderComparison, compare_folder

PLAIN = Attributes(0o644, 0, 0)
ANY = settings(max_examples=200, derandomize=True, deadline=None, database=None, phases=[Phase.generate, Phase.shrink])


def entry(name: bytes = b"a", kind: EntryKind = EntryKind.FILE, **changes: object) -> Entry:
    plain = Entry(name, kind, 5, 100, 200, 1, 7, EntryFlag.NONE, PLAIN, b"", 1, 0, copies=0)
    return plain._replace(**changes)  # type: ignore[arg-type]


def known(seen: Entry, row: int = 1, attributes: int = 1) -> KnownEntry:
    reads = seen.kind == EntryKind.FILE and seen.size > 0
    return KnownEntry(row, *seen[:8], attributes, *seen[9:12], 99 if reads else None, seen.copies)


def owner_of(attributes: int) -> int:
    """Attributes 1 and 2 are root's, others of the user with that number."""
    return 0 if attributes < 3 else attributes


def only(comparison: FolderComparison) -> str:
    """The name of the one part that is not empty; empty if all are."""
    parts = [name for name, part in comparison._asdict().items() if part and name != "doubted"]
    assert len(parts) <= 1
    return parts[0] if parts else ""


@pytest.mark.parametrize("kind", EntryKind)
def test_compare_folder_unchanged_entry_is_nowhere(kind: EntryKind) -> None:
    seen = entry(kind=kind)
    assert only(compare_folder([known(seen)], [(seen, 1)], (), owner_of)) == ""


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"size": 6}, "read"),
        ({"mtime_ns": 101}, "read"),
        ({"inode": 8}, "read"),
        ({"ctime_ns": 201}, "touched"),
        ({"inode": 8, "device": 2}, "touched"),
        ({"inode": 0}, "touched"),
        ({"device": 2}, "touched"),
        ({"flags": EntryFlag.LINKED}, "touched"),
        ({"priority": 2}, "touched"),
        ({"maxcopies": 2}, "touched"),
        ({"size": 0}, "changed"),
        ({"kind": EntryKind.FIFO, "size": 0}, "changed"),
    ],
)
def test_compare_folder_changed_file_is_read_only_if_its_content_may_differ(change: dict[str, object], part: str) -> None:
    assert only(compare_folder([known(entry())], [(entry(**change), 1)], (), owner_of)) == part


@pytest.mark.parametrize(
    ("change", "doubted"),
    [
        ({}, False),
        ({"device": 2}, False),
        ({"flags": EntryFlag.LINKED}, False),
        ({"priority": 2}, False),
        ({"ctime_ns": 201}, True),
        ({"inode": 8, "device": 2}, True),
        ({"inode": 0}, True),
    ],
)
def test_compare_folder_same_size_and_time_are_doubted_when_something_was_done_to_the_file(
    change: dict[str, object], doubted: bool
) -> None:
    assert compare_folder([known(entry())], [(entry(**change), 1)], (), owner_of).doubted == ([b"a"] if doubted else [])
    changed_mode = compare_folder([known(entry())], [(entry(**change), 2)], (), owner_of)
    assert (only(changed_mode), changed_mode.doubted) == ("changed", [b"a"] if doubted else [])


def test_compare_folder_file_of_another_owner_stays_as_known_until_it_is_read() -> None:
    before = known(entry(), attributes=1000)
    seen = entry(ctime_ns=300)
    assert compare_folder([before], [(seen, 1)], (), owner_of) == FolderComparison([], [], [], [], [], [], [before])
    assert only(compare_folder([before], [(entry(inode=8), 1)], (), owner_of)) == "read"
    nobody_looked = before._replace(device=0, inode=0, ctime_ns=0)
    assert compare_folder([nobody_looked], [(seen, 1)], (), owner_of).doubted == [b"a"]


def test_compare_folder_other_attributes_make_a_version_with_the_same_object() -> None:
    comparison = compare_folder([known(entry())], [(entry(), 2)], (), owner_of)
    assert only(comparison) == "changed"
    assert comparison.changed[0][2] == 99


def test_compare_folder_file_that_takes_another_kinds_place_is_read() -> None:
    before = known(entry(kind=EntryKind.FOLDER))
    comparison = compare_folder([before], [(entry(), 1)], (), owner_of)
    assert comparison == FolderComparison([], [], [], [], [(entry(), before)], [], [])


def test_compare_folder_other_target_of_a_link_makes_a_version() -> None:
    link = entry(kind=EntryKind.SYMBOLIC_LINK, size=0, target=b"one")
    assert only(compare_folder([known(link)], [(link._replace(target=b"two"), 1)], (), owner_of)) == "changed"


def test_compare_folder_unreadable_name_stays_as_known() -> None:
    assert only(compare_folder([known(entry())], [], {b"a"}, owner_of)) == ""
    assert only(compare_folder([known(entry())], [], {b"b"}, owner_of)) == "gone"


@ANY
@given(
    st.dictionaries(st.binary(min_size=1, max_size=2), st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(1, 2))),
    st.dictionaries(st.binary(min_size=1, max_size=2), st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(1, 2))),
    st.sets(st.binary(min_size=1, max_size=2), max_size=3),
)
def test_compare_folder_any_two_states_put_each_name_in_one_part(
    before: dict[bytes, tuple[int, int, int]], now: dict[bytes, tuple[int, int, int]], unreadable: set[bytes]
) -> None:
    def make(name: bytes, values: tuple[int, int, int]) -> Entry:
        return entry(name, EntryKind(values[0]), size=values[1] if values[0] == 0 else 0, mtime_ns=values[2])

    now = {name: values for name, values in now.items() if name not in unreadable}
    rows = [known(make(name, values), row) for row, (name, values) in enumerate(before.items(), start=1)]
    comparison = compare_folder(rows, [(make(name, values), 1) for name, values in now.items()], unreadable, owner_of)
    assert {entry.name for entry in comparison.gone} == before.keys() - now.keys() - unreadable
    named = [
        *(entry.name for entry in comparison.new),
        *(entry.name for _, entry, _ in comparison.changed),
        *(entry.name for _, entry in comparison.touched),
        *(entry.name for entry, _ in comparison.read),
    ]
    assert len(named) == len(set(named))
    assert set(named) <= now.keys()
    assert now.keys() - set(named) == {
        name for name, values in now.items() if name in before and make(name, values) == make(name, before[name])
    }
