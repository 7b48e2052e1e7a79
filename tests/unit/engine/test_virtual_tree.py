"""Where virtual paths lie, and what is set for them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from distbackupd.engine.virtual_tree import VirtualTree, join, parent
from distbackupd.model.sources import FolderSettings, RealPath, Source


def tree_of(*sources: tuple[bytes, bytes], **settings: FolderSettings) -> VirtualTree:
    return VirtualTree([Source(*pair) for pair in sources], {os.fsencode(path): own for path, own in settings.items()})


@pytest.mark.parametrize(
    ("virtual", "real"),
    [
        (b"/", b"/top"),
        (b"/x", b"/top/x"),
        (b"/a", b"/real/a"),
        (b"/a/x/y", b"/real/a/x/y"),
        (b"/a-b", b"/other"),
        (b"/a-b/x", b"/other/x"),
        (b"/a-c", b"/top/a-c"),
        (b"/ab", b"/top/ab"),
        (b"/a/b/c", b"/deep"),
        (b"/a/b/c/x", b"/deep/x"),
        (b"/a/b/cd", b"/real/a/b/cd"),
    ],
)
def test_real_path_is_by_the_nearest_source_above(virtual: bytes, real: bytes) -> None:
    tree = tree_of((b"/a", b"/real/a"), (b"/", b"/top"), (b"/a/b/c", b"/deep"), (b"/a-b", b"/other"))
    assert tree.real_path(virtual).path == real


def test_real_path_outside_of_all_sources_is_none() -> None:
    assert tree_of((b"/a", b"/real")).real_path(b"/b") is None
    assert tree_of((b"/a", b"/real")).real_path(b"/") is None
    assert tree_of().real_path(b"/") is None


def test_real_path_source_at_the_real_root_has_one_slash() -> None:
    assert tree_of((b"/all", b"/")).real_path(b"/all/etc") == RealPath(b"/", b"etc")


def test_virtual_paths_of_a_real_folder_are_all_places_where_it_shows() -> None:
    tree = tree_of((b"/one", b"/data"), (b"/two", b"/data/sub"), (b"/one/hidden", b"/elsewhere"))
    assert tree.virtual_paths(b"/data/sub/x") == [b"/one/sub/x", b"/two/x"]
    assert tree.virtual_paths(b"/data") == [b"/one"]
    assert tree.virtual_paths(b"/data/hidden/x") == []
    assert tree.virtual_paths(b"/elsewhere") == [b"/one/hidden"]
    assert tree.virtual_paths(b"/database") == []


def test_virtual_paths_source_named_by_a_link_is_found_by_its_real_path(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    tree = tree_of((b"/s", os.fsencode(tmp_path / "link")))
    assert tree.virtual_paths(os.fsencode(tmp_path / "real" / "x")) == [b"/s/x"]
    assert tree.virtual_paths(os.fsencode(tmp_path / "link" / "x")) == [b"/s/x"]


def test_sources_below_are_not_those_at_the_path() -> None:
    tree = tree_of((b"/a", b"/1"), (b"/a/b", b"/2"), (b"/ab", b"/3"), (b"/", b"/4"))
    assert tree.sources_below(b"/a") == [b"/a/b"]
    assert sorted(tree.sources_below(b"/")) == [b"/a", b"/a/b", b"/ab"]


def test_locks_in_names_what_leads_to_a_lock() -> None:
    lock = FolderSettings(lock=True)
    tree = VirtualTree([], {b"/a/b/c": lock, b"/a/x": lock, b"/": lock, b"/z": FolderSettings(hide=True)})
    assert tree.locks_in(b"/") == {b"a"}
    assert tree.locks_in(b"/a") == {b"b", b"x"}
    assert tree.locks_in(b"/a/b") == {b"c"}
    assert tree.locks_in(b"/a/b/c") == set()


def test_context_inherits_down_to_the_folder_and_not_from_another_source() -> None:
    settings = {
        b"/": FolderSettings(priority=9, hide=True),
        b"/a": FolderSettings(priority=2, maxcopies=3, rules=("*.a",), follow_symlinks=True),
        b"/a/b": FolderSettings(lock=True, rules=("!keep.a",)),
        b"/a/b/c": FolderSettings(noinherit=True, rules=("*.c",)),
    }
    tree = VirtualTree([Source(b"/", b"/top"), Source(b"/a", b"/real")], settings)
    a, b, c = (tree.context(path) for path in (b"/a", b"/a/b", b"/a/b/c/d"))
    assert (a.priority, a.maxcopies, a.follow, a.locked, a.hidden) == (2, 3, True, False, False)
    assert (b.priority, b.maxcopies, b.follow, b.locked) == (2, 3, False, True)
    assert [b.rules.priority(name) for name in (b"x.a", b"keep.a", b"x")] == [0, 1, None]
    assert (c.locked, c.rules.priority(b"x.a"), c.rules.priority(b"x.c")) == (True, None, 0)
    assert tree.context(b"/elsewhere").hidden


def test_fingerprint_is_another_for_other_sources_or_settings() -> None:
    trees = [tree_of((b"/a", b"/1")), tree_of((b"/a", b"/2")), VirtualTree([], {b"/a": FolderSettings(lock=True)})]
    assert len({tree.fingerprint() for tree in trees}) == 3
    assert trees[0].fingerprint() == tree_of((b"/a", b"/1")).fingerprint()


def test_join_and_parent_know_the_root() -> None:
    assert (join(b"/", b"a"), join(b"/a", b"b")) == (b"/a", b"/a/b")
    assert (parent(b"/a/b"), parent(b"/a"), parent(b"/")) == (b"/a", b"/", b"/")
