"""Disks that are really pulled out, and power that is really cut, in the middle of writing: again and again, on every kind.

After each, somebody who knows no code of ours compares what the catalogue says with what lies on the disk; and the next
session ends well by itself. How often, and at which moments: DISTBACKUPD_ROUNDS and DISTBACKUPD_SEED.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from tests.bed.waiting import wait_until
from tests.vm.machine import Origin, tell, virtual_machine
from tests.vm.station import SOURCE, Station, station, text_of

ROUNDS = int(os.environ.get("DISTBACKUPD_ROUNDS") or 20)
SEED = int(os.environ.get("DISTBACKUPD_SEED") or 1)
SLOW = 2 << 20
KILOBYTES = 4_000
"""What is new in each round."""


class Kind(NamedTuple):
    """A disk of the shelf. Sessions use the kernel's drivers, also of exFAT and NTFS, as long as those take the disk."""

    name: str
    filesystem: str
    key: str = ""


KINDS = (
    Kind("w-ext4", "ext4"),
    Kind("w-luks", "ext4", "/root/key-of-w-luks"),
    Kind("w-btrfs", "btrfs"),
    Kind("w-exfat", "exfat"),
    Kind("w-xfs", "xfs"),
    Kind("w-ntfs", "ntfs"),
)


@pytest.fixture(scope="session")
def shelf(installed: Origin, tmp_path_factory: pytest.TempPathFactory) -> tuple[Origin, Path]:
    """A station that knows a disk of each kind, each with all of the source on it, frozen; the folder of their images."""
    place = tmp_path_factory.mktemp("shelf")
    with virtual_machine(installed, place / "enrolling") as machine, station(machine, place) as docked:
        for kind in KINDS:
            docked.disk(kind.name, kind.filesystem, key=kind.key)
            docked.back_up(kind.name)
        docked.journal.close()
        return machine.freeze(), place


@pytest.fixture
def wild(shelf: tuple[Origin, Path], tmp_path: Path) -> Iterator[Station]:
    """The station with the whole shelf, for one test alone."""
    print()
    origin, images = shelf
    for kind in KINDS:
        shutil.copy(images / f"{kind.name}.img", tmp_path)
    with virtual_machine(origin, tmp_path / "machine") as machine, station(machine, tmp_path) as docked:
        yield docked


@pytest.mark.timeout(3600 + 600 * ROUNDS)
def test_disks_pulled_out_while_they_are_written_make_no_untrue_record(wild: Station) -> None:
    random = Random(f"pulls {SEED}")
    for number in range(ROUNDS):
        kind = KINDS[number % len(KINDS)]
        come_to_a_moment(wild, kind, number, random)
        wild.unplug(kind.name)
        wild.journal.wait(
            rf"^{kind.name} was pulled out|^{kind.name}: stopped|^{kind.name} is done|^{kind.name}: interrupted"
        )
        assert_true_and_goes_on(wild, kind)
    assert_all_restore(wild)


@pytest.mark.timeout(3600 + 600 * ROUNDS)
def test_power_cuts_in_sessions_make_no_untrue_record(wild: Station) -> None:
    random = Random(f"cuts {SEED}")
    for number in range(ROUNDS):
        kind = KINDS[number % len(KINDS)]
        come_to_a_moment(wild, kind, number, random)
        wild.reboot_after_power_cut()
        wild.journal.wait("^scanned")
        assert_true_and_goes_on(wild, kind)
    assert_all_restore(wild)


def come_to_a_moment(wild: Station, kind: Kind, number: int, random: Random) -> None:
    """Something new in the source, the disk plugged in, and a part of the new on it."""
    sizes = [random.randrange(20, 2 * KILOBYTES // 6) for _ in range(6)]
    make = "; ".join(f"head --bytes={size}k /dev/urandom >/srv/new/{place}" for place, size in enumerate(sizes))
    # What went makes orphans, whose copies have to go one day.
    wild.machine.run(
        f"mkdir /srv/new; {make}; rm -rf {SOURCE}/round-{number - 6}; mv /srv/new {SOURCE}/round-{number}; sync"
    )
    wild.journal.wait(f"hashed {len(sizes)} files")
    # In the middle of a copy, and behind it: while it is flushed, recorded, and the catalogue's copy is written.
    share = random.choice((0.0, random.random(), random.random(), 1.0, 1.0 + random.random() / 3))
    goal = int(share * sum(sizes) * 1000)
    wild.plug(kind.name, bytes_per_second=SLOW)
    wild.journal.wait(rf"^{kind.name}: recognised at")

    def reached() -> bool:
        return wild.machine.written(kind.name) > goal or f"{kind.name}: copied" in wild.journal.unread()

    wait_until(reached, f"{goal:,} bytes are written to {kind.name}", 300)
    tell(f"round {number + 1} of {ROUNDS}: {wild.machine.written(kind.name):,} bytes were written to {kind.name}")


def assert_true_and_goes_on(wild: Station, kind: Kind) -> None:
    """All that the catalogue says of the disk is so; then the next session ends well."""
    wild.dsb("pause")
    wild.plug(kind.name)
    found = wild.read_independently(kind.name, kind.filesystem, kind.key)
    tell(f"  {found['recorded']} recorded, {found['whole']} whole, {len(found['broken'])} broken")
    assert found["untrue"] == []
    wild.dsb("resume")
    news = wild.journal.wait(rf"^{kind.name} is done and switched off, you may unplug it$")
    assert not re.search("Traceback|a bug in", text_of(news))
    wild.unplug(kind.name)


def assert_all_restore(wild: Station) -> None:
    """Each disk gets what is new, and gives all of it back; nothing that is recorded is untrue."""
    for kind in KINDS[: max(1, ROUNDS)]:
        wild.back_up(kind.name)
    for kind in KINDS[: max(1, ROUNDS)]:
        wild.assert_restores(kind.name)
        found = wild.read_independently(kind.name, kind.filesystem, kind.key)
        assert (found["untrue"], found["broken"]) == ([], [])
        wild.unplug(kind.name)
