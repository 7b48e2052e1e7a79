"""Whether a source can be trusted today. A disk that is not mounted looks like a folder from which all was deleted."""

from __future__ import annotations


def distrust(empty: bool, known_entries: bool, known_device: int | None, device: int) -> str | None:
    """Why a folder must be left as it was known, or None if what is seen there can be believed.

    ``known_entries``: the catalogue knows entries below it. ``known_device``: the device it was on when it was last
    scanned, None if it was not.
    """
    if empty and known_entries:
        if known_device is not None and known_device != device:
            return "it is empty and nothing is mounted there, although files were known"
        return "it is empty, although files were known; if that is right, 'dsb update --ignore-lock' records it"
    return None
