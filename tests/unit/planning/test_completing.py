from __future__ import annotations

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distbackupd.planning.completing import Looks, Step, may_others_write, step_for

NAMES = (b"user.comment", b"security.capability", b"system.posix_acl_access", b"trusted.x")
xattrs = st.frozensets(st.tuples(st.sampled_from(NAMES), st.sampled_from((b"1", b"2"))), max_size=3)
looks = st.builds(
    Looks,
    uid=st.integers(0, 2),
    gid=st.integers(0, 2),
    mode=st.integers(0, 0o7777),
    xattrs=xattrs,
    flags=st.sampled_from((0, 0x40)),
)


@given(looks, looks, st.booleans())
def test_step_for_completing_gives_no_owner_no_privilege_and_nobody_more(present: Looks, wanted: Looks, alone: bool) -> None:
    step = step_for(present, wanted, alone)
    assert (step is Step.NOTHING) == (present == wanted)
    if step is Step.COMPLETE:
        assert (present.uid, present.gid, present.flags) == (wanted.uid, wanted.gid, wanted.flags)
        assert not wanted.mode & ~present.mode & 0o7000
        assert alone or not wanted.mode & ~present.mode
        assert all(name.startswith(b"user.") for name, _ in present.xattrs ^ wanted.xattrs)


def test_step_for_what_is_harmless_completes_what_stands_there() -> None:
    present = Looks(5, 5, 0o777, frozenset({(b"user.stray", b"x")}))
    assert step_for(present, Looks(5, 5, 0o640), alone=False) is Step.COMPLETE
    assert step_for(Looks(5, 5, 0o600), Looks(5, 5, 0o644), alone=True) is Step.COMPLETE
    assert step_for(Looks(5, 5, 0o600), Looks(5, 5, 0o644), alone=False) is Step.REPLACE
    assert step_for(Looks(5, 5, 0o755), Looks(5, 5, 0o4755), alone=True) is Step.REPLACE


@pytest.mark.parametrize(
    ("uid", "mode", "others"),
    [(0, 0o755, False), (7, 0o755, False), (8, 0o755, True), (0, 0o775, True), (0, 0o1777, True), (7, 0o700, False)],
)
def test_may_others_write_looks_at_owner_and_mode(uid: int, mode: int, others: bool) -> None:
    assert may_others_write(uid, stat.S_IFDIR | mode, own=7) is others
