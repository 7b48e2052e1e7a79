from __future__ import annotations

import socket
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distbackupd.hotplug.errands import Answer, Errand, NoErrand, answer_of_trouble, ask, read_errand, write_answer
from distbackupd.model.disks import Mount
from distbackupd.model.errors import DiskGone, DiskNotOurs, DiskTrouble

MOUNT = Mount(b"/run/mnt/\xff \n", "/dev/sdb1", "ext4", "1111-2222", ours=True, remark="it was mended")


def answered(answer: Answer) -> Answer | None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there:
        there.send(write_answer(answer))
        return ask(here, Errand("leftovers"))


def test_answers_arrive_as_they_were_sent() -> None:
    for answer in (Answer(), Answer(mount=MOUNT, device="/dev/sdb1"), Answer(done=True), Answer(remarks=["a", "ü"])):
        assert answered(answer) == answer


def test_troubles_arrive_as_what_they_were() -> None:
    with pytest.raises(DiskGone, match="was pulled out"):
        answered(answer_of_trouble(DiskGone("shelf-01 was pulled out")))
    with pytest.raises(DiskTrouble) as trouble:
        answered(answer_of_trouble(DiskNotOurs("not ours \udcff")))
    assert type(trouble.value) is DiskTrouble


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"{}",
        b"[" * 5000,
        b'{"verb": "run", "uuid": "1111"}',
        b'{"verb": "mount", "uuid": "../1111"}',
        b'{"verb": "mount", "uuid": "1111\\n"}',
        b'{"verb": "mount", "uuid": "1111", "device": "/dev/sda"}',
        b'{"verb": "mount", "uuid": "1111", "options": "suid"}',
        b'{"verb": "mount", "uuid": 1111}',
        b'{"verb": "mount", "uuid": "1111", "read_only": 0}',
        b'{"verb": "mount", "uuid": "%s"}' % (b"1" * 65),
    ],
)
def test_read_errand_refuses_what_is_none(message: bytes) -> None:
    with pytest.raises(NoErrand):
        read_errand(message)


@given(st.binary(max_size=200))
def test_read_errand_survives_anything(message: bytes) -> None:
    with suppress(NoErrand):
        read_errand(message)
