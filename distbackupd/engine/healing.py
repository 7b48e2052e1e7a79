"""Heal source files whose content rotted: give them the good one back, or take what they hold now for right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from distbackupd.engine.bench import Bench
from distbackupd.engine.ports import BadContent, MendSource, Stop
from distbackupd.engine.pulse import Meter
from distbackupd.engine.virtual_tree import VirtualTree
from distbackupd.model.errors import Interrupted, SourceChanged, SourceTrouble
from distbackupd.model.events import SourceHealed
from distbackupd.model.rot import Reading, RottenFile
from distbackupd.model.sources import RealPath

OpenContent = Callable[[bytes], int]
"""A descriptor of the object with this digest; raises FileNotFoundError, DiskTrouble."""

Names = list[RottenFile]
"""Rotten files that are one: the same inode under several names."""


@dataclass(slots=True)
class Healing:
    """What became of rotten files, by virtual path: ``left`` ones with the reason."""

    healed: list[bytes] = field(default_factory=list)
    right: list[bytes] = field(default_factory=list)
    accepted: list[bytes] = field(default_factory=list)
    left: list[tuple[bytes, str]] = field(default_factory=list)
    kept: list[bytes] = field(default_factory=list)
    """Real paths of what was replaced."""


def by_file(rotten: Sequence[RottenFile]) -> list[Names]:
    """Names of one file together, in order of the first."""
    files: dict[tuple[int, ...], Names] = {}
    for item in rotten:
        files.setdefault((item.device, item.inode, item.object_id) if item.inode else (item.file,), []).append(item)
    return list(files.values())


def heal(bench: Bench, names: Names, mend: MendSource, open_content: OpenContent, stop: Stop, done: Healing) -> bool:
    """Put the good content back into one file, under all its names; False: what ``open_content`` gives is not good.

    Raises DiskTrouble, Interrupted.
    """
    first = names[0]
    try:
        paths = _real_paths(bench, names)
        if _is_right(bench, paths[0], first, stop):
            bench.catalogue.rot.resolve([item.file for item in names])
            done.right += [item.path for item in names]
            return True
        mended = mend(paths, first, lambda: open_content(first.digest), Meter(stop))
    except BadContent:
        return False
    except SourceTrouble as trouble:
        done.left += [(item.path, str(trouble)) for item in names]
        return True
    bench.catalogue.rot.moved([item.file for item in names], mended.entry)
    done.healed += [item.path for item in names]
    done.kept.append(mended.kept)
    bench.reporter.tell(SourceHealed(first.path, mended.kept))
    return True


def accept(bench: Bench, names: Names, stop: Stop, done: Healing) -> None:
    """Take what one file holds now for right: from now on that is its content. Raises Interrupted."""
    first = names[0]
    try:
        found = _read(bench, _real_paths(bench, names)[0], first, stop)
    except SourceTrouble as trouble:
        done.left += [(item.path, str(trouble)) for item in names]
        return
    if not found.digest:
        done.left += [(item.path, "it cannot be read, so there is nothing to accept") for item in names]
    elif found.digest == first.digest:
        bench.catalogue.rot.resolve([item.file for item in names])
        done.right += [item.path for item in names]
    else:
        bench.catalogue.rot.accept([item.file for item in names], found.digest, bench.clock.now())
        done.accepted += [item.path for item in names]


def _real_paths(bench: Bench, names: Names) -> list[RealPath]:
    tree = VirtualTree(bench.catalogue.sources.all(), bench.catalogue.sources.settings())
    paths = [path for item in names if (path := tree.real_path(item.path)) is not None]
    if len(paths) < len(names):
        raise SourceTrouble("its source is not mapped any more")
    # Sources that overlap show one name twice.
    return list({path.path: path for path in paths}.values())


def _is_right(bench: Bench, path: RealPath, rotten: RottenFile, stop: Stop) -> bool:
    """Whether somebody has put the good content back already."""
    try:
        return _read(bench, path, rotten, stop).digest == rotten.digest
    except SourceChanged:
        raise SourceChanged("it is another file now; the next scan sees to it") from None


def _read(bench: Bench, path: RealPath, rotten: RottenFile, stop: Stop) -> Reading:
    found = bench.tree.reading(path, rotten.size, rotten.mtime_ns, rotten.inode).go_on(stop)
    if found is None:
        raise Interrupted("stopped while a rotten file was read; nothing of it was changed")
    return found
