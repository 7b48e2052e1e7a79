"""``python -m tests.soak 5m [20s]``: soak for so long, beside a udevd of its own, and print what was found.

A disk comes, and a trouble with it, as often as the second word says.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

from distbackupd.config.quantities import parse_duration
from tests.bed.capabilities import PRIVATE_UDEVD, inside_private_udevd, probe
from tests.soak.soak import Soak


def main() -> int:
    """The exit status: 0 if nothing was missed and nothing grew."""
    words = sys.argv[1:] or ["5m"]
    if not inside_private_udevd():
        for need in ("loop", "udevd", "ext4"):
            if reason := probe(need):
                print(f"a soak cannot run here: {reason}", file=sys.stderr)
                return 69
        os.environ["PRIVATE_UDEVD_RULES"] = str(Path(__file__).parents[2] / "udev" / "75-distbackupd.rules")
        os.execv(PRIVATE_UDEVD, [PRIVATE_UDEVD, sys.executable, "-m", "tests.soak", *words])
    seconds, period = (parse_duration(re.sub("m$", "min", word)) for word in (*words, "20s")[:2])
    with tempfile.TemporaryDirectory(prefix="distbackupd-soak-") as place:
        outcome = Soak(Path(place), lambda line: print(line, flush=True), period).run(seconds)
    print(outcome.figures())
    for line in outcome.wrong:
        print(f"WRONG: {line}")
    print("failed" if outcome.wrong else "nothing was missed, nothing grew")
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
