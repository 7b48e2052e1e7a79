"""A machine whose users and groups a test makes up."""

from __future__ import annotations

from distbackupd.model.owners import OwnerNames, OwnerNumbers


class FakeAccounts:
    """``users`` and ``groups`` are names and their numbers; ``asked`` counts what was looked up."""

    def __init__(self, users: dict[str, int] | None = None, groups: dict[str, int] | None = None) -> None:
        self.users = users or {}
        self.groups = groups or {}
        self.asked = 0

    def names(self, numbers: OwnerNumbers) -> OwnerNames:
        self.asked += 1
        return OwnerNames(
            {number: name for name, number in self.users.items() if number in numbers.users},
            {number: name for name, number in self.groups.items() if number in numbers.groups},
        )

    def user(self, name: str) -> int | None:
        self.asked += 1
        return self.users.get(name)

    def group(self, name: str) -> int | None:
        self.asked += 1
        return self.groups.get(name)
