"""Fetch from a disk that is here what rotten source files have lost, before the disk goes away again.

The good content is kept beside the catalogue until somebody puts it back with ``dsb heal``, which then needs no disk.
It is not put back unasked: a source belongs to its owner, and the service may not even write there.
"""

from __future__ import annotations

from distbackupd.engine.bench import Bench
from distbackupd.engine.ports import BadContent, DiskStore, Rescue, Stop
from distbackupd.engine.pulse import Meter
from distbackupd.model.disks import BackupDisk
from distbackupd.model.errors import CatalogueTrouble
from distbackupd.model.events import Remark
from distbackupd.model.rot import RottenFile
from distbackupd.model.text import printable, say_count


def rescue(bench: Bench, disk: BackupDisk, store: DiskStore, stop: Stop) -> int:
    """Keep the good contents that the disk holds of rotten files; how many contents that are news of.

    What cannot be kept is told, and stays on the disk. Raises DiskTrouble, Interrupted.
    """
    if bench.rescued is None:
        return 0
    rotten = bench.catalogue.rot.all()
    here = [item for item in rotten if disk.id in item.holders]
    wanted = {item.digest: item for item in here if not bench.rescued.has(item.digest)}
    try:
        bench.rescued.keep_only([item.digest for item in rotten])
        fetched = sum(_fetch(bench, bench.rescued, disk, store, item, stop) for item in wanted.values())
    except CatalogueTrouble as trouble:
        bench.reporter.tell(Remark(str(trouble)))
        return 0
    if fetched:
        files = say_count(fetched, "rotten source file")
        bench.reporter.tell(Remark(f"{disk.name}: fetched the good content of {files}; 'dsb heal --all' puts it back"))
    return fetched


def _fetch(bench: Bench, kept: Rescue, disk: BackupDisk, store: DiskStore, item: RottenFile, stop: Stop) -> bool:
    name = printable(item.path)
    try:
        if kept.keep(item.digest, item.size, lambda: store.open_object(item.digest), Meter(stop)):
            return True
        what = f"there is no room beside the catalogue for the good content of {name}; 'dsb heal' can take it from here"
    except (BadContent, OSError):
        # To strike a copy is for verification, which looks twice.
        what = (
            f"its copy of {name} cannot be read, so its rotten source is not healed from here; say 'dsb verify {disk.name}'"
        )
    bench.reporter.tell(Remark(f"{disk.name}: {what}"))
    return False
