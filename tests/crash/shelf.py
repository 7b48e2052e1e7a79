"""A shelf of two disks, a catalogue and a source, each disk and the catalogue on a device of its own: put into any state,
used, and looked at. One for each worker, below a folder in memory.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.crash import filesystems, images
from tests.crash.devices import LoopDevice
from tests.crash.faults import Fault, calls, struck
from tests.crash.filesystems import FILESYSTEMS, Filesystem
from tests.crash.product import Outcome, dsb
from tests.crash.reader import Catalogue, Disk, fingerprint, read_catalogue, read_disk
from tests.crash.recording import Failing, Record, read_log, recorder

CATALOGUE = "catalogue"
DISKS = ("d1", "d2")
DEVICES = (CATALOGUE, *DISKS)
_UDEV = "/run/udev/data"

Source = Mapping[str, tuple[bytes, int]]
"""Content and time of change of each file, by relative path."""


@dataclass
class World:
    """Everything that a command meets: the devices, the source, the settings."""

    images: dict[str, images.Image]
    source: Source = field(default_factory=dict)
    keep: str = "30d"


@dataclass
class Played:
    """What came of commands: ``records`` of the devices from ``begun`` on, the world after them, how each command ended,
    and how many calls changed files.
    """

    records: list[Record]
    begun: int
    outcomes: list[Outcome]
    after: dict[str, images.Image]
    calls: int
    marks: list[int]


@dataclass(frozen=True)
class Seen:
    """What the reader found: the catalogue (None: there is none) and each disk by name."""

    catalogue: Catalogue | None
    disks: dict[str, Disk]


class Shelf:
    """``folder`` must be in memory. Disks are of one kind; the catalogue lies on ext4, as on most systems."""

    def __init__(self, folder: str, kind: Filesystem) -> None:
        self.folder = folder
        self.kinds = {CATALOGUE: FILESYSTEMS["ext4"], **dict.fromkeys(DISKS, kind)}
        self.source, self.said, self._spare = (f"{folder}/{name}" for name in ("source", "said", "spare"))
        self._fuse, self._log = f"{folder}/fuse", f"{folder}/log"
        for place in (self.source, self.said, self._spare, self._fuse, f"{folder}/images", *map(self.root, DEVICES)):
            os.makedirs(place, exist_ok=True)
        os.makedirs(_UDEV, exist_ok=True)
        self._dice = random.Random(kind.name)
        self._written: dict[str, tuple[bytes, int]] = {}
        self.facts: dict[str, dict[str, str]] = {}
        """What udev knows of each device."""
        self._loops: dict[str, LoopDevice] = {}

    def close(self) -> None:
        """Let go of the devices."""
        for loop in self._loops.values():
            loop.close()

    def root(self, device: str) -> str:
        """Where it is mounted."""
        return f"{self.devices}/{device}"

    @property
    def devices(self) -> str:
        """The folder in which all are mounted: what lies below is what faults are made in."""
        return f"{self.folder}/mounted"

    def image(self, device: str) -> str:
        """The file behind it."""
        return f"{self.folder}/images/{device}"

    def new_world(self) -> World:
        """Empty file systems."""
        made = {}
        for device in DEVICES:
            filesystems.make(self.kinds[device], self.image(device), self._dice)
            self.facts[device] = filesystems.udev_lines(self.image(device))
            made[device] = images.load(self.image(device))
            if device not in self._loops:
                self._loops[device] = LoopDevice(self.image(device))
        return World(made)

    def command(self, *words: str, fault: Fault | None = None) -> Outcome:
        """One ``dsb`` on what is mounted."""
        return dsb(["--config", f"{self.folder}/settings", "-d", self.catalogue_folder, *words], self.said, fault)

    @property
    def catalogue_folder(self) -> str:
        """Below its mount, as nobody keeps it in a top folder."""
        return f"{self.root(CATALOGUE)}/c"

    def lay_out(self, world: World) -> None:
        """Make source and settings those of the world; files that are right already are not touched."""
        for name in self._written.keys() - world.source.keys():
            os.unlink(f"{self.source}/{name}")
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(f"{self.source}/{name}"))
            del self._written[name]
        for name, (content, changed) in world.source.items():
            if self._written.get(name) != (content, changed):
                path = f"{self.source}/{name}"
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "wb") as file:
                    file.write(content)
                os.utime(path, ns=(changed, changed))
                self._written[name] = (content, changed)
        with open(f"{self.folder}/settings", "w", encoding="utf-8") as file:
            file.write(
                f'keep_deleted = "{world.keep}"\nbrake_files = 1000000\nbrake_size = "1T"\nverify_share = "20%"\n'
                f'power_off = false\nmount_folder = "{self.folder}/mounts"\n'
            )

    @contextlib.contextmanager
    def mounted(self, *which: str) -> Iterator[None]:
        """These devices mounted, with what lies in their images. Raises Unusable."""
        with contextlib.ExitStack() as stack:
            for device in which:
                self._loops[device].forget()
                self._mount(stack, device, self._loops[device])
            yield
        for device in which:
            self._loops[device].forget()

    def put(self, device: str, *layers: Sequence[images.Patch]) -> None:
        """Make the image of a device hold these."""
        images.store(self.image(device), self.kinds[device].size, *layers)

    def play(
        self,
        world: World,
        disks: Sequence[str],
        commands: Sequence[Sequence[str]],
        faults: Mapping[int, Fault] | None = None,
        failing: Failing | None = None,
        device: str = "",
        nth: int = 0,
    ) -> Played:
        """Run commands on recorded devices. ``faults``: for some of the commands, by number.

        ``device`` and ``nth``: the nth write to it fails once, counted from the first command on.
        """
        which = [CATALOGUE, *disks]
        for name in which:
            self.put(name, world.images[name])
        self.lay_out(world)
        failing = failing or Failing()
        failing.arm(0, 0)
        outcomes, marks, counted = [], [], 0
        with (
            recorder(self._fuse, [self.image(name) for name in which], self._log, failing) as files,
            contextlib.ExitStack() as stack,
        ):
            for name, file in zip(which, files, strict=True):
                loop = LoopDevice(file)
                stack.callback(loop.close)
                stack.callback(loop.forget)
                self._mount(stack, name, loop)
            begun = os.path.getsize(self._log)
            if device:
                failing.arm(which.index(device), nth)
            for number, words in enumerate(commands):
                outcomes.append(self.command(*words, fault=(faults or {}).get(number) or Fault(self.devices)))
                marks.append(os.path.getsize(self._log))
                counted = counted or calls()
        records = read_log(self._log)
        numbers, place = {}, 0
        for number, record in enumerate(records):
            numbers[place] = number
            place += 16 + len(record.data)
        numbers[place] = len(records)
        after = {**world.images, **{name: images.load(self.image(name)) for name in which}}
        return Played(records, numbers[begun], outcomes, after, counted, [numbers[mark] for mark in marks])

    def look(self, disks: Sequence[str], known: Mapping[str, Disk]) -> Seen:
        """What lies on these mounted disks, and what is ``known`` of the others."""
        read = {name: read_disk(self.root(name)) for name in disks}
        return Seen(read_catalogue(self.catalogue_folder, self._spare), {**known, **read})

    def fingerprint(self, disks: Sequence[str]) -> bytes:
        """Equal when the catalogue's folder and these disks are equal to whoever reads them."""
        return b"".join(fingerprint(place) for place in (self.catalogue_folder, *map(self.root, disks)))

    def wipe(self, place: str) -> str:
        """An empty folder for something to be restored into."""
        path = f"{self.folder}/{place}"
        shutil.rmtree(path, ignore_errors=True)
        os.makedirs(path)
        return path

    def _mount(self, stack: contextlib.ExitStack, device: str, loop: LoopDevice) -> None:
        entry = f"{_UDEV}/b7:{loop.number}"
        with open(entry, "w", encoding="utf-8") as file:
            file.write("I:1\n" + "".join(f"E:{key}={value}\n" for key, value in self.facts[device].items()))
        stack.callback(os.unlink, entry)
        filesystems.attach(self.kinds[device], loop.path, self.root(device))
        stack.callback(filesystems.detach, self.root(device))


def hit() -> str:
    """The call that the last fault struck."""
    return struck()
