"""Before the first write of a day the catalogue is looked at as a whole: what is damaged must not be built upon."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from distbackupd.engine.bench import Bench
from distbackupd.model.errors import CatalogueDamaged, CatalogueTrouble

EXAMINED = "examined"
"""Fact: when it was found sound as a whole, unix seconds."""
_DAY = 20 * 3600
"""Seconds: less than a day, so that a nightly scan finds it due each night."""


@contextlib.contextmanager
def sound_catalogue(bench: Bench) -> Iterator[None]:
    """Work on a catalogue that was found sound today; one in which damage shows meanwhile is looked at before the next work.

    Raises CatalogueDamaged; nothing was changed then, or what was under way is not recorded.
    """
    examine(bench)
    try:
        yield
    except CatalogueDamaged:
        with contextlib.suppress(CatalogueTrouble):
            bench.catalogue.sessions.remember(EXAMINED, "0")
        raise


def examine(bench: Bench) -> None:
    """Look at the whole catalogue unless that was done today. Raises CatalogueDamaged; nothing was changed then."""
    catalogue = bench.catalogue
    now = bench.clock.now()
    if 0 <= now - int(catalogue.sessions.recall(EXAMINED) or 0) < _DAY:
        return
    bench.reporter.begin("looking whether the catalogue is sound")
    try:
        catalogue.must_be_sound()
    finally:
        bench.reporter.end()
    catalogue.sessions.remember(EXAMINED, str(now))
