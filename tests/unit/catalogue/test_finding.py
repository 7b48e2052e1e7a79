"""Names anywhere in the tree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from distbackupd.catalogue.catalogue import Catalogue
from distbackupd.catalogue.finding import _one_letter_off
from tests.unit.engine.scenes import scene_at


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    with scene_at(tmp_path) as scene:
        for name in ("a/IMG_1.JPG", "b/img_1.jpg", "b/IMG_10.JPG", "gone"):
            scene.write(name)
        scene.scan()
        (scene.real / "gone").unlink()
        scene.scan()
        yield scene.catalogue


@pytest.mark.parametrize(
    ("name", "ever", "found"),
    [
        (b"IMG_1.JPG", False, [b"/a/IMG_1.JPG"]),
        (b"Img_1.Jpg", False, [b"/a/IMG_1.JPG", b"/b/img_1.jpg"]),
        (b"_10", False, [b"/b/IMG_10.JPG"]),
        (b"IMG_01.JPG", False, [b"/b/IMG_10.JPG", b"/a/IMG_1.JPG", b"/b/img_1.jpg"]),
        (b"gone", False, []),
        (b"gone", True, [b"/gone"]),
        (b"a", False, [b"/a"]),
        (b"", True, []),
        (b"\xff\xfe", True, []),
    ],
)
def test_nearest_is_the_same_name_else_nearly_the_same(
    catalogue: Catalogue, name: bytes, ever: bool, found: list[bytes]
) -> None:
    assert catalogue.finding.nearest(name, ever, 5) == sorted(found)


def test_nearest_is_not_more_than_wanted(catalogue: Catalogue) -> None:
    assert len(catalogue.finding.nearest(b"img", False, 2)) == 2


def test_any_called_is_asked_by_a_shell_pattern(catalogue: Catalogue) -> None:
    for pattern, ever, found in (
        (b"*.jpg", False, True),
        (b"[!Ix]mg*", False, True),
        (b"go*", False, False),
        (b"go*", True, True),
    ):
        assert catalogue.finding.any_called(pattern, ever) == found


@pytest.mark.parametrize("other", [b"nane", b"nam", b"ame", b"names", b"xname", b"anme", b"NAME", b"na\nme"])
def test_one_letter_off_matches(other: bytes) -> None:
    assert _one_letter_off(b"name").fullmatch(other)


@pytest.mark.parametrize("other", [b"nn", b"naming", b"eman", b"nxxe"])
def test_one_letter_off_does_not_match_what_is_further_away(other: bytes) -> None:
    assert not _one_letter_off(b"name").fullmatch(other)
