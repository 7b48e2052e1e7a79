"""What becomes of files that lie on a disk and are not recorded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from distbackupd.planning.strays import Stray, still_to_leave, with_places

HERE, OTHER = 1, 2
_STRAYS = st.lists(st.builds(Stray, st.binary(min_size=4, max_size=4), st.just(1), st.integers(1, 9), st.integers(0, 3)))


def test_still_to_leave_is_what_is_safe_elsewhere_or_dead_and_not_held_again() -> None:
    holders = {b"safe": frozenset({OTHER}), b"last": frozenset[int](), b"dead": frozenset[int](), b"back": frozenset({HERE})}
    pending = [b"safe", b"last", b"dead", b"back", b"unknown"]
    assert still_to_leave(pending, {b"safe", b"last", b"back"}, holders, HERE) == [b"safe", b"dead", b"unknown"]


@given(strays=_STRAYS, room=st.integers(-5, 40))
def test_with_places_sorts_all_and_gives_up_only_what_others_hold(strays: list[Stray], room: int) -> None:
    staying, leaving = with_places(strays, room)
    assert sorted(staying + leaving) == sorted(strays)
    assert all(stray.elsewhere for stray in leaving)
    only_here = sum(stray.footprint for stray in strays if not stray.elsewhere)
    assert sum(stray.footprint for stray in staying) <= max(room, only_here)


@given(strays=_STRAYS)
def test_with_places_gives_nothing_up_where_there_is_room(strays: list[Stray]) -> None:
    assert with_places(strays, sum(stray.footprint for stray in strays))[1] == []
