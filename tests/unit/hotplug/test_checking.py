from __future__ import annotations

import pytest

from distbackupd.hotplug.checking import refuse_read_only
from distbackupd.hotplug.mountinfo import MountLine
from distbackupd.model.disks import Mount
from distbackupd.model.errors import DiskReadOnly


@pytest.mark.parametrize(
    ("kind", "remark", "kept"),
    [
        ("ext4", "", "nothing was backed up to it"),
        ("ext4", "its file system was not left clean, e2fsck mended it", "nothing was backed up to it"),
        ("btrfs", "", "nothing was backed up to it"),
        ("vfat", "its file system was not left clean, fsck.vfat mended it", "nothing was backed up to it"),
        ("ntfs", "", "nothing was changed on it"),
    ],
)
def test_refuse_read_only_says_that_nothing_was_changed_only_where_that_is_known(kind: str, remark: str, kept: str) -> None:
    mount = Mount(b"/mnt", "/dev/nothing", kind, "u", ours=True, remark=remark)
    line = MountLine(1, 1, b"/", b"/mnt", frozenset({b"ro"}), kind.encode(), b"/dev/nothing", frozenset({b"ro"}))
    with pytest.raises(DiskReadOnly, match=f"photos can only be read, {kept}: its file system was not left clean; "):
        refuse_read_only(mount, line, "photos")
