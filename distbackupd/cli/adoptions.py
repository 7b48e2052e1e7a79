"""``dsb import-distbackup``"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

from distbackupd.cli.output import say, say_json
from distbackupd.cli.session import CommandSession
from distbackupd.config.places import catalogue_folder
from distbackupd.engine.adoption import Adoption, adopt
from distbackupd.model.text import join_words, printable, say_count, say_unconfirmed
from distbackupd.wiring import open_distbackup


def import_distbackup(session: CommandSession) -> int:
    """``dsb import-distbackup [FOLDER]``"""
    named = session.arguments.folder
    environment = {key: value for key, value in os.environ.items() if key != "DISTBACKUP_PATH"}
    folder = Path(os.path.expanduser(named)) if named else catalogue_folder(None, environment, Path("/nonexistent"))
    with open_distbackup(folder) as former:
        kept = b"" if session.simulate else session.bench.catalogue.keep_before("import")
        adoption = adopt(session.bench, former, session.stop, session.simulate)
        place = printable(os.fsencode(former.path))
    if not session.simulate:
        session.publish_disks(*(disk for disk in session.bench.catalogue.disks.all() if disk.name in adoption.disks))
    if session.json:
        say_json({name: value for name, value in asdict(adoption).items() if name != "scan"})
    else:
        _say_adoption(session, adoption, place)
        if kept:
            say(f"What the catalogue knew before is kept as {printable(kept)}: 'dsb recover --copy' puts it back.")
    found = adoption.scan
    return 3 if found is not None and (found.skipped or found.locked) else 0


def _say_adoption(session: CommandSession, adoption: Adoption, place: str) -> None:
    verb = "Would take over" if session.simulate else "Took over"
    disks = join_words(adoption.disks) if adoption.disks else "no disk"
    sources, settings = say_count(adoption.sources, "source"), say_count(adoption.settings, "folder")
    say(f"{verb} {sources}, the settings of {settings}, and {disks}.")
    if session.simulate:
        return
    say(f"{say_count(adoption.hashes, 'file')} kept the hash that distbackup knew.")
    if adoption.unconfirmed[0]:
        say(f"{say_unconfirmed(*adoption.unconfirmed)}, or now with 'dsb update --confirm'.")
    if adoption.unseen:
        say(f"{say_count(adoption.unseen, 'file')} that could not be looked at are kept as distbackup knew them.")
    for name, (gained, lost) in sorted(adoption.walked.items()):
        say(f"{name}: looked through; it holds {say_count(gained, 'object')} more and {lost:,} fewer than distbackup said")
    if adoption.away:
        say(f"Not looked through: {join_words(adoption.away)}. Each is when it is plugged in next.")
    say(f"distbackup's database is as it was: {place}")
