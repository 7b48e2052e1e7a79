"""What the use cases need from outside, as protocols. ``wiring`` brings the real ones, tests bring fakes.

One contract suite (``tests/contract``) runs on each port's fake and on the real thing.

``working`` stopping, progress, time · ``sources`` real folders and files · ``store`` a backup disk · ``mounting`` reaching
it · ``catalogue`` and ``history`` the memory · ``target`` where a restore writes · ``attendant`` who brings it disks ·
``problems`` what could not be read · ``confirming`` what is believed and still to be read again · ``rot`` what becomes of
source files whose content rotted · ``upheavals`` what the sources lost · ``recovery`` copies of a lost catalogue ·
``adoption`` the database of the program that was used before · ``accounts`` names of users and groups · ``finding`` names
anywhere in the tree.
"""

from distbackupd.engine.ports.accounts import AccountTable, MachineAccounts
from distbackupd.engine.ports.adoption import FormerDatabase
from distbackupd.engine.ports.attendant import Attendant
from distbackupd.engine.ports.catalogue import (
    Catalogue,
    DiskTable,
    FileTable,
    FolderChanges,
    ObjectTable,
    SessionSummary,
    SessionTable,
    SourceTable,
)
from distbackupd.engine.ports.confirming import UnconfirmedTable
from distbackupd.engine.ports.finding import FindingTable
from distbackupd.engine.ports.history import HistoryTable
from distbackupd.engine.ports.moments import MomentTable
from distbackupd.engine.ports.mounting import Mounter
from distbackupd.engine.ports.problems import ProblemTable
from distbackupd.engine.ports.recovery import CatalogueCopies
from distbackupd.engine.ports.restless import RestlessTable
from distbackupd.engine.ports.rot import Mended, MendSource, Rescue, RotTable, SourceReading
from distbackupd.engine.ports.sources import FolderPart, FolderState, OpenedFile, SourceTree
from distbackupd.engine.ports.store import CopyVerdict, DiskStore, FolderDifference, StagedCopy
from distbackupd.engine.ports.target import BadContent, EntryRefused, NameTaken, Placement, RestoreTarget, TargetTrouble
from distbackupd.engine.ports.upheavals import Upheaval, UpheavalTable
from distbackupd.engine.ports.working import Clock, MachineClock, Pulse, Reporter, Stop

__all__ = [
    "AccountTable",
    "Attendant",
    "BadContent",
    "Catalogue",
    "CatalogueCopies",
    "Clock",
    "CopyVerdict",
    "DiskStore",
    "DiskTable",
    "EntryRefused",
    "FileTable",
    "FindingTable",
    "FolderChanges",
    "FolderDifference",
    "FolderPart",
    "FolderState",
    "FormerDatabase",
    "HistoryTable",
    "MachineAccounts",
    "MachineClock",
    "MendSource",
    "Mended",
    "MomentTable",
    "Mounter",
    "NameTaken",
    "ObjectTable",
    "OpenedFile",
    "Placement",
    "ProblemTable",
    "Pulse",
    "Reporter",
    "Rescue",
    "RestlessTable",
    "RestoreTarget",
    "RotTable",
    "SessionSummary",
    "SessionTable",
    "SourceReading",
    "SourceTable",
    "SourceTree",
    "StagedCopy",
    "Stop",
    "TargetTrouble",
    "UnconfirmedTable",
    "Upheaval",
    "UpheavalTable",
]
