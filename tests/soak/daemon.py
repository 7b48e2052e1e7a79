"""``distbackupd`` with limits so small that they are met: of watches, and of udev's events that the kernel keeps."""

from __future__ import annotations

import os
import sys

from distbackupd.daemon.main import main
from distbackupd.hotplug.monitor import DiskMonitor
from distbackupd.sources import watcher

WATCHES = "SOAK_WATCHES"
UDEV_BYTES = 9216

if __name__ == "__main__":
    DiskMonitor.__init__.__defaults__ = (UDEV_BYTES,)
    if limit := int(os.environ.get(WATCHES, "0")):
        watcher._watch_limit = lambda: limit
    sys.exit(main())
