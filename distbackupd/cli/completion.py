"""What the shell offers behind a Tab: disk names and virtual paths. Any trouble offers nothing, and never speaks."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from distbackupd.config.places import catalogue_folder
from distbackupd.model.errors import DistbackupError
from distbackupd.wiring import open_catalogue

_OFFERED = 500


def complete_disk(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """Names of disks that begin so."""
    if "/" in prefix:
        return []
    try:
        with open_catalogue(_folder(parsed_args), read_only=True) as catalogue:
            return [disk.name for disk in catalogue.disks.all() if disk.name.startswith(prefix)]
    except (DistbackupError, OSError):
        return []


def complete_virtual_path(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """Virtual paths that begin so, one folder deeper at a time."""
    raw = b"/" + os.fsencode(prefix).lstrip(b"/")
    folder, _slash, name = raw.rpartition(b"/")
    try:
        with open_catalogue(_folder(parsed_args), read_only=True) as catalogue:
            sources = {source.virtual_path for source in catalogue.sources.all()}
            offered = {
                entry.name + (b"/" if entry.kind == 1 else b"")
                for entry in catalogue.files.folder(folder or b"/")
                if entry.name and entry.name.startswith(name)
            }
    except (DistbackupError, OSError):
        return []
    for source in sources:
        if source.startswith(raw):
            rest, _slash, more = source[len(folder) + 1 :].partition(b"/")
            offered.add(rest + b"/" if more or rest else rest)
    return [os.fsdecode(folder + b"/" + found) for found in sorted(offered)[:_OFFERED]]


def complete_restored(prefix: str, parsed_args: argparse.Namespace, **more: object) -> list[str]:
    """A disk in front of DEST, virtual paths with ``--to`` or ``--minset``."""
    from_shelf = getattr(parsed_args, "to", None) or getattr(parsed_args, "minset", False)
    return (complete_virtual_path if from_shelf else complete_disk)(prefix, parsed_args, **more)


def _folder(parsed_args: argparse.Namespace) -> Path:
    return catalogue_folder(getattr(parsed_args, "database", None), os.environ)
