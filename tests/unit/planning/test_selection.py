from __future__ import annotations

import pytest

from distbackupd.model.files import Attributes, EntryFlag, EntryKind, RestoreEntry
from distbackupd.planning.selection import PassedFolders, matcher, prefix


@pytest.mark.parametrize(
    ("pattern", "path", "meant"),
    [
        (b"/photos", b"/photos", True),
        (b"/photos", b"/photos/2024/a.jpg", True),
        (b"/photos/", b"/photos/2024/a.jpg", True),
        (b"/photos", b"/photos-old/a.jpg", False),
        (b"/photos", b"/other/photos", False),
        (b"photos/2024", b"/photos/2024/a.jpg", True),
        (b"*.jpg", b"/photos/2024/a.jpg", True),
        (b"*.jpg", b"/photos/2024/a.jpeg", False),
        (b"*/2024", b"/photos/2024/deep/a.jpg", True),
        (b"/photos/*/a.jpg", b"/photos/2024/deep/a.jpg", True),
        (b"/photos/202[34]", b"/photos/2023/x", True),
        (b"/photos/202[!34]", b"/photos/2023/x", False),
        (b"/\xc3\xa4?", "/ää".encode(), True),
        (b"/?", b"/\xff", True),
        (b"/a\nb", b"/a\nb/below\n", True),
        (b"/Photos", b"/photos", False),
        (b"/", b"/anything/at all", True),
        (b"/", b"/", True),
    ],
)
def test_matcher_pattern_and_path_tells_whether_it_is_meant(pattern, path, meant):
    assert matcher(pattern)(path) is meant


@pytest.mark.parametrize(
    ("pattern", "narrowed"),
    [
        (b"/photos/2024", b"/photos/2024"),
        (b"/photos/2024/", b"/photos/2024"),
        (b"photos", b"/photos"),
        (b"/photos/20*/x", b"/photos"),
        (b"/pho*", b"/"),
        (b"*.jpg", b"/"),
        (b"/", b"/"),
        (b"/a/b[cd]/e", b"/a"),
    ],
)
def test_prefix_pattern_narrows_to_its_literal_folders(pattern, narrowed):
    assert prefix(pattern) == narrowed


def folder(path: bytes) -> RestoreEntry:
    return RestoreEntry(path, EntryKind.FOLDER, 0, 0, 0, 0, EntryFlag.NONE, Attributes(0o755, 0, 0), b"", None, frozenset())


def test_passed_folders_file_is_meant_gives_folders_above_once_from_the_root_down():
    passed = PassedFolders()
    for path in (b"/", b"/a", b"/z", b"/a/b"):
        passed.add(folder(path))
    assert [entry.path for entry in passed.take_above(b"/a/b/c.jpg")] == [b"/", b"/a", b"/a/b"]
    assert passed.take_above(b"/a/b/d.jpg") == []
    assert [entry.path for entry in passed.take_above(b"/z/e.jpg")] == [b"/z"]


def test_passed_folders_subtree_is_passed_forgets_it():
    passed = PassedFolders()
    for number in range(100):
        passed.add(folder(b"/%03d" % number))
    passed.take_above(b"/050/file")
    assert len(passed._folders) == 49


def test_passed_folders_name_that_sorts_between_keeps_what_is_still_to_come():
    passed = PassedFolders()
    for path in (b"/a", b"/a-b", b"/a/b"):
        passed.add(folder(path))
    assert [entry.path for entry in passed.take_above(b"/a-b/file")] == [b"/a-b"]
    assert [entry.path for entry in passed.take_above(b"/a/b/file")] == [b"/a", b"/a/b"]
