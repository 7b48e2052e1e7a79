"""The Debian package installed, upgraded, removed and purged by dpkg, with no systemd at work there, and used meanwhile."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from distbackupd import __version__
from tests.bed.package import ThrowAwayRoot, debian_package, throw_away_root

pytestmark = pytest.mark.needs("root", "dh", "dpkg-deb", "findmnt", "nsenter", "strace", "unshare")

ROOT = Path(__file__).parents[2]
NEXT = f"{__version__}+next"
LIBRARY = "/usr/lib/distbackupd"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThrowAwayRoot]:
    """A root folder with the package in it, for tests that leave it as it is."""
    yield from root_with_package(tmp_path_factory.mktemp("installed"))


@pytest.fixture
def changing(tmp_path: Path) -> Iterator[ThrowAwayRoot]:
    """The same for one test alone."""
    yield from root_with_package(tmp_path)


def root_with_package(folder: Path) -> Iterator[ThrowAwayRoot]:
    package = debian_package()
    try:
        with throw_away_root(folder / "root") as root:
            # Triggers are other packages' work, and take longer than all else.
            root.run(f"dpkg --purge distbackupd; dpkg --install --no-triggers --force-unsafe-io {root.bring(package)}")
            yield root
    except RuntimeError as error:
        pytest.skip(str(error))


def next_package(folder: Path) -> Path:
    """The same package with the next version's number, and with one more line in the settings that it ships."""
    tree = folder / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", debian_package(), tree], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: .*$", f"Version: {NEXT}", control.read_text()))
    with (tree / "etc/distbackupd/distbackupd.toml").open("a") as settings:
        settings.write("# a new setting\n")
    made = folder / "next.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, made], check=True, capture_output=True)
    return made


def test_programs_run_from_their_own_environment_alone(installed: ThrowAwayRoot) -> None:
    for module in ("argparse", "distbackupd", "peewee", "usercustomize", "sitecustomize"):
        installed.path(f"/tmp/{module}.py").write_text("raise SystemExit('taken from elsewhere')")
    hostile = {"PYTHONPATH": "/tmp", "PYTHONHOME": "/nowhere", "PYTHONSTARTUP": "/tmp/peewee.py"}
    programs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert "dsb" in programs
    for program in programs:
        assert installed.run(f"cd /tmp; {program} --version", **hostile) == f"{program} {__version__}\n"


def test_every_module_of_ours_finds_what_it_needs(installed: ThrowAwayRoot) -> None:
    names = [
        ".".join(path.relative_to(installed.path(LIBRARY)).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted(installed.path(f"{LIBRARY}/distbackupd").rglob("*.py"))
    ]
    assert "distbackupd.daemon.main" in names
    imports = "\n".join(f"import {name}" for name in names)
    assert installed.run(f"/usr/bin/python3 -IS -c 'import sys; sys.path.append(\"{LIBRARY}\")\n{imports}'") == ""


def test_programs_start_from_compiled_code_and_write_nothing(installed: ThrowAwayRoot) -> None:
    opened = installed.run("strace --follow-forks --trace=openat dsb --version")
    assert f"{LIBRARY}/distbackupd/cli/__pycache__/main.cpython" in opened
    assert re.findall(rf"{LIBRARY}/\S+\.py\"", opened) == []
    assert installed.run("dpkg --verify distbackupd") == ""


def test_files_go_to_a_disk_and_come_back(installed: ThrowAwayRoot) -> None:
    installed.run(
        """
        mkdir --parents /tmp/photos/2024 /tmp/disk /tmp/restored
        head --bytes=100000 /dev/urandom >/tmp/photos/2024/house.jpg
        echo cat >/tmp/photos/cat.txt
        dsb source map /photos /tmp/photos
        dsb disk add shelf-01 /tmp/disk --folder --size 10M
        dsb backup --update shelf-01
        dsb restore shelf-01 /tmp/restored
        diff --recursive /tmp/photos /tmp/restored/photos
        """
    )
    assert installed.path("/var/lib/distbackup/distbackup.sqlite").is_file()


def test_tab_completes_in_bash_as_installed(installed: ThrowAwayRoot) -> None:
    offered = installed.run(
        """
        . /usr/share/bash-completion/completions/dsb
        COMP_LINE='dsb up' COMP_POINT=6 COMP_TYPE=9
        _python_argcomplete dsb
        echo "${COMPREPLY[@]}"
        """
    )
    assert offered.split() == ["update"]


def test_upgrade_keeps_settings_and_catalogue(changing: ThrowAwayRoot, tmp_path: Path) -> None:
    changing.path("/etc/distbackupd/distbackupd.toml").write_text('scan_at = "04:00"\n')
    changing.path("/etc/distbackupd/keys/disk.key").write_text("secret")
    changing.path("/var/lib/distbackup/distbackup.sqlite").write_text("precious")
    changing.run(f"dpkg --install --no-triggers --force-unsafe-io --force-confold {changing.bring(next_package(tmp_path))}")
    assert NEXT in changing.run("dpkg-query --show distbackupd")
    assert changing.path("/etc/distbackupd/distbackupd.toml").read_text() == 'scan_at = "04:00"\n'
    assert changing.path("/etc/distbackupd/keys/disk.key").read_text() == "secret"
    assert changing.path("/var/lib/distbackup/distbackup.sqlite").read_text() == "precious"


ENROLLED_BEFORE = """
import sys
sys.path.append("/usr/lib/distbackupd")
from dataclasses import replace
from pathlib import Path
from distbackupd.wiring import open_catalogue
with open_catalogue(Path("/var/lib/distbackup")) as catalogue:
    [disk] = catalogue.disks.all()
    catalogue.disks.update(replace(disk, filesystem_uuid="1111-2222"))
"""


def test_upgrade_from_a_daemon_that_was_root_takes_its_disks_over_once(changing: ThrowAwayRoot, tmp_path: Path) -> None:
    changing.path("/tmp/before.py").write_text(ENROLLED_BEFORE)
    changing.run(
        """
        mkdir /tmp/disk
        dsb disk add shelf-01 /tmp/disk --folder --size 10M
        python3 -IS /tmp/before.py
        mkdir /var/lib/distbackup/disks.d
        touch /var/lib/distbackup/disks.d/1111-2222 /var/lib/distbackup/disks.d/9999
        chown --recursive root:root /var/lib/distbackup
        """
    )
    upgrade = f"dpkg --install --no-triggers --force-unsafe-io --force-confold {changing.bring(next_package(tmp_path))}"
    changing.run(upgrade)
    disks = changing.path("/var/lib/distbackup-disks")
    assert {path.name: path.read_text() for path in disks.iterdir()} == {"1111-2222": '{"name":"shelf-01"}'}
    assert disks.stat().st_uid == 0
    user = int(changing.run("id --user distbackup"))
    state = changing.path("/var/lib/distbackup")
    assert {path.lstat().st_uid for path in (state, *state.iterdir())} == {user} != {0}
    # From then on the folder is the daemon's, and whoever got hold of that enrols nothing by it.
    changing.run("mkdir /var/lib/distbackup/disks.d; touch /var/lib/distbackup/disks.d/3333")
    changing.run(upgrade)
    assert os.listdir(disks) == ["1111-2222"]


def test_remove_unmounts_what_is_free_and_names_what_is_busy(changing: ThrowAwayRoot) -> None:
    changing.run(
        """
        cd /run/distbackup-mnt
        mkdir shelf-01 'shelf 02' busy
        for folder in *; do mount -t tmpfs tmpfs "$folder"; touch "$folder/distbackup-disk.json"; done
        """
    )
    told = changing.run("exec 9</run/distbackup-mnt/busy/distbackup-disk.json; dpkg --remove --no-triggers distbackupd")
    assert "/run/distbackup-mnt/busy is in use and stays mounted" in told
    mounted = changing.run("findmnt --noheadings --list --output TARGET").splitlines()
    assert [path for path in mounted if path.startswith("/run/distbackup-mnt")] == ["/run/distbackup-mnt/busy"]
    assert os.listdir(changing.path("/run/distbackup-mnt")) == ["busy"]
    assert changing.path("/etc/distbackupd/distbackupd.toml").exists()
    assert changing.path("/var/lib/distbackup").exists()


def test_purge_deletes_state_and_nothing_on_a_backup_disk(changing: ThrowAwayRoot) -> None:
    changing.run(
        """
        mkdir --parents /run/distbackup-mnt/shelf-01 /var/lib/distbackup/elsewhere /srv/disk
        mount -t tmpfs tmpfs /run/distbackup-mnt/shelf-01
        mount -t tmpfs tmpfs /var/lib/distbackup/elsewhere
        touch /run/distbackup-mnt/shelf-01/file /var/lib/distbackup/elsewhere/file /srv/disk/file
        touch /var/lib/distbackup/distbackup.sqlite
        ln --symbolic /srv/disk /var/lib/distbackup/link
        exec 9</run/distbackup-mnt/shelf-01/file
        dpkg --purge --no-triggers distbackupd
        """
    )
    for kept in ("/run/distbackup-mnt/shelf-01/file", "/var/lib/distbackup/elsewhere/file", "/srv/disk/file"):
        assert changing.path(kept).exists(), kept
    assert os.listdir(changing.path("/var/lib/distbackup")) == ["elsewhere"]
    assert not changing.path("/etc/distbackupd").exists()


def test_purge_leaves_nothing_but_keys(changing: ThrowAwayRoot) -> None:
    changing.path("/etc/distbackupd/keys/disk.key").write_text("secret")
    changing.run("dsb source map /etc /etc")
    told = changing.run("dpkg --purge --no-triggers distbackupd")
    assert "/etc/distbackupd/keys opens encrypted backup disks and is kept" in told
    assert os.listdir(changing.path("/etc/distbackupd")) == ["keys"]
    left = changing.run("find / -xdev -iname '*distbackup*' -newer /etc/distbackupd/keys/disk.key")
    assert left.splitlines() == ["/etc/distbackupd"]
