"""Keys to LUKS containers, kept where only root reads: as credentials of systemd, or else as plain files."""

from __future__ import annotations

import re
from pathlib import Path

from distbackupd.hotplug.commands import CommandFailed, Commands
from distbackupd.hotplug.root_files import write_file
from distbackupd.model.text import printable

KEY_FOLDER = Path("/etc/distbackupd/keys")
"""Where keys are kept, named by the UUID of the container."""

_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}")


class KeyTrouble(Exception):
    """A key cannot be kept or used; ``str(error)`` is the reason, without a full stop."""


class KeptKeys:
    """The keys in ``folder``, which belongs to root alone.

    ``UUID.cred`` is encrypted by systemd-creds with this machine's own secret (and its TPM, if it has one): a copy of
    the file is worth nothing elsewhere. ``UUID.key`` is the key as it is, where systemd-creds does not work.
    """

    def __init__(self, commands: Commands, folder: Path = KEY_FOLDER) -> None:
        self._commands = commands
        self._folder = folder

    def read(self, uuid: str) -> bytes:
        """The key to the container with this UUID. Raises KeyTrouble: none is kept, or it cannot be decrypted."""
        credential, plain = self._files(uuid)
        try:
            if credential.exists():
                return self._commands.run(["systemd-creds", "decrypt", f"--name={uuid}", str(credential), "-"])
            return plain.read_bytes()
        except FileNotFoundError:
            raise KeyTrouble(f"no key to it is kept in {printable(str(self._folder))}") from None
        except OSError as error:
            raise KeyTrouble(f"{printable(str(error.filename))} cannot be read: {error.strerror}") from error
        except CommandFailed as error:
            raise KeyTrouble(f"{printable(str(credential))} cannot be decrypted: {printable(str(error))}") from error

    def keep(self, uuid: str, key: bytes) -> str:
        """Keep the key, durably, instead of one that was kept before; where and how, as a sentence's end.

        Raises KeyTrouble if it cannot be written; what was kept before still is, then.
        """
        credential, plain = self._files(uuid)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                # Bound to no measured state of the TPM: an update of the firmware must not lock the backup out.
                words = ["systemd-creds", "encrypt", f"--name={uuid}", "--tpm2-pcrs=", "-", "-"]
                write_file(credential, self._commands.run(words, given=key))
            except CommandFailed as error:
                write_file(plain, key)
                credential.unlink(missing_ok=True)
                return f"in {printable(str(plain))}, where root alone reads it (not encrypted: {printable(str(error))})"
            plain.unlink(missing_ok=True)
        except OSError as error:
            raise KeyTrouble(f"{printable(str(error.filename))} cannot be written: {error.strerror}") from error
        return f"in {printable(str(credential))}, encrypted with this machine's own secret"

    def _files(self, uuid: str) -> tuple[Path, Path]:
        # Whoever made the container has written its UUID, which is any text there.
        if not _NAME.fullmatch(uuid):
            raise KeyTrouble(f"'{printable(uuid)}' is no UUID, so no key can be kept under it")
        return self._folder / f"{uuid}.cred", self._folder / f"{uuid}.key"
