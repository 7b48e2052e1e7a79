from __future__ import annotations

import pytest

from distbackupd.hotplug import monitor as monitor_module
from distbackupd.hotplug.monitor import DiskMonitor
from distbackupd.model.errors import DistbackupError
from distbackupd.model.inbox import InboxEvent


def _ignore(event: InboxEvent) -> None:
    pass


def test_stop_without_start_and_twice_is_quiet() -> None:
    monitor = DiskMonitor(_ignore)
    monitor.stop()
    monitor.stop()


def test_start_without_udev_raises_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library() -> None:
        raise DistbackupError("libudev.so.1 is not there")

    monkeypatch.setattr(monitor_module, "udev_context", no_library)
    monitor = DiskMonitor(_ignore)
    with pytest.raises(DistbackupError, match="udev cannot be heard, so no disk would be noticed: libudev"):
        monitor.start()
    monitor.stop()
