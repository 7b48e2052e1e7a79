"""The brake: whether the sources look so wrong that nothing may leave any disk, and why.

A folder that was not mounted, a mistyped ``rm``, a program that encrypts everything: all of them look like a user who
deleted or rewrote many files, and plugging in one disk after the other would carry that to all copies. So when more
changed than people change, nothing leaves; copying goes on while room lasts, and somebody is asked. Changes are measured
against the last state that somebody let go or that passed, not against what any disk saw: many small losses between two
scans of everything count together, whether disks came meanwhile or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from distbackupd.model.text import printable, say_count, say_size

_UNIFORM = 255
"""What the chi-squared statistic of bytes is on average if each comes up as often as any other."""
_UNIFORM_DEVIATION = 22.6


class SourceState(Enum):
    """What a source looks like; the value ends the sentence that begins with its path."""

    GOOD = "is as it was"
    MISSING = "is missing"
    EMPTY = "is empty, although files were known"
    REPLACED = "holds nearly nothing of what was known, on another device than before, as if its disk were not mounted"
    UNREADABLE = "cannot be read"


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """One source, by its real path, as the last scan found it; ``released``: somebody said that this is right."""

    path: bytes
    state: SourceState
    released: bool = False


class Share(NamedTuple):
    """So many files, and their bytes."""

    files: int = 0
    size: int = 0

    def __add__(self, other: object) -> Share:
        if not isinstance(other, Share):
            return NotImplemented
        return Share(self.files + other.files, self.size + other.size)


NO_FILES = Share()


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened to regular files since the last state that was let go or that passed.

    ``known``: files that were there then. Of these count only those whose content no living file has any more: ``vanished``
    ones are gone, ``rewritten`` ones have other content now. What was rewritten before too, as disk images and databases
    are each day, is in ``rewritten`` with its files and without its bytes. ``scrambled`` of ``rewritten_since_disk``
    files, which were rewritten since the disk was here last, look random where they did not (:func:`looks_random`).
    """

    known: Share = NO_FILES
    vanished: Share = NO_FILES
    rewritten: Share = NO_FILES
    rewritten_since_disk: int = 0
    scrambled: int = 0


@dataclass(frozen=True, slots=True)
class BrakeThresholds:
    """When to brake: more than ``share`` (0 to 1) of the known files or of their bytes vanished or were rewritten.

    That is, of the files if they are at least ``files``, of the bytes if they are at least ``size``. Or at least
    ``scrambled_files`` became random-looking, and these are at least ``scrambled_share`` of the rewritten ones: who edits
    photos rewrites files that looked random before.
    """

    share: float = 0.2
    files: int = 10
    size: int = 64_000_000
    scrambled_share: float = 0.5
    scrambled_files: int = 50


@dataclass(frozen=True, slots=True)
class Braking:
    """Whether to brake: there is a cause. Each is half a sentence, with its numbers.

    ``unconfirmed``: what changed was not seen by a scan of everything yet, which confirms it or lifts the brake.
    """

    causes: tuple[str, ...] = ()
    unconfirmed: bool = False

    @property
    def on(self) -> bool:
        """Whether nothing may leave any disk."""
        return bool(self.causes)

    @property
    def sentence(self) -> str:
        """Why, what is kept and what to do; empty if there is no cause."""
        if not self.causes:
            return ""
        return (
            f"the brake is on: {'; '.join(self.causes)}. Nothing is deleted on any disk, copying goes on while room lasts; "
            + (_TO_BE_CONFIRMED if self.unconfirmed else "")
            + "look at the sources, and if all is as you want it, say 'dsb brake release'"
        )


_TO_BE_CONFIRMED = "the next scan of everything lifts it if the files only moved; "


def decide(changes: Changes, sources: Sequence[SourceFacts], thresholds: BrakeThresholds | None = None) -> Braking:
    """Whether to brake, and every cause. A file that vanished and one that was rewritten count alike."""
    limits = thresholds or BrakeThresholds()
    causes = [
        f"the source {printable(source.path)} {source.state.value}"
        for source in sources
        if source.state is not SourceState.GOOD and not source.released
    ]
    known, lost = changes.known, changes.vanished + changes.rewritten
    too_many = bool(lost.files) and lost.files >= limits.files and lost.files > limits.share * known.files
    too_much = bool(lost.size) and lost.size >= limits.size and lost.size > limits.share * known.size
    if too_many or too_much:
        of_files, of_size = _percent(lost.files, known.files), _percent(lost.size, known.size)
        causes.append(
            f"of {say_count(known.files, 'file')} ({say_size(known.size)}) {changes.vanished.files:,} vanished and "
            f"{changes.rewritten.files:,} were rewritten ({say_size(lost.size)}), that is {of_files}% of the files and "
            f"{of_size}% of the bytes, more than {round(100 * limits.share)}%"
        )
    scrambled = changes.scrambled
    if (
        scrambled
        and scrambled >= limits.scrambled_files
        and scrambled >= limits.scrambled_share * changes.rewritten_since_disk
    ):
        causes.append(
            f"{scrambled:,} of {say_count(changes.rewritten_since_disk, 'rewritten file')} look like random bytes now and "
            "did not before, as if they had been encrypted"
        )
    return Braking(tuple(causes))


def _percent(part: int, whole: int) -> int:
    return min(100, round(100 * part / max(1, whole)))


def looks_random(sample: bytes) -> bool:
    """Whether each byte comes up about as often as any other, as in encrypted content; of less than 4 KiB: no.

    Well compressed content looks so too: it is the change from one to the other that tells.
    """
    if len(sample) < 4096:
        return False
    expected = len(sample) / 256
    deviation = sum((sample.count(value) - expected) ** 2 for value in range(256)) / expected
    return deviation < _UNIFORM + 5 * _UNIFORM_DEVIATION
