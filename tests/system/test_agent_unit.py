"""How the agent is started: the user unit on a booted machine, and the autostart file for desktops without systemd."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from distbackupd.agent.main import build_parser
from tests.bed.container import container
from tests.bed.package import debian_package
from tests.bed.waiting import wait_until

ROOT = Path(__file__).parent.parent.parent
UNIT = "distbackup-agent.service"


def read(path: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # its names have capitals
    parser.read(ROOT / path)
    return parser


@pytest.mark.needs("systemd-analyze")
def test_the_unit_is_well_written(tmp_path: Path) -> None:
    unit = (ROOT / "systemd" / UNIT).read_text()
    # What it starts is installed by the package only.
    (tmp_path / UNIT).write_text(unit.replace("/usr/bin/distbackup-agent", "/bin/true"))
    tmp_path.chmod(0o700)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", tmp_path / UNIT],
        env={"XDG_RUNTIME_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, UNIT in done.stderr) == (0, False), done.stderr


def test_unit_and_autostart_file_start_the_same_and_never_both() -> None:
    unit = read(f"systemd/{UNIT}")
    autostart = read("packaging/desktop/distbackup-agent.desktop")["Desktop Entry"]
    assert unit["Service"]["ExecStart"] == f"/usr/bin/{autostart['Exec']}"
    assert autostart["TryExec"] == autostart["Exec"]
    assert autostart["X-systemd-skip"] == autostart["X-GNOME-HiddenUnderSystemd"] == "true"
    assert unit["Install"]["WantedBy"] == unit["Unit"]["PartOf"]


def test_the_manual_names_every_option() -> None:
    manual = (ROOT / "packaging/man/distbackup-agent.1.scd").read_text()
    for action in build_parser()._actions:
        for option in action.option_strings:
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", manual), option


@pytest.mark.needs("container", "dh")
def test_an_ordinary_user_has_it_in_its_sandbox(tmp_path: Path) -> None:
    shutil.copy(debian_package(), tmp_path / "package.deb")
    with container(folders={tmp_path: "/srv"}) as machine:
        machine.run("dpkg", "--install", "/srv/package.deb")
        machine.run("loginctl", "enable-linger", "guest")
        wait_until(lambda: machine.path("/run/user/1000/bus").exists(), "the user's bus")
        # Enabled for everybody, and once for greeters and root: not for them.
        assert machine.run("systemctl", "--user", "is-enabled", UNIT, user="guest") == "enabled\n"
        machine.run("systemctl", "--user", "start", UNIT, user="guest")
        # It has reached the daemon over the system bus, and remembers so at home.
        remembered = machine.path("/home/guest/.local/state/distbackup/last-event")
        wait_until(remembered.exists, "the agent to have caught up", 20)
        assert int(remembered.read_text()) >= 0
        told = machine.run("systemctl", "--user", "show", UNIT, "--property=ActiveState,NRestarts", user="guest")
        assert set(told.split()) == {"ActiveState=active", "NRestarts=0"}
        # The other way of starting finds it there.
        second = machine.attempt("distbackup-agent", user="guest")
        assert (second.returncode, second.stderr) == (
            0,
            "distbackup-agent: another agent serves this session, so this one ends\n",
        )
        # It leaves when it is asked to.
        machine.run("systemctl", "--user", "stop", UNIT, user="guest")
        told = machine.run("systemctl", "--user", "show", UNIT, "--property=Result", user="guest")
        assert told == "Result=success\n"
