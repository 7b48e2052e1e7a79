"""``dsb recover``: from nothing but backup disks. It works where no catalogue can be opened, so it opens none first."""

from __future__ import annotations

import argparse
import contextlib
import os
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from distbackupd.cli.consent import must_agree
from distbackupd.cli.output import say, say_json
from distbackupd.cli.progress import make_reporter
from distbackupd.cli.session import stopped_by_signals
from distbackupd.config.places import SYSTEM_FOLDER, catalogue_folder
from distbackupd.config.settings import load_settings
from distbackupd.engine.object_recovery import ObjectsReport, bring_objects
from distbackupd.engine.ports import Mounter, Reporter
from distbackupd.engine.pulse import Meter
from distbackupd.engine.recovery import (
    FoundCopy,
    FoundDisk,
    Walk,
    find_copies,
    find_disks,
    named_copy,
    take_sound,
    walk_disks,
)
from distbackupd.engine.timekeeping import look_at_clock
from distbackupd.model.copies import CatalogueCopy
from distbackupd.model.disks import Mount
from distbackupd.model.errors import CatalogueTrouble, UsageError
from distbackupd.model.text import join_words, printable, say_count, say_size
from distbackupd.planning.copy_choice import Candidate, choose
from distbackupd.planning.destination import check_destination
from distbackupd.wiring import (
    CatalogueCopies,
    bench_on,
    engine_lock,
    idle_volumes,
    open_catalogue,
    open_store,
    open_target,
    publish_disks,
    system_mounter,
    volume_on,
    without_daemon,
)


def recover(arguments: argparse.Namespace) -> int:
    """``dsb recover [PATH ...] [--from DISK | --copy FILE | --last-good] [--replace] [--yes] [--objects DEST]``"""
    settings = load_settings(Path(arguments.config) if arguments.config else None)
    mounter = system_mounter(settings)
    reporter = make_reporter(arguments.json)
    if arguments.last_good:
        arguments.copy = _last_good(catalogue_folder(arguments.database, os.environ))
    with contextlib.ExitStack() as stack:
        found = find_disks(open_store, _places(arguments.paths, mounter, stack), reporter, are_named=bool(arguments.paths))
        for disk in found:
            stack.callback(disk.store.close)
        if not found and not arguments.copy:
            raise UsageError(_where_are_they(arguments.paths, mounter))
        if arguments.objects:
            return _recover_objects(arguments, found, reporter)
        return _recover_catalogue(arguments, found, mounter, reporter, stack)


def _last_good(folder: Path) -> str:
    """Path of the copy beside the catalogue that was found sound last. Raises UsageError if there is none."""
    path = CatalogueCopies(folder).last_good()
    if not path.is_file():
        raise UsageError(
            f"there is no {printable(os.fsencode(path))}, for none was kept or there was no room for it; nothing was "
            "changed: mount the backup disk used last and say 'dsb recover'"
        )
    return str(path)


def _recover_catalogue(
    arguments: argparse.Namespace,
    found: list[FoundDisk],
    mounter: Mounter,
    reporter: Reporter,
    stack: contextlib.ExitStack,
) -> int:
    folder = catalogue_folder(arguments.database, os.environ)
    copies = CatalogueCopies(folder)
    all_found = find_copies(copies, found, reporter)
    named = _named(arguments, copies, all_found)
    candidates = [item.candidate for item in named]
    is_named = bool(arguments.copy or arguments.disk)
    doubts = {} if is_named else choose(candidates).doubts
    if not arguments.json:
        for item in all_found or named:
            _say_found(item.candidate, doubts.get(item.copy.path, ""))
    if arguments.noaction:
        _say_what_would_be(None if not candidates else candidates[0] if is_named else choose(candidates).taken, folder)
        return 0
    with contextlib.suppress(OSError):  # told by the locks
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    stack.enter_context(without_daemon(folder))
    stack.enter_context(engine_lock(folder, "dsb recover"))
    _refuse_to_replace(arguments, copies.present(), candidates)

    def agree(candidate: Candidate) -> None:
        if not arguments.json:
            _say_brought(candidate)
        must_agree(
            f"Put the copy of the catalogue on {_place(candidate)} at {printable(os.fsencode(folder))}?", arguments.yes
        )

    taken = take_sound(copies, named, is_named, agree, reporter)
    if taken is None and (is_named or copies.present() is not None):
        raise CatalogueTrouble("no sound copy of the catalogue was found, so nothing was changed")
    if taken is None:
        names = join_words([disk.name for disk in found])
        must_agree(f"Make a new catalogue of what lies on {names}, without any names of files?", arguments.yes)
    kept = taken[1] if taken else copies.put_aside()
    with open_catalogue(folder) as catalogue:
        # What is known now is newer than all that led to it.
        catalogue.raise_generation(
            max((candidate.copy.generation for candidate in candidates if candidate.copy.path not in doubts), default=0)
        )
        bench = bench_on(catalogue, reporter, mounter, folder)
        look_at_clock(bench)
        walk = walk_disks(bench, found, may_mount=os.geteuid() == 0)
        if os.geteuid() == 0 and folder == SYSTEM_FOLDER:
            publish_disks(bench, catalogue.disks.all())
    if arguments.json:
        copy = taken[0].copy if taken else None
        origin = {"copy": copy.path if copy else None, "generation": copy.generation if copy else None}
        say_json(origin | {"kept": kept or None} | asdict(walk))
        return 0
    if kept:
        say(f"What was in the catalogue's place is kept as {printable(kept)}.")
    if taken:
        say(f"Took {_told(taken[0])}.")
    _say_walk(walk, taken is not None)
    return 0


def _named(arguments: argparse.Namespace, copies: CatalogueCopies, found: list[FoundCopy]) -> list[FoundCopy]:
    """The copies of which one is to be taken, the best first. Raises UsageError if there is none where somebody said."""
    if arguments.copy:
        return [named_copy(copies, os.path.realpath(os.fsencode(os.path.expanduser(arguments.copy))))]
    if not arguments.disk:
        return found
    named = [item for item in found if arguments.disk in (item.candidate.name, item.candidate.uuid)]
    if not named:
        names = join_words(sorted({item.candidate.name for item in found})) or "no disk"
        raise UsageError(
            f"no copy of a catalogue was found on '{printable(arguments.disk)}', but on {names}; nothing was changed"
        )
    return sorted(named, key=lambda item: item.candidate.is_kept)


def _refuse_to_replace(arguments: argparse.Namespace, present: CatalogueCopy | None, candidates: list[Candidate]) -> None:
    """Raises UsageError if a catalogue that knows something is in place and nobody said that it is to be replaced."""
    if present is None or present.empty or arguments.replace:
        return
    newest = f"; the newest copy is {_told(candidates[0])}" if candidates else "; no copy was found"
    raise UsageError(
        f"{printable(present.path)} is no lost catalogue (generation {present.generation}, changed {_day(present)})"
        f"{newest}; nothing was changed: with --replace the copy takes its place, and it is kept aside"
    )


def _say_found(candidate: Candidate, doubt: str) -> None:
    say(f"Found {_told(candidate)}")
    knowledge = candidate.copy.knowledge
    if knowledge is not None:
        disks = ", ".join(sorted(map(printable, knowledge.disks.values()))) or "none"
        counts = (
            f"{say_count(len(knowledge.sources), 'source')}, at most {say_count(knowledge.versions, 'version')} of files"
        )
        say(f"  it knows {counts}, and these disks: {disks}")
    if doubt:
        say(f"  it is not taken unless you say so with --from: {doubt}")


def _say_brought(candidate: Candidate) -> None:
    """What root will read from then on, because this copy says so."""
    knowledge = candidate.copy.knowledge
    if knowledge is None:
        return
    for source in knowledge.sources:
        say(f"It brings the source {printable(source.virtual_path)}, which is {printable(source.real_path)}.")
    if knowledge.settings:
        say(f"It brings the settings of {say_count(knowledge.settings, 'folder')}.")
    for path in knowledge.following:
        say(f"It follows symbolic links in {printable(path)}, wherever they lead.")


def _say_what_would_be(chosen: Candidate | None, folder: Path) -> None:
    if chosen is None:
        say("Would take no copy of the catalogue: none is borne out by its disk and the others")
        return
    _say_brought(chosen)
    say(f"Would put the one on {_place(chosen)} at {printable(os.fsencode(folder))} if it is sound, and walk the disks")


def _say_walk(walk: Walk, names_known: bool) -> None:
    for name, (gained, lost) in sorted(walk.walked.items()):
        say(f"{name}: looked through; it holds {say_count(gained, 'object')} more and {lost:,} fewer than was known")
    for name, adopted in sorted(walk.added.items()):
        say(f"{name}: made known, with {say_count(adopted, 'object')} that it holds")
    if walk.unseen:
        say(
            f"Not looked through: {join_words(walk.unseen)}. Each is when it is plugged in next, and nothing is deleted "
            "until then; if one of them was used later than the others, say 'dsb recover --replace' with it."
        )
    if not names_known:
        say(
            "No copy of the catalogue was found, so what the files were called is lost: 'dsb recover --objects DEST' brings "
            "contents back by their hashes. Do that before the next backup: what no file has is deleted some day."
        )


# --- contents by hash ---


def _recover_objects(arguments: argparse.Namespace, found: list[FoundDisk], reporter: Reporter) -> int:
    destination = os.path.realpath(os.fsencode(os.path.expanduser(arguments.objects)))
    if os.path.lexists(destination) and not os.path.isdir(destination):
        raise UsageError(f"{printable(destination)} is no folder; nothing was restored")
    report = ObjectsReport()
    for disk in found:
        check_destination(destination, [], disk.root, False)
    if arguments.noaction:
        for disk in found:
            say(f"Would bring back the contents on {disk.name}")
        return 0
    stop = threading.Event()
    with stopped_by_signals(stop), open_target(destination) as target:
        for disk in found:
            bring_objects(disk.store, target, report, reporter, Meter(stop))
    if arguments.json:
        say_json(asdict(report))
    else:
        say(f"Restored {say_count(report.restored, 'object')} ({say_size(report.restored_bytes)}).")
        if report.left_alone:
            say(f"{report.left_alone:,} were there already.")
        if report.kinds:
            say("They look like: " + ", ".join(f"{kind} ({count:,})" for kind, count in report.kinds.most_common()))
        for name, reason in report.bad:
            say(f"{name}: not restored: {reason}")
    return 7 if report.failed else 0


# --- where the disks are ---


def _places(words: list[str], mounter: Mounter, stack: contextlib.ExitStack) -> Iterator[tuple[bytes, Mount]]:
    """What is to be looked through: named paths, named devices (mounted while the stack lasts), else all that is mounted."""
    for word in words:
        path = os.path.realpath(os.fsencode(os.path.expanduser(word)))
        if _is_block_device(path):
            volume = volume_on(os.fsdecode(path))
            mount = stack.enter_context(mounter.mounted(volume, volume.label or os.path.basename(volume.device)))
            yield mount.root, mount
        else:
            yield path, mounter.mount_of(path)
    if not words:
        for mount in mounter.mounts():
            if mount.on_device and mount.mounted_by == 0:
                yield mount.root, mount


def _is_block_device(path: bytes) -> bool:
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return False


def _where_are_they(words: list[str], mounter: Mounter) -> str:
    if words:
        return f"there is no backup disk at {join_words([printable(word) for word in words])}; nothing was changed"
    idle = [f"{volume.device} ({volume.label or volume.filesystem_type})" for volume in idle_volumes(mounter)]
    hint = f"; plugged in and not mounted: {join_words(idle)}, of which one may be named" if idle else ""
    return (
        "no backup disk is mounted where nobody but root may write; mount one, or name its device or its path: "
        f"'dsb recover /dev/sdb1'{hint}"
    )


def _told(candidate: Candidate) -> str:
    copy = candidate.copy
    place = f" on {candidate.name}" if candidate.name else ""
    return f"the copy of the catalogue{place} (generation {copy.generation}, written {_day(copy)}): {printable(copy.path)}"


def _place(candidate: Candidate) -> str:
    return candidate.name or printable(candidate.copy.path)


def _day(copy: CatalogueCopy) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(copy.written_at))
    except (OverflowError, ValueError, OSError):
        return "at no time"
