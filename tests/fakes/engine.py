"""An engine that only remembers what the daemon asked of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from distbackupd.config.settings import Settings
from distbackupd.engine.ports import Reporter, Stop
from distbackupd.model.disks import Volume
from distbackupd.model.errors import EngineBusy, Interrupted, UsageError
from distbackupd.model.plans import BackupWish
from distbackupd.model.standing import DiskStanding, Protection


class FakeEngine:
    """``done`` is what was asked, in order. Hooks run inside the call: to raise, to wait, to post."""

    def __init__(self) -> None:
        self.done: list[object] = []
        self.ours = True
        self.busy = False
        self.unscanned_name: str | None = None
        self.scan_awaited = False
        self.folders: list[bytes] = []
        self.on_scan: Callable[[Stop], None] = lambda _stop: None
        self.on_back_up: Callable[[Volume, Stop], None] = lambda _volume, _stop: None
        self.on_reread: Callable[[Stop], None] = lambda _stop: None
        self.on_eject: Callable[[str], None] = lambda _name: None
        self.settings: list[Settings] = []
        self.state = Protection({2: 5_000}, (DiskStanding("photos-03", "uuid-of-photos-03", 10, 5, 1, 0, 1),))
        self.reminders = 0
        self.waiting: list[Volume] = []

    def scan(self, stop: Stop, folders: Sequence[bytes] | None = None, ignore_lock: bool = False) -> object:
        self._look_whether_busy()
        self.on_scan(stop)
        self.done.append(("scan", None if folders is None else list(folders)))
        return None

    def is_ours(self, volume: Volume) -> bool:
        return self.ours

    def back_up(self, volume: Volume, stop: Stop, waiting: Sequence[Volume] = ()) -> bool:
        self._look_whether_busy()
        self.waiting = list(waiting)
        self.on_back_up(volume, stop)
        self.done.append(("back up", volume.device))
        return self.ours

    def back_up_disk(
        self, name: str, wish: BackupWish, stop: Stop, begins: Callable[[Volume], None], waiting: Sequence[Volume] = ()
    ) -> None:
        self._look_whether_busy()
        if name not in {disk.name for disk in self.state.disks}:
            raise UsageError(f"there is no disk '{name}'")
        volume = Volume(f"/dev/{name}", "f", "ext4")
        begins(volume)
        self.on_back_up(volume, stop)
        self.done.append(("back up", name, wish))

    def eject(self, name: str) -> None:
        self.on_eject(name)
        self.done.append(("eject", name))

    def remind(self) -> None:
        self._look_whether_busy()
        self.reminders += 1

    def reread(self, stop: Stop) -> None:
        self.on_reread(stop)

    def protection(self) -> Protection:
        return self.state

    def rest(self) -> None:
        pass

    def awaits_scan(self) -> bool:
        return self.scan_awaited

    def source_folders(self) -> list[bytes]:
        return self.folders

    def unscanned(self) -> str | None:
        return self.unscanned_name

    def reload(self, settings: Settings) -> None:
        self.settings.append(settings)

    def _look_whether_busy(self) -> None:
        if self.busy:
            raise EngineBusy("dsb is at work on this catalogue")

    @contextmanager
    def opened(self, _folder: Path, _settings: Settings, _reporter: Reporter) -> Iterator[FakeEngine]:
        """Stands for ``wiring.open_engine``."""
        yield self


def wait_until_stopped(stop: Stop, begun: threading.Event | None = None, seconds: float = 20) -> None:
    """A job that only ends by its stop; raises as the engine does. Fails when nobody stops it."""
    if begun is not None:
        begun.set()
    pause = threading.Event()
    for _ in range(int(seconds * 200)):
        if stop.is_set():
            raise Interrupted("stopped at a file boundary")
        pause.wait(0.005)
    raise AssertionError("nobody stopped the job")
