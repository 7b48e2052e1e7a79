"""What goes wrong with containers, on a kernel and a cryptsetup of our own. What goes right: ``tests/contract``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest

from distbackupd.hotplug import sysfs, unlocking
from distbackupd.hotplug.commands import Commands, Finished, Word
from distbackupd.hotplug.keys import KeptKeys
from distbackupd.hotplug.unlocking import Containers
from distbackupd.model.disks import LUKS, Volume
from distbackupd.model.errors import DiskGone, DiskTrouble, UsageError
from tests.fakes.sysfs import FakeSysfs

UUID, KEY = "93e5bec5", b"secret"
OURS = f"distbackup-{UUID}"
VIRTUAL = "devices/virtual/block"


class FakeCryptsetup(Commands):
    """Opens containers into ``dm-N``. ``inside`` is what blkid finds there; ``refuses`` says why nothing can be closed."""

    def __init__(self, kernel: FakeSysfs) -> None:
        super().__init__()
        self._kernel = kernel
        self._opened = 0
        self.inside = b"ID_FS_USAGE=filesystem\nID_FS_UUID=1111\nID_FS_TYPE=ext4\n"
        self.refuses = b""
        self.closed: list[str] = []

    def attempt(self, words: Sequence[Word], given: bytes = b"") -> Finished:
        told = [os.fsdecode(word) for word in words]
        if told[0] == "blkid":
            return Finished(0, self.inside, b"")
        assert told[0] == "cryptsetup"
        if told[1] == "close":
            self.closed.append(" ".join(told[2:]))
            return Finished(5 if self.refuses else 0, b"", self.refuses)
        if given != KEY:
            return Finished(2, b"", b"No key available with this passphrase.\n")
        device, label = told[-2:]
        self.open(os.path.basename(device), label)
        return Finished(0, b"", b"")

    def open(self, device: str, label: str) -> None:
        inside = f"dm-{self._opened}"
        self._opened += 1
        self._kernel.add(inside, VIRTUAL, dm=(label, f"CRYPT-LUKS2-{UUID}-{label}"))
        self._kernel.build(inside, device)


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSysfs:
    monkeypatch.setattr(sysfs, "SYSFS", tmp_path / "sys")
    return FakeSysfs(tmp_path / "sys")


@pytest.fixture
def cryptsetup(kernel: FakeSysfs) -> FakeCryptsetup:
    return FakeCryptsetup(kernel)


@pytest.fixture
def containers(tmp_path: Path, cryptsetup: FakeCryptsetup, monkeypatch: pytest.MonkeyPatch) -> Containers:
    # These devices have no nodes that could be opened.
    monkeypatch.setattr(unlocking, "held", lambda volume, name: nullcontext(0))
    (tmp_path / f"{UUID}.key").write_bytes(KEY)
    return Containers(cryptsetup, KeptKeys(cryptsetup, tmp_path))


@pytest.fixture
def volume(kernel: FakeSysfs) -> Volume:
    return Volume(kernel.add("sdb"), UUID, LUKS)


def test_unlocked_by_a_key_that_was_changed_says_what_to_do(containers: Containers, volume: Volume, tmp_path: Path) -> None:
    (tmp_path / f"{UUID}.key").write_bytes(b"old")
    with pytest.raises(DiskTrouble) as trouble, containers.unlocked(volume, "photos-03", read_only=False):
        pass
    assert str(trouble.value) == (
        "photos-03 (/dev/sdb) is not opened by the key that is kept for it; nothing was touched: "
        "give the key that opens it with --luks-key"
    )


def test_unlocked_when_it_is_gone_already(containers: Containers, volume: Volume, kernel: FakeSysfs, tmp_path: Path) -> None:
    (tmp_path / f"{UUID}.key").write_bytes(b"old")
    kernel.unplug("sdb")
    with pytest.raises(DiskGone, match="photos-03 was pulled out"), containers.unlocked(volume, "photos-03", False):
        pass


def test_unlocked_leftover_of_a_killed_daemon_is_taken_over(
    containers: Containers, volume: Volume, cryptsetup: FakeCryptsetup
) -> None:
    cryptsetup.open("sdb", OURS)
    with containers.unlocked(volume, "photos-03", read_only=False) as inside:
        assert (inside.device, inside.filesystem_type) == ("/dev/dm-0", "ext4")
        assert containers.lock_leftovers() == []
        assert cryptsetup.closed == []
    assert cryptsetup.closed == [f"-- {OURS}"]


def test_unlocked_again_while_its_dead_self_is_still_in_use(
    containers: Containers, volume: Volume, cryptsetup: FakeCryptsetup, kernel: FakeSysfs
) -> None:
    cryptsetup.open("sdb", OURS)
    kernel.unplug("sdb")
    again = Volume(kernel.add("sdc"), UUID, LUKS)
    with containers.unlocked(again, "photos-03", read_only=False) as inside:
        assert inside.device == "/dev/dm-1"
    assert cryptsetup.closed == [f"-- {OURS}-sdc"]


def test_unlocked_holding_no_file_system_is_locked_again(
    containers: Containers, volume: Volume, cryptsetup: FakeCryptsetup
) -> None:
    cryptsetup.inside = b"ID_FS_USAGE=raid\nID_FS_UUID=1\nID_FS_TYPE=LVM2_member\n"
    with pytest.raises(DiskTrouble, match="photos-03 is unlocked, but holds no file system"):  # noqa: SIM117
        with containers.unlocked(volume, "photos-03", read_only=False):
            pass
    assert cryptsetup.closed == [f"-- {OURS}"]


def test_unlocked_pulled_out_is_locked_when_nobody_uses_it_any_more(
    containers: Containers, volume: Volume, cryptsetup: FakeCryptsetup, kernel: FakeSysfs
) -> None:
    with containers.unlocked(volume, "photos-03", read_only=False):
        kernel.unplug("sdb")
        cryptsetup.refuses = b"Device is not there.\n"
    assert cryptsetup.closed == [f"--deferred -- {OURS}"]


def test_unlocked_cannot_be_locked_says_how(containers: Containers, volume: Volume, cryptsetup: FakeCryptsetup) -> None:
    cryptsetup.refuses = b"Device distbackup-1 is still in use.\n"
    with pytest.raises(DiskTrouble) as trouble, containers.unlocked(volume, "photos-03", read_only=False):
        pass
    assert str(trouble.value) == (
        "photos-03 is still unlocked (Device distbackup-1 is still in use); what was recorded is safe, "
        f"but lock it before you unplug it: cryptsetup close {OURS}"
    )
    assert containers.lock_leftovers() == [str(trouble.value).replace("photos-03", OURS)]


def test_lock_leftovers_leaves_what_others_unlocked(
    containers: Containers, volume: Volume, cryptsetup: FakeCryptsetup
) -> None:
    cryptsetup.open("sdb", "luks-desktop")
    assert containers.lock_leftovers() == []
    assert cryptsetup.closed == []


def test_keep_key_where_it_cannot_be_tested_keeps_nothing(tmp_path: Path) -> None:
    class WithoutCryptsetup(Commands):
        def attempt(self, words: Sequence[Word], given: bytes = b"") -> Finished:
            return super().attempt(["no-such-cryptsetup"], given)

    commands = WithoutCryptsetup()
    containers = Containers(commands, KeptKeys(commands, tmp_path))
    with pytest.raises(UsageError) as error:
        containers.keep_key(Volume("/dev/sdb", UUID, LUKS), KEY)
    assert str(error.value) == "the key cannot be tested on /dev/sdb: no-such-cryptsetup is not installed; it was not kept"
    assert list(tmp_path.iterdir()) == []
