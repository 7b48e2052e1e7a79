"""What every use case works with, handed over by ``wiring`` in one piece."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from distbackupd.engine.ports import Catalogue, Clock, DiskStore, MachineAccounts, Mounter, Reporter, Rescue, SourceTree
from distbackupd.model.disks import Mount


@dataclass(frozen=True, slots=True)
class Bench:
    """The ports of the engine. ``open_store`` gives the store that lies at a path of a mounted disk.

    ``rescued``: good contents of rotten source files; None: none are kept. ``folder``: where the catalogue lies, a real
    path; empty: in no folder that anybody could meet. ``accounts``: users and groups of this machine; None: only their
    numbers are recorded. ``owners``: who, beside root, may own what is a backup disk: the one who works here.
    """

    catalogue: Catalogue
    tree: SourceTree
    mounter: Mounter
    open_store: Callable[[bytes, Mount], DiskStore]
    reporter: Reporter
    clock: Clock
    rescued: Rescue | None = None
    folder: bytes = b""
    accounts: MachineAccounts | None = None
    owners: frozenset[int] = field(default_factory=lambda: frozenset({os.geteuid()}))
