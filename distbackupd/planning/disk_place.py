"""Whether a place may become a backup disk: one of its own, and no part of what it is to protect.

A disk that was not mounted leaves its mount point behind, an empty folder of the system's own disk. Copies there are
lost together with what they are copies of, and would be counted as if they were not. So whoever means such a folder has
to say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distbackupd.model.text import join_words, printable


@dataclass(frozen=True, slots=True)
class DiskPlace:
    """What was found at ``path``, where a backup disk is to be.

    ``is_folder``: there is one. ``is_in_folder``: there is one to make it in. ``mount_point``, ``filesystem_type``: of the
    file system that it lies on, or will. ``has_device``: that lies on a block device, so it is known again wherever it is
    plugged in. ``shared_with``: what lies on it too, and would be lost together with it, in words (``the system``, ``the
    source /photos``).
    """

    path: bytes
    is_folder: bool
    is_in_folder: bool
    mount_point: bytes
    filesystem_type: str
    has_device: bool
    shared_with: Sequence[str]


def refusal(place: DiskPlace) -> str | None:
    """Why this is no disk of its own and what to do, in a sentence for a person; None: it is one."""
    path = printable(place.path)
    danger = shared_fate(place)
    # Directly in a folder of a disk of its own a new one is made: there a disk is mounted.
    if not place.is_folder and not (place.is_in_folder and danger is None):
        return (
            f"there is no folder {path}: mount the disk, and make the folder on it if it shall not lie at its top, or say "
            "--folder if a new folder there is meant; nothing was changed"
        )
    if danger is None:
        return None
    return (
        f"{path} is no disk of its own: {danger}; mount the disk there first ('findmnt --target {path}' tells what is "
        "mounted), or say --folder if this very folder is meant; nothing was changed"
    )


def shared_fate(place: DiskPlace) -> str | None:
    """With what the copies there would be lost, as half a sentence; None: with nothing, they lie on a disk of their own."""
    if place.shared_with:
        return (
            f"it lies on the file system that is mounted at {printable(place.mount_point)}, with "
            f"{join_words([*place.shared_with])}, so what takes one takes all"
        )
    if not place.has_device:
        return (
            f"it lies on {printable(place.filesystem_type)}, on no device of this machine by which a disk is known when "
            "it is plugged in again"
        )
    return None
