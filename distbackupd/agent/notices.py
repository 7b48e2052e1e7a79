"""What the person at the desk is told of what happened: pure decisions, no bus, no clock.

One notice per **key**: a newer one with the same key takes the place of the older, so a disk has one notification from
plug to unplug. What only the journal needs (skipped files, scans, remarks) makes no notice: floods end here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum

from distbackupd.control.wire import News
from distbackupd.model.text import say_count


class Action(Enum):
    """What can be clicked; the value is what the button says."""

    PROGRESS = "Progress"
    DETAILS = "Details"
    EJECT = "Eject"


class Urgency(Enum):
    """As the notification specification has them. Critical ones stay until they are clicked away: only for failures."""

    LOW = 0
    NORMAL = 1
    CRITICAL = 2


class Stage(Enum):
    """What a notice is worth to somebody who logs in later."""

    BEGUN = "only as long as the session runs"
    DONE = "to whoever missed it"
    ASKS = "also to whoever sees this for the first time: something is to be done"


DISK_ICON = "drive-removable-media"
WARNING_ICON = "dialog-warning"
ERROR_ICON = "dialog-error"


@dataclass(frozen=True, slots=True)
class Notice:
    """One notification. Plain text. ``stays``: until it is clicked away; ``percent``: how much is done, if that is known."""

    key: str
    title: str
    body: str
    disk: str = ""
    stage: Stage = Stage.DONE
    urgency: Urgency = Urgency.NORMAL
    icon: str = DISK_ICON
    actions: tuple[Action, ...] = ()
    stays: bool = False
    percent: int | None = None


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The notice with this key is true no longer."""

    key: str


@dataclass(slots=True)
class _Story:
    """What is known of a disk since its last session began."""

    sentences: deque[str]
    running: bool = False
    failed: bool = False
    outcome: str = ""
    bad_copies: int = 0


Telling = list[Notice | Withdrawn]

SENTENCES_KEPT = 6
"""So many go into the details of a disk; servers show hardly more."""

LOCKED_SHOWN = 3

_STILL = "still"
"""One work is in hand at a time, so one thing stands still."""


class Narrator:
    """Makes notices of news, which come in the order in which things happened."""

    def __init__(self) -> None:
        self._stories: dict[str, _Story] = {}
        self._rotted = 0
        self._locked = 0
        self._locked_lines: list[str] = []
        self._wanted = ""
        self._scanning = False

    @property
    def running(self) -> list[str]:
        """The disks whose session has begun and not ended."""
        return [disk for disk, story in self._stories.items() if story.running]

    def hear(self, news: News) -> Telling:
        """What changes on the screen because of this; mostly nothing."""
        # Trouble with a volume that carries several backup disks names all of them.
        first, *others = news.disk.split(", ") if news.disk else [""]
        if news.kind == "SessionStarted":
            self._stories[first] = _new_story()
        if first:
            self._story(first).sentences.append(news.sentence)
        tell = _TELLERS.get(news.kind)
        if tell is not None:
            return tell(self, replace(news, disk=first)) + [self._ended(disk) for disk in others]
        # An error of a kind that is newer than this agent; anything less can wait for an agent that knows it.
        if news.severity <= 3:
            return [_failure(f"trouble:{news.kind}", "Backup: something went wrong", news.sentence, news.disk)]
        return []

    def progress(self, disk: str, sentence: str, percent: int | None) -> Notice:
        """How far the session is, in the place of the notice that it began."""
        return replace(_begun(disk, capital(sentence, disk)), percent=percent)

    def details(self, disk: str, standing: str = "") -> Notice:
        """All that is remembered of the disk, newest last. ``standing``: what the daemon does now."""
        lines = [capital(sentence, disk) for sentence in self._story(disk).sentences]
        lines += [f"Now: {standing}"] if standing else []
        body = "\n".join(lines) or "Nothing is remembered of its last session"
        return Notice(f"details:{disk}", f"{disk}: details", body, disk, icon=DISK_ICON)

    def orphaned(self) -> Telling:
        """The daemon has gone while sessions ran, which it would have ended first if it had been stopped properly."""
        return [self._left_behind(disk) for disk in self.running]

    def _left_behind(self, disk: str) -> Notice:
        self._story(disk).running = False
        body = "Leave the disk plugged in. 'systemctl status distbackupd' tells why; after its restart it goes on"
        return _failure(_disk_key(disk), f"{disk}: the backup service has gone", body, disk)

    def _ended(self, disk: str) -> Withdrawn:
        self._story(disk).running = False
        return Withdrawn(_disk_key(disk))

    def _story(self, disk: str) -> _Story:
        return self._stories.setdefault(disk, _new_story())

    def _session_started(self, news: News) -> Telling:
        story = self._story(news.disk)
        story.running = True
        gone: Telling = [Withdrawn(key) for key in (f"unseen:{news.disk}", f"details:{news.disk}", _STILL)]
        if self._wanted == news.disk:
            gone.append(Withdrawn("wanted"))
        return [_begun(news.disk, "Leave it plugged in until you are told that it is done"), *gone]

    def _session_finished(self, news: News) -> Telling:
        story = self._story(news.disk)
        # Told when the disk is released: before, "finished" would be taken for "may be unplugged".
        story.outcome = capital(news.sentence, news.disk)
        return []

    def _session_interrupted(self, news: News) -> Telling:
        story = self._story(news.disk)
        story.running, story.outcome = False, capital(news.sentence, news.disk)
        return [_done(news.disk, f"{news.disk}: backup interrupted", story.outcome, Action.DETAILS)]

    def _session_failed(self, news: News) -> Telling:
        story = self._story(news.disk)
        story.running, story.failed = False, True
        story.outcome = capital(news.sentence.replace(f"{news.disk}: stopped: ", f"{news.disk}: ", 1), news.disk)
        notice = _failure(_disk_key(news.disk), f"{news.disk}: backup stopped", story.outcome, news.disk)
        return [replace(notice, actions=(Action.DETAILS,))]

    def _not_answering(self, news: News) -> Telling:
        title = f"{news.disk} does not answer" if news.disk else "The backup stands still"
        return [_attention(_STILL, title, capital(news.sentence, news.disk), news.disk, stays=True)]

    def _answers_again(self, _: News) -> Telling:
        return [Withdrawn(_STILL)]

    def _may_unplug(self, news: News) -> Telling:
        story = self._story(news.disk)
        story.running = False
        if story.failed:
            # The place of the failure is taken, so the failure is told again.
            body = _lines(story.outcome, "You may unplug it")
            notice = _failure(_disk_key(news.disk), f"{news.disk}: backup stopped", body, news.disk)
            return [replace(notice, actions=(Action.DETAILS,))]
        told = news.sentence.partition(", ")[0].removeprefix(news.disk)
        actions = (Action.DETAILS,) if news.fields.get("POWERED_OFF") == "yes" else (Action.DETAILS, Action.EJECT)
        # Servers cut a long title off, so what matters stands at its beginning.
        return [_done(news.disk, f"You may unplug {news.disk}", _lines(f"It{told}", story.outcome), *actions)]

    def _still_mounted(self, news: News) -> Telling:
        story = self._story(news.disk)
        story.running = False
        told = news.sentence.removeprefix(f"{news.disk} is done; ")
        body = _lines(capital(told, news.disk), story.outcome)
        title = f"{news.disk} is {'not done' if story.failed else 'done'}, but still mounted"
        return [_done(news.disk, title, body, Action.EJECT, Action.DETAILS)]

    def _drive_still_needed(self, news: News) -> Telling:
        story = self._story(news.disk)
        story.running = False
        title, _, told = news.sentence.partition("; ")
        body = _lines(capital(told, news.disk), story.outcome)
        return [_done(news.disk, title, body, Action.DETAILS)]

    def _disk_refused(self, news: News) -> Telling:
        story = self._story(news.disk)
        story.running = False
        body = capital(news.sentence, news.disk)
        return [_attention(_disk_key(news.disk), f"{news.disk} was not used", body, news.disk, stays=True)]

    def _bad_copy_found(self, news: News) -> Telling:
        story = self._story(news.disk)
        story.bad_copies += 1
        title = f"{say_count(story.bad_copies, 'bad copy', 'bad copies')} on {news.disk}"
        notice = _failure(f"bad:{news.disk}", title, capital(news.sentence, news.disk), news.disk)
        return [replace(notice, actions=(Action.DETAILS,))]

    def _copies_gone(self, news: News) -> Telling:
        title = f"{news.disk}: copies are gone"
        return [_attention(f"gone:{news.disk}", title, capital(news.sentence, news.disk), news.disk, stays=True)]

    def _source_rotted(self, news: News) -> Telling:
        self._rotted += 1
        title = say_count(self._rotted, "damaged source file")
        return [_failure("rotted", title, news.sentence, "")]

    def _source_healed(self, _: News) -> Telling:
        # Whoever heals is looking at the list of what is left.
        self._rotted = 0
        return [Withdrawn("rotted")]

    def _content_lost(self, news: News) -> Telling:
        title = f"{news.disk}: a last good copy is gone"
        notice = _failure(f"lost:{news.disk}", title, capital(news.sentence, news.disk), news.disk)
        return [replace(notice, actions=(Action.DETAILS,))]

    def _scan_started(self, _: News) -> Telling:
        self._locked, self._locked_lines = 0, []
        self._scanning = True
        return []

    def _scan_failed(self, news: News) -> Telling:
        self._scanning = False
        return [_failure("scan", "The backup's scan failed", capital(news.sentence, ""), "")]

    def _scan_finished(self, _: News) -> Telling:
        # Only a scan of everything is told to begin, and only that one makes good what another failed to do.
        whole, self._scanning = self._scanning, False
        return [Withdrawn("scan")] if whole else []

    def _source_locked(self, news: News) -> Telling:
        self._locked += 1
        line = _shortened(news.sentence)
        # Whoever is not root is told the same of each, without its name.
        if len(self._locked_lines) < LOCKED_SHOWN and line not in self._locked_lines:
            self._locked_lines.append(line)
        more = self._locked - len(self._locked_lines)
        lines = [*self._locked_lines, *([f"and {more:,} more"] if more else [])]
        return [_attention("locked", "Some sources need a look", "\n".join(lines))]

    def _disk_wanted(self, news: News) -> Telling:
        self._wanted = news.disk
        body = capital(news.sentence.removeprefix("bring "), news.disk)
        return [Notice("wanted", f"Bring {news.disk}", body, news.disk, Stage.ASKS)]

    def _braked(self, news: News) -> Telling:
        told = news.sentence.removeprefix(f"{news.disk}: ").removeprefix("the brake is on: ")
        return [_attention("brake", "Nothing is deleted: the sources look wrong", capital(told, ""), news.disk, stays=True)]

    def _brake_released(self, _: News) -> Telling:
        return [Withdrawn("brake")]

    def _clock_wrong(self, news: News) -> Telling:
        return [_attention("clock", "The clock is wrong", capital(news.sentence, ""))]

    def _disk_not_seen(self, news: News) -> Telling:
        title, _, told = news.sentence.partition("; ")
        return [_attention(f"unseen:{news.disk}", title, capital(told, news.disk), news.disk)]


def still_matters(telling: Iterable[Notice | Withdrawn], at_work: Iterable[str], first: bool) -> list[Notice]:
    """What of all this is worth showing to somebody who was not there, the newest of each key, oldest first.

    ``at_work``: the disks whose session runs now; that another one began long ago helps nobody. ``first``: this person
    was never told anything, so what was done before they had this program is history: only what asks for something is
    shown.
    """
    newest: dict[str, Notice] = {}
    for told in telling:
        newest.pop(told.key, None)
        if isinstance(told, Notice):
            newest[told.key] = told
    running = set(at_work)
    wanted = {Stage.ASKS} if first else {Stage.ASKS, Stage.DONE}
    return [notice for notice in newest.values() if notice.stage in wanted or _runs(notice, running)]


def dated(notice: Notice, when: str) -> Notice:
    """The notice with the time of what it tells, for who reads it later."""
    return replace(notice, body=_lines(notice.body, when))


def not_ejected(disk: str, sentence: str) -> Notice:
    """Somebody clicked on Eject, and this came of it."""
    return _attention(f"eject:{disk}", f"{disk} was not ejected", capital(sentence, disk), disk, stays=True)


def capital(sentence: str, disk: str) -> str:
    """A sentence of an event without the disk in front, which the title names, and with a capital letter."""
    told = sentence.removeprefix(f"{disk}: ") if disk else sentence
    if told and told[0].islower() and not (disk and told.startswith(disk)):
        told = told[0].upper() + told[1:]
    return _shortened(told)


def _runs(notice: Notice, running: set[str]) -> bool:
    return notice.stage is Stage.BEGUN and notice.disk in running


def _new_story() -> _Story:
    return _Story(deque(maxlen=SENTENCES_KEPT))


def _disk_key(disk: str) -> str:
    return f"disk:{disk}"


def _begun(disk: str, body: str) -> Notice:
    return Notice(_disk_key(disk), f"Backing up to {disk}", body, disk, Stage.BEGUN, actions=(Action.PROGRESS,))


def _done(disk: str, title: str, body: str, *actions: Action) -> Notice:
    return Notice(_disk_key(disk), title, body, disk, actions=actions, stays=True)


def _attention(key: str, title: str, body: str, disk: str = "", stays: bool = False) -> Notice:
    return Notice(key, title, body, disk, Stage.ASKS, icon=WARNING_ICON, stays=stays)


def _failure(key: str, title: str, body: str, disk: str) -> Notice:
    return Notice(key, title, _shortened(body), disk, Stage.ASKS, Urgency.CRITICAL, ERROR_ICON, stays=True)


def _lines(*lines: str) -> str:
    return "\n".join(filter(None, lines))


def _shortened(text: str, most: int = 400) -> str:
    """A path alone may have 4096 bytes."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


_TELLERS: dict[str, Callable[[Narrator, News], Telling]] = {
    "SessionStarted": Narrator._session_started,
    "SessionFinished": Narrator._session_finished,
    "SessionInterrupted": Narrator._session_interrupted,
    "SessionFailed": Narrator._session_failed,
    "NotAnswering": Narrator._not_answering,
    "AnswersAgain": Narrator._answers_again,
    "MayUnplug": Narrator._may_unplug,
    "StillMounted": Narrator._still_mounted,
    "DriveStillNeeded": Narrator._drive_still_needed,
    "DriveInUse": Narrator._drive_still_needed,
    "DiskRefused": Narrator._disk_refused,
    "BadCopyFound": Narrator._bad_copy_found,
    "CopiesGone": Narrator._copies_gone,
    "ContentLost": Narrator._content_lost,
    "SourceRotted": Narrator._source_rotted,
    "SourceHealed": Narrator._source_healed,
    "ScanStarted": Narrator._scan_started,
    "ScanFailed": Narrator._scan_failed,
    "ScanFinished": Narrator._scan_finished,
    "SourceLocked": Narrator._source_locked,
    "DiskWanted": Narrator._disk_wanted,
    "DiskNotSeen": Narrator._disk_not_seen,
    "Braked": Narrator._braked,
    "BrakeLifted": Narrator._brake_released,
    "BrakeReleased": Narrator._brake_released,
    "ClockWrong": Narrator._clock_wrong,
}
"""Each kind of event that somebody at a desk is told, or that what they are told depends on."""
