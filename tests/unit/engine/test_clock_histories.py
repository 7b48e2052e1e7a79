"""Deleting, grace and brake, in any order of scans, sessions, losses, clocks that jump and power that is cut."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import Phase, example, given, settings

from distbackupd.engine.braking import standing_brake
from distbackupd.model.plans import Policy
from distbackupd.planning.brake import BrakeThresholds
from distbackupd.planning.timekeeping import HOUR, WEEK
from tests.unit.engine.scenes import Scene, scene_at

DAY = 86_400
YEAR = 365 * DAY
GRACE = Policy().grace
FILES = 24
LIMITS = BrakeThresholds()
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where nothing waits for a disk: this is about clocks."""

JUMPS = st.sampled_from([YEAR, -YEAR, 31 * DAY, -31 * DAY, 2 * HOUR, -2 * HOUR, -1_700_000_000])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.sampled_from([60, DAY, 8 * DAY, 29 * DAY])),
        st.tuples(st.just("jump"), JUMPS),
        st.tuples(st.just("come back"), st.just(0)),
        st.tuples(st.just("cut the power"), st.one_of(st.just(0), JUMPS)),
        st.tuples(st.just("delete"), st.sampled_from([1, 4, 4, 18])),
        st.tuples(st.just("rewrite"), st.sampled_from([1, 18])),
        st.tuples(st.just("empty"), st.just(0)),
        st.tuples(st.just("back up"), st.sampled_from([0, 1])),
        st.tuples(st.just("back up"), st.sampled_from([0, 1])),
    ),
    min_size=4,
    max_size=10,
)


@dataclass
class Orphan:
    """What is true of one, whatever clocks say: since when it is one, and what was believed since that was not known."""

    since: float
    unknown: float = 0


@dataclass
class History:
    """A scene, and beside it what is true. ``off``: by so much the clock is wrong."""

    scene: Scene
    truth: float = 0.0
    off: int = 0
    written: int = 0
    living: set[bytes] = field(default_factory=set)
    passed: set[bytes] = field(default_factory=set)
    orphans: dict[bytes, Orphan] = field(default_factory=dict)
    braked: bool = False

    def begin(self) -> None:
        for _ in range(FILES):
            self._write(f"f{self.written}")
        self.scene.scan()
        self.disks = [self.scene.add_disk(name) for name in ("one", "two")]
        for disk in self.disks:
            self.scene.back_up(disk)
        self.living = self.passed = self._contents()

    def step(self, what: str, value: int) -> None:
        match what:
            case "pass":
                self.scene.clock.pass_time(value)
                self.truth += value
            case "jump":
                self._jump(value)
            case "come back":
                self._jump(-self.off)
            case "cut the power":
                self.scene.clock.restart(off=HOUR)
                self.truth += HOUR
                self._jump(value)
                # Nobody can tell how long the machine was off: a week of what the clock says is believed.
                self._do_not_know(WEEK)
            case "delete":
                for file in self._files()[:value]:
                    file.unlink()
                self._scan()
            case "rewrite":
                for file in self._files()[:value]:
                    self._write(file.name)
                self._scan()
            case "empty":
                for file in self._files():
                    file.unlink()
                self._scan()
            case "back up":
                self._back_up(value)

    def _back_up(self, number: int) -> None:
        disk, other = self.disks[number], self.disks[1 - number]
        before = self.scene.held(disk).keys() | self.scene.held(other).keys()
        was_here = self.scene.held(disk).keys()
        self.scene.back_up(disk)
        here, there = self.scene.held(disk).keys(), self.scene.held(other).keys()
        left = was_here - here
        assert not (self.living & before) - here - there, "the last copy of a living object is gone"
        assert not (self.braked and left), "something left though the brake is to hold"
        for content in left - there:
            orphan = self.orphans[content]
            age = self.truth - orphan.since
            assert age + orphan.unknown >= GRACE, f"the last copy of an orphan is gone after {age / DAY:.1f} days"
        self._do_not_know(HOUR)
        if self.braked:
            assert standing_brake(self.scene.bench).on

    def _scan(self) -> None:
        self.scene.scan()
        now = self._contents()
        for content in self.living - now:
            self.orphans.setdefault(content, Orphan(self.truth))
        for content in now:
            self.orphans.pop(content, None)
        self.living = now
        lost = len(self.passed - now)
        self.braked = self.braked or (lost >= LIMITS.files and lost > LIMITS.share * len(self.passed))
        if not self.braked:
            self.passed = now
        self._do_not_know(HOUR)

    def _do_not_know(self, seconds: float) -> None:
        for orphan in self.orphans.values():
            orphan.unknown += seconds

    def _jump(self, seconds: int) -> None:
        # No clock goes before 1970.
        seconds = max(seconds, DAY - self.scene.clock.now())
        self.scene.clock.jump(seconds)
        self.off += seconds

    def _write(self, name: str) -> None:
        self.written += 1
        self.scene.write(name, f"content {self.written}")

    def _files(self) -> list[Path]:
        return sorted(self.scene.real.iterdir())

    def _contents(self) -> set[bytes]:
        return {entry.digest for entry in self.scene.catalogue.files.restore_entries(b"/") if entry.digest}


@settings(max_examples=8, phases=[Phase.explicit, Phase.generate])
@given(STEPS)
@example([("delete", 4), ("jump", YEAR), ("back up", 0), ("back up", 1)])
@example([("delete", 4), ("cut the power", YEAR), ("back up", 0), ("back up", 1)])
@example([("jump", -1_700_000_000), ("delete", 4), ("come back", 0), ("back up", 0), ("back up", 1)])
@example([("jump", YEAR), ("back up", 0), ("delete", 1), ("come back", 0), ("delete", 18), ("back up", 0), ("back up", 1)])
def test_any_history_keeps_last_copies_graces_and_the_brake(steps: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as place, scene_at(Path(place)) as scene:
        history = History(scene)
        history.begin()
        for step in steps:
            history.step(*step)
        # However wrong it was, when the clock is right again time goes on.
        history.step("come back", 0)
        for _ in range(2):
            history.step("back up", 0)
            history.step("back up", 1)
            history.step("pass", 31 * DAY)
        history.step("back up", 0)
        history.step("back up", 1)
        # Where the source is empty, nothing leaves for as long as that lasts.
        assert (
            history.braked
            or not history._files()
            or not history.orphans.keys() & (scene.held(history.disks[0]).keys() | scene.held(history.disks[1]).keys())
        ), "an orphan is kept for ever"
