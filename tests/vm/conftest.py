"""Tests in a virtual machine, for ``make test-vm`` alone: they take minutes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bed.package import debian_package
from tests.vm.image import the_image
from tests.vm.machine import Machine, Origin, tell, virtual_machine
from tests.vm.station import READER, SOURCE, UNIT, Journal, Station, station

TREES = Path(__file__).parents[1] / "trees.py"


@pytest.fixture(scope="session")
def image() -> Origin:
    """A Debian without our package, booted and frozen."""
    return the_image()


@pytest.fixture(scope="session")
def installed(image: Origin, tmp_path_factory: pytest.TempPathFactory) -> Origin:
    """The same with our package installed, its daemon running, and the nasty tree mapped and scanned."""
    tell("installing the package in the virtual machine")
    with virtual_machine(image, tmp_path_factory.mktemp("vm") / "installed") as machine:
        machine.copy_in(debian_package(), "/root/distbackupd.deb")
        machine.copy_in(TREES, "/root/trees.py")
        machine.copy_in(Path(__file__).with_name("independent_reader.py"), READER)
        machine.run("mkdir /etc/distbackupd; echo 'settle = \"0.2s\"' >/etc/distbackupd/distbackupd.toml")
        machine.run("dpkg --install --force-confold --force-unsafe-io /root/distbackupd.deb", seconds=300)
        nasty = f"from pathlib import Path; from trees import *; build_nasty_tree(Path('{SOURCE}'))"
        machine.run(f'cd /root && python3 -c "{nasty}"')
        machine.run(f"dsb source map /source {SOURCE} && systemctl restart {UNIT}")
        journal = Journal(machine)
        journal.wait("^scanned .* [1-9][0-9]* new", "^watching 1 source for changes$")
        journal.close()
        return machine.freeze()


@pytest.fixture
def machine(image: Origin, tmp_path: Path) -> Iterator[Machine]:
    """A machine without our package, for one test alone."""
    print()
    with virtual_machine(image, tmp_path / "machine") as machine:
        yield machine


@pytest.fixture
def docked(installed: Origin, tmp_path: Path) -> Iterator[Station]:
    """A station with nothing plugged in, for one test alone."""
    print()
    with virtual_machine(installed, tmp_path / "machine") as machine, station(machine, tmp_path) as docked:
        yield docked
