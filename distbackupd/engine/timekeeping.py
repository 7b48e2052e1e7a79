"""The moments that are recorded: they never go back, whatever the machine's clock does, and a jump uses up no grace.

:func:`look_at_clock` is called under the engine's lock before anything is recorded. From then on the :class:`SteadyClock`
goes by the machine's running time, so that a session in which the clock jumps knows nothing of it. What was learned is
kept in the catalogue, as :class:`~distbackupd.planning.timekeeping.Timeline`.
"""

from __future__ import annotations

import json
from dataclasses import replace

from distbackupd.engine import brake_memory, scan_failures
from distbackupd.engine.bench import Bench
from distbackupd.engine.ports import MachineClock
from distbackupd.model.events import ClockWrong, Remark
from distbackupd.model.text import say_duration
from distbackupd.planning.timekeeping import HOUR, Doubt, Judgement, MachineTime, SetBack, Timeline, judge

CLOCK = "clock"
"""Under this name it is kept."""
LAST_SCAN = "last_scan"
"""Fact: when the last whole scan ended, unix seconds."""
_FRESH = 600
"""Seconds after which what is remembered is written again though nothing happened."""


class SteadyClock:
    """The engine's clock: the machine's until somebody has looked at the catalogue, and from there on a steady one."""

    def __init__(self, machine: MachineClock) -> None:
        self._machine = machine
        self._anchor: tuple[int, float] | None = None

    def now(self) -> int:
        """Unix time in whole seconds, as what is recorded has it."""
        if self._anchor is None:
            return self._machine.now()
        moment, running = self._anchor
        return moment + max(0, int(self._machine.running() - running))

    def monotonic(self) -> float:
        """Seconds that never jump."""
        return self._machine.monotonic()

    def machine_time(self) -> MachineTime:
        """What the machine says."""
        return MachineTime(self._machine.now(), self._machine.boot(), self._machine.running())

    def go_on_from(self, moment: int, running: float) -> None:
        """It was this moment when the machine had been running for so long."""
        self._anchor = moment, running


def look_at_clock(bench: Bench) -> None:
    """Find out what time it is, tell and remember what is wrong with the clock, and set right what it did."""
    before = _recall(bench)
    found = _judge(bench, before)
    timeline = found.timeline
    facts = {CLOCK: json.dumps(timeline._asdict())}
    if found.set_back:
        bench.catalogue.moments.set_back(found.set_back, timeline.moment, facts | _facts_set_back(bench, found.set_back))
    elif found.pushed:
        bench.catalogue.moments.push_graces(found.pushed, timeline.moment, facts)
    elif _is_news(before, timeline):
        bench.catalogue.sessions.remember(CLOCK, facts[CLOCK])
    bench.clock.go_on_from(timeline.moment, timeline.running)
    _tell(bench, found)


def glance_at_clock(bench: Bench) -> None:
    """The same for who changes nothing: only this process's clock is right then."""
    timeline = _judge(bench, _recall(bench)).timeline
    bench.clock.go_on_from(timeline.moment, timeline.running)


def begin_after(bench: Bench, moment: int) -> None:
    """What is recorded from now on is later than ``moment``, so that what was lost before it is told from what is lost now.

    Seconds are what moments are counted in; who records twice in one runs ahead of the clock by a second.
    """
    if bench.clock.now() <= moment:
        bench.clock.go_on_from(moment + 1, bench.clock.machine_time().running)


def as_recorded(bench: Bench, at: int) -> int:
    """The moment that somebody means, as it is recorded now: after an excursion of the clock that is not set back yet."""
    set_back = _judge(bench, _recall(bench)).set_back
    return at + set_back.seconds if set_back and at > set_back.since else at


def has_just_jumped(bench: Bench) -> bool:
    """Whether the clock jumped ahead less than an hour ago, as the last look found it: it may still be set right."""
    timeline = _recall(bench)
    return timeline is not None and any(doubt.pushed and doubt.measured < HOUR for doubt in timeline.doubts)


def _judge(bench: Bench, before: Timeline | None) -> Judgement:
    last_scan = int(bench.catalogue.sessions.recall(LAST_SCAN) or 0)
    newest = max(bench.catalogue.moments.newest(), last_scan, brake_memory.recall(bench).baseline)
    return judge(before, newest, bench.clock.machine_time())


def _recall(bench: Bench) -> Timeline | None:
    kept = json.loads(bench.catalogue.sessions.recall(CLOCK) or "null")
    if kept is None:
        return None
    doubts = tuple(Doubt(*item) for item in kept.pop("doubts"))
    return Timeline(**kept, doubts=doubts)


def _is_news(before: Timeline | None, now: Timeline) -> bool:
    return (
        before is None
        or (before.boot, before.credit, before.told) != (now.boot, now.credit, now.told)
        or now.moment - before.moment >= _FRESH
    )


def _facts_set_back(bench: Bench, back: SetBack) -> dict[str, str]:
    """Facts that keep moments and lie in the future else."""
    memory = brake_memory.recall(bench)
    changed = {
        name: max(back.since, value - back.seconds)
        for name in ("since", "baseline", "released_at")
        if (value := getattr(memory, name)) > back.since
    }
    facts = {brake_memory.FACT: brake_memory.as_text(replace(memory, **changed))}
    last_scan = int(bench.catalogue.sessions.recall(LAST_SCAN) or 0)
    if last_scan > back.since:
        facts[LAST_SCAN] = str(max(back.since, last_scan - back.seconds))
    failed = scan_failures.failed_scan(bench)
    if failed is not None and failed.since > back.since:
        facts[scan_failures.FACT] = scan_failures.as_text(
            replace(failed, since=max(back.since, failed.since - back.seconds))
        )
    return facts


def _tell(bench: Bench, found: Judgement) -> None:
    if found.set_back:
        bench.reporter.tell(
            Remark(
                f"the clock went back by {say_duration(found.set_back.seconds)}, to where it was before it jumped ahead; "
                "what was recorded meanwhile was set back with it"
            )
        )
    elif found.behind:
        bench.reporter.tell(
            ClockWrong(
                f"the machine's clock is {say_duration(found.behind)} behind what was recorded last; moments are counted on "
                "from there, and deleted files are kept as long as ever: set the clock right"
            )
        )
    elif found.pushed and found.restarted:
        bench.reporter.tell(
            Remark(
                f"the clock is {say_duration(found.jumped)} ahead of what was recorded last, before the machine was started "
                "anew; a week of that counts for how long deleted files are kept"
            )
        )
    elif found.pushed:
        bench.reporter.tell(
            ClockWrong(
                f"the machine's clock jumped {say_duration(found.jumped)} ahead; deleted files are kept so much longer: if "
                "the clock is wrong now, set it right, and what is recorded meanwhile is set right too"
            )
        )
