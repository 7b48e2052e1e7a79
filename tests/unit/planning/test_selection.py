from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distbackupd.model.files import Attributes, EntryFlag, EntryKind, RestoreEntry
from distbackupd.planning.selection import PassedFolders, Selection, is_below, matcher, prefix


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


def meant(selection: Selection, path: bytes) -> bool:
    """Whether a pass over the selection's roots comes to the path and takes it, never twice."""
    roots = [root for root in selection.roots if path == root or is_below(path, root)]
    assert len(roots) <= 1
    return bool(roots) and (selection.matcher_below(roots[0]) or (lambda _: True))(path)


@pytest.mark.parametrize(
    ("patterns", "roots", "plain"),
    [
        ([], [b"/"], True),
        ([b"/photos", b"music/"], [b"/music", b"/photos"], True),
        ([b"/photos/2024", b"/photos", b"/photos-old"], [b"/photos", b"/photos-old"], True),
        ([b"/photos", b"*.jpg"], [b"/"], False),
        ([b"/photos/*.jpg", b"/photos/2024"], [b"/photos"], False),
    ],
)
def test_selection_patterns_have_roots_that_do_not_overlap(patterns, roots, plain):
    selection = Selection(patterns)
    assert (selection.roots, selection.is_plain) == (roots, plain)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from([b"/a", b"/a/b", b"/a-b", b"*.x", b"/a/*.x", b"/a/b/[cd]", b"/", b"e"]), max_size=4),
    st.sampled_from([b"/", b"/a", b"/a/b", b"/a/b/c", b"/a/b/c/f.x", b"/a-b/g.x", b"/a/h.x", b"/e/i", b"/ee"]),
)
def test_selection_means_what_any_of_its_patterns_means(patterns, path):
    assert meant(Selection(patterns), path) is (not patterns or any(matcher(pattern)(path) for pattern in patterns))


def test_selection_name_with_brackets_that_is_known_is_taken_as_it_stands():
    selection = Selection([b"/photos/[2024]", b"/music/*"], literally={b"/photos/[2024]"})
    assert selection.roots == [b"/music", b"/photos/[2024]"]
    assert meant(selection, b"/photos/[2024]/a.jpg")
    assert not meant(selection, b"/photos/2/a.jpg")
    assert meant(selection, b"/music/a")
