"""History of sessions, and small facts."""

from __future__ import annotations

import peewee

from distbackupd.catalogue.database import Database
from distbackupd.catalogue.tables import FactRow, SessionRow
from distbackupd.catalogue.trouble import speaking
from distbackupd.engine.ports import SessionSummary
from distbackupd.model.disks import BackupDisk

_COLUMNS = [getattr(SessionRow, name) for name in SessionSummary._fields]


@speaking
class SessionTable:
    """See :class:`distbackupd.engine.ports.SessionTable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def start(self, disk: BackupDisk, now: int) -> int:
        """A session starts; its id."""
        summary = SessionSummary(disk.name, now, None, "running", 0, 0, 0, 0, "")
        with self._database.transaction(), self._database.bound(SessionRow):
            return int(SessionRow.insert(**summary._asdict()).execute())

    def finish(self, session: int, summary: SessionSummary) -> None:
        """It ended; durable when it returns."""
        with self._database.transaction(), self._database.bound(SessionRow):
            SessionRow.update(**summary._asdict()).where(SessionRow.id == session).execute()

    def recent(self, limit: int) -> list[SessionSummary]:
        """The newest sessions first."""
        with self._database.bound(SessionRow):
            rows = SessionRow.select(*_COLUMNS).order_by(SessionRow.id.desc()).limit(limit).tuples()
            return [SessionSummary._make(row) for row in rows]

    def latest(self) -> dict[str, SessionSummary]:
        """The newest session of each disk, by the name that the disk had."""
        with self._database.bound(SessionRow):
            newest = SessionRow.select(peewee.fn.MAX(SessionRow.id)).group_by(SessionRow.disk_name)
            rows = SessionRow.select(*_COLUMNS).where(SessionRow.id.in_(newest)).tuples()
            return {row[0]: SessionSummary._make(row) for row in rows}

    def remember(self, key: str, value: str) -> None:
        """Keep a small fact (when the last scan ended)."""
        with self._database.transaction(), self._database.bound(FactRow):
            FactRow.replace(key=key, value=value).execute()

    def recall(self, key: str) -> str | None:
        """A kept fact."""
        with self._database.bound(FactRow):
            fact = FactRow.get_or_none(FactRow.key == key)
        return None if fact is None else str(fact.value)
