from __future__ import annotations

import pytest

from distbackupd.model.errors import UsageError
from distbackupd.model.sources import Source
from distbackupd.planning.destination import check_destination

SOURCES = [Source(b"/photos", b"/media/photos"), Source(b"/docs", b"/home/a/docs")]


@pytest.mark.parametrize(
    ("destination", "link", "word"),
    [
        (b"/media/photos", False, "source"),
        (b"/media/photos/restored", False, "source"),
        (b"/mnt/disk", False, "backup disk"),
        (b"/mnt/disk/restored", False, "backup disk"),
        (b"/mnt/disk", True, "own"),
        (b"/mnt/disk/distbackup-objects/000", True, "own"),
    ],
)
def test_check_destination_in_the_wrong_place_refuses_in_a_sentence(destination, link, word):
    with pytest.raises(UsageError, match=word):
        check_destination(destination, SOURCES, b"/mnt/disk", link)


@pytest.mark.parametrize(
    ("destination", "link"),
    [(b"/media/photos-restored", False), (b"/mnt/disk2", False), (b"/", False), (b"/mnt/disk/restored", True)],
)
def test_check_destination_beside_sources_and_disk_accepts(destination, link):
    check_destination(destination, SOURCES, b"/mnt/disk", link)


def test_check_destination_without_disk_looks_at_sources_only():
    check_destination(b"/mnt/disk", SOURCES, None, link=False)
