"""Whatever somebody sends over the bus, the service answers with the errors that it promises, and goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sdbus import SdBusBaseError, sd_bus_open_system

from distbackupd.control.connection import call
from distbackupd.control.interface import BUS_NAME, INTERFACE, OBJECT_PATH, Variant
from distbackupd.control.service import ControlService
from distbackupd.control.wire import disk_named, wish_from, wish_options
from tests.bed.system_bus import system_bus
from tests.fakes.desk import FakeDesk
from tests.fuzz.cases import NASTY_TEXT, cases, is_fit_to_be_told

OPTIONS = st.sampled_from(["limit", "maxcopies", "flush", "update", "ignore-lock"])
TYPED = (
    st.tuples(st.just("t"), st.integers(0, 2**64 - 1))
    | st.tuples(st.just("u"), st.integers(0, 2**32 - 1))
    | st.tuples(st.just("b"), st.booleans())
    | st.tuples(st.just("s"), NASTY_TEXT)
    | st.tuples(st.just("as"), st.lists(NASTY_TEXT, max_size=3))
    | st.tuples(st.just("d"), st.floats())
)


@cases(400)
@given(st.dictionaries(OPTIONS | NASTY_TEXT, TYPED, max_size=5))
def test_options_of_a_backup(options: dict[str, Variant]) -> None:
    try:
        wish = wish_from(options)
    except ValueError as error:
        assert is_fit_to_be_told(error, 400)  # noqa: PT017 - most cases raise nothing
        return
    assert wish.copy_limit is None or 0 <= wish.copy_limit < 2**63
    assert wish_from(wish_options(wish)) == wish


@cases(200)
@given(NASTY_TEXT)
def test_names_of_disks(name: str) -> None:
    try:
        assert disk_named(name) == name
    except ValueError as error:
        assert is_fit_to_be_told(error)  # noqa: PT017 - most cases raise nothing
        assert not name or len(name.encode("utf-8", "replace")) > 255


SENDABLE = NASTY_TEXT.map(lambda text: text.replace("\0", "").encode("utf-8", "replace").decode())
SENT = (
    st.tuples(st.just("t"), st.integers(0, 2**64 - 1))
    | st.tuples(st.just("u"), st.integers(0, 2**32 - 1))
    | st.tuples(st.just("b"), st.booleans())
    | st.tuples(st.just("s"), SENDABLE)
)
CALLS = st.one_of(
    st.tuples(st.just("BackUp"), st.just("sa{sv}"), SENDABLE, st.dictionaries(OPTIONS | SENDABLE, SENT, max_size=5)),
    st.tuples(st.sampled_from(["Eject", "Serves", "Scan", "Details"]), st.just("s"), SENDABLE),
    st.tuples(st.sampled_from(["Cancel", "Events", "Details", "Outcome", "Pause"]), st.just("t"), st.integers(0, 2**64 - 1)),
    st.tuples(st.sampled_from(["BackUp", "Events", "Novel", "Scan"]), st.just("as"), st.lists(SENDABLE, max_size=3)),
)

PROMISED = {
    "org.freedesktop.DBus.Error.InvalidArgs",
    "org.freedesktop.DBus.Error.AccessDenied",
    "org.freedesktop.DBus.Error.LimitsExceeded",
    "org.freedesktop.DBus.Error.UnknownMethod",
}


@pytest.fixture(scope="module")
def desk() -> Iterator[FakeDesk]:
    """What a service on a bus of its own takes wishes to."""
    with system_bus():
        desk = FakeDesk()
        service = ControlService(desk)
        service.start()
        yield desk
        service.stop()


@pytest.mark.needs("root", "dbus-daemon", "busctl")
@cases(60)
@given(st.lists(CALLS, min_size=1, max_size=8))
def test_calls(desk: FakeDesk, calls: list[tuple[Any, ...]]) -> None:
    async def send_all() -> list[object]:
        bus = sd_bus_open_system()
        bus.method_call_timeout_usec = 10_000_000
        try:
            tasks = [call(bus, BUS_NAME, OBJECT_PATH, INTERFACE, member, *rest, seconds=10) for member, *rest in calls]
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            state = await call(bus, BUS_NAME, OBJECT_PATH, INTERFACE, "Serves", "s", str(desk.folder), seconds=10)
            assert state is True, "it goes on"
            return answers
        finally:
            bus.close()

    for answer in asyncio.run(send_all()):
        if isinstance(answer, BaseException):
            assert isinstance(answer, SdBusBaseError), answer
            assert getattr(type(answer), "dbus_error_name", "") in PROMISED, answer
            assert is_fit_to_be_told(answer)
    for asked in desk.asked:
        assert all(len(str(word)) < 300 for word in asked)
    desk.asked.clear()
