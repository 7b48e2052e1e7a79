"""What the use cases need to know of users and groups, by name and by number."""

from __future__ import annotations

from typing import Protocol

from distbackupd.model.owners import OwnerNames, OwnerNumbers


class MachineAccounts(Protocol):
    """The users and groups of this machine. Directory services may be slow or away: no call takes long."""

    def names(self, numbers: OwnerNumbers) -> OwnerNames:
        """What they are called now. Who has no name, or was not found out soon enough, is left out."""

    def user(self, name: str) -> int | None:
        """The number of the user of this name; None: nobody is known by it."""

    def group(self, name: str) -> int | None:
        """The number of the group of this name; None: none is known by it."""


class AccountTable(Protocol):
    """The names that the machine knew when its files were scanned."""

    def met(self) -> OwnerNumbers:
        """Everybody whom the attributes name that were interned (``FileTable.attributes_id``) since this was opened."""

    def record(self, names: OwnerNames, now: int) -> None:
        """What these numbers are called from this moment on; not yet committed, and nothing if all are known so."""

    def names(self, at: int | None = None) -> OwnerNames:
        """What numbers were called at a moment (unix seconds; None: the latest). Before the first known name, that one."""
