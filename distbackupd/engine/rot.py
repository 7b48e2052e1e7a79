"""A source file that is as it was in all but its content has rotted: that is no change to be backed up.

What a content other than known is, :func:`distbackupd.planning.settling.is_rot` decides.
"""

from __future__ import annotations

from distbackupd.engine.bench import Bench
from distbackupd.model.events import SourceRotted
from distbackupd.model.rot import Reading, RottenFile
from distbackupd.model.text import join_words


def record_rot(bench: Bench, path: bytes, object_id: int, reading: Reading) -> bool:
    """Keep, and tell once, that the living file holds this instead of the object; whether that is news.

    Until it is resolved no copy is made from it, nor from another name of it.
    """
    rotten = bench.catalogue.rot.record(path, object_id, reading, bench.clock.now())
    if rotten is None:
        return False
    bench.reporter.tell(
        SourceRotted(
            path,
            join_words(holder_names(bench, rotten)),
            unreadable=not reading.digest,
        )
    )
    return True


def holder_names(bench: Bench, rotten: RottenFile) -> list[str]:
    """Names of the disks that hold the good content, in order."""
    return sorted(disk.name for disk in bench.catalogue.disks.all() if disk.id in rotten.holders)
