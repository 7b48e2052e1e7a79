"""What happened, as values that know their sentence.

Every channel (terminal, journal, status, notification) tells the same :attr:`Event.sentence`. ``MESSAGE_ID`` is fixed
for ever: people filter the journal by it. ``severity`` is a syslog level: 3 error, 4 warning, 5 notice, 6 info.
``fields`` become ``DISTBACKUP_*`` fields of the journal.

What adapters post to the daemon's inbox is in :mod:`distbackupd.model.inbox`.

``base`` what every event is · ``sessions`` backup disks from plug to unplug · ``contents`` bad copies and rot · ``sources``
scans and files · ``standing`` the brake, a pause, a wrong clock, remarks.
"""

from distbackupd.model.events.base import DiskEvent, Event
from distbackupd.model.events.contents import BadCopyFound, ContentLost, CopiesGone, CopiesMended, SourceHealed, SourceRotted
from distbackupd.model.events.sessions import (
    AnswersAgain,
    Culprit,
    DiskNotSeen,
    DiskRefused,
    DiskWanted,
    DriveInUse,
    DriveStillNeeded,
    MayUnplug,
    NotAnswering,
    SessionFailed,
    SessionFinished,
    SessionInterrupted,
    SessionStarted,
    StillMounted,
)
from distbackupd.model.events.sources import (
    ContentsChanged,
    FileSkipped,
    ScanFailed,
    ScanFinished,
    ScanStarted,
    SourceLocked,
    WatchLimited,
)
from distbackupd.model.events.standing import (
    BRAKE_IS_ON,
    Braked,
    BrakeLifted,
    BrakeReleased,
    ClockWrong,
    Paused,
    Remark,
    Resumed,
)

__all__ = [
    "BRAKE_IS_ON",
    "AnswersAgain",
    "BadCopyFound",
    "BrakeLifted",
    "BrakeReleased",
    "Braked",
    "ClockWrong",
    "ContentLost",
    "ContentsChanged",
    "CopiesGone",
    "CopiesMended",
    "Culprit",
    "DiskEvent",
    "DiskNotSeen",
    "DiskRefused",
    "DiskWanted",
    "DriveInUse",
    "DriveStillNeeded",
    "Event",
    "FileSkipped",
    "MayUnplug",
    "NotAnswering",
    "Paused",
    "Remark",
    "Resumed",
    "ScanFailed",
    "ScanFinished",
    "ScanStarted",
    "SessionFailed",
    "SessionFinished",
    "SessionInterrupted",
    "SessionStarted",
    "SourceHealed",
    "SourceLocked",
    "SourceRotted",
    "StillMounted",
    "WatchLimited",
]
