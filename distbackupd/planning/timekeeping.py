"""What time it is for what is recorded, though the machine's clock may be wrong or jump.

A moment that is recorded is never before one that was recorded earlier, and the time for which a deleted file is kept (its
grace) runs out by time that went by, not by a clock that jumps. What tells time from jumps is how long the machine has been
running. Across a restart nobody can tell: of such a gap a week counts, and the rest does not.

A clock that jumps ahead may be right, so it is believed; but that is a doubt. If it goes back to where it would be without
the jump, what was recorded meanwhile is set back with it, or else it would lie in the future until that comes. A clock that
goes back further than that is behind: then moments are counted on by the machine's running time.
"""

from __future__ import annotations

from typing import NamedTuple

HOUR = 3600
"""What a clock may be off, seconds: corrections by the network, and leaps of daylight saving time in clocks that are set to
local time."""
WEEK = 7 * 86_400
"""So much of the time before a restart counts at the most."""
BELIEVED = 30 * 86_400
"""A clock is right that has been so for this long after a jump, while the machine was running."""


class MachineTime(NamedTuple):
    """What the machine says now. ``now``: unix seconds; ``running``: seconds since it was started, with those in which it
    slept; ``boot``: a name of this start.
    """

    now: int
    boot: str
    running: float


class Doubt(NamedTuple):
    """A jump ahead of the clock from the moment ``since`` to ``landed``; graces were ``pushed`` by so many seconds.

    ``measured``: so long the machine has been running since, so this much time went by for certain.
    """

    since: int
    landed: int
    pushed: int
    measured: int


class Timeline(NamedTuple):
    """What is remembered: the newest ``moment`` that may have been recorded, with the machine's time then.

    ``credit``: seconds that may still be found to have gone by before the restart. ``told``: so far the clock was behind
    when that was told last. ``doubts``: the oldest first.
    """

    moment: int
    boot: str = ""
    running: float = 0.0
    credit: int = 0
    told: int = 0
    doubts: tuple[Doubt, ...] = ()


class SetBack(NamedTuple):
    """Moments after ``since`` are to be ``seconds`` earlier, but not before it.

    When files became orphans likewise from ``landed`` on; what was an orphan before had its grace ``pushed`` by so much.
    """

    since: int
    landed: int
    seconds: int
    pushed: int


class Judgement(NamedTuple):
    """What to remember from now on; ``timeline.moment`` is the present moment.

    ``jumped``: seconds that the clock is ahead of what went by; ``pushed``: seconds of them that count for no grace.
    ``restarted``: the machine was started anew in between. ``behind``: seconds that the clock is behind, and that is to be
    told. ``set_back``: what is to be done to recorded moments before anything else.
    """

    timeline: Timeline
    jumped: int = 0
    pushed: int = 0
    restarted: bool = False
    behind: int = 0
    set_back: SetBack | None = None


def judge(before: Timeline | None, newest: int, machine: MachineTime) -> Judgement:
    """What time it is. ``newest``: the newest moment that is known to be recorded, 0 if there is none.

    The present moment is not before ``newest``, and later than that of ``before`` by at least what the machine measured,
    unless moments are set back.
    """
    if before is None and not newest:
        return Judgement(Timeline(machine.now, machine.boot, machine.running))
    known = before or Timeline(newest)
    same = known.boot == machine.boot and machine.running >= known.running
    passed = int(machine.running - known.running) if same else 0
    due = max(known.moment + passed, newest)
    doubts = tuple(item._replace(measured=item.measured + passed) for item in known.doubts if item.measured < BELIEVED)
    here = Timeline(due, machine.boot, machine.running, known.credit if same else WEEK, 0, doubts)
    # What the clock is set to after a start is found out soon: by the network, say, where no battery keeps it.
    if machine.running >= HOUR and same:
        here = here._replace(credit=0)
    ahead = machine.now - due
    if ahead > HOUR:
        return _jumped(here, ahead, machine.now, restarted=not same)
    if ahead >= 0:
        return Judgement(here._replace(moment=machine.now), restarted=not same)
    if ahead >= -HOUR:
        return Judgement(here, restarted=not same)
    back = _back_from(here, machine.now, -ahead, same)
    if back is not None:
        return back
    news = abs(-ahead - known.told) > HOUR
    return Judgement(here._replace(told=-ahead if news else known.told), restarted=not same, behind=-ahead if news else 0)


def _jumped(here: Timeline, ahead: int, now: int, restarted: bool) -> Judgement:
    counted = min(ahead, here.credit)
    doubt = Doubt(here.moment, now, ahead - counted, 0)
    timeline = here._replace(moment=now, credit=here.credit - counted, doubts=(*here.doubts[-_DOUBTS:], doubt))
    return Judgement(timeline, jumped=ahead, pushed=ahead - counted, restarted=restarted)


_DOUBTS = 7
"""So many older jumps are remembered."""


def _back_from(here: Timeline, now: int, seconds: int, same: bool) -> Judgement | None:
    """Whether the clock is back where it would be without its last jumps: not before what went by since for certain."""
    if not same and seconds <= WEEK:
        # A clock without a battery begins with what was noted at some time before the machine went off.
        return None
    for number in reversed(range(len(here.doubts))):
        doubt = here.doubts[number]
        if now >= doubt.since + doubt.measured - HOUR:
            undone = here.doubts[number:]
            pushed = min(seconds, sum(item.pushed for item in undone))
            timeline = here._replace(moment=max(now, doubt.since + 1), doubts=here.doubts[:number])
            return Judgement(timeline, restarted=not same, set_back=SetBack(doubt.since, doubt.landed, seconds, pushed))
    return None
