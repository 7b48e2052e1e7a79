from __future__ import annotations

import os

import pytest

from distbackupd.sources.restored_listings import Listings, Presence


@pytest.fixture
def folder(tmp_path):
    descriptor = os.open(tmp_path, os.O_PATH)
    yield descriptor
    os.close(descriptor)


def make(tmp_path, name, content=b"x"):
    path = os.fsencode(tmp_path) + b"/" + name
    with open(path, "wb") as file:
        file.write(content)
    os.utime(path, ns=(0, 5))
    return os.lstat(path)


def test_stored_names_that_differ_in_case_only_are_two_where_they_are(tmp_path, folder):
    listings = Listings()
    state = make(tmp_path, b"A")
    assert listings.stored(b"/", folder, b"A", state) == b"A"
    small = make(tmp_path, b"a")  # as long and as old, and written since the folder was listed
    listings.wrote(b"/", b"a")
    assert listings.stored(b"/", folder, b"a", small) == b"a"
    os.link(tmp_path / "a", tmp_path / "\xe9")
    listings.wrote(b"/", "\xe9".encode())
    assert listings.stored(b"/", folder, "\xe9".encode(), small) == "\xe9".encode()


@pytest.mark.parametrize(
    ("listed", "wanted"), [(b"README", b"readme"), ("\u03c3".encode(), "\u03c2".encode()), (b"dot", b"dot. ."), (b"a", b"B")]
)
def test_stored_under_another_name_is_found_by_its_inode_or_looks(tmp_path, folder, listed, wanted):
    """As if the file system had given the state of the one for the name of the other."""
    listings = Listings()
    make(tmp_path, b"else")
    state = make(tmp_path, listed, b"longer")
    for _ in range(2):
        assert listings.stored(b"/", folder, wanted, state) == listed


def test_stored_nowhere_is_told_and_a_folder_that_cannot_be_listed_is_believed(tmp_path, folder):
    listings = Listings()
    state = make(tmp_path, b"one")
    os.unlink(tmp_path / "one")
    assert listings.stored(b"/", folder, b"two", state) is None
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    assert listings.stored(b"/file", descriptor, b"two", state) == b"two"
    os.close(descriptor)


def test_presence_is_of_the_whole_path(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    make(tmp_path, b"a/b/c")
    presence = Presence()
    assert presence.has(os.fsencode(tmp_path), b"/a/b/c")
    assert not presence.has(os.fsencode(tmp_path), b"/a/b/C")
    assert not presence.has(os.fsencode(tmp_path), b"/nul\0")
