from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from distbackupd.hotplug.commands import CommandFailed, Commands, Finished, Word
from distbackupd.hotplug.keys import KeptKeys, KeyTrouble

UUID = "93e5bec5-06e4-4cc8-93f5-8374a5c5ead7"
KEY = bytes(range(256))


class WithoutCredentials(Commands):
    """A machine whose systemd-creds does not work."""

    def attempt(self, words: Sequence[Word], given: bytes = b"") -> Finished:
        raise CommandFailed("systemd-creds is not installed")


def modes(folder: Path) -> dict[str, str]:
    return {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in (folder, *folder.iterdir())}


@pytest.mark.needs("root", "systemd-creds")
def test_keep_encrypts_and_read_gives_it_back(tmp_path: Path) -> None:
    folder = tmp_path / "etc" / "keys"
    keys = KeptKeys(Commands(), folder)
    assert keys.keep(UUID, KEY) == f"in {folder}/{UUID}.cred, encrypted with this machine's own secret"
    assert modes(folder) == {"keys": "0o700", f"{UUID}.cred": "0o600"}
    assert KEY not in (folder / f"{UUID}.cred").read_bytes()
    assert keys.read(UUID) == KEY
    keys.keep(UUID, b"another")
    assert keys.read(UUID) == b"another"


@pytest.mark.needs("root", "systemd-creds")
def test_credential_of_another_disk_is_not_taken(tmp_path: Path) -> None:
    keys = KeptKeys(Commands(), tmp_path)
    keys.keep(UUID, KEY)
    (tmp_path / f"{UUID}.cred").rename(tmp_path / "other.cred")
    with pytest.raises(KeyTrouble, match=r"other\.cred cannot be decrypted: "):
        keys.read("other")


def test_keep_without_credentials_keeps_a_file_of_roots(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    keys = KeptKeys(WithoutCredentials(), folder)
    place = f"in {folder}/{UUID}.key, where root alone reads it (not encrypted: systemd-creds is not installed)"
    assert keys.keep(UUID, KEY) == place
    assert modes(folder) == {"keys": "0o700", f"{UUID}.key": "0o600"}
    assert keys.read(UUID) == KEY


@pytest.mark.needs("root", "systemd-creds")
def test_keep_leaves_one_key_only(tmp_path: Path) -> None:
    for commands, key in ((WithoutCredentials(), b"one"), (Commands(), b"two"), (WithoutCredentials(), b"three")):
        KeptKeys(commands, tmp_path).keep(UUID, key)
        assert len(list(tmp_path.iterdir())) == 1
        assert KeptKeys(Commands(), tmp_path).read(UUID) == key


def test_read_none_kept_says_where(tmp_path: Path) -> None:
    with pytest.raises(KeyTrouble, match=f"no key to it is kept in {tmp_path}"):
        KeptKeys(Commands(), tmp_path).read(UUID)


def test_keep_where_nothing_can_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KeyTrouble, match=r"/file/keys cannot be written: Not a directory"):
        KeptKeys(WithoutCredentials(), tmp_path / "file" / "keys").keep(UUID, KEY)


@pytest.mark.parametrize("uuid", ["../cron.d/x", "/etc/x", "a/b", "", ".", "..", "-a", "a\n", "x" * 65, "a b", "%s"])
def test_a_uuid_that_is_a_path_names_no_file(tmp_path: Path, uuid: str) -> None:
    """Whoever made the container has written it."""
    (tmp_path / "keys").mkdir()
    keys = KeptKeys(WithoutCredentials(), tmp_path / "keys")
    with pytest.raises(KeyTrouble, match="is no UUID, so no key can be kept under it"):
        keys.keep(uuid, KEY)
    with pytest.raises(KeyTrouble, match="is no UUID"):
        keys.read(uuid)
    assert [path.name for path in tmp_path.rglob("*")] == ["keys"]
