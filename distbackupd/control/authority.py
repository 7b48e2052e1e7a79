"""Who may change things: root, and whom polkit lets."""

from __future__ import annotations

import logging

from sdbus import DbusAccessDeniedError, DbusFailedError, SdBus

from distbackupd.control.connection import call, call_bus

log = logging.getLogger(__name__)

ACTION = "org.distbackupd.manage"
"""In ``packaging/polkit/org.distbackupd.policy``."""

_ALLOW_INTERACTION = 1
_PASSWORD_SECONDS = 300.0
"""For as long somebody may look for the password."""


class Authority:
    """Asks the bus who a caller is, and polkit what it may."""

    def __init__(self, bus: SdBus) -> None:
        self._bus = bus
        # polkit answers when somebody has typed a password; all other calls have limits of their own.
        bus.method_call_timeout_usec = round(_PASSWORD_SECONDS * 1_000_000)

    async def user(self, sender: str) -> int:
        """The number of the user as whom the caller with this unique name runs."""
        user: int = await call_bus(self._bus, "GetConnectionUnixUser", "s", sender)
        return user

    async def demand(self, sender: str) -> int:
        """The user's number if the caller may change things. Raises DbusAccessDeniedError, which says what to do.

        sd-bus's binding does not tell whether a caller forbids questions, so polkit may always ask for a password; it
        does so only where the caller's session has an agent for that.
        """
        user = await self.user(sender)
        if user == 0:
            return user
        try:
            allowed, _, _ = await call(
                self._bus,
                "org.freedesktop.PolicyKit1",
                "/org/freedesktop/PolicyKit1/Authority",
                "org.freedesktop.PolicyKit1.Authority",
                "CheckAuthorization",
                "(sa{sv})sa{ss}us",
                ("system-bus-name", {"name": ("s", sender)}),
                ACTION,
                {},
                _ALLOW_INTERACTION,
                "",
                seconds=_PASSWORD_SECONDS,
            )
        except (DbusFailedError, TimeoutError) as error:
            log.debug("polkit: %s", error)
            raise DbusAccessDeniedError(
                "polkit does not answer here, so only root may change what distbackupd does; nothing was changed: use sudo"
            ) from error
        if not allowed:
            raise DbusAccessDeniedError(
                "only an administrator may change what distbackupd does; nothing was changed: use sudo, or ask in a session "
                "where polkit can ask for a password"
            )
        return user
