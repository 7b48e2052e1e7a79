"""``dsb disk ...``"""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace

from distbackupd.cli.output import say, say_json, say_table
from distbackupd.cli.session import CommandSession
from distbackupd.engine.door import is_as_left, locate, opened, settled
from distbackupd.engine.enrolment import check_capacity, enrol, move, refresh, rename
from distbackupd.model.disks import BackupDisk
from distbackupd.model.errors import DiskTrouble, UsageError
from distbackupd.model.text import parse_size, printable, say_count, say_size

_LONGEST_KEY = 8 << 20
"""Bytes; cryptsetup's own limit for key files."""


def list_disks(session: CommandSession) -> int:
    """``dsb disk list``"""
    rows = []
    described = []
    for disk in session.bench.catalogue.disks.all():
        try:
            place = locate(session.bench, disk)
        except DiskTrouble as trouble:
            place = None
            say(f"{disk.name}: {trouble}")
        device = place[1].device if place else "-"
        path = printable(place[0]) if place else "-"
        rows.append((disk.name, device, say_size(disk.capacity), path))
        described.append(
            _described(disk) | {"device": place[1].device if place else None, "path": place[0] if place else None}
        )
    if session.json:
        say_json(described)
    elif rows:
        say_table(("disk", "device", "size", "data path"), rows, right=(2,))
    else:
        say("No disk is known yet: 'dsb disk add NAME PATH' makes one known.")
    return 0


def add_disk(session: CommandSession) -> int:
    """``dsb disk add NAME PATH [--size] [--luks-key] [--folder]``"""
    path = os.path.realpath(os.fsencode(os.path.expanduser(session.arguments.path)))
    size = None if session.arguments.size is None else parse_size(session.arguments.size)
    key = _read_key(session.arguments.luks_key) if session.arguments.luks_key else None
    location = _checked_location(session.arguments.location or "")
    enrolment = enrol(
        session.bench,
        session.arguments.name,
        path,
        size,
        session.simulate,
        key,
        location,
        folder=session.arguments.folder,
        stop=session.stop,
    )
    disk, mount = enrolment.disk, enrolment.mount
    if not session.simulate:
        session.publish_disks(disk)
    if session.json:
        say_json(_described(disk) | {"device": mount.device, "mount_point": mount.root, "advice": enrolment.advice})
        return 0
    say(f"{'Would add' if session.simulate else 'Added'} disk {disk.name}:")
    say(f"  UUID: {disk.uuid}")
    if not session.simulate:
        say(f"  Nexus index: {disk.id - 1}")
    say(f"  Size: {disk.capacity:,}")
    if mount.device.startswith("/"):
        say(f"  Device (current): {mount.device}")
    say(f"  Mount point (current): {printable(mount.root)}")
    if disk.relative_path:
        say(f"  Relative path from mountpoint: {printable(disk.relative_path)}")
    if enrolment.adopted:
        say(f"  Taken over as they lie there: {say_count(enrolment.adopted, 'object')}")
    for advice in enrolment.advice:
        say(f"Note: {advice}")
    return 0


def set_disk(session: CommandSession) -> int:
    """``dsb disk set NAME [--size] [--path] [--folder] [--relpath]``"""
    arguments = session.arguments
    disk = session.find_disk(arguments.disk)
    changed = disk
    if arguments.size is not None:
        size = parse_size(arguments.size)
        check_capacity(size)
        changed = replace(changed, capacity=size)
    if arguments.location is not None:
        changed = replace(changed, location=_checked_location(arguments.location))
    if arguments.relpath is not None:
        relative = os.fsencode(arguments.relpath).strip(b"/")
        if b".." in relative.split(b"/"):
            raise UsageError(f"'{printable(relative)}' leaves the disk; a path relative to its mount point is meant")
        changed = replace(changed, relative_path=relative)
    if arguments.path is not None:
        path = os.path.realpath(os.fsencode(os.path.expanduser(arguments.path)))
        if session.simulate:
            say(f"Would look for {disk.name} at {printable(path)}")
            return 0
        changed = move(session.bench, changed, path, arguments.folder)
    if not session.simulate:
        session.bench.catalogue.disks.update(changed)
        session.publish_disks(disk, changed)
    place = f", kept at {changed.location}" if changed.location else ""
    say(f"{changed.name}: size {changed.capacity:,}, relative path '{printable(changed.relative_path)}'{place}")
    return 0


def rename_disk(session: CommandSession) -> int:
    """``dsb disk rename NAME NEWNAME``"""
    disk = session.find_disk(session.arguments.disk)
    name = session.arguments.newname
    if not session.simulate:
        with contextlib.ExitStack() as stack:
            held = stack.enter_context(opened(session.bench, disk)) if locate(session.bench, disk) else None
            # What is not what the last session left gets nothing.
            store = held.store if held and (not disk.token or is_as_left(disk, held.store)) else None
            rename(session.bench, disk, name, store)
        session.publish_disks(disk)
    say(f"{'Would rename' if session.simulate else 'Renamed'} {disk.name} to {name}; remember its label")
    return 0


def drop_disk(session: CommandSession) -> int:
    """``dsb disk drop NAME``"""
    disk = session.find_disk(session.arguments.disk)
    held, _ = session.bench.catalogue.disks.used(disk.id)
    if not session.simulate:
        held = session.bench.catalogue.disks.drop(disk.id)
    verb = "Would forget" if session.simulate else "Forgot"
    say(f"{verb} that {disk.name} holds {say_count(held, 'object')}; other disks get copies when they are plugged next")
    return 0


def delete_disk(session: CommandSession) -> int:
    """``dsb disk del NAME``"""
    disk = session.find_disk(session.arguments.disk)
    if session.simulate:
        say(f"Would delete disk {disk.name}")
        return 0
    session.bench.catalogue.disks.delete(disk)
    session.publish_disks(disk)
    say(f"Deleted disk {disk.name}; nothing on it was touched")
    return 0


def refresh_disk(session: CommandSession) -> int:
    """``dsb disk refresh NAME``"""
    with session.disk_here(session.arguments.disk) as held:
        disk, store = settled(held), held.store
        if session.simulate:
            found = sum(1 for _ in store.objects())
            say(f"Would believe the {say_count(found, 'object')} that lie on {disk.name}")
            return 0
        store.prepare()
        session.bench.catalogue.disks.update(disk)
        gained, lost = refresh(session.bench, disk, store, session.stop, wary=not disk.clean)
    say(f"{disk.name}: {say_count(gained, 'object')} more and {lost:,} fewer than the catalogue said; it is right now")
    return 0


def _checked_location(text: str) -> str:
    """A place as it was named. Raises UsageError."""
    location = text.strip()
    if not location.isprintable() or len(location) > 100:
        raise UsageError(f"'{printable(text)}' is no name of a place; use a short one such as home, office or bank")
    return location


def _read_key(name: str) -> bytes:
    """What is in a key file. Raises UsageError."""
    try:
        with open(os.path.expanduser(name), "rb") as file:
            key = file.read(_LONGEST_KEY + 1)
    except OSError as error:
        raise UsageError(f"the key file {printable(name)} cannot be read: {error.strerror}; nothing was changed") from error
    if not 0 < len(key) <= _LONGEST_KEY:
        raise UsageError(f"the key file {printable(name)} is {'too long' if key else 'empty'}; nothing was changed")
    return key


def _described(disk: BackupDisk) -> dict[str, object]:
    return {
        "name": disk.name,
        "uuid": disk.uuid,
        "size": disk.capacity,
        "relative_path": disk.relative_path,
        "location": disk.location,
        "filesystem_uuid": disk.filesystem_uuid,
        "filesystem_type": disk.filesystem_type,
        "last_session_at": disk.last_session_at,
    }
