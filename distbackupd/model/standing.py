"""How things stand with the daemon at a moment, as values for the status line, D-Bus and the desktop."""

from __future__ import annotations

from dataclasses import dataclass, field

from distbackupd.model.events import DiskWanted, Event
from distbackupd.model.problems import NOTHING_UNREAD, FailedScan, Unread


@dataclass(frozen=True, slots=True)
class Standing:
    """What the daemon is doing. ``sentence`` is the line that ``systemctl status`` shows to everybody, so it has no paths.

    ``state``: ``opening``, ``idle``, ``paused``, ``scanning``, ``session`` (with ``disk``) or ``stopping``. A job at work
    that is paused has the state ``paused``. Of the innermost ``activity`` (``hashing``, ``copying``; empty: none): how
    much is done, totals 0 where nobody knows them, and for how many ``seconds`` it runs.
    """

    state: str = "opening"
    sentence: str = ""
    disk: str = ""
    activity: str = ""
    items: int = 0
    total_items: int = 0
    done_bytes: int = 0
    total_bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class DiskStanding:
    """One enrolled disk. Bytes; ``only_here``: bytes of living objects of which it holds the only copy. Unix seconds.

    ``uuid`` is empty where it comes from the bus, which tells it to nobody.
    """

    name: str
    uuid: str
    capacity: int
    used: int
    objects: int
    only_here: int
    last_session_at: int | None


@dataclass(frozen=True, slots=True)
class Protection:
    """What is protected how well: bytes of living objects by their number of copies, and the disk to bring next.

    ``wanted`` is None if no disk that could be brought would do any good; ``advice`` says then what would, empty: nothing is
    needed. ``last_scan``: unix seconds, None for never.
    ``brake``: why nothing is deleted on any disk, and what to do; empty: the brake is off. ``unread``: what could not be
    read; its bytes are among those without a copy. ``failed_scan``: None if the last one came to its end.
    ``unconfirmed``: how many files are believed without having been read again, and their bytes.
    """

    bytes_by_copies: dict[int, int] = field(default_factory=dict)
    disks: tuple[DiskStanding, ...] = ()
    wanted: DiskWanted | None = None
    last_scan: int | None = None
    brake: str = ""
    unread: Unread = NOTHING_UNREAD
    failed_scan: FailedScan | None = None
    advice: str = ""
    unconfirmed: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Told:
    """An event that was told, at ``time`` (unix seconds). Later ones have higher numbers, also after a restart."""

    number: int
    time: int
    event: Event


@dataclass(frozen=True, slots=True)
class Answer:
    """How a job that somebody asked for ended: an exit code of the one table, and the sentence if it is an error."""

    job: int
    exit_code: int
    sentence: str = ""
