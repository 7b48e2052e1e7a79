from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distbackupd.catalogue.catalogue import Catalogue, open_catalogue
from distbackupd.model.files import Attributes, EntryFlag, EntryKind
from tests.unit.catalogue.making import add_disk, add_files, changes, digest, entry, object_id


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    with open_catalogue(tmp_path) as catalogue:
        yield catalogue


def rewrite(catalogue: Catalogue, folder: bytes, name: bytes, content: str | None, now: int, **values) -> None:
    """The file has this content from ``now`` on; None: it is gone."""
    known = {item.name: item.row for item in catalogue.files.folder(folder)}
    if content is None:
        recorded = changes(gone=[known[name]] if name in known else [])
    else:
        new = entry(name, size=len(content), **values)
        content_id = catalogue.files.claimed_object(digest(content), len(content))
        recorded = changes(changed=[(known[name], new, content_id)]) if name in known else changes(added=[(new, content_id)])
    catalogue.files.record_folder(folder, recorded, now)
    catalogue.files.finish_scan(now, whole=True)


def test_entries_of_a_moment_are_the_versions_that_were_known_then(catalogue: Catalogue) -> None:
    for now, content in ((100, "one"), (200, "second"), (300, None), (400, "back")):
        rewrite(catalogue, b"/a", b"file", content, now)
    rewrite(catalogue, b"/a", b"other", "stays", 150)
    found = {
        at: [(item.path, item.size) for item in catalogue.history.entries(b"/", at)] for at in (99, 100, 199, 200, 300, 400)
    }
    stays = (b"/a/other", 5)
    assert found == {
        99: [],
        100: [(b"/a/file", 3)],
        199: [(b"/a/file", 3), stays],
        200: [(b"/a/file", 6), stays],
        300: [stays],
        400: [(b"/a/file", 4), stays],
    }
    assert [item.path for item in catalogue.history.listing(b"/a/file", 199)] == [b"/a/file"]


def test_entries_held_by_some_come_with_folders_and_on_request_with_all_that_has_no_content(catalogue: Catalogue) -> None:
    disks = [add_disk(catalogue, "one"), add_disk(catalogue, "two")]
    catalogue.files.record_folder(
        b"/", changes(added=[(entry(b"a", EntryKind.FOLDER), None), (entry(b"link", EntryKind.SYMBOLIC_LINK), None)]), 1
    )
    add_files(catalogue, b"/a", b"x", b"y", b"z")
    catalogue.objects.record_copies(disks[0].id, [object_id(catalogue, b"/a/x"), object_id(catalogue, b"/a/y")])
    catalogue.objects.record_copies(disks[1].id, [object_id(catalogue, b"/a/y")])
    sets = catalogue.objects.holder_sets()

    def paths(disk: int | None, bare: bool) -> list[bytes]:
        held = [number for number, members in sets.items() if (disk in members if disk else not members)]
        return [item.path for item in catalogue.history.entries(b"/", held=held, bare=bare)]

    assert paths(disks[0].id, bare=True) == [b"/a", b"/link", b"/a/x", b"/a/y"]
    assert paths(disks[1].id, bare=False) == [b"/a", b"/a/y"]
    assert paths(None, bare=False) == [b"/a", b"/a/z"]
    assert [item.path for item in catalogue.history.entries(b"/", held=[], bare=False)] == [b"/a"]


def test_shares_are_told_by_holders_and_count_names_of_one_file_once(catalogue: Catalogue) -> None:
    disk = add_disk(catalogue, "one")
    add_files(catalogue, b"/a", b"x", b"y")
    add_files(catalogue, b"/a-b", b"z")
    for name in (b"first", b"second", b"third"):
        rewrite(catalogue, b"/a", name, "content", 10, inode=77, flags=EntryFlag.LINKED)
    catalogue.objects.record_copies(disk.id, [object_id(catalogue, b"/a/x")])
    assert catalogue.history.shares(b"/") == {frozenset({disk.id}): (1, 5), frozenset(): (3, 17)}
    assert catalogue.history.shares(b"/a") == {frozenset({disk.id}): (1, 5), frozenset(): (2, 12)}
    assert catalogue.history.shares(b"/a/first") == {frozenset(): (1, 7)}
    assert catalogue.history.shares(b"/", 5) == {frozenset({disk.id}): (1, 5), frozenset(): (2, 10)}


def test_names_of_a_file_are_those_that_share_its_inode_and_content(catalogue: Catalogue) -> None:
    for name in (b"one", b"two"):
        rewrite(catalogue, b"/", name, "content", 10, inode=77)
    rewrite(catalogue, b"/", b"reused number", "another", 20, inode=77)
    rewrite(catalogue, b"/", b"no number", "content", 20, inode=0)
    rewrite(catalogue, b"/", b"two", None, 30)
    found = {item.path: item for item in catalogue.history.entries(b"/")}
    assert catalogue.history.names_of(found[b"/one"]) == [b"/one"]
    assert catalogue.history.names_of(found[b"/one"], 20) == [b"/one", b"/two"]
    assert catalogue.history.names_of(found[b"/no number"]) == []


def test_versions_come_oldest_first_with_who_holds_them(catalogue: Catalogue) -> None:
    disk = add_disk(catalogue, "one")
    for now, content in ((100, "one"), (200, "second"), (300, None), (400, "back")):
        rewrite(catalogue, b"/a", b"file", content, now)
    rewrite(catalogue, b"/a-b", b"file", "elsewhere", 100)
    catalogue.objects.record_copies(disk.id, [*catalogue.objects.identifiers([digest("second")]).values()])
    found = [(item.seen, item.gone, item.size, item.is_held) for item in catalogue.history.versions(b"/a")]
    assert found == [(100, 200, 3, False), (200, 300, 6, True), (400, 0, 4, False)]
    assert [item.path for item in catalogue.history.versions(b"/")] == [b"/a/file"] * 3 + [b"/a-b/file"]


def test_began_at_is_when_the_first_entry_was_seen(catalogue: Catalogue) -> None:
    assert catalogue.history.began_at() is None
    rewrite(catalogue, b"/", b"file", "one", 100)
    rewrite(catalogue, b"/", b"file", "two", 200)
    assert catalogue.history.began_at() == 100


steps = st.lists(
    st.tuples(
        st.sampled_from([b"/", b"/a", b"/a/b", b"/a-b"]),
        st.sampled_from([b"x", b"y"]),
        st.sampled_from(["one", "two", "three", None]),
        st.sampled_from([0o644, 0o600]),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(steps, st.tuples(st.integers(0, 14), st.integers(0, 14)).map(sorted), st.sampled_from([b"/", b"/a"]))
def test_changes_are_the_difference_of_both_trees(tmp_path, steps, moments, prefix) -> None:
    before, after = moments
    for left in tmp_path.glob("distbackup.sqlite*"):
        left.unlink()
    with open_catalogue(tmp_path) as catalogue:
        for now, (folder, name, content, mode) in enumerate(steps, start=1):
            rewrite(catalogue, folder, name, content, now, attributes=Attributes(mode, 0, 0))
        trees = [
            {item.path: (item.size, item.digest, item.attributes) for item in catalogue.history.entries(prefix, at)}
            for at in moments
        ]
        expected = {}
        for path in trees[0].keys() | trees[1].keys():
            old, new = trees[0].get(path), trees[1].get(path)
            if old != new:
                both = old is not None and new is not None
                same = both and old[:2] == new[:2]
                expected[path] = "metadata" if same else "changed" if both else "new" if new else "gone"
        found = list(catalogue.history.changes(before, after, prefix))
        assert {change.path: change.what for change in found} == expected
        assert len(found) == len(expected)
        assert catalogue.history.shares(prefix, before) == (
            {frozenset(): (len(trees[0]), sum(size for size, _, _ in trees[0].values()))} if trees[0] else {}
        )
