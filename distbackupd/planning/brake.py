"""The brake: whether the sources look so wrong that nothing may leave any disk, and why.

A folder that was not mounted, a mistyped ``rm``, a program that encrypts everything: all of them look like a user who
deleted or rewrote many files, and plugging in one disk after the other would carry that to all copies. So when more
changed since the disk's last session than people change, nothing leaves; copying goes on while room lasts, and
somebody is asked. What they let go is remembered by whoever gathers the facts: let-go changes and sources are not
counted again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from distbackupd.model.text import printable, say_count

_UNIFORM = 255
"""What the chi-squared statistic of bytes is on average if each comes up as often as any other."""
_UNIFORM_DEVIATION = 22.6


class SourceState(Enum):
    """What a source looks like; the value ends the sentence that begins with its path."""

    GOOD = "is as it was"
    MISSING = "is missing"
    EMPTY = "is empty, although files were known"
    OTHER_DEVICE = "lies on another device than before"
    UNREADABLE = "cannot be read"


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """One source, by its real path, as the last scan found it; ``released``: somebody said that this is right."""

    path: bytes
    state: SourceState
    released: bool = False


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened to the files since the disk's last session, or since the brake was released if that was later.

    ``known``: regular files that were there then. ``vanished`` of them are gone, ``rewritten`` have other content now,
    and ``scrambled`` of the rewritten ones look random where they did not (:func:`looks_random`).
    """

    known: int = 0
    vanished: int = 0
    rewritten: int = 0
    scrambled: int = 0


@dataclass(frozen=True, slots=True)
class BrakeThresholds:
    """When to brake: more than ``share`` of the known files (0 to 1), and more than ``files``, vanished or were rewritten.

    Or at least ``scrambled_files`` became random-looking, and these are at least ``scrambled_share`` of the rewritten ones:
    who edits photos rewrites files that looked random before.
    """

    share: float = 0.2
    files: int = 100
    scrambled_share: float = 0.5
    scrambled_files: int = 50


@dataclass(frozen=True, slots=True)
class Braking:
    """Whether to brake: there is a cause. Each is half a sentence, with its numbers."""

    causes: tuple[str, ...] = ()

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
            "look at the sources, and if all is as you want it, say 'dsb brake release'"
        )


def decide(changes: Changes, sources: Sequence[SourceFacts], thresholds: BrakeThresholds | None = None) -> Braking:
    """Whether to brake, and every cause. A file that vanished and one that was rewritten count alike."""
    limits = thresholds or BrakeThresholds()
    causes = [
        f"the source {printable(source.path)} {source.state.value}"
        for source in sources
        if source.state is not SourceState.GOOD and not source.released
    ]
    touched = changes.vanished + changes.rewritten
    if touched and touched > limits.files and touched > limits.share * changes.known:
        share = min(100, round(100 * touched / max(1, changes.known)))
        causes.append(
            f"of {say_count(changes.known, 'file')} {changes.vanished:,} vanished and {changes.rewritten:,} were rewritten "
            f"since this disk was here last, that is {share}%, more than {round(100 * limits.share)}%"
        )
    scrambled = changes.scrambled
    if scrambled and scrambled >= limits.scrambled_files and scrambled >= limits.scrambled_share * changes.rewritten:
        causes.append(
            f"{scrambled:,} of {say_count(changes.rewritten, 'rewritten file')} look like random bytes now and did not "
            "before, as if they had been encrypted"
        )
    return Braking(tuple(causes))


def looks_random(sample: bytes) -> bool:
    """Whether each byte comes up about as often as any other, as in encrypted content; of less than 4 KiB: no.

    Well compressed content looks so too: it is the change from one to the other that tells.
    """
    if len(sample) < 4096:
        return False
    expected = len(sample) / 256
    deviation = sum((sample.count(value) - expected) ** 2 for value in range(256)) / expected
    return deviation < _UNIFORM + 5 * _UNIFORM_DEVIATION
