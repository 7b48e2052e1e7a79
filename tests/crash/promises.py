"""What must hold after every cut, and again after the session that follows it. Each broken promise is a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tests.crash.reader import Catalogue, Disk


def after_a_cut(
    before: Catalogue | None,
    lay: Mapping[str, Disk],
    now: Catalogue,
    disks: Mapping[str, Disk],
    forgotten: frozenset[str],
) -> Iterator[str]:
    """``disks``: what lies on every disk now, by name; ``lay``: the same before. ``forgotten``: disks whose copies the user
    gave up, so that they do not count among those that were there before. What was rotten before is nobody's fault.
    """
    if now.damage:
        yield f"the catalogue is damaged: {now.damage}"
        return
    for name, known in now.disks.items():
        yield from _says_no_more_than_is_there(name, lay, now, disks)
        if name in disks:
            there = sum(known.footprint(size) for size in disks[name].objects.values())
            if there > known.capacity:
                yield f"{name} holds {there:,} bytes, more than its size of {known.capacity:,}"
    if before is not None:
        yield from _no_last_copy_is_gone(before, lay, now, disks, forgotten)


def after_the_next_session(
    lay: Mapping[str, Disk], now: Catalogue, disks: Mapping[str, Disk], visited: str
) -> Iterator[str]:
    """``visited``: the disk that had the session."""
    disk, known = disks[visited], now.disks.get(visited)
    if known is None:
        return
    if disk.temporary:
        yield f"{visited}: left over after a whole session: {', '.join(disk.temporary)}"
    broken = [path for name, path in disk.broken.items() if name not in lay[visited].broken]
    if broken:
        yield f"{visited}: object files that are broken, after a whole session: {', '.join(broken)}"
    strays = disk.objects.keys() - known.holds
    if strays:
        yield f"{visited}: {len(strays)} objects lie there that nobody knows of, such as {min(strays)}"
    pending = [digest for name, digest in now.pending if name == visited]
    if pending:
        yield f"{visited}: {len(pending)} removals are still pending after a whole session"


def _says_no_more_than_is_there(
    name: str, lay: Mapping[str, Disk], now: Catalogue, disks: Mapping[str, Disk]
) -> Iterator[str]:
    if name not in disks:
        return
    there, rotten = disks[name].objects, lay[name].broken
    lacking = sorted(
        digest for digest in now.disks[name].holds if there.get(digest) != now.sizes[digest] and digest not in rotten
    )
    if lacking:
        of_all = f"{len(lacking)} of {len(now.disks[name].holds)}"
        yield f"{name}: {of_all} recorded objects are not whole there, such as {lacking[0]}"


def _no_last_copy_is_gone(
    before: Catalogue, lay: Mapping[str, Disk], now: Catalogue, disks: Mapping[str, Disk], forgotten: frozenset[str]
) -> Iterator[str]:
    holders_now = now.holders()
    gone = [
        digest
        for digest, holders in before.holders().items()
        if digest in before.living
        and digest in now.living
        and any(digest in lay[name].objects for name in holders - forgotten)
        and not any(digest in disks[name].objects for name in holders_now.get(digest, set()) if name in disks)
    ]
    if gone:
        yield f"the last copy of {len(gone)} living objects is gone, such as {min(gone)}"
