"""Enrolled disks."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import peewee

from distbackupd.catalogue.database import Database
from distbackupd.catalogue.objects import ObjectTable
from distbackupd.catalogue.tables import DiskRow
from distbackupd.catalogue.trouble import speaking
from distbackupd.model.disks import OBJECT_OVERHEAD, USUAL_BLOCK_SIZE, BackupDisk
from distbackupd.model.errors import UsageError
from distbackupd.model.text import say_count
from distbackupd.planning.listing import LeftFolder

_COLUMNS = tuple(item.name for item in fields(BackupDisk))


@speaking
class DiskTable:
    """See :class:`distbackupd.engine.ports.DiskTable`."""

    def __init__(self, database: Database, objects: ObjectTable) -> None:
        self._database = database
        self._objects = objects

    def all(self) -> list[BackupDisk]:
        """Every enrolled disk, by name."""
        with self._database.bound(DiskRow):
            return [_disk(row) for row in DiskRow.select().order_by(DiskRow.name).dicts()]

    def find(self, name_or_uuid: str) -> BackupDisk | None:
        """The disk of this name, or of this UUID in any usual spelling."""
        try:
            canonical = str(uuid.UUID(name_or_uuid))
        except ValueError:
            canonical = ""
        with self._database.bound(DiskRow):
            row = (
                DiskRow.select()
                .where((DiskRow.name == name_or_uuid) | (DiskRow.uuid == canonical))
                .order_by(DiskRow.name != name_or_uuid)
                .dicts()
                .first()
            )
        return None if row is None else _disk(row)

    def add(self, disk: BackupDisk) -> BackupDisk:
        """Enrol (``disk.id`` is ignored); raises UsageError if the name or UUID is taken."""
        values = {key: value for key, value in asdict(disk).items() if key != "id"}
        with self._database.transaction(), self._database.bound(DiskRow):
            try:
                DiskRow.insert(**values).execute()
            except peewee.IntegrityError as error:
                raise UsageError(f"there is a disk '{disk.name}' already; choose another name") from error
            self._database.grow_generation()
        added = self.find(disk.uuid)
        assert added is not None
        return added

    def update(self, disk: BackupDisk) -> None:
        """Store all fields of a known disk but its tokens; raises UsageError if the name is taken."""
        values = {key: value for key, value in asdict(disk).items() if key not in ("id", "token", "next_token")}
        with self._database.transaction(), self._database.bound(DiskRow):
            try:
                DiskRow.update(**values).where(DiskRow.id == disk.id).execute()
            except peewee.IntegrityError as error:
                raise UsageError(f"there is a disk '{disk.name}' already; choose another name") from error

    def delete(self, disk: BackupDisk) -> None:
        """Forget a disk that holds nothing; raises UsageError if it holds something."""
        count, _ = self.used(disk.id)
        if count:
            raise UsageError(
                f"disk '{disk.name}' holds {say_count(count, 'object')}; "
                f"if it is lost, say 'dsb disk drop {disk.name}' first"
            )
        with self._database.transaction() as connection:
            for table, column in (
                ("removal", "disk"),
                ("verified_folder", "disk"),
                ("listed_folder", "disk"),
                ("disk", "id"),
            ):
                connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (disk.id,))
            self._database.grow_generation()

    def drop(self, disk: int) -> int:
        """The disk holds nothing any more (it failed); how many objects it held."""
        with self._database.transaction() as connection:
            count = self._objects.drop_disk(disk)
            connection.execute("DELETE FROM removal WHERE disk = ?", (disk,))
            connection.execute("UPDATE disk SET token = '', next_token = '' WHERE id = ?", (disk,))
            connection.execute("DELETE FROM verified_folder WHERE disk = ?", (disk,))
            connection.execute("DELETE FROM listed_folder WHERE disk = ?", (disk,))
            # Whatever becomes of the disk, what its file system said of its room was said of what lay on it.
            connection.execute("UPDATE disk SET fillable = -1, declined = 0, most_objects = 0 WHERE id = ?", (disk,))
            self._database.grow_generation()
        return count

    def record_token(self, disk: int, token: str, next_token: str) -> None:
        """What is on the disk, and what may be on it soon. Durable when it returns."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE disk SET token = ?, next_token = ? WHERE id = ?", (token, next_token, disk))

    def left(self, disk: int) -> dict[int, LeftFolder]:
        """How the last sessions left its folders (0 to 4095)."""
        rows = self._database.execute("SELECT folder, mtime_ns, listed_at FROM listed_folder WHERE disk = ?", (disk,))
        return {folder: LeftFolder(mtime_ns, listed_at) for folder, mtime_ns, listed_at in rows}

    def note_left(self, disk: int, folders: Mapping[int, LeftFolder]) -> None:
        """These folders are left so. Durable when it returns."""
        with self._database.transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO listed_folder (disk, folder, mtime_ns, listed_at) VALUES (?, ?, ?, ?)",
                [(disk, folder, *left) for folder, left in folders.items()],
            )

    def forget_looks(self, disk: int) -> None:
        """When its folders were verified, and how they were left, was true of another disk than this."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM verified_folder WHERE disk = ?", (disk,))
            connection.execute("DELETE FROM listed_folder WHERE disk = ?", (disk,))

    def used(self, disk: int) -> tuple[int, int]:
        """How many objects the disk holds, and their footprint in bytes."""
        with self._database.bound(DiskRow):
            facts = DiskRow.select(DiskRow.block_size, DiskRow.overhead).where(DiskRow.id == disk).tuples().first()
        block_size, overhead = facts or (USUAL_BLOCK_SIZE, OBJECT_OVERHEAD)
        count, _, rounded = self._objects.used(disk, block_size)
        return count, rounded + count * overhead

    def held(self, disk: int) -> tuple[int, int]:
        """How many objects the disk holds, and their bytes."""
        count, size, _ = self._objects.used(disk, USUAL_BLOCK_SIZE)
        return count, size

    def verified_at(self, disk: int) -> dict[int, int]:
        """When each folder (0 to 4095) was last verified whole, unix seconds."""
        return dict(self._database.execute("SELECT folder, verified_at FROM verified_folder WHERE disk = ?", (disk,)))

    def record_verified(self, disk: int, folders: Sequence[int], now: int) -> None:
        """These folders were verified whole."""
        with self._database.transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO verified_folder (disk, folder, verified_at) VALUES (?, ?, ?)",
                [(disk, folder, now) for folder in folders],
            )


def _disk(row: dict[str, Any]) -> BackupDisk:
    values = {column: row[column] for column in _COLUMNS}
    for column in ("relative_path", "last_path"):
        values[column] = bytes(values[column])
    return BackupDisk(**{**values, "clean": bool(values["clean"])})
