"""That a scan failed is remembered until one succeeds: whoever looks later must not take its silence for success."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

from distbackupd.engine.bench import Bench
from distbackupd.model.errors import CataloguePlaceTrouble, DistbackupError, EngineBusy, Interrupted
from distbackupd.model.events import ScanFailed
from distbackupd.model.problems import FailedScan

FACT = "failed_scan"
"""Under this name it is kept."""


def failed_scan(bench: Bench) -> FailedScan | None:
    """Since when no whole scan has come to its end, and why; None: the last one did."""
    kept = bench.catalogue.sessions.recall(FACT)
    return FailedScan(**json.loads(kept)) if kept else None


@contextlib.contextmanager
def failures_remembered(bench: Bench, whole: bool) -> Iterator[None]:
    """Remember and tell, once, that the scan within fails; a ``whole`` one that succeeds lets that be forgotten."""
    try:
        yield
    except (Interrupted, EngineBusy, CataloguePlaceTrouble):  # what cannot be written cannot remember it either
        raise
    except Exception as error:
        reason = str(error) if isinstance(error, DistbackupError) else f"unexpectedly ({type(error).__name__}: {error})"
        with contextlib.suppress(Exception):
            _remember(bench, reason)
        raise
    if whole and failed_scan(bench) is not None:
        bench.catalogue.sessions.remember(FACT, "")


def _remember(bench: Bench, reason: str) -> None:
    before = failed_scan(bench)
    failed = FailedScan(bench.clock.now() if before is None else before.since, reason)
    if before is None:
        bench.reporter.tell(ScanFailed(reason))
    if failed != before:
        bench.catalogue.sessions.remember(FACT, as_text(failed))


def as_text(failed: FailedScan) -> str:
    """As it is kept."""
    return json.dumps({"since": failed.since, "reason": failed.reason})
