from __future__ import annotations

import pytest

from distbackupd.hotplug.commands import CommandFailed, Commands, condense
from distbackupd.hotplug.filesystems import unmount


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            b"mount: /run/distbackup-mnt/a: wrong fs type, bad superblock on /dev/loop0, or other error.\n"  # noqa: ISC004
            b"       dmesg(1) may have more information after failed mount system call.\n",
            "wrong fs type, bad superblock on /dev/loop0, or other error",
        ),
        (b"mount: /mnt: unknown filesystem type 'crypto_LUKS'.\n", "unknown filesystem type 'crypto_LUKS'"),
        (b"umount: /mnt: target is busy.\n", "target is busy"),
        (b"mount: bad usage\n", "bad usage"),
        (b"Error opening '/dev/sdb1': Input/output error\n", "Error opening '/dev/sdb1': Input/output error"),
        (b"", ""),
        (b"\n dmesg(1) only\n", "dmesg(1) only"),
        (b"mount: /mnt/\xff: odd\n", "odd"),
    ],
)
def test_condense_leaves_the_reason(said: bytes, sentence: str) -> None:
    assert condense(said) == sentence


def test_unmount_what_is_not_mounted_fails_in_one_line(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = str(tmp_path_factory.mktemp("folder")).encode()
    with pytest.raises(CommandFailed) as failed:
        unmount(Commands(), folder)
    assert "\n" not in str(failed.value)
