"""Disks as they are plugged in and pulled out, told by udev."""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable, Iterable

import pyudev

from distbackupd.hotplug.devices import is_left_alone, known_volumes, udev_context, volume_from_properties
from distbackupd.hotplug.plugged import PluggedVolumes
from distbackupd.model.errors import DistbackupError
from distbackupd.model.inbox import DiskAppeared, InboxEvent

_log = logging.getLogger(__name__)

_RECEIVE_BUFFER = 16 << 20
"""Bytes of udev events that the kernel keeps for us: a hub with ten disks sends hundreds at once."""

_PAUSE_AFTER_FAILURE = 0.5
"""Seconds before a lost subscription is renewed, so that a lasting failure does not spin."""


class DiskMonitor:
    """Posts ``DiskAppeared`` once for each plug of a volume, and ``DiskVanished`` when its device goes.

    What is plugged in when it starts is posted like what comes later; between the two nothing is missed. When events
    were lost (the kernel's buffer ran over), what is plugged in is listed again and only the differences are posted.
    Of a file system with several devices each member is posted: they share their UUID. A LUKS container is posted unless
    somebody else unlocked it; what this program unlocked itself is not. ``post`` is called from the monitor's own thread,
    must be thread-safe and should return at once.
    """

    def __init__(self, post: Callable[[InboxEvent], None], receive_buffer: int = _RECEIVE_BUFFER) -> None:
        self._post = post
        self._receive_buffer = receive_buffer
        self._plugged = PluggedVolumes()
        self._thread = threading.Thread(target=self._run, name="disk-monitor", daemon=True)
        self._settled = threading.Event()
        self._failure: Exception | None = None
        self._stopping = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def start(self) -> None:
        """Subscribe; when this returns, no later plug is missed. Raises DistbackupError where udev cannot be heard."""
        self._thread.start()
        self._settled.wait()
        if self._failure:
            raise DistbackupError(f"udev cannot be heard, so no disk would be noticed: {self._failure}") from self._failure

    def stop(self) -> None:
        """End the thread; nothing is posted after this returns. May be called twice, and without :meth:`start`."""
        if self._stopping < 0:
            return
        os.eventfd_write(self._stopping, 1)
        if self._thread.ident is not None:
            self._thread.join()
        os.close(self._stopping)
        self._stopping = -1

    def _run(self) -> None:
        while True:
            try:
                self._watch()
            except (OSError, DistbackupError) as error:
                if not self._settled.is_set():
                    self._failure = error
                    self._settled.set()
                    return
                _log.warning("udev's events were cut off (%s); subscribing again and listing the disks anew", error)
                if self._wait(select.poll(), _PAUSE_AFTER_FAILURE):
                    return
            else:
                return

    def _watch(self) -> None:
        """Subscribe, list, then follow events until asked to stop; raises OSError when events were lost."""
        context = udev_context()
        monitor = pyudev.Monitor.from_netlink(context, source="udev")
        monitor.filter_by("block")
        try:
            monitor.set_receive_buffer_size(self._receive_buffer)
        except OSError as error:
            _log.debug("the receive buffer stays as it is: %s", error)
        monitor.start()
        self._settled.set()
        self._tell(self._plugged.listed(known_volumes(context)))
        poller = select.poll()
        poller.register(monitor.fileno(), select.POLLIN)
        while not self._wait(poller):
            # A poll of pyudev's own: it raises OSError on POLLERR and ENOBUFS.
            while device := monitor.poll(timeout=0):
                if node := device.device_node:
                    gone = device.action == "remove"
                    volume = None if gone else volume_from_properties(node, device.properties)
                    self._tell(self._plugged.seen(node, volume))

    def _wait(self, poller: select.poll, seconds: float | None = None) -> bool:
        """Wait for what the poller watches; whether it is time to stop."""
        poller.register(self._stopping, select.POLLIN)
        ready = poller.poll(None if seconds is None else seconds * 1000)
        return any(descriptor == self._stopping for descriptor, _ in ready)

    def _tell(self, events: Iterable[InboxEvent]) -> None:
        for event in events:
            # Only when it appears: a container that somebody locks again, to take it away, is no plug.
            if not (isinstance(event, DiskAppeared) and is_left_alone(event.volume)):
                self._post(event)
