"""LUKS containers: unlocked with the key that is kept for them, and locked again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from distbackupd.hotplug import sysfs
from distbackupd.hotplug.afterwards import afterwards
from distbackupd.hotplug.commands import CommandFailed, Commands
from distbackupd.hotplug.devices import OUR_MAPPINGS, properties_of, volume_from_properties
from distbackupd.hotplug.held import held
from distbackupd.hotplug.keys import KeptKeys, KeyTrouble
from distbackupd.model.disks import Volume
from distbackupd.model.errors import DiskGone, DiskTrouble, UsageError
from distbackupd.model.text import printable

_log = logging.getLogger(__name__)

_OPEN = ("cryptsetup", "open", "--type=luks", "--key-file=-")
"""The key goes in through a pipe: it shows in no list of processes."""

_WRONG_KEY = 2
"""Exit status of cryptsetup."""


class Containers:
    """LUKS containers and the keys that are kept to them."""

    def __init__(self, commands: Commands, keys: KeptKeys) -> None:
        self._commands = commands
        self._keys = keys
        self._in_use: set[str] = set()

    @contextmanager
    def unlocked(self, volume: Volume, name: str, read_only: bool) -> Iterator[Volume]:
        """The file system in the volume, which is the volume itself unless it is encrypted.

        A container that somebody else unlocked is used so and stays unlocked. What was unlocked here, or by a killed
        daemon before, is locked on exit; if the body raised, its error wins, and trouble on exit is only logged.

        Raises:
            DiskGone: it was pulled out.
            DiskTrouble: it cannot be unlocked, or holds no file system; or, on exit, cannot be locked.
        """
        if not volume.encrypted:
            yield volume
            return
        mapping = sysfs.mapping_on(volume.device)
        label, device = mapping or self._unlock(volume, name, read_only)
        if not label.startswith(OUR_MAPPINGS) or label in self._in_use:
            yield self._inside(device, name)
            return
        self._in_use.add(label)
        try:
            with afterwards(lambda: self._close(label, volume.device, name)):
                yield self._inside(device, name)
        finally:
            self._in_use.discard(label)

    def lock(self, container: str, name: str) -> None:
        """Lock the container on this device, whoever unlocked it. Raises DiskTrouble: what is in it is in use."""
        if mapping := sysfs.mapping_on(container):
            self._close(mapping[0], container, name)

    def lock_leftovers(self) -> list[str]:
        """Lock what a killed daemon left unlocked; a sentence for each that is still in use."""
        sentences = []
        for label, container in sysfs.crypt_mappings():
            if label.startswith(OUR_MAPPINGS) and label not in self._in_use:
                try:
                    self._close(label, container, label)
                except DiskTrouble as error:
                    sentences.append(str(error))
        return sentences

    def keep_key(self, container: Volume, key: bytes) -> str:
        """Keep the key if it opens the container; see the port."""
        without_end = key.removesuffix(b"\n").removesuffix(b"\r")
        for candidate in filter(None, dict.fromkeys((key, without_end))):
            try:
                self._commands.run([*_OPEN, "--test-passphrase", "--", container.device], given=candidate)
                return self._keys.keep(container.filesystem_uuid, candidate)
            except CommandFailed as error:
                if error.status != _WRONG_KEY:
                    raise UsageError(
                        f"the key cannot be tested on {container.device}: {printable(str(error))}; it was not kept"
                    ) from error
            except KeyTrouble as error:
                raise UsageError(f"the key opens {container.device}, but was not kept: {error}") from error
        raise UsageError(f"the key does not open {container.device}, so it was not kept; give one that opens the disk")

    def _unlock(self, volume: Volume, name: str, read_only: bool) -> tuple[str, str]:
        told = f"{printable(name)} ({volume.device})"
        label = OUR_MAPPINGS + volume.filesystem_uuid
        if _is_taken(label):  # of the same disk before it was pulled out, and still in use
            label += "-" + volume.device.rsplit("/", 1)[-1]
        options = ["--readonly"] if read_only or sysfs.is_write_protected(volume.device) else []
        try:
            key = self._keys.read(volume.filesystem_uuid)
            with held(volume, name):
                self._commands.run([*_OPEN, *options, "--", volume.device, label], given=key)
        except KeyTrouble as error:
            raise DiskTrouble(
                f"{told} is encrypted and {error}; nothing was touched: give its key with --luks-key"
            ) from error
        except CommandFailed as error:
            if sysfs.is_gone(sysfs.number_of(volume.device)):
                raise DiskGone(f"{printable(name)} was pulled out before it was unlocked; plug it in again") from error
            if error.status == _WRONG_KEY:
                raise DiskTrouble(
                    f"{told} is not opened by the key that is kept for it; nothing was touched: "
                    "give the key that opens it with --luks-key"
                ) from error
            raise DiskTrouble(f"{told} cannot be unlocked: {printable(str(error))}; nothing was touched") from error
        mapping = sysfs.mapping_on(volume.device)
        if mapping is None:
            raise DiskTrouble(f"{told} was locked by somebody as soon as it was unlocked; plug it in again")
        return mapping

    def _close(self, label: str, container: str, name: str) -> None:
        # One that was pulled out cannot be waited for: its mapping goes when the last file on it is closed.
        gone = sysfs.is_gone(sysfs.number_of(container))
        try:
            self._commands.run(["cryptsetup", "close", *(["--deferred"] if gone else []), "--", label])
        except CommandFailed as error:
            if gone or not _is_taken(label):
                _log.info("%s was not there to be locked: %s", printable(name), printable(str(error)))
                return
            raise DiskTrouble(
                f"{printable(name)} is still unlocked ({printable(str(error))}); what was recorded is safe, "
                f"but lock it before you unplug it: cryptsetup close {label}"
            ) from error

    def _inside(self, device: str, name: str) -> Volume:
        volume = volume_from_properties(device, properties_of(device, self._commands), inside=True)
        if volume is None or volume.encrypted:
            raise DiskTrouble(f"{printable(name)} is unlocked, but holds no file system; nothing on it was touched")
        return volume


def _is_taken(label: str) -> bool:
    return any(label == other for other, _ in sysfs.crypt_mappings())
