"""``dsb source ...`` and ``dsb update``."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any

from distbackupd.cli.output import say, say_json, say_table
from distbackupd.cli.problems import say_problems
from distbackupd.cli.reports import print_overview
from distbackupd.cli.session import CommandSession
from distbackupd.engine.overview import overview
from distbackupd.engine.pattern_effect import PatternEffect, pattern_effect
from distbackupd.engine.scan import ScanOptions, scan
from distbackupd.model.errors import UsageError
from distbackupd.model.sources import FolderSettings, Source, canonical_virtual_path
from distbackupd.model.text import printable, say_count, say_size
from distbackupd.planning.patterns import check_new_rule, check_rule, doubt
from distbackupd.wiring import brake_thresholds


def list_sources(session: CommandSession) -> int:
    """``dsb source``"""
    sources = session.bench.catalogue.sources.all()
    settings = session.bench.catalogue.sources.settings()
    if session.json:
        say_json(
            {
                "sources": [{"virtual_path": item.virtual_path, "path": item.real_path} for item in sources],
                "settings": {os.fsdecode(path): value.to_mapping() for path, value in settings.items()},
            }
        )
        return 0
    if not sources:
        say("No source is mapped yet: 'dsb source map /photos /media/photos' maps one.")
        return 0
    say_table(("virtual path", "path"), [(printable(s.virtual_path), printable(s.real_path)) for s in sources])
    for path, value in settings.items():
        say(f"{printable(path)}: {json.dumps(value.to_mapping())}")
    return 0


def map_source(session: CommandSession) -> int:
    """``dsb source map VPATH PATH``"""
    virtual = canonical_virtual_path(session.arguments.vpath)
    real = os.path.abspath(os.fsencode(os.path.expanduser(session.arguments.path)))
    if not os.path.isdir(real):
        why = "is no folder" if os.path.lexists(real) else "is not there"
        raise UsageError(f"{printable(real)} {why}, so it cannot be a source; nothing was mapped")
    if not session.simulate:
        session.bench.catalogue.sources.map(Source(virtual, real))
    say(f"{'Would set' if session.simulate else 'Set'} {printable(virtual)} -> {printable(real)}")
    return 0


def unmap_source(session: CommandSession) -> int:
    """``dsb source unmap VPATH``"""
    virtual = canonical_virtual_path(session.arguments.vpath)
    known = {source.virtual_path for source in session.bench.catalogue.sources.all()}
    if virtual not in known:
        raise UsageError(f"nothing is mapped to {printable(virtual)}; 'dsb source' lists what is")
    if not session.simulate:
        session.bench.catalogue.sources.unmap(virtual)
    say(
        f"{'Would delete' if session.simulate else 'Deleted'} path {printable(virtual)}; "
        "its files are kept until 'dsb update'"
    )
    return 0


def lock_sources(session: CommandSession) -> int:
    """``dsb source lock [VPATH ...]``"""
    if not session.arguments.vpath:
        locked = [path for path, settings in session.bench.catalogue.sources.settings().items() if settings.lock]
        if session.json:
            say_json(locked)
        for path in () if session.json else locked:
            say(printable(path))
        return 0
    return _set_lock(session, True)


def unlock_sources(session: CommandSession) -> int:
    """``dsb source unlock VPATH ...``"""
    return _set_lock(session, False)


def _set_lock(session: CommandSession, lock: bool) -> int:
    for path in map(canonical_virtual_path, session.arguments.vpath):
        before = session.bench.catalogue.sources.settings().get(path, FolderSettings())
        if before.lock == lock:
            say(f"{printable(path)} {'already locked' if lock else 'not locked'}")
            continue
        _store(session, path, replace(before, lock=lock))
        say(f"{'Locked' if lock else 'Unlocked'}: {printable(path)}")
    return 0


def set_sources(session: CommandSession) -> int:
    """``dsb source set VPATH ... [options]``"""
    updates = _updates(session)
    settings = session.bench.catalogue.sources.settings()
    paths = [canonical_virtual_path(path) for path in session.arguments.vpath]
    if not updates and session.json:
        say_json({os.fsdecode(path): settings.get(path, FolderSettings()).to_mapping() for path in paths})
        return 0
    if not updates:
        for path in paths:
            say(f"{printable(path)}: {json.dumps(settings.get(path, FolderSettings()).to_mapping())}")
        return 0
    # Everything is checked before anything is stored: bad input never half-applies.
    changed = [_updated(session, settings.get(path, FolderSettings()), updates) for path in paths]
    for path, after in zip(paths, changed, strict=True):
        before = settings.get(path, FolderSettings())
        _store(session, path, after)
        differences = _differences(before, after)
        say(f"{printable(path)}: {'' if differences else 'no changes'}".rstrip())
        for key, old, new in differences:
            say(f"   {key}: {json.dumps(old)} -> {json.dumps(new)}")
        _say_effect(session, path, before, after)
    return 0


def reset_sources(session: CommandSession) -> int:
    """``dsb source reset VPATH ...``"""
    for path in map(canonical_virtual_path, session.arguments.vpath):
        _store(session, path, FolderSettings())
        say(f"{printable(path)}: no settings of its own any more")
    return 0


def update(session: CommandSession) -> int:
    """``dsb update``"""
    if not session.bench.catalogue.sources.all():
        raise UsageError("no source is mapped yet: 'dsb source map /photos /media/photos' maps one")
    options = ScanOptions(
        ignore_lock=session.arguments.ignore_lock,
        simulate=session.simulate,
        confirm_all=session.arguments.confirm,
        brake=brake_thresholds(session.settings),
    )
    finished = scan(session.bench, options, session.stop)
    if session.json:
        say_json({key: getattr(finished, key) for key in finished.__slots__})
    elif not session.simulate:
        state = overview(session.bench)
        print_overview(state)
        say_problems(state)
    return 3 if finished.skipped or finished.locked else 0


def _updates(session: CommandSession) -> dict[str, Any]:
    arguments = session.arguments
    updates: dict[str, Any] = {}
    if arguments.json_settings:
        try:
            updates = json.loads(arguments.json_settings)
        except ValueError as error:
            raise UsageError(f"'{arguments.json_settings}' is no JSON: {error}") from error
        if not isinstance(updates, dict):
            raise UsageError('settings in JSON are an object: {"priority": 2}')
    for option, key, value in (
        ("lock", "lock", True),
        ("unlock", "lock", False),
        ("hide", "hide", True),
        ("unhide", "hide", False),
        ("follow", "follow_symlinks", True),
        ("nofollow", "follow_symlinks", False),
    ):
        if getattr(arguments, option):
            updates[key] = value
    for key in ("priority", "maxcopies", "copies"):
        if getattr(arguments, key) is not None:
            updates[key] = getattr(arguments, key)
    if arguments.ignore is not None:
        updates["rules"] = [rule.strip() for rule in arguments.ignore]
    return updates


def _updated(session: CommandSession, before: FolderSettings, updates: dict[str, Any]) -> FolderSettings:
    mapping = before.to_mapping()
    after = FolderSettings.from_mapping({**mapping, **updates})
    if session.arguments.append and "rules" in updates:
        kept = list(mapping.get("rules", ()))
        after = replace(after, rules=tuple(kept + [rule for rule in after.rules if rule not in kept]))
    for rule in after.rules:
        # What was stored before this was checked goes on doing nothing.
        (check_rule if rule in before.rules else check_new_rule)(rule)
    return after


def _say_effect(session: CommandSession, path: bytes, before: FolderSettings, after: FolderSettings) -> None:
    """What each new pattern takes away of what is known, and what it does that one would not think."""
    new = [(number, rule) for number, rule in enumerate(after.rules) if rule not in before.rules]
    effect = pattern_effect(session.bench, path, after) if new else PatternEffect()
    verb = "would take" if session.simulate else "takes"
    at_least = "" if effect.whole else "at least "
    for number, rule in new:
        if warning := doubt(rule):
            say(f"   Note: {warning}")
        if rule.startswith("!"):
            continue  # it takes in
        files, size = effect.files.get(number, 0), effect.sizes.get(number, 0)
        what = f"{at_least}{say_count(files, 'known file')}, {say_size(size)}" if files else "no known file"
        say(f"   '{printable(rule)}' {verb} away {what}{'' if not files else ', at the next scan'}")


def _store(session: CommandSession, path: bytes, settings: FolderSettings) -> None:
    if not session.simulate:
        session.bench.catalogue.sources.set_settings(path, settings)


def _differences(before: FolderSettings, after: FolderSettings) -> list[tuple[str, Any, Any]]:
    old, new = before.to_mapping(), after.to_mapping()
    return [(key, old.get(key), new.get(key)) for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
