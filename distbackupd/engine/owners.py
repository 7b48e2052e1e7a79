"""Owners by name: what a scan records of them, and whose number a restore gives."""

from __future__ import annotations

from collections.abc import Callable

from distbackupd.engine.bench import Bench
from distbackupd.engine.ports import MachineAccounts
from distbackupd.model.files import Attributes, RestoreEntry
from distbackupd.model.owners import OwnerNames, renumbered

_CACHED = 100_000


def record_owner_names(bench: Bench, now: int) -> None:
    """Record what the machine calls everybody whose files were met; not yet committed."""
    if bench.accounts is not None:
        accounts = bench.catalogue.accounts
        accounts.record(bench.accounts.names(accounts.met()), now)


class OwnerMapping:
    """Whose number an entry gets here: that of the same name if there is one, else the one that it had.

    Names that are not known here are added to ``unknown``. ``machine`` None: numbers count.
    """

    def __init__(self, recorded: OwnerNames, machine: MachineAccounts | None, unknown: set[str]) -> None:
        self._users = _numbers(recorded.users, machine.user if machine else None, unknown)
        self._groups = _numbers(recorded.groups, machine.group if machine else None, unknown)
        self._known: dict[Attributes, Attributes] = {}
        self._counts = machine is None

    def given(self, entry: RestoreEntry) -> RestoreEntry:
        """The entry as it is to be owned here."""
        if self._counts:
            return entry
        attributes = self._known.get(entry.attributes)
        if attributes is None:
            if len(self._known) >= _CACHED:
                self._known.clear()
            attributes = self._known[entry.attributes] = renumbered(entry.attributes, self._users, self._groups)
        return entry if attributes == entry.attributes else entry._replace(attributes=attributes)


def _numbers(names: dict[int, str], find: Callable[[str], int | None] | None, unknown: set[str]) -> Callable[[int], int]:
    found: dict[int, int] = {}

    def number_here(number: int) -> int:
        here = found.get(number)
        if here is None:
            name = names.get(number)
            there = find(name) if find and name else None
            if name and there is None:
                unknown.add(name)
            here = found[number] = number if there is None else there
        return here

    return number_here
