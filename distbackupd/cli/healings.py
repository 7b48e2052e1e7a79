"""``dsb heal``"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from distbackupd.cli.moments import say_moment
from distbackupd.cli.output import say, say_json, say_table
from distbackupd.cli.session import CommandSession, command_session
from distbackupd.engine.healing import Healing, Names, accept, by_file, heal
from distbackupd.engine.rot import holder_names
from distbackupd.model.disks import BackupDisk
from distbackupd.model.errors import DiskTrouble, UsageError
from distbackupd.model.rot import RottenFile
from distbackupd.model.text import join_words, printable, say_count, say_size
from distbackupd.planning.selection import matcher
from distbackupd.wiring import mend_source


def list_or_heal(arguments: argparse.Namespace) -> int:
    """``dsb heal [PATH ...]``: whoever may read the catalogue may list, also while the daemon is at work."""
    changes = bool(arguments.words or arguments.all) and not arguments.noaction
    with command_session(arguments, writes=changes) as session:
        return _list_or_heal(session, arguments)


def _list_or_heal(session: CommandSession, arguments: argparse.Namespace) -> int:
    rotten = session.bench.catalogue.rot.all()
    if not (arguments.words or arguments.all):
        if arguments.accept or arguments.disk:
            raise UsageError("say which files are meant, or --all; 'dsb heal' lists them")
        _list(session, rotten)
        return 0
    files = by_file(_chosen(rotten, arguments.words))
    if session.simulate:
        verb = "take as they are" if arguments.accept else "heal"
        say(f"Would {verb}: " + ", ".join(printable(item.path) for names in files for item in names))
        return 0
    done = Healing()
    try:
        if arguments.accept:
            for names in files:
                accept(session.bench, names, session.stop, done)
        else:
            _heal(session, files, done)
    finally:
        if session.bench.rescued is not None:
            session.bench.rescued.keep_only([item.digest for item in session.bench.catalogue.rot.all()])
    _report(session, done)
    return 3 if done.left else 0


def _chosen(rotten: Sequence[RottenFile], words: Sequence[str]) -> list[RottenFile]:
    """All, or those that are named or lie below; with a file come its other names. Raises UsageError."""
    chosen = {item.file for item in rotten} if not words else set[int]()
    for word in map(os.fsencode, words):
        matches = matcher(word)
        # A name with a bracket in it is that name, and a pattern too.
        found = {item.file for item in rotten if item.path == word or matches(item.path)}
        if not found:
            raise UsageError(f"no file that rotted matches '{printable(word)}'; 'dsb heal' lists them")
        chosen |= found
    return [item for names in by_file(rotten) if any(name.file in chosen for name in names) for item in names]


def _list(session: CommandSession, rotten: Sequence[RottenFile]) -> None:
    bench = session.bench
    if session.json:
        say_json(
            [
                {
                    "path": item.path,
                    "size": item.size,
                    "found_at": item.found_at,
                    "known_hash": item.digest.hex(),
                    "found_hash": item.found.hex() or None,
                    "fetched": bench.rescued is not None and bench.rescued.has(item.digest),
                    "disks": holder_names(bench, item),
                }
                for item in rotten
            ]
        )
        return
    if not rotten:
        say("No source file is known to have rotted.")
        return
    rows = []
    for item in rotten:
        disks = ", ".join(holder_names(bench, item))
        fetched = bench.rescued is not None and bench.rescued.has(item.digest)
        good = ", ".join(filter(None, ["here already" if fetched else "", disks])) or "nowhere"
        what = "rotten" if item.found else "unreadable"
        rows.append([printable(item.path), say_size(item.size), say_moment(item.found_at), what, good])
    say_table(["file", "size", "found", "what", "good content"], rows, right=(1,))
    say("'dsb heal PATH' or '--all' brings good content back; 'dsb heal --accept PATH' takes what is there for right.")


def _heal(session: CommandSession, files: list[Names], done: Healing) -> None:
    """From what is kept beside the catalogue, then from one disk after the other that is here."""
    rescued, only = session.bench.rescued, session.arguments.disk
    left = []
    for names in files:
        kept = only is None and rescued is not None and rescued.has(names[0].digest)
        if not (kept and rescued is not None and heal(session.bench, names, mend_source, rescued.open, session.stop, done)):
            left.append(names)
    for disk in session.bench.catalogue.disks.all() if only is None else [session.find_disk(only)]:
        mine = [names for names in left if disk.id in names[0].holders]
        try:
            settled = _heal_from(session, disk, mine, done) if mine else []
        except DiskTrouble:
            if only is not None:
                raise
            continue  # it is not here
        left = [names for names in left if names not in settled]
    for names in left:
        done.left += [(item.path, _why_left(session, item)) for item in names]


def _heal_from(session: CommandSession, disk: BackupDisk, files: list[Names], done: Healing) -> list[Names]:
    """Those that need not be tried with another disk. Raises DiskTrouble if the disk is not here."""
    with session.disk_here(disk.name, read_only=True) as held:
        fetch = held.store.open_object
        return [names for names in files if heal(session.bench, names, mend_source, fetch, session.stop, done)]


def _why_left(session: CommandSession, item: RottenFile) -> str:
    names = holder_names(session.bench, item)
    if not names:
        return "no disk has the good content; '--accept' takes what is there for right"
    disks = join_words(names)
    return f"no good copy of it is here; {disks} should have one: plug in one of them, and say the same again"


def _report(session: CommandSession, done: Healing) -> None:
    if session.json:
        say_json(
            {
                "healed": done.healed,
                "kept": done.kept,
                "right": done.right,
                "accepted": done.accepted,
                "left": [{"path": path, "reason": reason} for path, reason in done.left],
            }
        )
        return
    for path, reason in done.left:
        say(f"{printable(path)}: {reason}")
    if done.healed:
        say(f"Brought back the good content of {say_count(len(done.healed), 'file')}; what was there is kept:")
        for path in done.kept:
            say(f"  {printable(path)}")
    if done.right:
        say(f"{say_count(len(done.right), 'file was', 'files were')} right already.")
    if done.accepted:
        say(f"Took {say_count(len(done.accepted), 'file')} as they are; the next backup copies them.")
