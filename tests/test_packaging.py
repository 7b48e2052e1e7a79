"""What is shipped beside the code is true: README, manual pages, pins, completion, the programs themselves, the demo."""

from __future__ import annotations

import argparse
import configparser
import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from distbackupd import __version__
from distbackupd.cli.main import COMMANDS
from distbackupd.cli.parser import build_parser
from distbackupd.config.settings import Settings
from distbackupd.daemon.main import _parser as build_daemon_parser
from distbackupd.model import events
from distbackupd.model.errors import EXIT_CODES
from tests.bed.package import debian_package

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
PACKAGING = ROOT / "packaging"
README = ROOT / "README.md"
MANUALS = sorted((PACKAGING / "man").glob("*.scd"))


def run(*command: str | Path, **environment: str) -> str:
    """What a command that must succeed prints on standard output; it finds our programs first."""
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", **environment}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


def manual(name: str) -> str:
    """The source of a manual page without its marks."""
    return re.sub(r"[*_\\]", "", (PACKAGING / "man" / f"{name}.scd").read_text())


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parser and those of its commands, each once."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in {id(command): command for command in action.choices.values()}.values():
                yield from parsers(command)


def shipped_files() -> list[Path]:
    """All text files that belong to the repository, in a checkout or in an unpacked archive of one."""
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]
    folders = ("distbackupd", "packaging", "systemd", "tests", "udev")
    return [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix != ".pyc"]


def test_constraints_are_exact_versions_and_nothing_else() -> None:
    lines = (PACKAGING / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [line for line in pins if not re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9.+!]+", line)] == []
    pinned = {canonical(line) for line in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["development"],
    ]
    assert {canonical(requirement) for requirement in needed} - pinned == set()


def canonical(requirement: str) -> str:
    """The name in a requirement, as indexes compare it."""
    match = re.match(r"[A-Za-z0-9_.-]+", requirement)
    assert match is not None
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def test_no_shipped_file_names_an_address_or_a_place_of_this_machine() -> None:
    """Nothing is downloaded from anywhere but where a user's own apt and pip look; nothing was written for one machine."""
    address = re.compile(rb"(?:https?|ftp|file)://\w|--(?:extra-)?index[-]url|--find[-]links")
    here = os.fsencode(ROOT) + b"/"
    found = []
    for path in shipped_files():
        content = path.read_bytes()
        if path != Path(__file__) and (address.search(content) or here in content):
            found.append(path)
    assert found == []


def test_programs_say_their_version() -> None:
    assert run("dsb", "--version") == f"dsb {__version__}\n"
    assert run("distbackupd", "--version") == f"distbackupd {__version__}\n"


def test_help_names_every_command() -> None:
    told = "\n".join(parser.format_help() for parser in parsers(build_parser()))
    for command in COMMANDS:
        assert re.search(rf"\b{command.split()[-1]}\b", told), command
    assert "usage: dsb" in run("dsb", "--help")


def test_readme_table_of_exit_statuses_is_true() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", README.read_text(), re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == EXIT_CODES


def test_readme_commands_exist() -> None:
    parser = build_parser()
    lines = re.findall(r"^    (?:sudo )?dsb (.+)$", README.read_text(), re.MULTILINE)
    assert len(lines) > 5
    for line in lines:
        assert parser.parse_args(shlex.split(line)).command_name in COMMANDS


def test_readme_and_map_of_the_house_agree() -> None:
    house = re.compile(r"^ {4}daemon \| agent \| cli .*?^ {4}model.*?$", re.MULTILINE | re.DOTALL)
    told = house.search((ROOT / "distbackupd" / "__init__.py").read_text())
    assert told is not None
    assert told[0] in README.read_text()


@pytest.mark.needs("scdoc")
@pytest.mark.parametrize("source", MANUALS, ids=lambda path: path.stem)
def test_manual_compiles(source: Path) -> None:
    done = subprocess.run(["scdoc"], input=source.read_bytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b".TH" in done.stdout


def test_manual_of_dsb_names_every_command_and_option() -> None:
    text = manual("dsb.1")
    for command in COMMANDS:
        assert f"dsb {command}" in text, command
    for parser in parsers(build_parser()):
        assert_options_told(parser, text)


def test_manual_of_dsb_has_the_exit_statuses() -> None:
    rows = re.findall(r"^(?:\[\[|\|) +(\d+)\n:\S* +(.+)$", manual("dsb.1"), re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == EXIT_CODES


def test_manual_of_the_daemon_names_every_option() -> None:
    assert_options_told(build_daemon_parser(), manual("distbackupd.8"))


def assert_options_told(parser: argparse.ArgumentParser, text: str) -> None:
    for action in parser._actions:
        if action.help != argparse.SUPPRESS:
            for option in action.option_strings:
                assert re.search(rf"(?<![\w-]){option}(?![\w-])", text), f"{parser.prog} {option}"


def test_manual_of_the_settings_has_their_names_and_defaults() -> None:
    text = (PACKAGING / "man" / "distbackupd.toml.5.scd").read_text()
    told = tomllib.loads(
        "\n".join(f"{key} = {value}" for key, value in re.findall(r"^\*(\w+)\* = (.+)$", text, re.MULTILINE))
    )
    defaults = Settings()
    assert told == {key: getattr(defaults, key) for key in Settings.__struct_fields__}


def test_what_the_unit_starts_is_a_program_of_ours() -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)  # some settings come twice, and add up
    unit.read(ROOT / "systemd" / "distbackupd.service")
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert os.path.basename(unit["Service"]["ExecStart"].split()[0]) in scripts


JOURNAL_CATALOG = PACKAGING / "journal" / "distbackupd.catalog"
EVENTS = {
    kind.MESSAGE_ID: kind
    for kind in vars(events).values()
    if isinstance(kind, type) and issubclass(kind, events.Event) and kind.MESSAGE_ID
}


def catalog_entries() -> dict[str, str]:
    """The entries of the journal's message catalog, by their MESSAGE_ID."""
    _head, *parts = re.split(r"^-- ([0-9a-f]{32})\n", JOURNAL_CATALOG.read_text(), flags=re.MULTILINE)
    assert len(set(parts[::2])) == len(parts[::2])
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_journal_catalog_explains_every_event_and_no_other() -> None:
    assert {EVENTS.get(identifier) for identifier in catalog_entries()} == set(EVENTS.values())


@pytest.mark.parametrize("kind", EVENTS.values())
def test_journal_catalog_names_only_what_the_entry_has(kind: type[events.Event]) -> None:
    samples = {"str": "text", "int": 1, "float": 1.5, "bytes": b"/path", "bool": True, "Culprit": "disk"}
    event = kind(**{item.name: samples[str(item.type)] for item in dataclasses.fields(kind)})
    named = set(re.findall(r"@([A-Z_]+)@", catalog_entries()[kind.MESSAGE_ID]))
    assert named <= {f"DISTBACKUP_{name}" for name in event.fields}


def test_journal_catalog_commands_exist() -> None:
    words = [
        command.replace("@DISTBACKUP_DISK@", "shelf-01")
        for command in re.findall(r"'dsb ([^']+)'", JOURNAL_CATALOG.read_text())
    ]
    assert words
    for command in words:
        assert build_parser().parse_args(shlex.split(command)).command_name in COMMANDS, command


@pytest.mark.needs("journalctl")
def test_journal_catalog_is_taken_by_journalctl(tmp_path: Path) -> None:
    (tmp_path / "usr/lib/systemd/catalog").mkdir(parents=True)
    (tmp_path / "var/lib/systemd/catalog").mkdir(parents=True)
    shutil.copy(JOURNAL_CATALOG, tmp_path / "usr/lib/systemd/catalog")
    run("journalctl", f"--root={tmp_path}", "--update-catalog")
    listed = run("journalctl", f"--root={tmp_path}", "--list-catalog").splitlines()
    assert {line.split()[0] for line in listed} == set(EVENTS)


PACKAGED = {
    "packaging/dbus/*.conf": "usr/share/dbus-1/system.d",
    "packaging/dbus/*.xml": "usr/share/dbus-1/interfaces",
    "packaging/desktop/*.desktop": "etc/xdg/autostart",
    "packaging/distbackupd.toml": "etc/distbackupd",
    "packaging/journal/*.catalog": "usr/lib/systemd/catalog",
    "packaging/polkit/*.policy": "usr/share/polkit-1/actions",
    "packaging/polkit/*.rules": "usr/share/polkit-1/rules.d",
    "packaging/sysctl.d/*.conf": "usr/lib/sysctl.d",
    "packaging/sysusers.d/*.conf": "usr/lib/sysusers.d",
    "packaging/tmpfiles.d/*.conf": "usr/lib/tmpfiles.d",
    "systemd/*agent*.service": "usr/lib/systemd/user",
    "systemd/user/*": "usr/lib/systemd/user",
    "systemd/distbackupd.service": "usr/lib/systemd/system",
    "systemd/distbackupd-helper.*": "usr/lib/systemd/system",
    "udev/*.rules": "usr/lib/udev/rules.d",
}
"""Where the package has the files of these folders."""


@pytest.fixture(scope="module")
def package() -> dict[str, str]:
    """The paths in the Debian package, folders with a slash behind, and their modes as ls tells them."""
    lines = run("dpkg-deb", "--contents", debian_package()).splitlines()
    return {line.split(maxsplit=5)[5].removeprefix("./"): line.split()[0] for line in lines}


@pytest.mark.needs("dh")
def test_package_has_every_file_in_its_place(package: dict[str, str]) -> None:
    for pattern, folder in PACKAGED.items():
        for path in ROOT.glob(pattern):
            assert package.get(f"{folder}/{path.name}") == "-rw-r--r--", path
    assert "usr/share/doc/distbackupd/SECURITY.md.gz" in package
    assert "usr/share/doc/distbackupd/RELIABILITY.md.gz" in package
    for page in MANUALS:
        assert f"usr/share/man/man{page.stem[-1]}/{page.stem}.gz" in package
    for program in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]:
        assert package[f"usr/bin/{program}"] == "-rwxr-xr-x"
    for completion in (
        "bash-completion/completions/dsb",
        "zsh/vendor-completions/_dsb",
        "fish/vendor_completions.d/dsb.fish",
    ):
        assert f"usr/share/{completion}" in package
    assert package["etc/distbackupd/keys/"] == "drwx------"


def test_every_file_to_be_installed_has_a_place_in_the_package() -> None:
    ours = {path for pattern in PACKAGED for path in ROOT.glob(pattern)}
    of_the_build = (
        "packaging/build-deb.sh",
        "packaging/build-tools.txt",
        "packaging/bundled.txt",
        "packaging/constraints.txt",
        "packaging/prepare.sh",
    )
    folders_of_the_build = ("packaging/debian/", "packaging/demo/", "packaging/man/")
    homeless = [
        name
        for path in shipped_files()
        if (name := str(path.relative_to(ROOT))).startswith(("packaging/", "systemd/", "udev/"))
        and path not in ours
        and name not in of_the_build
        and not name.startswith(folders_of_the_build)
    ]
    assert homeless == []


@pytest.mark.needs("dh")
def test_package_tells_whose_everything_in_it_is(package: dict[str, str]) -> None:
    bundled = {canonical(name) for path in package if (name := path.partition("usr/share/doc/distbackupd/licences/")[2])}
    assert len(bundled) > 5
    copyrights = (PACKAGING / "debian" / "copyright").read_text()
    told = {canonical(name) for name in re.findall(r"^  (\S+) +Copyright", copyrights, re.MULTILINE)}
    assert bundled == told | {"distbackupd"}
    licence = (ROOT / "LICENSE").read_text().partition("\n\n")[2]
    assert " ".join(licence.split()) in " ".join(copyrights.split())
    metadata = {path.split("/")[3] for path in package if path.endswith(".dist-info/METADATA")}
    assert {canonical(name.split("-")[0]) for name in metadata} == bundled


@pytest.mark.needs("dh", "lintian")
def test_lintian_finds_nothing() -> None:
    assert run("lintian", "--fail-on", "error,warning", "--allow-root", debian_package()) == ""


def test_folders_that_the_unit_needs_are_made_beforehand() -> None:
    units = "".join((ROOT / "systemd" / f"distbackupd{part}.service").read_text() for part in ("", "-helper"))
    needed = [word for line in re.findall(r"^(?:ReadWrite|Bind)Paths=(.*)$", units, re.MULTILINE) for word in line.split()]
    made = re.findall(r"^d (\S+) ", (PACKAGING / "tmpfiles.d" / "distbackupd.conf").read_text(), re.MULTILINE)
    assert [path for path in needed if not path.startswith("-") and path not in made] == []


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a catalogue with two disks and a few files."""
    folder = tmp_path_factory.mktemp("completion")
    photos = folder / "tree" / "photos"
    photos.mkdir(parents=True)
    for name in ("holiday.jpg", "house.jpg", "with blank.jpg"):
        (photos / name).write_text(name)
    place = {"DISTBACKUP_PATH": str(folder / "catalogue")}
    run("dsb", "source", "map", "/tree", folder / "tree", **place)
    for disk in ("shelf-01", "shelf-02"):
        (folder / disk).mkdir()
        run("dsb", "disk", "add", disk, folder / disk, "--folder", "--size", "10M", **place)
    run("dsb", "update", **place)
    return folder / "catalogue"


def complete(catalogue: Path, line: str) -> set[str]:
    """What bash offers behind a Tab at the end of the line."""
    script = """
        eval "$(register-python-argcomplete --shell bash dsb)"
        COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9
        _python_argcomplete dsb
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    offered = run("bash", "-c", script, "bash", line, DISTBACKUP_PATH=str(catalogue))
    return {word.strip() for word in offered.splitlines()} - {""}


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("dsb up", {"update"}),
        ("dsb disk re", {"rename", "refresh"}),
        ("dsb backup --sim", {"--simulate"}),
        ("dsb backup sh", {"shelf-01", "shelf-02"}),
        ("dsb ls --disk shelf-02", {"shelf-02"}),
        ("dsb source set /tr", {"/tree/"}),
        ("dsb ls /tree/photos/ho", {"/tree/photos/holiday.jpg", "/tree/photos/house.jpg"}),
        ("dsb restore shelf-01 /tmp --filter /tree/ph", {"/tree/photos/"}),
        ("dsb backup nothing-begins-so", set()),
    ],
)
def test_completion_offers(catalogue: Path, line: str, offered: set[str]) -> None:
    assert complete(catalogue, line) == offered


def test_completion_without_a_catalogue_offers_nothing_and_is_silent(tmp_path: Path) -> None:
    assert complete(tmp_path / "none", "dsb backup sh") == set()
    assert not (tmp_path / "none").exists()


@pytest.mark.needs("ext4", "udevd")
def test_demo_on_disks_ends_well() -> None:
    assert "rsync" in run(sys.executable, PACKAGING / "demo" / "demo.py")


def test_demo_in_folders_ends_well() -> None:
    assert "diff -r" in run(sys.executable, PACKAGING / "demo" / "demo.py", DEMO_WITHOUT_ROOT="1")


def test_the_page_on_security_is_named_where_people_look() -> None:
    assert "](SECURITY.md)" in README.read_text()
    assert "SECURITY.md" in (ROOT / "packaging" / "man" / "distbackupd.8.scd").read_text()
    page = (ROOT / "SECURITY.md").read_text()
    for action in re.findall(r"org\.distbackupd\.[a-z-]+", page):
        assert f'action id="{action}"' in (ROOT / "packaging" / "polkit" / "org.distbackupd.policy").read_text()


def test_the_page_on_reliability_is_named_where_people_look_and_names_what_there_is() -> None:
    assert "](RELIABILITY.md)" in README.read_text()
    assert "RELIABILITY.md" in (ROOT / "packaging" / "man" / "distbackupd.8.scd").read_text()
    page = (ROOT / "RELIABILITY.md").read_text()
    words = set(re.findall(r"`make ([a-z-]+)", page))
    assert words <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in re.findall(r"`(tests/[^` ]+)`", page):
        assert (ROOT / path).exists(), path
