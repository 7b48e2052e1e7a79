"""Log records and events as journal entries, or as plain lines where no journal listens.

Everything goes through :mod:`logging`; :func:`tell` attaches an event to its record. An event's entry carries its fixed
``MESSAGE_ID``, its severity as ``PRIORITY`` and its fields as ``DISTBACKUP_<NAME>``.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

from systemd import journal

from distbackupd.model.events import Event
from distbackupd.model.text import printable

IDENTIFIER = "distbackupd"
JOURNAL_SOCKET = "/run/systemd/journal/socket"
NOTICE = 25
"""The level between INFO and WARNING that syslog has and :mod:`logging` has not."""

_LEVELS = {3: logging.ERROR, 4: logging.WARNING, 5: NOTICE, 6: logging.INFO}
_log = logging.getLogger("distbackupd")


def tell(event: Event) -> None:
    """Log an event's sentence in one line, for the handlers below with all it knows. Thread-safe."""
    _log.log(_LEVELS[event.severity], "%s", event.sentence, extra={"event": event})


class JournalHandler(logging.Handler):
    """Sends records to the journal with their event's fields. systemd's own handler drops or chokes on such fields."""

    def __init__(self, send: Callable[..., Any] = journal.send) -> None:
        super().__init__()
        self.setFormatter(OneLine())
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Never raises; a record that cannot be sent is shown on stderr, as :mod:`logging` does."""
        try:
            fields = {"SYSLOG_IDENTIFIER": IDENTIFIER, "PRIORITY": str(priority(record)), "LOGGER": record.name}
            event = getattr(record, "event", None)
            if isinstance(event, Event):
                fields["MESSAGE_ID"] = event.MESSAGE_ID
                fields |= {f"DISTBACKUP_{name}": sendable(value) for name, value in event.fields.items()}
            place = {"CODE_FILE": record.pathname, "CODE_LINE": record.lineno, "CODE_FUNC": record.funcName}
            self._send(sendable(self.format(record)), **fields, **place)
        except Exception:  # noqa: BLE001 - a failing log must not end a backup
            self.handleError(record)


class OneLine(logging.Formatter):
    """A record is one line, whatever names it speaks of; only the traceback of a bug has more, below it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - as logging names it
        """The line."""
        return printable(super().formatMessage(record))


class LevelPrefix(OneLine):
    """Begins each line with its syslog level, ``<5>``, which systemd takes off and files."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's lines."""
        return "\n".join(f"<{priority(record)}>{line}" for line in sendable(super().format(record)).splitlines())


def priority(record: logging.LogRecord) -> int:
    """The syslog level of a record: 3 error, 4 warning, 5 notice, 6 info, 7 debug."""
    for level, number in ((logging.ERROR, 3), (logging.WARNING, 4), (NOTICE, 5), (logging.INFO, 6)):
        if record.levelno >= level:
            return number
    return 7


def sendable(text: str) -> str:
    """``text`` with what is no UTF-8 escaped, so that one odd file name cannot lose the whole entry."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def make_handler(stream: TextIO = sys.stderr, socket: str = JOURNAL_SOCKET) -> logging.Handler:
    """The journal where systemd started us and the journal listens; else lines on ``stream``.

    The lines carry a level prefix only where systemd captures them.
    """
    if not is_captured(stream):
        handler: logging.Handler = logging.StreamHandler(stream)
        handler.setFormatter(OneLine())
    elif os.path.exists(socket):
        handler = JournalHandler()
    else:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(LevelPrefix())
    return handler


def is_captured(stream: TextIO) -> bool:
    """Whether ``stream`` leads into the journal.

    ``JOURNAL_STREAM`` alone does not tell: it is inherited by shells in desktop terminals, whose stderr is the terminal.
    """
    try:
        device, inode = os.environ["JOURNAL_STREAM"].split(":")
        facts = os.fstat(stream.fileno())
        return (facts.st_dev, facts.st_ino) == (int(device), int(inode))
    except (KeyError, ValueError, OSError):
        return False


def set_up_logging(verbose: bool = False) -> None:
    """Send what is logged to the journal or stderr from now on; ``verbose``: with the program's own debugging."""
    logging.addLevelName(NOTICE, "NOTICE")
    root = logging.getLogger()
    root.handlers[:] = [make_handler()]
    # Libraries chatter at INFO about each job they run.
    root.setLevel(logging.WARNING)
    _log.setLevel(logging.DEBUG if verbose else logging.INFO)
