"""What the kernel and udev tell holds labels, paths and names that anybody may choose: no line of it ends the program."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from distbackupd.hotplug.devices import join_members, volume_from_properties
from distbackupd.hotplug.mountinfo import parse_mountinfo, unescape
from tests.fuzz.cases import NASTY_TEXT, cases, damaged

FIELD = st.sampled_from(
    [b"/", b"/mnt/a\\040b", b"/mnt\\012x", b"\\777", b"\\0", b"rw", b"36", b"98:0", b"0:41", b"-", b"//deleted"]
)
NUMBERS = st.sampled_from(
    [b"36", b"-1", b"x", b"9" * 5000, b"\xc2\xb2", b"8:1", b"8", b"8:1:2", b"99999999999:1", b"-8:-1", b":"]
)
LINE = b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue"
LINES = st.lists(FIELD | NUMBERS | st.binary(max_size=9), max_size=12).map(b" ".join)


@cases(400)
@given(st.lists(st.just(LINE) | damaged(st.just(LINE)) | LINES, max_size=6).map(b"\n".join))
def test_the_list_of_mounts(text: bytes) -> None:
    lines = parse_mountinfo(text)
    assert len(lines) <= text.count(b"\n") + 1
    assert LINE not in text.split(b"\n") or any(line.mount_point == b"/mnt2" for line in lines)
    for line in lines:
        assert line.read_only in (True, False)
        assert line.could_hold_a_disk in (True, False)


@cases(300)
@given(st.binary(max_size=60))
def test_escapes_of_the_kernel(field: bytes) -> None:
    assert len(unescape(field)) <= len(field)
    assert unescape(b"".join(b"\\%03o" % byte for byte in field)) == field


NAMES = ["ID_FS_USAGE", "ID_FS_TYPE", "ID_FS_UUID", "ID_FS_UUID_SUB", "ID_FS_LABEL_ENC", "ID_BTRFS_READY", "DM_NAME"]
MEANT = st.sampled_from(
    ["filesystem", "crypto", "crypto_LUKS", "ext4", "btrfs", "0", "distbackup-x", "\\x41\\xff\\xZZ", "\\x"]
)
# pyudev decodes bytes, as the file system's names are decoded.
TOLD = NASTY_TEXT.map(lambda text: text.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape"))
PROPERTIES = st.dictionaries(st.sampled_from(NAMES), MEANT | TOLD).map(
    lambda told: {"ID_FS_USAGE": "filesystem", "ID_FS_UUID": "a-b"} | told
)


NODES = st.binary(max_size=20).map(lambda name: f"/dev/{name.decode('utf-8', 'surrogateescape')}".replace("\0", ""))


@cases(300)
@given(NODES, PROPERTIES)
def test_properties_of_devices(device: str, properties: dict[str, str]) -> None:
    volume = volume_from_properties(device, properties)
    assert volume is None or (volume.filesystem_uuid == properties["ID_FS_UUID"] and volume.label.encode() is not None)
    assert len(join_members({device: properties, "/dev/other": properties})) <= 2
