"""Commands that the daemon does where it serves the catalogue that is meant: ``backup``, ``eject``, ``status`` and more."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

from distbackupd.cli.backups import backup_wish
from distbackupd.cli.following import JobView, make_watch
from distbackupd.cli.output import say, say_json
from distbackupd.cli.progress import make_reporter
from distbackupd.cli.reports import print_overview
from distbackupd.cli.session import command_session
from distbackupd.cli.status import SHOWN_SESSIONS, Report, completed, print_report
from distbackupd.config.places import CATALOGUE_NAME, SYSTEM_FOLDER, catalogue_folder
from distbackupd.control.client import Change, DaemonAbsent, DaemonClient, News, NoBus, Presence
from distbackupd.engine.overview import overview
from distbackupd.engine.ports import SessionSummary
from distbackupd.model.errors import CatalogueTrouble, DistbackupError, Interrupted, UsageError
from distbackupd.model.events import Paused, Resumed
from distbackupd.model.standing import Answer, Standing
from distbackupd.model.text import printable

Asking = Callable[[DaemonClient, argparse.Namespace], Awaitable[int]]


def ask(arguments: argparse.Namespace, alone: bool) -> int | None:
    """Let the daemon do it if it serves the catalogue that is meant: the exit status.

    None: it does not, and the command can be done ``alone``. Raises DaemonAbsent if it cannot, and other DistbackupErrors.
    """
    if alone and (arguments.noaction or getattr(arguments, "simulate", False)):
        return None
    return asyncio.run(_ask(arguments, alone))


async def _ask(arguments: argparse.Namespace, alone: bool) -> int | None:
    asking = _ASKINGS[arguments.command_name]
    daemon = DaemonClient()
    try:
        await daemon.connect()
    except NoBus:
        if alone:
            return None
        raise
    try:
        other = await _other_folder(daemon, arguments)
        if other is not None and alone:
            return None
        if other is not None:
            raise DaemonAbsent(other)
        if arguments.noaction:
            say(f"Would ask distbackupd to {arguments.command_name}")
            return 0
        return await asking(daemon, arguments)
    finally:
        daemon.close()


async def _other_folder(daemon: DaemonClient, arguments: argparse.Namespace) -> str | None:
    """None if the daemon serves the catalogue that is meant, else a sentence.

    Meant is what ``-d`` or the environment names, else the catalogue that this user has, else whatever the daemon serves.
    Raises DaemonAbsent where only that can be meant, and it does not run.
    """
    folder = catalogue_folder(arguments.database, os.environ)
    is_named = arguments.database or os.environ.get("DISTBACKUP_PATH")
    is_free = not is_named and not os.path.exists(folder / CATALOGUE_NAME)
    if not await daemon.is_running():
        if is_free and os.path.isdir(SYSTEM_FOLDER) and arguments.command_name in _OF_THE_SYSTEM:
            raise DaemonAbsent("distbackupd does not run, and only root may start it: 'sudo systemctl start distbackupd'")
        return f"distbackupd does not run, so there is nothing to {arguments.command_name}"
    if is_free or any([await daemon.serves(printable(name)) for name in (str(folder), os.path.realpath(folder))]):
        return None
    return f"distbackupd serves another catalogue than the one in {printable(str(folder))}; nothing was changed"


# --- jobs ---


async def _back_up(daemon: DaemonClient, arguments: argparse.Namespace) -> int:
    wish = backup_wish(arguments)
    disk = _disk_named(arguments)
    if not arguments.json:
        _print_state(arguments, "Pre-backup state:")
    view, answer = await _follow(daemon, arguments, lambda: daemon.back_up(disk, wish))
    done = next((news for news in reversed(view.told) if news.kind == "SessionFinished"), None)
    if answer.exit_code or done is None:
        return answer.exit_code
    if arguments.json:
        say_json(_plain_fields(done))
    else:
        _print_state(arguments, "Post-backup state:")
        say(f"destination {done.disk} updated.")
    counted = [done, *(news for news in view.told if news.kind == "ScanFinished" and wish.update)]
    return 3 if any(news.fields.get(name, "0") != "0" for news in counted for name in ("SKIPPED", "LOCKED")) else 0


async def _eject(daemon: DaemonClient, arguments: argparse.Namespace) -> int:
    disk = _disk_named(arguments)
    _, answer = await _follow(daemon, arguments, lambda: daemon.eject(disk))
    return answer.exit_code


async def _follow(
    daemon: DaemonClient, arguments: argparse.Namespace, begin: Callable[[], Awaitable[int]]
) -> tuple[JobView, Answer]:
    """Ask for a job and show what happens until it has ended. Raises Interrupted if its end cannot be known any more."""
    changes = await daemon.subscribe()
    view = JobView(make_reporter(arguments.json))
    with _Stopping(daemon) as stopping:
        job = await begin()
        stopping.job.set_result(job)
        try:
            answer = await _answer(changes, job, view)
        except DaemonAbsent as error:
            raise Interrupted(f"{error}; what was finished is recorded, the next session goes on there") from error
        except (NoBus, asyncio.CancelledError) as error:
            why = "" if isinstance(error, asyncio.CancelledError) else f"{error}; "
            raise Interrupted(f"{why}distbackupd goes on, and 'dsb status' tells how it stands") from error
        finally:
            view.end()
    told = any(news.severity <= 4 and answer.sentence in news.sentence for news in view.told)
    expected = stopping.asked and answer.exit_code == Interrupted.exit_code
    if answer.exit_code and answer.sentence and not told and not expected:
        sys.stderr.write(f"dsb: {answer.sentence}\n")
    return view, answer


async def _answer(changes: AsyncIterator[Change], job: int, view: JobView) -> Answer:
    waiting = True
    async for change in changes:
        match change:
            case News():
                view.tell(change)
            case Standing():
                if waiting and change.state == "paused":
                    sys.stderr.write("distbackupd is paused; 'dsb resume' lets it go on\n")
                elif waiting and change.state in ("session", "scanning"):
                    sys.stderr.write(f"distbackupd is at work ({change.sentence}); this comes next\n")
                waiting = False
                view.stand(change)
            case Answer(job=number) if number == job:
                return change
            case Presence(running=False):
                raise DaemonAbsent("distbackupd has ended")
            case _:
                pass
    raise AssertionError("changes never end")


class _Stopping:
    """While the context lasts, a first Ctrl+C or SIGTERM cancels ``job`` at a safe place; a second one leaves it alone."""

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, daemon: DaemonClient) -> None:
        self._daemon = daemon
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._cancelling: asyncio.Task[None] | None = None
        self.job: asyncio.Future[int] = self._loop.create_future()

    @property
    def asked(self) -> bool:
        """Whether it was asked to stop."""
        return self._cancelling is not None

    def __enter__(self) -> _Stopping:
        for number in self._SIGNALS:
            self._loop.add_signal_handler(number, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._SIGNALS:
            self._loop.remove_signal_handler(number)
        if self._cancelling is not None:
            self._cancelling.cancel()

    def _stop(self) -> None:
        if self._cancelling is None:
            sys.stderr.write(
                "stopping as soon as nothing is left half-done; press Ctrl+C again to leave it to distbackupd\n"
            )
            self._cancelling = self._loop.create_task(self._cancel())
        elif self._task is not None:
            self._task.cancel()

    async def _cancel(self) -> None:
        try:
            await self._daemon.cancel(await self.job)
        except DistbackupError as error:
            sys.stderr.write(f"dsb: {error}\n")


def _disk_named(arguments: argparse.Namespace) -> str:
    """The disk's UUID; what was named where this user may not read the catalogue. Raises UsageError, DiskNotOurs."""
    name: str = arguments.disk
    try:
        with command_session(arguments, writes=False) as session:
            return session.find_disk(name).uuid
    except CatalogueTrouble:
        if "/" in name:
            raise
        return name


def _print_state(arguments: argparse.Namespace, title: str) -> None:
    """What is protected how well, as far as this user may read the catalogue."""
    with suppress(DistbackupError), command_session(arguments, writes=False) as session:
        print_overview(overview(session.bench), title=title)


_TEXTS = {"DISK": "disk", "DISK_UUID": "uuid"}


def _plain_fields(done: News) -> dict[str, object]:
    """A session's figures under the names and types that it has in-process."""
    fields: dict[str, object] = {_TEXTS[name]: done.fields[name] for name in _TEXTS if name in done.fields}
    for name, value in done.fields.items():
        if name not in _TEXTS:
            fields[name.lower()] = float(value) if name == "SECONDS" else int(value)
    return fields


# --- the rest ---


async def _cancel(daemon: DaemonClient, arguments: argparse.Namespace) -> int:  # noqa: ARG001 - all have the same words
    stopped = await daemon.cancel()
    say("distbackupd stops as soon as nothing is left half-done" if stopped else "nothing is at work")
    return 0


async def _pause(daemon: DaemonClient, arguments: argparse.Namespace) -> int:  # noqa: ARG001 - as above
    await daemon.pause()
    say(Paused().sentence)
    return 0


async def _resume(daemon: DaemonClient, arguments: argparse.Namespace) -> int:  # noqa: ARG001 - as above
    await daemon.resume()
    say(Resumed().sentence)
    return 0


async def _status(daemon: DaemonClient, arguments: argparse.Namespace) -> int:
    if arguments.watch and arguments.json:
        raise UsageError("--watch is for people; for machines there is 'busctl --json=short monitor org.distbackupd'")
    changes = await daemon.subscribe() if arguments.watch else None
    view = await daemon.view()
    report = Report(
        activity="" if view.standing.state == "idle" else view.standing.sentence,
        standing=view.standing,
        protection=view.protection,
        entries=None,
        sessions=_sessions(await daemon.events()),
    )
    with suppress(DistbackupError), command_session(arguments, writes=False) as session:
        report = completed(report, session)
    print_report(report, arguments.json)
    if changes is not None:
        await _watch(changes)
    return 0


async def _watch(changes: AsyncIterator[Change]) -> None:
    watch = make_watch()
    try:
        async for change in changes:
            match change:
                case News():
                    watch.tell(change)
                case Standing():
                    watch.stand(change)
                case Presence(running):
                    watch.say("distbackupd has begun" if running else "distbackupd has ended")
                case _:
                    pass
    except asyncio.CancelledError:
        # Ctrl+C is how this ends.
        return
    finally:
        watch.end()


_OUTCOMES = {"SessionFinished": "finished", "SessionFailed": "failed", "SessionInterrupted": "interrupted"}


def _sessions(told: list[News]) -> list[SessionSummary]:
    """The last sessions as far as the daemon has told of them, the newest first."""
    summaries = []
    for news in reversed(told):
        if news.kind in _OUTCOMES:
            fields = news.fields
            summaries.append(
                SessionSummary(
                    disk_name=news.disk,
                    started=news.time - round(float(fields.get("SECONDS", 0))),
                    ended=news.time,
                    outcome=_OUTCOMES[news.kind],
                    copied_objects=int(fields.get("COPIED_OBJECTS", 0)),
                    copied_bytes=int(fields.get("COPIED_BYTES", 0)),
                    deleted_objects=int(fields.get("DELETED_OBJECTS", 0)),
                    deleted_bytes=int(fields.get("DELETED_BYTES", 0)),
                    sentence=news.sentence,
                )
            )
    return summaries[:SHOWN_SESSIONS]


_ASKINGS: dict[str, Asking] = {
    "backup": _back_up,
    "eject": _eject,
    "status": _status,
    "cancel": _cancel,
    "pause": _pause,
    "resume": _resume,
}

_OF_THE_SYSTEM = ("backup", "eject", "status")
"""What somebody without a catalogue of his own means of the machine's."""
