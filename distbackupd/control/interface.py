"""``org.distbackupd.Manager1`` as D-Bus sees it. ``packaging/dbus/org.distbackupd.Manager1.xml`` tells what it all means."""

from __future__ import annotations

from typing import Any

from sdbus import (
    DbusInterfaceCommonAsync,
    DbusPropertyConstFlag,
    DbusPropertyEmitsChangeFlag,
    DbusUnprivilegedFlag,
    dbus_method_async,
    dbus_property_async,
    dbus_signal_async,
)

BUS_NAME = "org.distbackupd"
OBJECT_PATH = "/org/distbackupd"
INTERFACE = "org.distbackupd.Manager1"

Variant = tuple[str, Any]
WireNews = tuple[int, int, str, int, str, str, dict[str, str]]
"""Number, unix time, kind, severity, disk, sentence, fields."""
WireAnswer = tuple[int, int, str]
"""Job, exit code, sentence."""
WireOutcome = tuple[int, str]
"""Exit code, sentence."""

NEWS_SIGNATURE = "txsissa{ss}"
NEWS_NAMES = ("number", "time", "kind", "severity", "disk", "sentence", "fields")

# sd-bus lets only root call what has no such flag; here polkit decides.
_ANYBODY = DbusUnprivilegedFlag


class Manager1(DbusInterfaceCommonAsync, interface_name=INTERFACE):
    """What is shown and can be asked. A proxy as it stands; the service overrides everything."""

    @dbus_property_async("s", DbusPropertyConstFlag)
    def version(self) -> str:
        """Of the program."""
        raise NotImplementedError

    @dbus_property_async("s", DbusPropertyEmitsChangeFlag)
    def state(self) -> str:
        """See :class:`distbackupd.model.standing.Standing`."""
        raise NotImplementedError

    @dbus_property_async("s", DbusPropertyEmitsChangeFlag)
    def status(self) -> str:
        """The standing's sentence."""
        raise NotImplementedError

    @dbus_property_async("s", DbusPropertyEmitsChangeFlag)
    def disk(self) -> str:
        """The disk at work."""
        raise NotImplementedError

    @dbus_property_async("b", DbusPropertyEmitsChangeFlag)
    def paused(self) -> bool:
        """Whether it rests."""
        raise NotImplementedError

    @dbus_property_async("a{sv}", DbusPropertyEmitsChangeFlag)
    def progress(self) -> dict[str, Variant]:
        """Of the innermost activity."""
        raise NotImplementedError

    @dbus_property_async("a{ut}", DbusPropertyEmitsChangeFlag)
    def bytes_by_copies(self) -> dict[int, int]:
        """See :class:`distbackupd.model.standing.Protection`."""
        raise NotImplementedError

    @dbus_property_async("aa{sv}", DbusPropertyEmitsChangeFlag)
    def disks(self) -> list[dict[str, Variant]]:
        """Each enrolled disk."""
        raise NotImplementedError

    @dbus_property_async("a{sv}", DbusPropertyEmitsChangeFlag)
    def wanted(self) -> dict[str, Variant]:
        """The disk to bring next; empty: none."""
        raise NotImplementedError

    @dbus_property_async("x", DbusPropertyEmitsChangeFlag)
    def last_scan(self) -> int:
        """Unix seconds; 0: never."""
        raise NotImplementedError

    @dbus_property_async("s", DbusPropertyEmitsChangeFlag)
    def brake(self) -> str:
        """Why nothing is deleted on any disk; empty: the brake is off."""
        raise NotImplementedError

    @dbus_property_async("a{sv}", DbusPropertyEmitsChangeFlag)
    def unread(self) -> dict[str, Variant]:
        """How much has no copy because it could not be read; empty: nothing."""
        raise NotImplementedError

    @dbus_property_async("(tt)", DbusPropertyEmitsChangeFlag)
    def unconfirmed(self) -> tuple[int, int]:
        """How many files are believed without having been read again, and their bytes."""
        raise NotImplementedError

    @dbus_property_async("a{sv}", DbusPropertyEmitsChangeFlag)
    def failed_scan(self) -> dict[str, Variant]:
        """Since when no scan comes to its end, and why; empty: the last one did."""
        raise NotImplementedError

    @dbus_property_async("s", DbusPropertyEmitsChangeFlag)
    def advice(self) -> str:
        """What would help where no disk that could be brought does; empty: nothing is needed."""
        raise NotImplementedError

    @dbus_method_async("sa{sv}", "t", _ANYBODY, ("job",), ("disk", "options"))
    async def back_up(self, disk: str, options: dict[str, Variant]) -> int:
        """Ask for a session."""
        raise NotImplementedError

    @dbus_method_async("s", "t", _ANYBODY, ("job",), ("disk",))
    async def eject(self, disk: str) -> int:
        """Ask for a disk to be let go."""
        raise NotImplementedError

    @dbus_method_async("", "t", _ANYBODY, ("job",), ())
    async def scan(self) -> int:
        """Ask for a scan of all sources."""
        raise NotImplementedError

    @dbus_method_async("t", "b", _ANYBODY, ("cancelled",), ("job",))
    async def cancel(self, job: int) -> bool:
        """Stop a job, or with 0 whatever is at work."""
        raise NotImplementedError

    @dbus_method_async("", "", _ANYBODY)
    async def pause(self) -> None:
        """Rest."""
        raise NotImplementedError

    @dbus_method_async("", "", _ANYBODY)
    async def resume(self) -> None:
        """Go on."""
        raise NotImplementedError

    @dbus_method_async("t", f"a({NEWS_SIGNATURE})", _ANYBODY, ("events",), ("since",))
    async def events(self, since: int) -> list[WireNews]:
        """What was told to everybody after this number."""
        raise NotImplementedError

    @dbus_method_async("t", f"a({NEWS_SIGNATURE})", _ANYBODY, ("events",), ("since",))
    async def details(self, since: int) -> list[WireNews]:
        """All that was told after this number, in whole."""
        raise NotImplementedError

    @dbus_method_async("t", "is", _ANYBODY, ("exit_code", "sentence"), ("job",))
    async def outcome(self, job: int) -> WireOutcome:
        """How a job ended, in whole."""
        raise NotImplementedError

    @dbus_method_async("s", "b", _ANYBODY, ("served",), ("folder",))
    async def serves(self, folder: str) -> bool:
        """Whether the catalogue lies in this folder."""
        raise NotImplementedError

    @dbus_signal_async(NEWS_SIGNATURE, NEWS_NAMES)
    def told(self) -> WireNews:
        """Something happened."""
        raise NotImplementedError

    @dbus_signal_async("tis", ("job", "exit_code", "sentence"))
    def answered(self) -> WireAnswer:
        """A job has ended."""
        raise NotImplementedError
