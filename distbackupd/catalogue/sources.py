"""Sources and folder settings."""

from __future__ import annotations

import json

from distbackupd.catalogue.database import Database
from distbackupd.catalogue.tables import FolderSettingRow, SourceRow
from distbackupd.catalogue.trouble import speaking
from distbackupd.model.sources import FolderSettings, Source


@speaking
class SourceTable:
    """See :class:`distbackupd.engine.ports.SourceTable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[Source]:
        """Every source, by virtual path."""
        with self._database.bound(SourceRow):
            rows = SourceRow.select().order_by(SourceRow.virtual_path).tuples()
            return [Source(bytes(virtual), bytes(real)) for virtual, real in rows]

    def map(self, source: Source) -> None:
        """Map, or map anew, a virtual path. Durable when it returns."""
        with self._database.transaction(), self._database.bound(SourceRow):
            SourceRow.replace(virtual_path=source.virtual_path, real_path=source.real_path).execute()
            self._database.grow_generation()

    def unmap(self, virtual_path: bytes) -> bool:
        """Whether there was such a source; its files stay known until the next scan. Durable when it returns."""
        with self._database.transaction(), self._database.bound(SourceRow):
            deleted: int = SourceRow.delete().where(SourceRow.virtual_path == virtual_path).execute()
            self._database.grow_generation()
        return deleted > 0

    def settings(self) -> dict[bytes, FolderSettings]:
        """What is set, by virtual path."""
        with self._database.bound(FolderSettingRow):
            rows = FolderSettingRow.select().order_by(FolderSettingRow.virtual_path).tuples()
            return {bytes(path): FolderSettings.from_mapping(json.loads(text)) for path, text in rows}

    def set_settings(self, virtual_path: bytes, settings: FolderSettings) -> None:
        """Set, or with default settings clear, what holds for a virtual folder. Durable when it returns."""
        mapping = settings.to_mapping()
        with self._database.transaction(), self._database.bound(FolderSettingRow):
            if mapping:
                text = json.dumps(mapping, ensure_ascii=True)
                FolderSettingRow.replace(virtual_path=virtual_path, settings=text).execute()
            else:
                FolderSettingRow.delete().where(FolderSettingRow.virtual_path == virtual_path).execute()
            self._database.grow_generation()
