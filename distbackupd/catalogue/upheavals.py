"""How much was lost since a moment. Sums are made object by object, so that a content with many names costs no more."""

from __future__ import annotations

from distbackupd.catalogue.database import Database
from distbackupd.catalogue.files import FileTable
from distbackupd.catalogue.places import join
from distbackupd.catalogue.trouble import speaking
from distbackupd.engine.ports import Upheaval
from distbackupd.model.files import EntryFlag, SourceFile

_FORMER = "gone <> 0 AND gone > :moment AND seen <= :moment AND object IS NOT NULL"
_LOST = "NOT EXISTS (SELECT 1 FROM file AS living WHERE living.object = candidate.id AND living.gone = 0)"
_SINCE = f"WITH candidate AS MATERIALIZED (SELECT DISTINCT object AS id FROM file INDEXED BY file_gone WHERE {_FORMER})"
_LATELY = "WITH candidate AS (SELECT id FROM touched_object)"
_PAST = "candidate CROSS JOIN file AS past ON past.object = candidate.id AND past.gone > :moment AND past.seen <= :moment"
_NOW = "SELECT 1 FROM file AS now WHERE now.folder = past.folder AND now.name = past.name AND now.gone = 0"
_BEFORE = (
    "SELECT 1 FROM file AS before WHERE before.folder = past.folder AND before.name = past.name AND before.gone <> 0 "
    "AND before.gone <= :moment AND before.object IS NOT NULL AND before.object <> past.object"
)


@speaking
class UpheavalTable:
    """See :class:`distbackupd.engine.ports.UpheavalTable`."""

    def __init__(self, database: Database, files: FileTable) -> None:
        self._database = database
        self._files = files

    def since(self, moment: int) -> Upheaval:
        """What was lost after the moment of what lived then."""
        return self._sum(_SINCE, moment)

    def lately(self, moment: int) -> Upheaval:
        """The same, of what was lost since the last whole scan ended."""
        # What lost a name since then and has none now is noted; what has one was struck off the notes as the scan ended.
        return self._sum(_LATELY, moment)

    def rewritten_since(self, moment: int, limit: int) -> list[SourceFile]:
        """Some of those that are rewritten, as they are now; ``object_id`` is their former content's."""
        rows = self._database.execute(
            f"{_SINCE} SELECT past.object, path, now.name, now.size, now.mtime_ns, now.inode, now.id, "
            f"now.ctime_ns, NOT EXISTS (SELECT 1 FROM unconfirmed WHERE unconfirmed.file = now.id) FROM {_PAST} "
            "JOIN file AS now ON now.folder = past.folder AND now.name = past.name AND now.gone = 0 "
            f"JOIN folder ON folder.id = now.folder WHERE now.object IS NOT NULL AND {_LOST} LIMIT :limit",
            {"moment": moment, "limit": limit},
        )
        return [SourceFile._make((row[0], join(row[1], row[2]), *row[3:8], bool(row[8]), False, None)) for row in rows]

    def living(self) -> tuple[int, int]:
        """Current regular files with content, and their bytes."""
        return self._files.contents()

    def _sum(self, candidates: str, moment: int) -> Upheaval:
        row = self._database.execute(
            f"{candidates} SELECT coalesce(sum(NOT there), 0), coalesce(sum(there), 0), "
            "coalesce(sum(CASE WHEN there THEN 0 ELSE size END), 0), "
            "coalesce(sum(CASE WHEN there AND NOT usual THEN size ELSE 0 END), 0) FROM ("
            # What never rests is rewritten by those whose file it is, all the time.
            f"SELECT past.size, EXISTS ({_NOW}) AS there, past.flags & {int(EntryFlag.RESTLESS)} OR EXISTS ({_BEFORE}) "
            f"AS usual FROM {_PAST} WHERE {_LOST})",
            {"moment": moment},
        ).fetchone()
        return Upheaval(*(int(value) for value in row))
