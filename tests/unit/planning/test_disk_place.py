"""What may become a backup disk without anybody saying that a mere folder is meant."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distbackupd.planning.disk_place import DiskPlace, refusal, shared_fate

OWN_DISK = DiskPlace(b"/mnt/usb", True, True, b"/mnt/usb", "ext4", True, [])


@pytest.mark.parametrize(
    "place",
    [
        OWN_DISK,
        replace(OWN_DISK, path=b"/mnt/usb/backup/data"),
        replace(OWN_DISK, mount_point=b"/"),
        replace(OWN_DISK, filesystem_type="fuseblk"),
    ],
)
def test_refusal_of_a_disk_of_its_own_is_none(place: DiskPlace) -> None:
    assert refusal(place) is None
    assert shared_fate(place) is None


@pytest.mark.parametrize(
    ("place", "told"),
    [
        (
            DiskPlace(b"/", True, True, b"/", "ext4", True, ["the system"]),
            "it lies on the file system that is mounted at /, with the system, so what takes one takes all",
        ),
        (
            DiskPlace(b"/mnt/usb", True, True, b"/", "ext4", True, ["the system", "the source /photos", "the catalogue"]),
            "mounted at /, with the system, the source /photos and the catalogue, so",
        ),
        (DiskPlace(b"/data/b", True, True, b"/data", "xfs", True, ["2 sources"]), "mounted at /data, with 2 sources, so"),
        (DiskPlace(b"/mnt/s/x", True, True, b"/mnt/s", "ext4", True, ["the disk shelf-01"]), "with the disk shelf-01, so"),
        (DiskPlace(b"/run/user/1/b", True, True, b"/run/user/1", "tmpfs", False, []), "it lies on tmpfs, on no device of"),
        (DiskPlace(b"/nas/b", True, True, b"/nas", "nfs4", False, []), "it lies on nfs4, on no device of this machine"),
    ],
)
def test_refusal_tells_with_what_the_copies_would_be_lost_and_what_to_do(place: DiskPlace, told: str) -> None:
    sentence = refusal(place)
    assert sentence is not None
    assert sentence.startswith(f"{place.path.decode()} is no disk of its own: ")
    assert told in sentence
    assert "--folder" in sentence
    assert sentence.endswith("nothing was changed")


def test_refusal_of_a_new_folder_in_one_of_a_disk_of_its_own_is_none() -> None:
    assert refusal(replace(OWN_DISK, path=b"/mnt/usb/new", is_folder=False)) is None


def test_refusal_of_a_folder_that_is_not_there_says_so_whatever_is_mounted_above() -> None:
    in_no_folder = replace(OWN_DISK, is_in_folder=False)
    for place in (in_no_folder, replace(OWN_DISK, shared_with=["the system"]), replace(OWN_DISK, has_device=False)):
        sentence = refusal(replace(place, path=b"/mnt/ubs", is_folder=False))
        assert sentence is not None
        assert sentence.startswith("there is no folder /mnt/ubs: mount the disk, ")
        assert "--folder" in sentence


def test_refusal_shows_names_that_no_terminal_could_show() -> None:
    sentence = refusal(replace(OWN_DISK, path=b"/mnt/\xff\n", is_folder=False, is_in_folder=False))
    assert sentence is not None
    assert "\n" not in sentence
