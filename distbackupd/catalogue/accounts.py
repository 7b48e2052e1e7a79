"""Names of users and groups, and since when their numbers stand for them."""

from __future__ import annotations

from distbackupd.catalogue.database import Database
from distbackupd.catalogue.trouble import speaking
from distbackupd.model.files import Attributes
from distbackupd.model.owners import OwnerNames, OwnerNumbers, numbers_in


@speaking
class AccountTable:
    """See :class:`distbackupd.engine.ports.AccountTable`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._users: set[int] = set()
        self._groups: set[int] = set()

    def meet(self, attributes: Attributes) -> None:
        """Remember whom these name. Called once for what is interned, not for each file, so a scan stays fast."""
        numbers = numbers_in(attributes)
        self._users |= numbers.users
        self._groups |= numbers.groups

    def met(self) -> OwnerNumbers:
        """Everybody who was met since this was opened."""
        return OwnerNumbers(frozenset(self._users), frozenset(self._groups))

    def record(self, names: OwnerNames, now: int) -> None:
        """What these numbers are called from now on; not yet committed, and nothing if all are known so."""
        known = self.names()
        news = [
            (int(is_group), number, now, name)
            for is_group, before, found in ((False, known.users, names.users), (True, known.groups, names.groups))
            for number, name in found.items()
            if before.get(number) != name
        ]
        if news:
            self._database.begin()
            self._database.connection.executemany(
                "INSERT OR REPLACE INTO account (is_group, number, since, name) VALUES (?, ?, ?, ?)", news
            )

    def names(self, at: int | None = None) -> OwnerNames:
        """What numbers were called at a moment (None: the latest); before the first known name, that one."""
        names = OwnerNames({}, {})
        rows = self._database.execute("SELECT is_group, number, since, name FROM account ORDER BY is_group, number, since")
        for is_group, number, since, name in rows:
            called = names.groups if is_group else names.users
            if at is None or since <= at or number not in called:
                called[number] = name
        return names
