"""How the suite skips, and how a test gets a udevd of its own.

``@pytest.mark.needs("root", "loop", "udevd", "nbd", "xfs", "git")``: the test is skipped, with the probe's reason,
where the machine lacks one of them (``tests/bed/capabilities.py``). With DISTBACKUPD_NO_SKIPS=1 it fails instead, so
that CI never skips silently.

``@pytest.mark.inside_private_udevd("udev/75-distbackupd.rules")``: the test runs in a process of its own beside a
fresh systemd-udevd, with these rules (paths from the root of the repository) installed.

``--fuzz=FACTOR`` runs so many times the cases of each fuzzer (``tests/fuzzing.py``), for as long as that takes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.bed.capabilities import PRIVATE_UDEVD, inside_private_udevd, probe
from tests.fuzzing import FACTOR

_ROOT = Path(__file__).parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long fuzzers run."""
    parser.addoption("--fuzz", type=int, default=1, metavar="FACTOR", help="run so many times the cases of each fuzzer")


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known, and the surroundings those of a terminal."""
    # What a developer set for himself must not hide what everybody else sees, such as lines that nobody flushes.
    for name in [name for name in os.environ if name.startswith("PYTHON")]:
        del os.environ[name]
    os.umask(0o022)
    # Modules that are collected later ask for it as they are loaded.
    os.environ[FACTOR] = str(config.getoption("--fuzz"))
    if config.getoption("--fuzz") > 1:
        config.option.timeout = 0
    else:
        # The same cases in each run, so that nobody meets by chance what somebody else has to mend; fuzzers look further.
        settings.register_profile("the same cases", derandomize=True, deadline=None, database=None)
        settings.load_profile("the same cases")
    # Whoever was started in the background of a script ignores Ctrl+C, and so would every program that a test interrupts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "needs(*names): skipped with a reason where the machine lacks one of them")
    config.addinivalue_line("markers", "inside_private_udevd(*rules): runs beside a systemd-udevd of its own")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot run, before any fixture is made."""
    needs = [need for marker in item.iter_markers("needs") for need in marker.args]
    if item.get_closest_marker("inside_private_udevd"):
        needs.append("udevd")
    reasons = {need: reason for need in needs if (reason := probe(need))}
    if reasons:
        pytest.skip("; ".join(f"{need}: {reason}" for need, reason in reasons.items()))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With DISTBACKUPD_NO_SKIPS=1 what was skipped, in whatever way, has failed."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("DISTBACKUPD_NO_SKIPS") == "1":
        report.outcome = "failed"
        report.longrepr = f"skipped, and DISTBACKUPD_NO_SKIPS=1 forbids that: {report.longrepr}"
    # Names that are no UTF-8 cannot be sent from one process to another, as pytest-xdist does.
    report.sections = [(title, _sendable(text)) for title, text in report.sections]
    if report.failed and _sendable(told := report.longreprtext) != told:
        report.longrepr = _sendable(told)
    return report


def _sendable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test marked ``inside_private_udevd`` once more, alone, inside."""
    marker = pyfuncitem.get_closest_marker("inside_private_udevd")
    if marker is None or inside_private_udevd():
        return None
    rules = ":".join(str(_ROOT / rule) for rule in marker.args)
    pytest_alone = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", "--rootdir", str(_ROOT)]
    inside = subprocess.run(
        [str(PRIVATE_UDEVD), *pytest_alone, pyfuncitem.nodeid],
        cwd=_ROOT,
        env={**os.environ, "PRIVATE_UDEVD_RULES": rules},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if inside.returncode:
        pytest.fail(f"inside the private udevd:\n{inside.stdout}{inside.stderr}", pytrace=False)
    return True
