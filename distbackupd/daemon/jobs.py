"""What was asked for, by whom, and how it ended: of all that as much as fits into a small, fixed room."""

from __future__ import annotations

from collections import Counter, OrderedDict

from distbackupd.model.errors import TooMuchAsked
from distbackupd.model.standing import Answer
from distbackupd.model.text import say_count

MOST_OF_A_USER = 16
MOST = 64
"""So many jobs may wait or be at work: of each user, of root, and of all who are not root."""

_KEPT_OUTCOMES = 200


class Jobs:
    """Numbers them. For one thread at a time."""

    def __init__(self) -> None:
        self._last = 0
        self._open: dict[int, int] = {}
        self._ended: OrderedDict[int, tuple[int, Answer]] = OrderedDict()

    def open(self, user: int) -> int:
        """The number of a job that this user asks for. Raises TooMuchAsked."""
        askers = Counter(self._open.values())
        waiting = askers[user]
        # What others ask for uses up nothing of what root may.
        if waiting >= (MOST_OF_A_USER if user else MOST) or (user and askers.total() - askers[0] >= MOST):
            raise TooMuchAsked(
                f"{say_count(waiting, 'job')} of yours and {len(self._open) - waiting} of others wait already, so nothing "
                "was added; wait until they are done, or say 'dsb cancel'"
            )
        self._last += 1
        self._open[self._last] = user
        return self._last

    def close(self, answer: Answer) -> None:
        """The job has ended so; a number that was never given is nothing."""
        user = self._open.pop(answer.job, None)
        if user is None:
            return
        self._ended[answer.job] = (user, answer)
        if len(self._ended) > _KEPT_OUTCOMES:
            self._ended.popitem(last=False)

    def outcome(self, user: int, job: int) -> Answer | None:
        """How it ended; None if it has not, is forgotten, or neither this user nor root asks."""
        asker, answer = self._ended.get(job, (None, None))
        return answer if user in (0, asker) else None
