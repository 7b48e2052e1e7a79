"""A docking station in a virtual machine: our package installed, a source mapped, a shelf of USB disks beside it."""

from __future__ import annotations

import json
import re
import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distbackupd.model.events import Event, SessionFinished
from distbackupd.model.text import say_count
from tests.bed.waiting import wait_until
from tests.vm.machine import Machine, tell

UNIT = "distbackupd.service"
READER = "/root/independent_reader.py"
SOURCE = "/srv/source"
MOUNTED = "/run/distbackup-mnt"
MEGABYTES = 400
"""How large disks are: xfs wants 300. Their images are sparse."""

_MAKE = {
    "ext4": "mkfs.ext4 -q",
    "xfs": "mkfs.xfs -q",
    "btrfs": "mkfs.btrfs -q",
    "vfat": "mkfs.vfat -F 32",
    "exfat": "mkfs.exfat",
    "ntfs": "mkfs.ntfs --quick --force",
}

Entry = dict[str, Any]


class Journal:
    """What the daemon, or systemd of it, writes into the journal since the machine began; each entry is told as it comes."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._entries: list[Entry] = []
        self._read = 0
        self._process = machine.start(
            f"journalctl --since=@{machine.started:.0f} --unit={UNIT} --follow --lines=all --output=json"
        )
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            entry = json.loads(line)
            tell(f"  {entry['SYSLOG_IDENTIFIER']}: {entry['MESSAGE']}")
            self._entries.append(entry)

    def wait(self, *patterns: str, seconds: float = 300) -> list[Entry]:
        """Wait until each pattern matches some sentence since the last wait; all entries since then."""

        def found() -> list[Entry]:
            news = self._entries[self._read :]
            return news if all(any(re.search(pattern, entry["MESSAGE"]) for entry in news) for pattern in patterns) else []

        try:
            news = wait_until(found, f"{patterns} in the journal", seconds)
        except AssertionError as error:
            last = self._machine.call("journalctl --lines=60 --no-pager; findmnt; lsblk; ls -l /dev/disk/by-uuid").out
            raise AssertionError(f"{error}; the machine:\n{last}") from error
        self._read += len(news)
        return news

    def unread(self) -> str:
        """The sentences since the last wait, one a line."""
        return text_of(self._entries[self._read :])

    def close(self) -> None:
        """Read no more."""
        self._process.kill()
        self._process.wait()


def text_of(entries: list[Entry]) -> str:
    """The sentences, one a line."""
    return "".join(f"{entry['MESSAGE']}\n" for entry in entries)


def entry_of(kind: type[Event], entries: list[Entry]) -> Entry:
    """The one entry of this kind; its fields by their names in the journal."""
    (entry,) = [entry for entry in entries if entry.get("MESSAGE_ID") == kind.MESSAGE_ID]
    return entry


class Station:
    """``machine`` with the package installed. ``shelf`` is the folder in which the disks' images lie."""

    def __init__(self, machine: Machine, shelf: Path) -> None:
        self.machine = machine
        self.journal = Journal(machine)
        self._shelf = shelf

    def dsb(self, *words: str) -> str:
        """Run a command that must succeed; what it printed."""
        return self.machine.run(shlex.join(["dsb", *words]))

    def disk(self, name: str, filesystem: str = "ext4", *, partitions: int = 0, key: str = "") -> None:
        """A fresh disk that is enrolled and lies on the shelf.

        Args:
            name: of the disk, of its image and of the USB device.
            filesystem: its type, as udev names it.
            partitions: how many it has; the backup lies on the first. 0: the file system is on the bare disk.
            key: a file in the machine with the key of the LUKS2 container in which the file system lies.
        """
        features = [
            filesystem,
            *["in LUKS2"] * bool(key),
            *[f"with {say_count(partitions, 'partition')}"] * bool(partitions),
        ]
        tell(f"a new USB disk '{name}': {' '.join(features)}")
        with self.image(name).open("wb") as image:
            image.truncate(MEGABYTES << 20)
        self.machine.plug(name, self.image(name))
        device = self.machine.device(name)
        if partitions:
            sizes = "\n".join([f",{MEGABYTES - 40}M", ","][:partitions])
            self.machine.run(f"sfdisk --quiet {device}", stdin=f"label: gpt\n{sizes}\n")
            device = self.machine.device(name, 1)
        inside = device
        if key:
            cheap = "--pbkdf=pbkdf2 --pbkdf-force-iterations=1000"
            self.machine.run(
                f"head --bytes=64 /dev/urandom >{key}; cryptsetup -q luksFormat --type=luks2 {cheap} {device} {key}"
            )
            self.machine.run(f"cryptsetup open --key-file={key} {device} enrolling")
            inside = "/dev/mapper/enrolling"
        self.machine.run(f"{_MAKE[filesystem]} {inside} && udevadm settle && mount -t {filesystem} {inside} /mnt")
        self.dsb("disk", "add", name, "/mnt", *(["--luks-key", key] if key else []))
        self.machine.run("umount /mnt")
        if key:
            self.machine.run("cryptsetup close enrolling")
        self.machine.unplug(name)

    def image(self, name: str) -> Path:
        """The image of a disk."""
        return self._shelf / f"{name}.img"

    def plug(self, name: str, *, write_protected: bool = False, bytes_per_second: int = 0) -> None:
        """Take a disk from the shelf and plug it in."""
        how = " with its write-protection switch on" * write_protected + f", {bytes_per_second:,} bytes/s" * bool(
            bytes_per_second
        )
        tell(f"plugging in {name}{how}")
        self.machine.plug(name, self.image(name), write_protected=write_protected, bytes_per_second=bytes_per_second)

    def unplug(self, name: str) -> None:
        """Pull a disk out, whatever is going on with it, and put it back on the shelf."""
        tell(f"pulling out {name}")
        self.machine.unplug(name)

    def back_up(self, name: str) -> list[Entry]:
        """From plug to unplug of a disk: afterwards it is switched off. What was told meanwhile."""
        self.plug(name)
        news = self.journal.wait(f"^{name} is done and switched off, you may unplug it$")
        assert self.machine.run("lsblk --noheadings --output=NAME,MOUNTPOINTS").split() == ["vda", "/"]
        self.unplug(name)
        return news

    def assert_restores(self, name: str) -> None:
        """With this disk alone and without the daemon, which is gone then, everything comes back as it is in the source."""
        target = f"/srv/restored-{name}"
        self._dismiss_daemon()
        self.plug(name)
        self.machine.device(name)
        said = self.dsb("restore", name, target)
        same = f"from pathlib import Path; from trees import *; assert_same_tree(Path('{SOURCE}'), Path('{target}/source'))"
        self.machine.run(f'cd /root && python3 -c "{same}"')
        tell(f"  dsb restore: {said.strip().splitlines()[-1]}; rsync finds no difference to the source")

    @contextmanager
    def plugged_behind_its_back(self, name: str) -> Iterator[str]:
        """A disk that is plugged in while the daemon is not there; its device."""
        self._dismiss_daemon()
        self.plug(name)
        yield self.machine.device(name)
        self.unplug(name)
        self.machine.run(f"systemctl unmask --quiet --runtime {UNIT} && systemctl start {UNIT}")

    def _dismiss_daemon(self) -> None:
        # Each plug would start it again.
        self.machine.run(f"systemctl stop {UNIT} && systemctl mask --quiet --runtime {UNIT}")

    def read_independently(self, name: str, filesystem: str, key: str = "") -> dict[str, Any]:
        """What the catalogue says of a plugged disk, and what lies there: see the reader. The daemon must be paused."""
        device = self.machine.device(name)
        if key:
            self.machine.run(f"cryptsetup open --key-file={key} {device} reading")
            device = "/dev/mapper/reading"
        kind = {"ntfs": "ntfs-3g"}.get(filesystem, filesystem)
        self.machine.run(f"mount -t {kind} -o ro {device} /mnt")
        told = self.machine.run(f"python3 {READER} /var/lib/distbackup {name} /mnt")
        self.machine.run("umount /mnt" + (" && cryptsetup close reading" if key else ""))
        found: dict[str, Any] = json.loads(told)
        return found

    def status(self) -> str:
        """The line that ``systemctl status`` shows."""
        return self.machine.run(f"systemctl show --property=StatusText --value {UNIT}").strip()

    def objects(self) -> int:
        """How many objects the catalogue knows."""
        return sum(known["objects"] for known in json.loads(self.dsb("--json", "info"))["copies"].values())

    def add_large_files(self, count: int, megabytes: int) -> None:
        """So many more files, of random content, in the source, scanned and safe on the station's own disk."""
        make = f"head --bytes={megabytes}M /dev/urandom >/srv/new/$number"
        self.machine.run(f"mkdir /srv/new; for number in $(seq {count}); do {make}; done; mv /srv/new {SOURCE}/new; sync")
        self.journal.wait(f"hashed {count} files")

    def wait_for_staged(self, name: str, count: int, megabytes: int) -> None:
        """Wait until so many large files lie complete on the disk, though not recorded yet."""
        find = f"find {MOUNTED}/{name}/distbackup-tmp -type f -size {megabytes << 10}k 2>/dev/null | wc -l"
        wait_until(lambda: int(self.machine.run(find)) >= count, f"{count} files on {name}", 120)

    def reboot_after_power_cut(self) -> None:
        """Cut the power of the whole station and start it again. All disks lie on the shelf then."""
        self.journal.close()
        tell("cutting the power of the machine")
        self.machine.cut_power()
        self.machine.switch_on()
        tell("the machine runs again")
        self.journal = Journal(self.machine)


@contextmanager
def station(machine: Machine, shelf: Path) -> Iterator[Station]:
    """``machine`` as a station, until its journal is closed."""
    made = Station(machine, shelf)
    try:
        yield made
    finally:
        made.journal.close()


def finished(entries: list[Entry]) -> Entry:
    """The entry of the session that came to its end."""
    return entry_of(SessionFinished, entries)
