"""A reporter that remembers."""

from __future__ import annotations

from typing import TypeVar

from distbackupd.model.events import Event

E = TypeVar("E", bound=Event)


class FakeReporter:
    """``events`` is what was told, in order. Activities must begin and end in pairs."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.activities: list[str] = []
        self.running: str | None = None

    def tell(self, event: Event) -> None:
        assert event.sentence
        assert event.MESSAGE_ID
        self.events.append(event)

    def begin(self, activity: str, items: int = 0, total_bytes: int = 0) -> None:
        assert self.running is None
        assert items >= 0 <= total_bytes
        self.running = activity
        self.activities.append(activity)

    def advance(self, items: int, done_bytes: int, current: bytes = b"") -> None:
        assert self.running is not None
        assert items >= 0 <= done_bytes

    def end(self) -> None:
        assert self.running is not None
        self.running = None

    def told(self, kind: type[E]) -> list[E]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def sentences(self) -> str:
        """All that was told, a line each."""
        return "\n".join(event.sentence for event in self.events)
