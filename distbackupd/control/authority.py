"""Who may change things and who may read all: root, and whom polkit lets."""

from __future__ import annotations

import logging
from collections import OrderedDict
from enum import Enum

from sdbus import DbusAccessDeniedError, DbusFailedError, SdBus

from distbackupd.control.connection import call, call_bus
from distbackupd.control.limits import MOST_REMEMBERED, Places

log = logging.getLogger(__name__)


class Action(Enum):
    """What is asked of polkit: the actions in ``packaging/polkit/org.distbackupd.policy``, and what each is about."""

    MANAGE = "org.distbackupd.manage"
    READ_DETAILS = "org.distbackupd.read-details"

    @property
    def words(self) -> tuple[str, str]:
        """What somebody may do, and what came of it that he may not."""
        if self is Action.MANAGE:
            return "change what distbackupd does", "nothing was changed"
        return "read the details of what distbackupd does, which name files", "nothing was told"


_ALLOW_INTERACTION = 1
_PASSWORD_SECONDS = 300.0
"""For as long somebody may look for the password."""

_MOST_LOOKUPS = 4
_MOST_QUESTIONS = 3
_MOST_QUESTIONS_OF_ALL = 12
"""So many calls of one connection wait for the bus, and of one user and of all users for polkit."""


class Authority:
    """Asks the bus who a caller is, and polkit what it may."""

    def __init__(self, bus: SdBus) -> None:
        self._bus = bus
        self._users: OrderedDict[str, int] = OrderedDict()
        self._lookups = Places(_MOST_LOOKUPS, MOST_REMEMBERED)
        self._questions = Places(_MOST_QUESTIONS, _MOST_QUESTIONS_OF_ALL)
        # polkit answers when somebody has typed a password; all other calls have limits of their own.
        bus.method_call_timeout_usec = round(_PASSWORD_SECONDS * 1_000_000)

    async def user(self, sender: str) -> int:
        """The number of the user as whom the caller with this unique name runs.

        Raises DbusLimitsExceededError if many calls of this caller wait already.
        """
        # A bus never gives a unique name to another connection.
        user = self._users.get(sender)
        if user is None:
            with self._lookups.place(sender):
                user = int(await call_bus(self._bus, "GetConnectionUnixUser", "s", sender))
            self._users[sender] = user
            if len(self._users) > MOST_REMEMBERED:
                self._users.popitem(last=False)
        return user

    async def demand(self, sender: str, action: Action = Action.MANAGE) -> int:
        """The user's number if the caller may do this. Raises DbusAccessDeniedError, which says what to do.

        sd-bus's binding does not tell whether a caller forbids questions, so polkit may always ask for a password; it
        does so only where the caller's session has an agent for that. Raises DbusLimitsExceededError if that many
        questions of this user wait already.
        """
        user = await self.user(sender)
        if user == 0:
            return user
        may, came_of_it = action.words
        with self._questions.place(user):
            try:
                allowed = await self._allowed(sender, action)
            except (DbusFailedError, TimeoutError) as error:
                log.debug("polkit: %s", error)
                raise DbusAccessDeniedError(
                    f"polkit does not answer here, so only root may {may}; {came_of_it}: use sudo"
                ) from error
        if not allowed:
            raise DbusAccessDeniedError(
                f"only an administrator may {may}; {came_of_it}: use sudo, or ask in a session where polkit can ask for a "
                "password"
            )
        return user

    async def _allowed(self, sender: str, action: Action) -> bool:
        allowed, _, _ = await call(
            self._bus,
            "org.freedesktop.PolicyKit1",
            "/org/freedesktop/PolicyKit1/Authority",
            "org.freedesktop.PolicyKit1.Authority",
            "CheckAuthorization",
            "(sa{sv})sa{ss}us",
            ("system-bus-name", {"name": ("s", sender)}),
            action.value,
            {},
            _ALLOW_INTERACTION,
            "",
            seconds=_PASSWORD_SECONDS,
        )
        return bool(allowed)
