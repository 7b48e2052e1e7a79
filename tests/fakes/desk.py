"""A daemon that only shows what it is told to show, and writes down what it is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from distbackupd.control.desk import Listener
from distbackupd.model.plans import BackupWish
from distbackupd.model.standing import Answer, Protection, Standing, Told


class FakeDesk:
    """See :class:`distbackupd.control.desk.Desk`."""

    def __init__(self, folder: Path = Path("/srv/catalogue")) -> None:
        self.folder = folder
        self.asked: list[tuple[object, ...]] = []
        self.events: list[Told] = []
        self.listeners: list[Listener] = []
        self.askers: dict[int, int] = {}
        self.answers: dict[int, Answer] = {}
        self._standing = Standing()
        self._protection = Protection()

    def standing(self) -> Standing:
        return self._standing

    def protection(self) -> Protection:
        return self._protection

    def told_since(self, number: int) -> Sequence[Told]:
        return [told for told in self.events if told.number > number]

    def ask_backup(self, user: int, disk: str, wish: BackupWish) -> int:
        return self._ask("backup", disk, wish, user=user)

    def ask_eject(self, user: int, disk: str) -> int:
        return self._ask("eject", disk, user=user)

    def ask_scan(self, user: int) -> int:
        return self._ask("scan", user=user)

    def outcome(self, user: int, job: int) -> Answer | None:
        return self.answers.get(job) if user in (0, self.askers.get(job)) else None

    def cancel(self, job: int = 0) -> bool:
        self._ask("cancel", job)
        return job != 404

    def pause(self) -> None:
        self._ask("pause")

    def resume(self) -> None:
        self._ask("resume")

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    # --- what the test makes it show ---

    def stand(self, standing: Standing) -> None:
        self._standing = standing
        for listener in list(self.listeners):
            listener.stands(standing)

    def protect(self, protection: Protection) -> None:
        self._protection = protection
        for listener in list(self.listeners):
            listener.protects(protection)

    def tell(self, told: Told) -> None:
        self.events.append(told)
        for listener in list(self.listeners):
            listener.told(told)

    def answer(self, answer: Answer) -> None:
        self.answers[answer.job] = answer
        for listener in list(self.listeners):
            listener.answered(answer)

    def _ask(self, *words: object, user: int | None = None) -> int:
        self.asked.append(words)
        if user is not None:
            self.askers[len(self.asked)] = user
        return len(self.asked)
