"""What goes wrong with real disks: one sentence tells it, and the next plug works."""

from __future__ import annotations

import re

from distbackupd.model.events import DiskRefused, SessionFailed
from tests.bed.waiting import wait_until
from tests.vm.machine import tell
from tests.vm.station import Entry, Station, finished, text_of

FILES = 12
MEGABYTES = 3
SLOW = 2 << 20


def test_a_disk_that_is_pulled_out_while_it_is_written_goes_on_where_it_was(docked: Station) -> None:
    docked.disk("torn")
    docked.add_large_files(FILES, MEGABYTES)
    docked.plug("torn", bytes_per_second=SLOW)
    docked.wait_for_staged("torn", 8, MEGABYTES)
    docked.unplug("torn")
    news = docked.journal.wait("^torn was pulled out")
    assert "is done" not in text_of(news)
    assert "Traceback" not in text_of(news)
    assert docked.machine.run("findmnt --noheadings /run/distbackup-mnt/torn || true") == ""
    assert_goes_on(docked, "torn", at_least=4)
    docked.assert_restores("torn")


def test_a_power_cut_in_a_session_loses_nothing(docked: Station) -> None:
    docked.disk("cut")
    docked.add_large_files(FILES, MEGABYTES)
    docked.plug("cut", bytes_per_second=SLOW)
    docked.wait_for_staged("cut", 8, MEGABYTES)
    docked.reboot_after_power_cut()
    docked.journal.wait("^scanned")
    assert_goes_on(docked, "cut", at_least=4)
    docked.assert_restores("cut")


def assert_goes_on(docked: Station, name: str, at_least: int) -> None:
    """The next session takes over what lay complete on the disk, and copies only the rest."""
    news = docked.back_up(name)
    taken_over = re.search(rf"{name}: took over (\d+) copies of the last session", text_of(news))
    assert taken_over
    copied = int(finished(news)["DISTBACKUP_COPIED_OBJECTS"])
    objects = docked.objects()
    tell(f"of {objects} objects {taken_over[1]} were taken over, {copied} copied")
    assert int(taken_over[1]) + copied == objects
    assert int(taken_over[1]) >= at_least


def test_a_wrong_luks_key_is_told_and_the_right_one_works(docked: Station) -> None:
    docked.disk("secret", key="/root/key")
    docked.machine.run("head --bytes=64 /dev/urandom >/root/other")
    change_key(docked, "/root/key", "/root/other")
    docked.plug("secret")
    news = docked.journal.wait("secret .* is not opened by the key that is kept for it; nothing was touched")
    assert_told_once(docked, news, "is not opened by the key")
    docked.unplug("secret")
    change_key(docked, "/root/other", "/root/key")
    docked.back_up("secret")
    docked.assert_restores("secret")


def change_key(docked: Station, old: str, new: str) -> None:
    """What somebody does to a disk while nobody looks."""
    cheap = "--pbkdf=pbkdf2 --pbkdf-force-iterations=1000"
    with docked.plugged_behind_its_back("secret") as device:
        docked.machine.run(f"cryptsetup luksChangeKey {cheap} --key-file={old} {device} {new}")


def test_a_write_protection_switch_is_told_and_the_next_plug_works(docked: Station) -> None:
    docked.disk("locked")
    before = docked.image("locked").read_bytes()
    docked.plug("locked", write_protected=True)
    news = docked.journal.wait("^locked can only be read, nothing was changed on it: it has a write-protection switch")
    assert_told_once(docked, news, "write-protection switch")
    wait_until(
        lambda: "/run" not in docked.machine.run("findmnt --noheadings --output=TARGET /dev/sda || true"), "unmounted"
    )
    docked.unplug("locked")
    assert docked.image("locked").read_bytes() == before
    docked.back_up("locked")
    docked.assert_restores("locked")


def test_an_ntfs_that_windows_has_not_let_go_is_told_and_a_clean_one_works(docked: Station) -> None:
    docked.disk("windows", "ntfs")
    with docked.plugged_behind_its_back("windows") as device:
        sleeping = "(printf hibr; head --bytes=8188 /dev/zero) >/mnt/hiberfil.sys"
        docked.machine.run(f"mount -t ntfs {device} /mnt && {sleeping} && umount /mnt")
    docked.plug("windows")
    news = docked.journal.wait(
        "^windows can only be read, nothing was changed on it: its file system was not left clean; let Windows"
    )
    assert_told_once(docked, news, "chkdsk")
    docked.unplug("windows")
    with docked.plugged_behind_its_back("windows") as device:
        docked.machine.run(f"mount -t ntfs -o remove_hiberfile {device} /mnt && umount /mnt")
    docked.back_up("windows")
    docked.assert_restores("windows")


def test_a_drive_that_somebody_else_uses_too_stays_on_and_that_is_told(docked: Station) -> None:
    docked.disk("shared", partitions=2)
    docked.plug("shared")
    docked.machine.device("shared", 2)
    docked.machine.run("mkfs.ext4 -q /dev/sda2 && mount /dev/sda2 /mnt")
    docked.journal.wait("^shared is done; its drive also carries what is mounted at /mnt, unmount that")
    docked.machine.run("umount /mnt")
    docked.unplug("shared")
    docked.back_up("shared")


def assert_told_once(docked: Station, news: list[Entry], words: str) -> None:
    """One sentence in the journal, no traceback, no farewell."""
    told = [entry for entry in news if words in entry["MESSAGE"]]
    assert len(told) == 1
    assert told[0]["MESSAGE_ID"] in (SessionFailed.MESSAGE_ID, DiskRefused.MESSAGE_ID)
    assert "may unplug" not in text_of(news)
    assert "Traceback" not in text_of(news)
    tell(f"  status: {docked.status()}")
