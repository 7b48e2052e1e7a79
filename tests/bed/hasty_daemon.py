"""``distbackupd`` that loses its patience with what stands still within seconds: ``python -m tests.bed.hasty_daemon``."""

from __future__ import annotations

import sys

from distbackupd.daemon import main, vigil

vigil.LOOK_SECONDS = 0.1
vigil.TELL_SECONDS = 1.0
vigil.GIVE_UP_SECONDS = 1.5
vigil._SHOW_WHEN_STOPPING = 0.5

if __name__ == "__main__":
    sys.exit(main.main())
