"""The only place that builds adapters and hands them to the engine. The daemon, ``dsb`` and the tests start here."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from distbackupd.catalogue.adoption import open_distbackup
from distbackupd.catalogue.catalogue import Catalogue, open_catalogue
from distbackupd.catalogue.copies import CatalogueCopies
from distbackupd.catalogue.lock import current_activity, engine_lock, without_daemon
from distbackupd.config.places import SYSTEM_FOLDER
from distbackupd.config.settings import Settings
from distbackupd.control.desk import Desk
from distbackupd.engine.bench import Bench
from distbackupd.engine.braking import awaits_scan
from distbackupd.engine.confirming import Confirmer
from distbackupd.engine.door import find_disk
from distbackupd.engine.examining import sound_catalogue
from distbackupd.engine.overview import protection
from distbackupd.engine.ports import DiskStore, Mounter, Reporter, Stop
from distbackupd.engine.release import eject
from distbackupd.engine.reminders import is_reminder_due, remind
from distbackupd.engine.rereading import Rereader, Until
from distbackupd.engine.scan import SCANNED, ScanOptions, scan
from distbackupd.engine.session import SessionOptions, back_up_disk, back_up_volume
from distbackupd.engine.timekeeping import SteadyClock, look_at_clock
from distbackupd.engine.verification import VerificationOptions
from distbackupd.engine.virtual_tree import VirtualTree
from distbackupd.hotplug.commands import Commands
from distbackupd.hotplug.devices import plugged_volumes, properties_of, udev_context, volume_from_properties
from distbackupd.hotplug.enrolled import EnrolledDisks
from distbackupd.hotplug.helper_client import HelperMounter
from distbackupd.hotplug.monitor import DiskMonitor
from distbackupd.hotplug.mounts import SystemMounter
from distbackupd.model.disks import BackupDisk, Mount, Volume
from distbackupd.model.errors import DiskNotOurs, DiskTrouble, DistbackupError, UsageError
from distbackupd.model.events import Remark, ScanFinished
from distbackupd.model.plans import BackupWish, Policy
from distbackupd.model.standing import Protection
from distbackupd.planning.brake import BrakeThresholds
from distbackupd.sources.accounts import SystemAccounts
from distbackupd.sources.mending import mend_source
from distbackupd.sources.restored_root import said_of_other_writers
from distbackupd.sources.target import FolderTarget
from distbackupd.sources.tree import FolderTree
from distbackupd.store.folder_store import FolderStore
from distbackupd.store.rescued import RescueFolder

if TYPE_CHECKING:
    from distbackupd.control.login import LoginManager
    from distbackupd.control.service import ControlService

__all__ = [
    "Arrivals",
    "CatalogueCopies",
    "Engine",
    "at_work",
    "bench_on",
    "brake_thresholds",
    "current_activity",
    "engine_lock",
    "idle_volumes",
    "is_on_backup_disk",
    "machine_accounts",
    "make_control",
    "make_login",
    "mend_source",
    "open_catalogue",
    "open_distbackup",
    "open_engine",
    "open_store",
    "open_target",
    "publish_disks",
    "said_of_other_writers",
    "session_options",
    "system_mounter",
    "take_over_markers",
    "volume_on",
    "without_daemon",
]


class SystemClock:
    """See :class:`distbackupd.engine.ports.MachineClock`."""

    def now(self) -> int:
        """Unix time in whole seconds."""
        return int(time.time())

    def monotonic(self) -> float:
        """Seconds that never jump."""
        return time.monotonic()

    def running(self) -> float:
        """Seconds since the machine was started, with those in which it slept."""
        try:
            return float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
        except OSError:
            return time.clock_gettime(time.CLOCK_BOOTTIME)

    def boot(self) -> str:
        """A name of this start of the machine; empty where the kernel does not tell."""
        try:
            return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        except OSError:
            return ""


@contextlib.contextmanager
def at_work(bench: Bench, folder: Path, activity: str) -> Iterator[None]:
    """Hold the catalogue in ``folder``, which is sound, and record moments that are right, while the context lasts.

    Raises EngineBusy, CatalogueTrouble.
    """
    with engine_lock(folder, activity), sound_catalogue(bench), bench.catalogue.explained():
        look_at_clock(bench)
        yield


def open_store(root: bytes, mount: Mount) -> DiskStore:
    """The store that lies at a path of a mounted disk."""
    return FolderStore(root, mount.filesystem_type, mount.device)


def system_mounter(settings: Settings, sandboxed: bool = False) -> SystemMounter | HelperMounter:
    """Mounts where the settings say; ``sandboxed``: distbackupd-helper does it, for this process may not."""
    folder = settings.mount_folder.encode()
    return HelperMounter(folder) if sandboxed else SystemMounter(folder)


def volume_on(device: str) -> Volume:
    """The volume that a block device carries. Raises UsageError if that is none that can be mounted."""
    volume = volume_from_properties(device, properties_of(device, Commands()))
    if volume is None:
        raise UsageError(f"there is no file system on {device} that could hold a backup disk")
    return volume


def idle_volumes(mounter: Mounter) -> list[Volume]:
    """What is plugged in and not mounted, as far as udev knows."""
    mounted = {mount.device for mount in mounter.mounts()}
    with contextlib.suppress(DistbackupError):
        return [volume for volume in plugged_volumes(udev_context()) if volume.device not in mounted]
    return []


def open_target(destination: bytes | None) -> FolderTarget:
    """Where a restore writes to; a context manager. None: nowhere, for who only plans."""
    return FolderTarget(destination or b"")


def machine_accounts() -> SystemAccounts:
    """The users and groups of this machine."""
    return SystemAccounts()


def is_on_backup_disk(path: bytes) -> bool:
    """Whether an absolute path lies in the layout of a backup disk, ours or another's."""
    while True:
        with contextlib.closing(FolderStore(path, "")) as store:
            try:
                if store.identity() is not None:
                    return True
            except DiskNotOurs:
                return True
            except DiskTrouble:
                pass  # nothing to be seen there
        if path in (b"/", b""):
            return False
        path = os.path.dirname(path)


class Arrivals:
    """Wakes who waits for a disk: at once where udev can be heard. A context manager."""

    def __init__(self) -> None:
        self._news = threading.Event()
        self._monitor = DiskMonitor(lambda _event: self._news.set())

    def __enter__(self) -> Arrivals:
        with contextlib.suppress(DistbackupError):
            self._monitor.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._monitor.stop()

    def wait(self, seconds: float) -> None:
        """Until a disk is plugged in or out, at the most so long."""
        self._news.wait(seconds)
        self._news.clear()


def bench_on(catalogue: Catalogue, reporter: Reporter, mounter: Mounter, folder: Path) -> Bench:
    """The engine's ports on real things; ``folder`` is the catalogue's."""
    return Bench(
        catalogue=catalogue,
        tree=FolderTree(catalogue=os.path.realpath(os.fsencode(folder))),
        mounter=mounter,
        open_store=open_store,
        reporter=reporter,
        clock=SteadyClock(SystemClock()),
        rescued=RescueFolder(bytes(folder / "rescued")),
        folder=os.path.realpath(os.fsencode(folder)),
        accounts=SystemAccounts(),
        owners=_owners(folder),
    )


def _owners(folder: Path) -> frozenset[int]:
    """Who works on the catalogue in ``folder``: this user, and whose it is; beside them root, on the system's."""
    owners = {os.geteuid()} | ({0} if folder == SYSTEM_FOLDER else set())
    with contextlib.suppress(OSError):
        owners.add(folder.stat().st_uid)
    return frozenset(owners)


def session_options(settings: Settings, policy: Policy | None = None) -> SessionOptions:
    """What the settings say of sessions; ``policy`` overrides what a cycle does."""
    return SessionOptions(
        policy=policy or wish_policy(settings, BackupWish()),
        share=VerificationOptions(share=settings.verify_share_fraction, seconds=settings.verify_time_seconds),
        power_off=settings.power_off,
        brake=brake_thresholds(settings),
    )


def brake_thresholds(settings: Settings) -> BrakeThresholds:
    """When the settings say that nothing may be deleted."""
    return BrakeThresholds(share=settings.brake_share_fraction, files=settings.brake_files, size=settings.brake_size_bytes)


def wish_policy(settings: Settings, wish: BackupWish) -> Policy:
    """What a cycle does when somebody asks for it with limits of their own."""
    return Policy(
        grace=settings.keep_deleted_seconds,
        copy_limit=wish.copy_limit,
        copies_limit=wish.copies_limit,
        evict=wish.evict,
        protect_copies=settings.protect_copies,
        prefer="files" if settings.prefer == "files" else "bytes",
        rebalance=settings.rebalance_fraction,
    )


def publish_disks(bench: Bench, disks: Iterable[BackupDisk]) -> None:
    """Put root's list right for the file systems and LUKS containers of these disks, which root named just now.

    For no others: what else the catalogue says is the daemon's word.
    """
    uuids = {uuid for disk in disks for uuid in (disk.filesystem_uuid, disk.luks_uuid) if uuid}
    _note(uuids, bench.catalogue.disks.all())


def take_over_markers() -> None:
    """Begin root's list of disks with those that earlier versions marked for udev in the catalogue's folder.

    For the package's set-up, as long as that folder is root's. Raises DistbackupError.
    """
    markers = SYSTEM_FOLDER / "disks.d"
    marked = set(os.listdir(markers)) if markers.is_dir() else set()
    if marked:
        with open_catalogue(SYSTEM_FOLDER) as catalogue:
            disks = catalogue.disks.all()
        _note(marked, disks)


def _note(uuids: set[str], disks: Sequence[BackupDisk]) -> None:
    """Which of the disks lie on each of these, or that none does."""
    EnrolledDisks().note({uuid: [disk.name for disk in disks if disk.lies_in(uuid)] for uuid in sorted(uuids)})


def make_control(desk: Desk) -> ControlService:
    """The desk on the system bus."""
    from distbackupd.control.service import ControlService  # noqa: PLC0415 - `dsb` starts faster without it

    return ControlService(desk)


def make_login() -> LoginManager:
    """The machine's own sleep and shutdown."""
    from distbackupd.control.login import LoginManager  # noqa: PLC0415 - as above

    return LoginManager()


class Engine:
    """The engine as the daemon sees it: each call holds the catalogue's lock while it works."""

    def __init__(self, folder: Path, bench: Bench, settings: Settings) -> None:
        self._folder = folder
        self._bench = bench
        self._settings = settings

        def locked() -> AbstractContextManager[object]:
            return at_work(bench, folder, "distbackupd noting what it read again")

        self._confirmer = Confirmer(bench, locked, time.time_ns)
        self._rereader = Rereader(bench, locked)

    def reread(self, stop: Stop) -> None:
        """Read sources again for a short while: what is believed, else what is due.

        Holds the lock only while it notes what it found.
        """
        until = Until(self._bench, stop)
        if not self._confirmer.go_on(until) and not until.is_set():
            self._rereader.go_on(self._settings.reread_seconds, stop)

    def scan(self, stop: Stop, folders: Sequence[bytes] | None = None, ignore_lock: bool = False) -> ScanFinished:
        """Scan everything, or only these real folders. Raises EngineBusy, Interrupted."""
        with at_work(self._bench, self._folder, "distbackupd scanning"):
            options = ScanOptions(folders=folders, ignore_lock=ignore_lock, brake=brake_thresholds(self._settings))
            return scan(self._bench, options, stop)

    def awaits_scan(self) -> bool:
        """Whether a scan of everything is to confirm or lift the brake."""
        return awaits_scan(self._bench)

    def is_ours(self, volume: Volume) -> bool:
        """Whether an enrolled disk lies on the volume."""
        return any(disk.lies_on(volume) for disk in self._bench.catalogue.disks.all())

    def back_up(self, volume: Volume, stop: Stop, waiting: Sequence[Volume] = ()) -> bool:
        """Sessions for all enrolled disks on a plugged-in volume; False: there is none, nothing was touched.

        Raises EngineBusy, Interrupted, and DiskTrouble that is told already.
        """
        with at_work(self._bench, self._folder, "distbackupd backing up"):
            done = back_up_volume(self._bench, volume, session_options(self._settings), stop, waiting)
            self._tell_wanted()
            return done

    def back_up_disk(
        self, name: str, wish: BackupWish, stop: Stop, begins: Callable[[Volume], None], waiting: Sequence[Volume] = ()
    ) -> None:
        """A session with an enrolled disk that somebody named. Raises UsageError, EngineBusy, Interrupted, DiskTrouble."""
        options = session_options(self._settings, wish_policy(self._settings, wish))
        with at_work(self._bench, self._folder, f"distbackupd backing up to {name}"):
            back_up_disk(self._bench, find_disk(self._bench, name), options, stop, begins, waiting)
            self._tell_wanted()

    def eject(self, name: str) -> None:
        """Unmount an enrolled disk wherever it is mounted. Raises UsageError, EngineBusy, DiskTrouble."""
        with at_work(self._bench, self._folder, f"distbackupd ejecting {name}"):
            eject(self._bench, find_disk(self._bench, name), self._settings.power_off)

    def remind(self) -> None:
        """Once a day, tell which disks stayed away for too long, and which one to bring. Raises EngineBusy."""
        if is_reminder_due(self._bench):
            with at_work(self._bench, self._folder, "distbackupd reminding"):
                # The clock may be another one after it was looked at.
                if is_reminder_due(self._bench):
                    remind(self._bench, self._settings.remind_after_seconds)

    def protection(self) -> Protection:
        """What is protected how well."""
        return protection(self._bench)

    def rest(self) -> None:
        """Nothing is to be done for a while: keep no memory for that."""
        self._bench.catalogue.rest()

    def _tell_wanted(self) -> None:
        state = protection(self._bench)
        if state.wanted:
            self._bench.reporter.tell(state.wanted)

    def source_folders(self) -> list[bytes]:
        """Real folders of all sources."""
        return [source.real_path for source in self._bench.catalogue.sources.all()]

    def unscanned(self) -> str | None:
        """A name for the present sources and settings if no whole scan has seen them yet; None if one has."""
        sources = self._bench.catalogue.sources
        present = VirtualTree(sources.all(), sources.settings()).fingerprint()
        return None if self._bench.catalogue.sessions.recall(SCANNED) == present else present

    def reload(self, settings: Settings) -> None:
        """Use other settings from now on."""
        self._settings = settings


@contextlib.contextmanager
def open_engine(folder: Path, settings: Settings, reporter: Reporter, sandboxed: bool = False) -> Iterator[Engine]:
    """The engine of the daemon on the catalogue in ``folder``; see :func:`system_mounter`. Raises CatalogueTrouble."""
    with open_catalogue(folder) as catalogue:
        mounter = system_mounter(settings, sandboxed)
        for sentence in mounter.unmount_leftovers():
            reporter.tell(Remark(sentence))
        bench = bench_on(catalogue, reporter, mounter, folder)
        yield Engine(folder, bench, settings)
