from __future__ import annotations

import os
from pathlib import Path

import pytest

from distbackupd.hotplug.commands import CommandFailed, Commands, condense, is_installed
from distbackupd.hotplug.filesystems import unmount


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            b"mount: /run/distbackup-mnt/a: wrong fs type, bad superblock on /dev/loop0, or other error.\n"  # noqa: ISC004
            b"       dmesg(1) may have more information after failed mount system call.\n",
            "wrong fs type, bad superblock on /dev/loop0, or other error",
        ),
        (b"mount: /mnt: unknown filesystem type 'crypto_LUKS'.\n", "unknown filesystem type 'crypto_LUKS'"),
        (b"umount: /mnt: target is busy.\n", "target is busy"),
        (b"mount: bad usage\n", "bad usage"),
        (b"Error opening '/dev/sdb1': Input/output error\n", "Error opening '/dev/sdb1': Input/output error"),
        (b"", ""),
        (b"\n dmesg(1) only\n", "dmesg(1) only"),
        (b"mount: /mnt/\xff: odd\n", "odd"),
    ],
)
def test_condense_leaves_the_reason(said: bytes, sentence: str) -> None:
    assert condense(said) == sentence


def test_unmount_what_is_not_mounted_fails_in_one_line(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = str(tmp_path_factory.mktemp("folder")).encode()
    with pytest.raises(CommandFailed) as failed:
        unmount(Commands(), folder)
    assert "\n" not in str(failed.value)


def test_run_passes_input_and_output_and_tells_the_status() -> None:
    assert Commands().run(["cat"], given=b"\x00\xff") == b"\x00\xff"
    with pytest.raises(CommandFailed, match=r"^sh ended with status 3$") as failed:
        Commands().run(["sh", "-c", "exit 3"])
    assert failed.value.status == 3
    done = Commands().attempt(["sh", "-c", "echo out; echo err >&2; exit 4"])
    assert done == (4, b"out\n", b"err\n")


def test_run_speaks_english_and_finds_what_only_root_has_in_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert Commands().run(["sh", "-c", "echo $LC_ALL; command -v losetup"]).splitlines()[0] == b"C"
    assert is_installed("losetup")


@pytest.mark.parametrize("delegated", [False, True])
def test_run_what_is_not_installed_says_so(delegated: bool) -> None:
    with pytest.raises(CommandFailed, match=r"^no-such-command is not installed$") as failed:
        Commands(delegated).run(["no-such-command"])
    assert failed.value.status == -1


@pytest.mark.needs("systemd-run")
def test_run_delegated_where_no_systemd_answers_is_no_failure_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere")
    with pytest.raises(CommandFailed, match=r"^systemd cannot be asked to run true: Failed to connect to bus: ") as failed:
        Commands(delegated=True).attempt(["true"])
    assert failed.value.status == -1


def test_run_module_finds_this_package(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w"):
        told = Commands().run_module("distbackupd.hotplug.users", str(tmp_path)).decode()
    assert f"PID {os.getpid()} (" in told
