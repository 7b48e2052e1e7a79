"""How far a longer activity is, in one line: for `systemctl status`, and for a pipe behind `dsb`."""

from __future__ import annotations

from dataclasses import dataclass

from distbackupd.model.text import say_duration, say_size


@dataclass
class Progress:
    """How far an activity is. Totals are 0 where nobody knows them."""

    activity: str
    total_items: int = 0
    total_bytes: int = 0
    items: int = 0
    done_bytes: int = 0


def status_line(subject: str, progress: Progress, seconds: float) -> str:
    """``photos-03: copying 41% (212 of 517 GB), 38 min left``.

    By bytes where their total is known, else by items, else what is done so far. ``subject`` may be empty; ``seconds``
    is how long it has taken. The time left is told when it can be guessed: after ten seconds and one percent.
    """
    head = f"{subject}: {progress.activity}" if subject else progress.activity
    items, done_bytes = progress.items, progress.done_bytes
    if progress.total_bytes > 0:
        share = min(done_bytes / progress.total_bytes, 1.0)
        total = say_size(progress.total_bytes)
        amounts = f"{_without_common_unit(say_size(done_bytes), total)} of {total}"
    elif progress.total_items > 0:
        share = min(items / progress.total_items, 1.0)
        amounts = f"{items:,} of {progress.total_items:,}"
    elif items or done_bytes:
        done = [f"{items:,}"] * bool(items) + [say_size(done_bytes)] * bool(done_bytes)
        return f"{head}: {', '.join(done)} so far"
    else:
        return head
    line = f"{head} {int(share * 100)}% ({amounts})"
    if seconds >= 10 and 0.01 <= share < 1:
        left = seconds * (1 - share) / share
        line += f", {say_duration(left)} left" if left >= 100 else ", less than two minutes left"
    return line


def _without_common_unit(done: str, total: str) -> str:
    number, _, unit = done.partition(" ")
    return number if total.endswith(f" {unit}") else done
