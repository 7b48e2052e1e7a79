"""Whether a source can be trusted today. A disk that is not mounted looks like a folder from which all was deleted."""

from __future__ import annotations

from collections.abc import Collection

_SAYS_NOTHING = frozenset({b"lost+found"})
"""Names that lie in the top folder of each file system of a kind."""


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


def distrust_changed(known: Collection[bytes], there: Collection[bytes], unmounted: bool) -> str | None:
    """The same for a folder that is not empty, but on another device than before or ``unmounted``: something was mounted
    there and is not now.

    ``known`` names are those recorded directly in it, ``there`` are those that stand there now. A device alone says nothing:
    its number changes with each boot and plug. But where nearly everything is gone too, another folder stands there than
    the one that was known, and what lies in it is a placeholder, or another disk.
    """
    expected = set(known) - _SAYS_NOTHING
    left = len(expected.intersection(there))
    if left == len(expected) or left > _most_left(len(expected), unmounted):
        return None
    what = "nothing is mounted there now" if unmounted else "it is on another device than before"
    return (
        f"{what}, and {left:,} of {len(expected):,} names that were known in it are there; if that is right, "
        "'dsb update --ignore-lock' records it"
    )


def distrust_missing(was_mounted: bool) -> str | None:
    """The same for a folder that is not there: one on which something ``was_mounted`` cannot have been deleted before that
    was unmounted, and who unmounts a disk removes its folder with it.
    """
    if not was_mounted:
        return None
    return "what was mounted there is not now; if that is right, 'dsb update --ignore-lock' records that its files are gone"


def _most_left(known: int, unmounted: bool) -> int:
    """So many names may be left in a folder that is another one.

    After an unmount, half of them: an ignored file or a folder of the same name is easily there too. A device may have
    changed with a boot while many files were deleted, so then it is a tenth; of few names one, for the same reason.
    """
    if unmounted:
        return known // 2
    return known // 10 if known >= 10 else int(known >= 3)
