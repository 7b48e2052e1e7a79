from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distbackupd import __version__
from distbackupd.cli import main as cli
from distbackupd.cli.main import COMMANDS, Command, main
from distbackupd.cli.session import CommandSession
from distbackupd.model.errors import EXIT_CODES, CatalogueTrouble, DiskFull, DistbackupError, EngineBusy, UsageError

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """``dsb`` on a catalogue of the test's own: status, what it printed, what it complained."""
    monkeypatch.delenv("DISTBACKUP_PATH", raising=False)
    settings = tmp_path / "settings.toml"
    settings.touch()

    def run(*words: object) -> tuple[int, str, str]:
        try:
            status = main(["-d", str(tmp_path / "catalogue"), "--config", str(settings), *map(str, words)])
        except SystemExit as left:
            status = int(left.code or 0)
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def ok(run: Run, *words: object) -> str:
    status, out, err = run(*words)
    assert (status, err) == (0, "")
    return out


def test_main_version_is_told(run: Run) -> None:
    assert run("--version") == (0, f"dsb {__version__}\n", "")


def test_main_without_command_prints_the_help(run: Run) -> None:
    status, out, err = run()
    assert (status, err) == (0, "")
    assert out.startswith("usage: dsb")


def test_main_help_tells_every_exit_status(run: Run) -> None:
    status, out, _ = run("--help")
    assert status == 0
    told = " ".join(out.split())
    for code, meaning in EXIT_CODES.items():
        assert f"{code} {meaning}" in told


@pytest.mark.parametrize("command", COMMANDS)
def test_main_every_command_has_a_help(run: Run, command: str) -> None:
    status, out, err = run(*command.split(), "--help")
    assert (status, err) == (0, "")
    assert out.startswith(f"usage: dsb {command}")


@pytest.mark.parametrize(
    "words",
    [
        ("frobnicate",),
        ("disk", "frobnicate"),
        ("--frobnicate",),
        ("update", "--frobnicate"),
        ("backup",),
        ("disk", "add", "one"),
        ("backup", "one", "--maxcopies", "many"),
        ("source", "set", "-p", "high", "/"),
    ],
)
def test_main_words_that_are_none_of_ours_are_a_usage_error(run: Run, words: tuple[str, ...]) -> None:
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert "error: " in err.splitlines()[-1]


@pytest.mark.parametrize(("alias", "command"), [(("source", "del"), "source unmap"), (("disk", "mv"), "disk rename")])
def test_main_aliases_are_the_commands_they_stand_for(
    run: Run, monkeypatch: pytest.MonkeyPatch, alias: tuple[str, ...], command: str
) -> None:
    called: list[str] = []
    for name, known in COMMANDS.items():
        stand_in = Command(lambda _session, name=name: called.append(name) or 0, known.writes)
        monkeypatch.setitem(cli.COMMANDS, name, stand_in)
    words = ["/x"] if command == "source unmap" else ["one", "two"]
    run(*alias, *words)
    assert called == [command]


@pytest.mark.parametrize("option", ["-n", "-v", "--json"])
def test_main_common_options_may_stand_before_and_behind_the_command(
    run: Run, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    seen: list[Any] = []
    stand_in = Command(lambda session: seen.append(vars(session.arguments)) or 0, writes=True)
    monkeypatch.setitem(cli.COMMANDS, "update", stand_in)
    ok(run, "source", "map", "/", "/tmp")
    ok(run, option, "update")
    ok(run, "update", option)
    ok(run, "update")
    name = {"-n": "noaction", "-v": "verbose", "--json": "json"}[option]
    assert [arguments[name] for arguments in seen] == [True, True, False]


def raising(error: BaseException) -> Command:
    def command(_session: CommandSession) -> int:
        raise error

    return Command(command, writes=True)


@pytest.mark.parametrize(
    ("error", "status"),
    [(UsageError("that"), 2), (DiskFull("that"), 4), (CatalogueTrouble("that"), 5), (EngineBusy("that"), 6)],
)
def test_main_error_is_one_sentence_and_its_status(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: DistbackupError, status: int
) -> None:
    monkeypatch.setitem(cli.COMMANDS, "update", raising(error))
    assert run("update") == (status, "", "dsb: that\n")


def test_main_error_that_was_told_is_not_told_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    error = DiskFull("that")
    error.told = True
    monkeypatch.setitem(cli.COMMANDS, "update", raising(error))
    assert run("update") == (4, "", "")


def test_main_second_interrupt_ends_at_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.COMMANDS, "update", raising(KeyboardInterrupt()))
    assert run("update") == (130, "", "dsb: interrupted; what was recorded stays\n")


NO_SIZE = "is no size; write it like 7.4T, 500G or 7,927,384,932,352"


@pytest.mark.parametrize(
    ("size", "told"),
    [
        ("-5", f"'-5' {NO_SIZE}"),
        ("12Q", f"'12Q' {NO_SIZE}"),
        ("", f"'' {NO_SIZE}"),
        ("1.5.5", f"'1.5.5' {NO_SIZE}"),
        ("5\t6", f"'5\\t6' {NO_SIZE}"),
        ("999999999E", "'999999999E' is more than any disk holds"),
        ("0", "0 bytes is too small for a backup disk; give it --size 2M or more"),
        ("1000", "1.00 kB is too small for a backup disk; give it --size 2M or more"),
    ],
)
def test_sizes_that_cannot_be_meant(run: Run, tmp_path: Path, size: str, told: str) -> None:
    (tmp_path / "disk").mkdir()
    assert run("disk", "add", "one", tmp_path / "disk", "--folder", f"--size={size}") == (2, "", f"dsb: {told}\n")
    assert list((tmp_path / "disk").iterdir()) == []
    ok(run, "disk", "add", "one", tmp_path / "disk", "--folder", "--size", "5M")
    assert run("disk", "set", "one", f"--size={size}") == (2, "", f"dsb: {told}\n")
    if NO_SIZE in told:
        assert run("backup", "one", f"--limit={size}") == (2, "", f"dsb: {told}\n")
    assert json.loads(ok(run, "disk", "list", "--json"))[0]["size"] == 5_000_000


@pytest.mark.parametrize("size", ["7.4T", "500G", "7,927,384,932,352", "10 GB", "2GiB", "512Mi"])
def test_sizes_as_people_write_them(run: Run, tmp_path: Path, size: str) -> None:
    ok(run, "disk", "add", "one", tmp_path / "disk", "--folder", "--size", size)


@pytest.mark.parametrize("name", ["a/b", "", "-x", "two\nlines", "\x1b[31m", "x" * 201, "/", "\udcff"])
def test_names_that_no_disk_can_have(run: Run, tmp_path: Path, name: str) -> None:
    status, out, err = run("disk", "add", "--folder", "--", name, tmp_path / "disk")
    assert (status, out) == (2, "")
    assert "is no name for a disk: use letters, digits, '-', '_' and '.', as on its label" in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "disk").exists()


def test_a_name_like_a_uuid_or_one_that_is_taken(run: Run, tmp_path: Path) -> None:
    uuid = "11111111-2222-4333-8444-555555555555"
    assert "looks like a UUID" in run("disk", "add", uuid, tmp_path / "disk", "--folder")[2]
    ok(run, "disk", "add", "one", tmp_path / "disk", "--folder")
    assert run("disk", "add", "one", tmp_path / "other", "--folder")[2] == (
        "dsb: there is a disk 'one' already; choose another name\n"
    )
    assert run("disk", "rename", "one", "a/b")[0] == 2
    assert run("disk", "rename", "one", "one")[0] == 2


@pytest.mark.parametrize(
    "words", [("backup",), ("verify",), ("disk", "drop"), ("disk", "del"), ("disk", "set"), ("ls", "-d")]
)
def test_an_unknown_disk_is_told_with_those_that_are_known(run: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    for name in ("photos-01", "music-01"):
        ok(run, "disk", "add", name, tmp_path / name, "--folder")
    status, out, err = run(*words, "photos-1")
    assert (status, out) == (2, "")
    assert err == "dsb: there is no disk 'photos-1'; there is music-01 and photos-01\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-i", "/["], "'/[' is no regular expression: unterminated character set at position 0"),
        (["-i", "!"], "'!' is no pattern: there is nothing to match"),
        (["-j", "{"], "'{' is no JSON: Expecting property name"),
        (["-j", "[1]"], 'settings in JSON are an object: {"priority": 2}'),
        (["-j", '{"colour": 1}'], "there is no setting 'colour' for a folder"),
        (["-j", '{"priority": "x"}'], "priority is a whole number from 0 up, not 'x'"),
        (["-j", '{"rules": "x"}'], "rules is a list of patterns, not 'x'"),
        (["-p", "-4"], "priority is a whole number from 0 up, not -4"),
        (["-m", "-4"], "maxcopies is a whole number from 0 up, not -4"),
        (["-m", "9" * 30], "maxcopies is 2,147,483,647 at the most, not 999,"),
    ],
)
def test_settings_that_cannot_be_meant_change_nothing(run: Run, words: list[str], told: str) -> None:
    ok(run, "source", "map", "/photos", "/tmp")
    ok(run, "source", "set", "/photos", "-p", "2")
    status, out, err = run("source", "set", "/photos", "/videos", *words)
    assert (status, out) == (2, "")
    assert err.startswith(f"dsb: {told}")
    assert len(err.splitlines()) == 1
    assert json.loads(ok(run, "source", "--json"))["settings"] == {"/photos": {"priority": 2}}


def test_settings_are_printed_as_text_and_as_json(run: Run) -> None:
    ok(run, "source", "map", "/photos", "/tmp")
    out = ok(run, "source", "set", "/photos", "-i", "*.tmp", "-i", "!/keep", "-p", "3", "--hide")
    assert out.splitlines()[0] == "/photos:"
    assert '   rules: null -> ["*.tmp", "!/keep"]' in out.splitlines()
    expected = {"hide": True, "priority": 3, "rules": ["*.tmp", "!/keep"]}
    assert json.loads(ok(run, "source", "set", "/photos", "--json")) == {"/photos": expected}
    ok(run, "source", "set", "/photos", "-a", "-i", "*.bak", "--unhide")
    assert json.loads(ok(run, "source", "set", "/photos", "--json"))["/photos"]["rules"] == ["*.tmp", "!/keep", "*.bak"]
    ok(run, "source", "lock", "/photos")
    assert ok(run, "source", "lock") == "/photos\n"
    assert json.loads(ok(run, "source", "lock", "--json")) == ["/photos"]
    ok(run, "source", "reset", "/photos")
    assert json.loads(ok(run, "source", "--json"))["settings"] == {}


@pytest.mark.parametrize("virtual", ["/../x", "/a/./b", "..", "/a\x01/.."])
def test_virtual_paths_that_are_none(run: Run, virtual: str) -> None:
    status, _, err = run("source", "map", virtual, "/tmp")
    assert status == 2
    assert "is no virtual path: it must not contain '.' or '..'" in err
    assert len(err.splitlines()) == 1


def test_map_wants_a_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sentence = "so it cannot be a source; nothing was mapped"
    assert run("source", "map", "/x", tmp_path / "file") == (2, "", f"dsb: {tmp_path}/file is no folder, {sentence}\n")
    assert run("source", "map", "/x", tmp_path / "none") == (2, "", f"dsb: {tmp_path}/none is not there, {sentence}\n")
    assert run("source", "unmap", "/x") == (2, "", "dsb: nothing is mapped to /x; 'dsb source' lists what is\n")


def test_numbers_of_copies_that_cannot_be_meant(run: Run, tmp_path: Path) -> None:
    ok(run, "disk", "add", "one", tmp_path / "disk", "--folder")
    for number in ("0", "-1"):
        assert run("backup", "one", f"--maxcopies={number}") == (
            2,
            "",
            f"dsb: --maxcopies {number} is no number of copies; 1 or more is meant\n",
        )


def test_verify_start_and_list_of_errors(run: Run, tmp_path: Path) -> None:
    ok(run, "disk", "add", "one", tmp_path / "disk", "--folder")
    for start in ("xyz", "0" * 65):
        status, out, err = run("verify", "one", "--start", start)
        assert (status, out) == (2, "")
        assert "does not begin a hash; hexadecimal digits are meant" in err
    assert run("verify", "one", "--errors", "/nowhere/list") == (
        2,
        "",
        "dsb: the list of bad files cannot be written to '/nowhere/list': No such file or directory\n",
    )
    assert "'@' stands before the number of a file descriptor" in run("verify", "one", "--errors", "@x")[2]
    ok(run, "verify", "one", "--start", "0F", "--errors", tmp_path / "list")


def test_a_path_that_is_no_disk(run: Run, tmp_path: Path) -> None:
    ok(run, "source", "map", "/", "/tmp")
    assert run("backup", tmp_path) == (
        2,
        "",
        f"dsb: {tmp_path} is no backup disk: there is no distbackup-disk.json\n",
    )
    status, _, err = run("backup", tmp_path / "none")
    assert status == 2
    assert err == f"dsb: {tmp_path}/none cannot be reached: No such file or directory\n"


def test_a_file_where_a_disk_should_be(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    status, _, err = run("disk", "add", "one", tmp_path / "file", "--folder")
    assert status in (2, 4)
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err
    assert "catalogue" not in err
    assert json.loads(ok(run, "disk", "list", "--json")) == []


def test_settings_file_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.toml"
    for text, told in (
        ("settle = 5", "must be a text in quotes"),
        ("x = ", "is not written as TOML"),
        ("a = 1", "no setting 'a'"),
    ):
        bad.write_text(text)
        assert main(["-d", str(tmp_path / "c"), "--config", str(bad), "update"]) == 2
        err = capsys.readouterr().err
        assert told in err
        assert len(err.splitlines()) == 1
    assert main(["-d", str(tmp_path / "c"), "--config", str(tmp_path / "none"), "update"]) == 2
    assert "there is no such file" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()
