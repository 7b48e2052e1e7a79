from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distbackupd.hotplug.mountinfo import mount_id_of, parse_mountinfo, read_mountinfo, unescape

SAMPLE = b"""\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/root rw,discard
40 27 8:17 / /media/my\\040disk rw,nosuid - vfat /dev/sdb1 rw,errors=remount-ro
41 27 8:33 / /media/errors rw - ext4 /dev/sdc1 rw,emergency_ro
42 27 8:34 / /media/gone rw - ext4 /dev/sdc2 rw,shutdown
43 27 8:35 / /media/protected ro - xfs /dev/sdc3 rw
44 27 8:36 / /media/damaged rw - xfs /dev/sdc4 ro
45 27 0:50 /@home /home rw - btrfs /dev/sdd1 rw,subvolid=256,subvol=/@home
46 27 0:51 / /net rw - nfs4 nas:/backup rw,vers=4.2
47 27 0:52 / /ssh rw - fuse.sshfs me@nas: rw
48 27 7:3 / /snap/core ro - squashfs /dev/loop3 ro
49 27 8:49 / /usb rw - fuseblk /dev/sde1 rw
50 27 0:53 / /container rw - overlay overlay rw,lowerdir=/a,upperdir=/b
51 27 0:54 / /empty rw - tmpfs  rw
nonsense
"""


def test_parse_reads_every_field_and_leaves_nonsense_out() -> None:
    lines = parse_mountinfo(SAMPLE)
    assert len(lines) == 14
    disk = lines[2]
    assert (disk.mount_id, disk.device_number, disk.root) == (40, os.makedev(8, 17), b"/")
    assert (disk.mount_point, disk.filesystem_type, disk.source) == (b"/media/my disk", b"vfat", b"/dev/sdb1")
    assert lines[7].root == b"/@home"
    assert lines[13].source == b""


def test_read_only_sees_mount_options_file_system_options_and_errors() -> None:
    read_only = [line.mount_point for line in parse_mountinfo(SAMPLE) if line.read_only]
    assert read_only == [b"/media/errors", b"/media/gone", b"/media/protected", b"/media/damaged", b"/snap/core"]


def test_could_hold_a_disk_leaves_out_network_pseudo_and_images() -> None:
    possible = [line.filesystem_type for line in parse_mountinfo(SAMPLE) if line.could_hold_a_disk]
    assert possible == [b"ext4", b"vfat", b"ext4", b"ext4", b"xfs", b"xfs", b"btrfs", b"fuseblk", b"overlay", b"tmpfs"]


def _escape(field: bytes) -> bytes:
    """As the kernel does (fs/proc_namespace.c: space, tab, newline and backslash)."""
    return b"".join(b"\\%03o" % byte if byte in b" \t\n\\#" else bytes([byte]) for byte in field)


PATHS = st.binary().filter(lambda path: b"\0" not in path)


@given(PATHS)
def test_unescape_inverts_the_kernel(field: bytes) -> None:
    assert unescape(_escape(field)) == field


@given(
    st.binary(min_size=1).filter(lambda name: b"\0" not in name),
    st.binary(min_size=1).filter(lambda name: b"\0" not in name),
)
def test_parse_survives_any_name(mount_point: bytes, source: bytes) -> None:
    raw = b"1 2 8:1 / /" + _escape(mount_point) + b" rw - ext4 /" + _escape(source) + b" rw\n"
    [line] = parse_mountinfo(raw)
    assert (line.mount_point, line.source) == (b"/" + mount_point, b"/" + source)


def test_mount_id_of_finds_the_innermost_mount(tmp_path: Path) -> None:
    mounts = {line.mount_id: line.mount_point for line in read_mountinfo()}
    assert mounts[mount_id_of(b"/proc/self/status")] == b"/proc"
    with pytest.raises(FileNotFoundError):
        mount_id_of(os.fsencode(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    "numbers",
    ["x 35 98:0", "36 35 98", "36 35 98:0:1", "36 35 a:b", "36 35 -8:-1", f"36 35 {1 << 80}:0", f"{'9' * 5000} 35 8:0"],
)
def test_parse_leaves_out_a_line_whose_numbers_are_none(numbers: str) -> None:
    text = f"{numbers} / /mnt rw - ext4 /dev/sda rw\n36 35 98:0 / /mnt rw - ext4 /dev/sda rw\n"
    assert [line.mount_id for line in parse_mountinfo(text.encode())] == [36]


def test_fuse_mount_that_calls_itself_a_disk_is_none() -> None:
    [line] = parse_mountinfo(b"36 35 0:50 / /home/eve/m rw,nosuid - fuse.evil /dev/sda1 rw,user_id=1000")
    assert (line.block_number, line.device, line.is_dead, line.could_hold_a_disk) == (0, "fuse.evil", False, False)


def test_a_mount_that_a_user_made_lies_on_no_device_whatever_it_claims() -> None:
    text = (
        b"36 35 0:98 / /mnt/a rw - fuse.evil /dev/sdb1 rw,user_id=1000,group_id=1000\n"
        b"37 35 0:99 / /mnt/b rw - tmpfs /dev/sdb1 rw\n"
        b"38 35 8:17 / /mnt/c rw - ext4 /dev/sdb1 rw\n"
        b"39 35 8:18 / /mnt/d rw - fuseblk /dev/sdb2 rw,user_id=0,group_id=0\n"
    )
    assert [(line.is_on_device, line.mounted_by) for line in parse_mountinfo(text)] == [
        (False, 1000), (False, 0), (True, 0), (True, 0),
    ]  # fmt: skip
