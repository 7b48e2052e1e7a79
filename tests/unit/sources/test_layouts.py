"""What is this program's own in a folder, and what only looks so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from distbackupd.sources import layouts
from distbackupd.sources.layouts import OF_A_DISK, OF_THE_CATALOGUE, own_names

LAYOUT = {
    "README.txt",
    "bad-objects",
    "distbackup-disk.json",
    "distbackup-objects",
    "distbackup-restore.py",
    "distbackup-session.json",
    "distbackup-tmp",
    "distbackup.sqlite",
    "distbackup.sqlite.kept-1",
}
USERS = {"distbackup-notes.txt", "distbackups", "mydistbackup-disk.json", "photos", "readme.txt"}


def make(folder: Path, *names: str) -> None:
    for name in names:
        if name in ("distbackup-objects", "distbackup-tmp", "bad-objects", "photos", "rescued"):
            (folder / name).mkdir()
        else:
            (folder / name).write_text("{}")


def own(folder: Path, catalogue: bytes = b"") -> tuple[set[str], str]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        found, why = own_names(descriptor, sorted(os.listdir(os.fsencode(folder))), catalogue)
    finally:
        os.close(descriptor)
    return set(map(os.fsdecode, found)), why


def test_own_names_of_a_layout_are_those_and_no_others(tmp_path: Path) -> None:
    make(tmp_path, *LAYOUT, *USERS)
    assert own(tmp_path) == (LAYOUT, OF_A_DISK)


@pytest.mark.parametrize(
    "names",
    [
        ("distbackup-disk.json", "README.txt", "distbackup.sqlite"),
        ("distbackup-objects", "distbackup-tmp", "bad-objects"),
        ("README.txt",),
        (),
    ],
)
def test_own_names_without_identity_and_objects_are_none(tmp_path: Path, names: tuple[str, ...]) -> None:
    make(tmp_path, *names, *USERS)
    assert own(tmp_path) == (set(), "")


@pytest.mark.parametrize("which", ["distbackup-disk.json", "distbackup-objects"])
def test_own_names_are_none_where_a_link_or_another_thing_bears_the_name(tmp_path: Path, which: str) -> None:
    make(tmp_path, *LAYOUT - {which})
    make(tmp_path, "photos")
    (tmp_path / "photos" / "file").write_text("")
    (tmp_path / which).symlink_to("photos/file" if which.endswith("json") else "photos")
    assert own(tmp_path) == (set(), "")
    (tmp_path / which).unlink()
    os.mkfifo(tmp_path / which)
    assert own(tmp_path) == (set(), "")


def test_own_names_leave_the_users_leaflet(tmp_path: Path) -> None:
    make(tmp_path, "distbackup-disk.json", "distbackup-objects", "README.txt")
    assert own(tmp_path)[0] == {"distbackup-disk.json", "distbackup-objects"}


def test_own_names_of_the_catalogue_are_left_out_where_it_is_and_not_where_a_copy_is(tmp_path: Path) -> None:
    ours = {"distbackup.sqlite", "distbackup.sqlite-wal", "distbackup.sqlite.before-version-5", "engine.lock", "rescued"}
    for name in ("real", "copy"):
        (tmp_path / name).mkdir()
        make(tmp_path / name, *ours, *USERS)
    catalogue = os.fsencode(tmp_path / "real")
    assert own(tmp_path / "real", catalogue) == (ours, OF_THE_CATALOGUE)
    assert own(tmp_path / "copy", catalogue) == (set(), "")
    assert own(tmp_path / "real", os.fsencode(tmp_path / "nowhere")) == (set(), "")
    assert own(tmp_path / "real") == (set(), "")


def test_own_names_of_the_keys_are_left_out_where_they_are_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("etc", "home"):
        (tmp_path / folder / "keys").mkdir(parents=True)
    monkeypatch.setattr(layouts, "_OF_THE_KEYS", os.fsencode(tmp_path / "etc"))
    assert own(tmp_path / "etc") == ({"keys"}, layouts.OF_THE_KEYS)
    assert own(tmp_path / "home") == (set(), "")
