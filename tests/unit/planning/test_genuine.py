"""What is believed to be a disk, and what is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distbackupd.model.disks import BackupDisk, Footing, Mount
from distbackupd.planning.genuine import doubt, lasting_inode, names_of, unsafe

UUID = "5a3c8c0e-0c5c-4bd8-9e49-7b1f0b8f9a11"
PLACE = b"/mnt/one"
DISK = BackupDisk(1, UUID, "one", 1, b"", "fs-uuid", "ext4", b"/mnt/before", 0)
FOLDER = replace(DISK, filesystem_uuid=None, folder_on="nfs4 server:/export", folder_inode=7)
MOUNT = Mount(PLACE, "/dev/sdb1", "ext4", "fs-uuid", on_device=True, mount_id=3)
SHARE = Mount(PLACE, "server:/export", "nfs4", mount_id=3)
FOOTING = Footing(0, 0o40755, 7, 3)
ROOT, USER = frozenset({0}), frozenset({1000})


def test_doubt_the_disk_and_the_folder_as_they_were_made_known_are_believed() -> None:
    assert doubt(DISK, PLACE, MOUNT, FOOTING, ROOT) is None
    assert doubt(FOLDER, PLACE, SHARE, FOOTING, ROOT) is None
    assert doubt(replace(FOLDER, folder_on="UUID=x"), PLACE, replace(SHARE, filesystem_uuid="x"), FOOTING, ROOT) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"on_device": False, "filesystem_type": "tmpfs"}, "on no device that could be 'one'"),
        ({"on_device": False, "filesystem_type": "overlay"}, "on no device that could be 'one'"),
        ({"on_device": False, "filesystem_type": "fuse.evil", "mounted_by": 1000}, "on no device"),
        ({"filesystem_uuid": None}, "is a copy of 'one' on another file system"),
        ({"filesystem_uuid": ""}, "is a copy of 'one' on another file system"),
        ({"filesystem_uuid": "another"}, "is a copy of 'one' on another file system"),
        ({"mounted_by": 1000}, "was mounted by the user 1000"),
        ({"mount_id": 4}, "something else is mounted at /mnt/one"),
    ],
)
def test_doubt_another_mount_is_not_the_disk(change: dict[str, object], reason: str) -> None:
    told = doubt(DISK, PLACE, replace(MOUNT, **change), FOOTING, ROOT)  # type: ignore[arg-type]
    assert told is not None
    assert reason in told.reason
    assert told.sentence().startswith(f"{told.reason}; nothing on it was touched: ")


def test_doubt_another_folder_or_the_same_elsewhere_is_not_the_folder_disk() -> None:
    for mount, footing, reason in (
        (
            replace(SHARE, device="other:/export"),
            FOOTING,
            "lies on nfs4 other:/export, and 'one' lay on nfs4 server:/export",
        ),
        (SHARE, replace(FOOTING, inode=8), "is another folder than the one that was made known"),
        (SHARE, replace(FOOTING, owner=1000), "belongs to the user 1000"),
    ):
        told = doubt(FOLDER, PLACE, mount, footing, ROOT)
        assert told is not None
        assert reason in told.reason


def test_doubt_what_was_known_before_is_believed_where_it_was_last() -> None:
    before = replace(DISK, filesystem_uuid=None)
    assert doubt(before, b"/mnt/before", SHARE, FOOTING, ROOT) is None
    assert doubt(before, PLACE, SHARE, FOOTING, ROOT) is not None
    assert doubt(before, b"/mnt/before", SHARE, replace(FOOTING, mode=0o41777), ROOT) is not None


@pytest.mark.parametrize(
    ("owner", "mode", "owners", "safe"),
    [
        (0, 0o755, ROOT, True), (0, 0o775, ROOT, False), (0, 0o757, ROOT, False), (0, 0o1777, ROOT, False),
        (1000, 0o700, ROOT, False), (1000, 0o700, USER, True), (0, 0o755, USER, True), (1001, 0o700, USER, False),
    ],
)  # fmt: skip
def test_unsafe_who_may_exchange_the_top_folder(owner: int, mode: int, owners: frozenset[int], safe: bool) -> None:
    footing = Footing(owner, 0o40000 | mode, 7, 3)
    told = unsafe(PLACE, MOUNT, footing, owners)
    assert (told is None) is safe
    if told is not None:
        assert told.remedy.startswith(("'chown root: /mnt/one'", "'chown 1000: /mnt/one'", "'chmod go-w /mnt/one'"))
    assert unsafe(PLACE, replace(MOUNT, filesystem_type="vfat"), footing, owners) is None


def test_an_ordinary_user_who_may_not_ask_the_device_goes_by_the_rest() -> None:
    assert doubt(DISK, PLACE, replace(MOUNT, filesystem_uuid=None), FOOTING, USER) is None
    assert doubt(DISK, PLACE, replace(MOUNT, filesystem_uuid="another"), FOOTING, USER) is not None


def test_names_and_inodes_that_do_not_last_are_not_recorded() -> None:
    assert names_of(MOUNT) == ("UUID=fs-uuid", "ext4 /dev/sdb1")
    assert names_of(replace(SHARE, device="evil\n\x1b")) == (r"nfs4 evil\n\x1b",)
    assert lasting_inode(SHARE, FOOTING) == 7
    assert lasting_inode(replace(SHARE, filesystem_type="fuse.sshfs"), FOOTING) == 0
