from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.crash.images import ALL, LATE, NOTHING, POLICIES, RANDOM, TORN, Patch, load, store, survivors
from tests.crash.recording import FLUSH, WRITE, Record

SIZE = 1 << 16
records = st.lists(
    st.builds(
        lambda is_flush, device, place, length, fill: (
            Record(FLUSH, device, 0, b"") if is_flush else Record(WRITE, device, place * 512, bytes([fill]) * length * 512)
        ),
        st.booleans(),
        st.integers(0, 1),
        st.integers(0, 64),
        st.integers(1, 16),
        st.integers(1, 255),
    ),
    max_size=12,
)


def content(patches: list[Patch]) -> bytes:
    device = bytearray(SIZE)
    for patch in patches:
        device[patch.offset : patch.offset + len(patch.data)] = patch.data
    return bytes(device)


def told(some: list[Record], device: int) -> list[Patch]:
    return [Patch(record.offset, record.data) for record in some if record.kind == WRITE and record.device == device]


@given(records, st.sampled_from(POLICIES), st.integers(0, 5))
def test_survivors_what_was_flushed_is_there_and_nothing_that_was_not_written(
    log: list[Record], policy: str, seed: int
) -> None:
    for device in (0, 1):
        last = max((i for i, record in enumerate(log) if record.kind == FLUSH and record.device == device), default=0)
        safe, loose = told(log[:last], device), told(log[last:], device)
        left = survivors(log, len(log), device, policy, str(seed))
        assert left[: len(safe)] == safe
        whole = content(left)
        allowed = [content(safe), *(content([*safe, patch]) for patch in loose)]
        assert all(any(whole[i] == one[i] for one in allowed) for i in range(0, SIZE, 512))
        assert left == survivors(log, len(log), device, policy, str(seed))


@given(records)
def test_survivors_nothing_and_all(log: list[Record]) -> None:
    for moment in range(len(log) + 1):
        assert content(survivors(log, moment, 0, ALL, "")) == content(told(log[:moment], 0))
        last = max((i for i in range(moment) if log[i].kind == FLUSH and log[i].device == 0), default=0)
        assert content(survivors(log, moment, 0, NOTHING, "")) == content(told(log[:last], 0))


def test_survivors_of_one_write_by_policy() -> None:
    log = [Record(WRITE, 0, 0, b"a" * 8192)]
    lengths = {
        policy: {sum(len(patch.data) for patch in survivors(log, 1, 0, policy, str(seed))) for seed in range(99)}
        for policy in (RANDOM, TORN, LATE)
    }
    assert lengths == {RANDOM: {0, 4096, 8192}, TORN: set(range(0, 8192, 512)), LATE: {0, 8192}}


def test_store_leaves_nothing_of_what_lay_there(tmp_path) -> None:
    path = str(tmp_path / "image")
    store(path, SIZE, [Patch(0, b"x" * SIZE)])
    store(path, SIZE, [Patch(4096, b"old!" * 1024)], [Patch(4098, b"new")])
    with open(path, "rb") as file:
        assert file.read() == bytes(4096) + b"olnew" + b"ld!"[:0] + (b"old!" * 1024)[5:] + bytes(SIZE - 8192)
    assert content(load(path)) == bytes(4096) + b"olnew" + (b"old!" * 1024)[5:] + bytes(SIZE - 8192)
