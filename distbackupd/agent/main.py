"""``distbackup-agent``: from the session bus to an exit status.

One agent for a session: it owns a name on the session bus, and a second one ends at once. It ends with the session bus.
The daemon, the system bus and the notification server may be missing and come later; they are waited for, without
looking again and again, and the daemon is never started by this.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import select
import sys
from collections.abc import Sequence

from sdbus import SdBus, SdBusBaseError, sd_bus_open_user
from sdbus.exceptions import SdBusRequestNameExistsError

from distbackupd import __version__
from distbackupd.agent.desktop import Screen
from distbackupd.agent.memory import Memory, state_folder
from distbackupd.agent.teller import Teller
from distbackupd.control.client import DaemonClient
from distbackupd.model.errors import DistbackupError

log = logging.getLogger("distbackupd")

NAME = "org.distbackupd.Agent"

RECONNECT = 30.0
"""Seconds after which a system bus that is not there is looked for again."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Tell the person of this session until it ends. 0: another agent does; 2: there is no session bus, or no more."""
    build_parser().parse_args(arguments)
    logging.basicConfig(format="distbackup-agent: %(message)s", level=logging.INFO)
    try:
        return asyncio.run(serve())
    except KeyboardInterrupt:
        return 130


def build_parser() -> argparse.ArgumentParser:
    """What the command line may say."""
    parser = argparse.ArgumentParser(
        prog="distbackup-agent",
        description="Tell by desktop notifications what distbackupd does: started in each session, it needs no words.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


async def serve() -> int:
    """Be the agent of this session; the exit status."""
    try:
        session = sd_bus_open_user()
        await session.request_name_async(NAME, 0)
    except SdBusRequestNameExistsError:
        log.info("another agent serves this session, so this one ends")
        return 0
    except SdBusBaseError as error:
        log.error(
            "there is no session bus here, so nobody can be told anything; start this in a desktop session (%s)", error
        )
        return 2
    screen = Screen(session)
    teller = Teller(screen, Memory(state_folder(os.environ)))
    tasks = [asyncio.create_task(work) for work in (until_lost(session), screen.run(), keep_listening(teller))]
    done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    for task in done:
        task.result()
    log.info("the session bus has ended, and this with it")
    return 2


async def keep_listening(teller: Teller) -> None:
    """Let the teller hear the daemon, over one connection to the system bus after the other."""
    complaint = ""
    while True:
        try:
            async with DaemonClient() as daemon:
                await teller.listen(daemon)
        except DistbackupError as error:
            if str(error) != complaint:
                complaint = str(error)
                log.warning("%s; it is tried again every %.0f seconds", complaint, RECONNECT)
        await asyncio.sleep(RECONNECT)


async def until_lost(bus: SdBus) -> None:
    """Returns when the bus has hung up, of which sd-bus tells nobody. Costs nothing while it holds."""
    lost = asyncio.Event()
    loop = asyncio.get_running_loop()
    # Registered for nothing, a descriptor still reports that its other end was closed, and nothing else.
    with select.epoll() as hung_up:
        hung_up.register(bus.get_fd(), 0)
        loop.add_reader(hung_up.fileno(), lost.set)
        try:
            await lost.wait()
        finally:
            loop.remove_reader(hung_up.fileno())


if __name__ == "__main__":
    sys.exit(main())
