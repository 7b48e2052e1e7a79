"""One cut after the other: a step is recorded once, then cut at its moments, and what is left is judged."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.crash import images
from tests.crash.faults import ERROR, HALF, KILL, Fault, is_loaded
from tests.crash.filesystems import Unusable
from tests.crash.life import Step
from tests.crash.product import Outcome
from tests.crash.promises import after_a_cut, after_the_next_session
from tests.crash.reader import Catalogue, Disk, Unreadable
from tests.crash.recording import WRITE, Failing
from tests.crash.shelf import CATALOGUE, Played, Shelf, World

POWER, KILLED, FAILED, WRITE_ERROR = "power cut", "kill -9", "error", "lost write"
KILLED_THEN_POWER, FAILED_THEN_POWER, POWER_THEN_KILLED = "kill -9, power cut", "error, power cut", "power cut, kill -9"
ERRORS = (errno.EIO, errno.ENOSPC, errno.EROFS)

HELD, LOST, UNUSABLE = "held", "lost", "file system"


@dataclass(frozen=True)
class Cut:
    """``moment``: how many records of the devices count; ``policy``: what of the others arrived; ``call``: the call that is
    hit, ``what`` happens to it.
    """

    kind: str
    moment: int = 0
    policy: str = ""
    call: int = 0
    what: int = 0
    error: int = 0
    times: int = 1
    device: str = ""

    @property
    def label(self) -> str:
        """To tell it from all others of a step."""
        parts = [self.kind]
        if self.call:
            happens = {KILL: "before", HALF: "within", ERROR: f"{errno.errorcode.get(self.error, '')} x{self.times}"}
            parts.append(f"call {self.call} {self.device} {happens.get(self.what, '')}".rstrip())
        if self.policy:
            parts.append(f"moment {self.moment} {self.policy}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Verdict:
    """``image`` and ``world``: whether devices like these, and what a reader sees of them, were met for the first time."""

    result: str
    problems: tuple[str, ...] = ()
    image: bool = True
    world: bool = True


class Scene:
    """A step that begins in a world; ``known``: what lay on each disk before, ``before``: what the catalogue said."""

    def __init__(self, shelf: Shelf, world: World, step: Step, before: Catalogue | None, known: dict[str, Disk]) -> None:
        self.shelf, self.world, self.step = shelf, world, step
        self._before, self._known = before, known
        self._images: dict[tuple[str, bytes], Verdict] = {}
        self._worlds: dict[bytes, Verdict] = {}
        self._hashes: dict[int, bytes] = {}
        self._combined: dict[tuple[str, int], Played] = {}
        self._played: Played | None = None
        self._excuses = False
        self.left: dict[str, images.Image] | None = None
        """The devices as the last cut left them, where that cannot be had again by playing it."""

    @property
    def played(self) -> Played:
        """The step without any fault, recorded."""
        if self._played is None:
            self._played = self.shelf.play(self.world, self.step.plugged, self.step.commands)
            self._hash(self._played)
        return self._played

    @property
    def which(self) -> tuple[str, ...]:
        """The devices that are there."""
        return (CATALOGUE, *self.step.plugged)

    def choose(self, count: int, dice: random.Random) -> list[Cut]:
        """So many different cuts, of all kinds, from all moments."""
        chosen = []
        power = self._power_cuts(self.played, POWER)
        shares = {POWER: 0.7}
        if is_loaded():
            shares |= {KILLED: 0.09, FAILED: 0.09}
            if self.step.disks and count >= 20:
                shares |= {KILLED_THEN_POWER: 0.05, FAILED_THEN_POWER: 0.05, WRITE_ERROR: 0.01, POWER_THEN_KILLED: 0.02}
        total = sum(shares.values())
        for kind, share in shares.items():
            wanted = max(1, round(count * share / total))
            if kind == POWER:
                chosen += _in_runs(power, wanted, dice)
            elif kind == POWER_THEN_KILLED:
                for cut in dice.sample(power, min(wanted, len(power))):
                    chosen.append(replace(cut, kind=kind, call=dice.randint(1, 1 + self.played.calls), what=KILL))
            elif kind == WRITE_ERROR:
                writes = [
                    sum(
                        record.kind == WRITE and record.device == number
                        for record in self.played.records[self.played.begun :]
                    )
                    for number in range(len(self.which))
                ]
                for _ in range(wanted):
                    number = dice.randrange(1, len(self.which))
                    chosen.append(
                        Cut(
                            kind,
                            call=dice.randint(1, 1 + writes[number]),
                            device=self.which[number],
                            what=ERROR,
                            error=errno.EIO,
                        )
                    )
            else:
                chosen += self._call_cuts(kind, wanted, dice)
        return chosen

    def play(self, cut: Cut, left: dict[str, images.Image] | None = None) -> Verdict:
        """What became of it. ``left``: the devices as the cut left them, if that is known already."""
        self.left, self._excuses = None, bool(cut.policy)
        if left is not None:
            for name, image in left.items():
                self.shelf.put(name, image)
            self.shelf.lay_out(self.world)
            return self._mounted("", self._fault(cut) if cut.kind == POWER_THEN_KILLED else None)
        if cut.kind == POWER:
            return self._power(cut, self.played)
        if cut.kind == POWER_THEN_KILLED:
            return self._power(cut, self.played, self._fault(cut))
        if cut.kind in (KILLED_THEN_POWER, FAILED_THEN_POWER):
            return self._power(cut, self._combination(cut))
        return self._call(cut)

    # How cuts are chosen

    def _power_cuts(self, played: Played, kind: str, begun: int = 0, **more: Any) -> list[Cut]:
        moments = range(max(begun, played.begun + 1), len(played.records) + 1)
        return [Cut(kind, moment, policy, **more) for moment in moments for policy in images.POLICIES]

    def _call_cuts(self, kind: str, wanted: int, dice: random.Random) -> Iterator[Cut]:
        calls = range(1, self.played.calls + 1)
        if not calls:
            return
        killed = kind in (KILLED, KILLED_THEN_POWER)
        variants = (
            [Cut(kind, call=call, what=what) for call in calls for what in (KILL, HALF)]
            if killed
            else [
                Cut(kind, call=call, what=ERROR, error=error, times=times)
                for call in calls
                for error in ERRORS
                for times in (1, 0)
            ]
        )
        if kind in (KILLED, FAILED):
            yield from dice.sample(variants, min(wanted, len(variants)))
            return
        # One recording serves several cuts.
        each = 20
        for first in dice.sample(variants, max(1, wanted // each)):
            played = self._combination(first)
            begun = played.marks[0]
            cuts = self._power_cuts(
                played, kind, begun, call=first.call, what=first.what, error=first.error, times=first.times
            )
            yield from _in_runs(cuts, min(wanted, each), dice)

    def _fault(self, cut: Cut) -> Fault:
        return Fault(self.shelf.devices, cut.call, cut.what, cut.error or errno.EIO, cut.times)

    def _combination(self, cut: Cut) -> Played:
        """The step with a fault, and the session after it, recorded together."""
        key = (f"{cut.what} {cut.error} {cut.times}", cut.call)
        if key not in self._combined:
            commands = (*self.step.commands, *self.step.sessions(self._before))
            self._combined.clear()
            self._combined[key] = self.shelf.play(self.world, self.step.plugged, commands, {0: self._fault(cut)})
            self._hash(self._combined[key])
        return self._combined[key]

    # How they are played

    def _hash(self, played: Played) -> None:
        self._hashes.clear()
        for record in played.records:
            if record.kind == WRITE:
                self._hashes[id(record.data)] = images.digest(record.data)

    def _power(self, cut: Cut, played: Played, then: Fault | None = None) -> Verdict:
        patches = {
            name: images.survivors(played.records, cut.moment, number, cut.policy, f"{cut.moment} {cut.policy}")
            for number, name in enumerate(self.which)
        }
        key = (str(then), b"".join(images.fingerprint(patches[name], self._hashes) for name in self.which))
        if key in self._images:
            return replace(self._images[key], image=False, world=False)
        for name in self.which:
            self.shelf.put(name, self.world.images[name], patches[name])
        self.left = {name: [*self.world.images[name], *patches[name]] for name in self.which}
        self.shelf.lay_out(self.world)
        verdict = self._images[key] = self._mounted(str(then), then)
        return verdict

    def _call(self, cut: Cut) -> Verdict:
        """A fault in the step itself."""
        if cut.kind == WRITE_ERROR:
            played = self.shelf.play(
                self.world, self.step.plugged, self.step.commands, device=cut.device, nth=cut.call, failing=Failing()
            )
            for name in self.which:
                self.shelf.put(name, played.after[name])
            self.left = {name: played.after[name] for name in self.which}
            return self._mounted("", None, self._said(played.outcomes[0]))
        for name in self.which:
            self.shelf.put(name, self.world.images[name])
        self.shelf.lay_out(self.world)
        try:
            with self.shelf.mounted(*self.which):
                outcome = self.shelf.command(*self.step.commands[0], fault=self._fault(cut))
                return self._judged("", None, self._said(outcome, killed=cut.what != ERROR))
        except (Unusable, Unreadable) as error:
            return Verdict(UNUSABLE, (str(error),))

    def _mounted(self, salt: str, then: Fault | None, problems: Sequence[str] = ()) -> Verdict:
        try:
            with self.shelf.mounted(*self.which):
                return self._judged(salt, then, problems)
        except (Unusable, Unreadable) as error:
            return Verdict(UNUSABLE, (str(error),))

    def _judged(self, salt: str, then: Fault | None, problems: Sequence[str] = ()) -> Verdict:
        key = salt.encode() + self.shelf.fingerprint(self.step.plugged)
        if key in self._worlds and not problems:
            return replace(self._worlds[key], world=False)
        found = list(problems)
        found += self._look("after the cut", None)
        seen = self.shelf.look(self.step.plugged, self._known)
        if then:
            self.shelf.command(*self.step.sessions(seen.catalogue)[0], fault=then)
            found += self._look("after the second cut", None)
            seen = self.shelf.look(self.step.plugged, self._known)
        for words in self.step.sessions(seen.catalogue):
            outcome = self.shelf.command(*words)
            found += self._said(outcome)
            if self._excuses and "Input/output error" in outcome.complaints and not self._has_journal:
                raise Unreadable(outcome.complaints[-300:])
            if outcome.status:
                found.append(
                    f"the next session, {' '.join(words)}, ended with {outcome.status}: {outcome.complaints[-300:]}"
                )
            found += self._look("after the next session", words[-1] if words[0] == "backup" and not outcome.status else None)
        verdict = Verdict(LOST if found else HELD, tuple(found))
        if not problems:
            self._worlds[key] = verdict
        return verdict

    def _look(self, when: str, visited: str | None) -> list[str]:
        seen = self.shelf.look(self.step.plugged, self._known)
        if self._excuses and seen.catalogue is not None and not self._has_journal:
            self._look_for_damage(seen.catalogue, seen.disks)
        if seen.catalogue is None:
            return [] if self._before is None else [f"{when}: the catalogue is gone"]
        found = list(after_a_cut(self._before, self._known, seen.catalogue, seen.disks, self.step.forgets))
        if visited:
            found += after_the_next_session(self._known, seen.catalogue, seen.disks, visited)
        return [f"{when}: {sentence}" for sentence in found]

    @property
    def _has_journal(self) -> bool:
        return self.shelf.kinds[self.step.plugged[0]].has_journal

    def _look_for_damage(self, now: Catalogue, disks: Mapping[str, Disk]) -> None:
        """A power cut may take what was durable long before, where there is no journal, and leave what cannot be read.

        Raises Unreadable.
        """
        for name in self.step.plugged:
            lay, lies = self._known[name], disks[name]
            if lies.unreadable:
                raise Unreadable(", ".join(lies.unreadable))
            held = self._before.disks[name].holds if self._before and name in self._before.disks else set()
            held = held & now.disks[name].holds if name in now.disks else set()
            if taken := [digest for digest in held if digest in lay.objects and digest not in lies.objects]:
                raise Unreadable(f"{name}: {len(taken)} objects are gone that were there before, such as {min(taken)}")

    def _said(self, outcome: Outcome, killed: bool = False) -> list[str]:
        if outcome.crashed:
            return [f"a traceback: {outcome.complaints[-1500:]}"]
        if outcome.status == -99:
            return ["it hangs"]
        if outcome.status < 0 and not killed:
            return [f"it ended with {outcome.status}: {outcome.complaints[-300:]}"]
        if outcome.status > 0 and not outcome.complaints.strip() and not outcome.output.strip():
            return [f"it ended with {outcome.status} and said nothing"]
        return []


def _in_runs(cuts: Sequence[Cut], count: int, dice: random.Random) -> list[Cut]:
    """So many of them, in runs of neighbours that begin anywhere.

    What neighbours leave is mostly the same to a reader, so that many moments are looked at in the time of a few.
    """
    run = 4 * len(images.POLICIES)
    first = dice.randrange(0, run, len(images.POLICIES))
    runs = [cuts[max(0, start) : start + run] for start in range(first - run, len(cuts), run)]
    dice.shuffle(runs)
    return [cut for part in runs for cut in part][:count]
