"""What the daemon and its helper say to each other: one JSON object a message, over a socket that keeps messages apart.

An errand names a disk by a UUID that the helper has on a list of its own, and nothing else. Of what is said here the helper
believes nothing; the daemon believes the helper, which is root.
"""

from __future__ import annotations

import socket
from typing import Annotated, Literal

import msgspec

from distbackupd.model.disks import Mount
from distbackupd.model.errors import DiskClone, DiskGone, DiskReadOnly, DiskTrouble

SOCKET_PATH = "/run/distbackupd-helper/socket"
"""Where ``systemd/distbackupd-helper.socket`` listens."""

LONGEST_ERRAND = 4096
LONGEST_ANSWER = 1 << 17
"""Bytes."""

Verb = Literal["mount", "leave", "release", "power-off", "leftovers"]
"""``mount`` unlocks, checks and mounts; ``leave`` undoes that; ``release`` unmounts and locks whoever mounted it."""

_TROUBLES = {kind.__name__: kind for kind in (DiskTrouble, DiskGone, DiskReadOnly, DiskClone)}


class NoErrand(Exception):
    """What arrived is no errand; ``str(error)`` says why."""


class Errand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``uuid`` is that of the disk's file system or of its LUKS container; empty for what concerns no single disk."""

    verb: Verb
    uuid: Annotated[str, msgspec.Meta(pattern=r"\A[0-9A-Za-z-]{0,64}\Z")] = ""
    read_only: bool = False


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of an errand: ``sentence`` if it failed, and then ``trouble`` is the kind of error."""

    trouble: str = ""
    sentence: str = ""
    mount: Mount | None = None
    """Of ``mount``."""
    device: str = ""
    """Of ``mount``: the node of the volume that was found by its UUID."""
    done: bool = False
    """Of ``power-off``: whether it is off."""
    remarks: list[str] = []
    """Of ``leftovers``: a sentence for each that is still in use."""


def read_errand(message: bytes) -> Errand:
    """Raises NoErrand."""
    try:
        return msgspec.json.decode(message, type=Errand)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NoErrand(str(error)) from error


def answer_of_trouble(trouble: DiskTrouble) -> Answer:
    """The error as an answer; the nearest kind that the other side knows."""
    kind = next(base.__name__ for base in type(trouble).__mro__ if base.__name__ in _TROUBLES)
    return Answer(trouble=kind, sentence=str(trouble).encode("utf-8", "replace").decode())


def write_answer(answer: Answer) -> bytes:
    """The message."""
    return msgspec.json.encode(answer)


def ask(connection: socket.socket, errand: Errand) -> Answer | None:
    """What the other side answers; None: it hung up. Raises DiskTrouble as the helper met it, OSError."""
    connection.sendall(msgspec.json.encode(errand))
    message = connection.recv(LONGEST_ANSWER)
    if not message:
        return None
    answer = msgspec.json.decode(message, type=Answer)
    if answer.trouble:
        raise _TROUBLES.get(answer.trouble, DiskTrouble)(answer.sentence)
    return answer
