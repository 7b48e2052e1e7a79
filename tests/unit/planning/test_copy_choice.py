"""Which copy of a lost catalogue is taken without somebody naming it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from distbackupd.model.copies import CatalogueCopy, CopyKnowledge
from distbackupd.planning.copy_choice import Candidate, choose

SESSIONS = {"one": (1, 100), "two": (2, 200), "three": (3, 300)}


def candidate(
    name: str,
    generation: int,
    knows: tuple[str, ...] = ("one", "two"),
    session: tuple[int, int] = (0, 0),
    sessions: tuple[tuple[int, int], ...] = (),
    tokens: dict[str, str] | None = None,
    token: str = "",
    is_kept: bool = False,
    written_at: int = 1000,
) -> Candidate:
    knowledge = CopyKnowledge(
        disks={disk: disk for disk in knows},
        tokens={disk: frozenset({known}) for disk, known in (tokens or {}).items()},
        sources=(),
        following=(),
        settings=0,
        sessions=frozenset({*sessions, session}),
        versions=1,
    )
    path = f"/{name}/{generation}".encode()
    copy = CatalogueCopy(path, 5, generation, session, written_at, False, knowledge)
    return Candidate(copy, name, name, token, is_kept)


def test_choose_the_newest_that_knows_what_the_others_know() -> None:
    older = candidate("one", 5, session=SESSIONS["one"], token="t1")
    newest = candidate("two", 9, session=SESSIONS["two"], sessions=(SESSIONS["one"],), tokens={"one": "t1"}, token="t2")
    choice = choose([older, newest])
    assert choice.taken is newest
    assert not choice.doubts


def test_choose_nothing_is_nothing() -> None:
    assert choose([]).taken is None


def test_choose_one_that_does_not_know_its_own_disk_is_passed_over() -> None:
    forged = candidate("three", 10**12)
    genuine = candidate("one", 5)
    choice = choose([forged, genuine])
    assert choice.taken is genuine
    assert "the disk on which it lies" in choice.doubts[forged.copy.path]


def test_choose_one_that_tells_of_a_session_after_it_was_written_is_passed_over() -> None:
    forged = candidate("two", 10**12, session=(9, 10**9))
    genuine = candidate("one", 5)
    assert choose([forged, genuine]).taken is genuine


def test_choose_a_high_generation_proves_nothing_without_the_tokens_of_the_others() -> None:
    """Whoever made it knows what everybody may know: UUIDs, names, when sessions were."""
    genuine = candidate("one", 5, session=SESSIONS["one"], token="random")
    for tokens in ({}, {"one": ""}, {"one": "guessed"}):
        forged = candidate("two", 10**12, session=SESSIONS["two"], sessions=(SESSIONS["one"],), tokens=tokens)
        choice = choose([forged, genuine])
        assert choice.taken is None
        assert "how the last session left one" in choice.doubts[forged.copy.path]


def test_choose_copies_of_two_catalogues_are_for_somebody_to_choose_from() -> None:
    one = candidate("one", 5, session=SESSIONS["one"])
    for other in (
        candidate("two", 9, session=SESSIONS["two"]),
        candidate("two", 9, session=SESSIONS["two"], sessions=(SESSIONS["one"],), knows=("two",)),
    ):
        choice = choose([one, other])
        assert choice.taken is None
        assert other.copy.path in choice.doubts


def test_choose_what_was_kept_aside_bears_no_witness_against_what_replaced_it() -> None:
    newest = candidate("two", 9, session=SESSIONS["two"])
    kept = candidate("one", 5, session=SESSIONS["one"], is_kept=True)
    assert choose([newest, kept]).taken is newest


names = st.sampled_from(["one", "two", "three", ""])
candidates = st.builds(
    candidate,
    names,
    st.integers(0, 20),
    st.lists(names).map(tuple),
    st.sampled_from([(0, 0), *SESSIONS.values()]),
    st.lists(st.sampled_from([*SESSIONS.values()])).map(tuple),
    st.dictionaries(names, st.sampled_from(["", "a", "b"])),
    st.sampled_from(["", "a", "b"]),
    st.booleans(),
    st.sampled_from([0, 1000, 10**6]),
)


@given(st.lists(candidates, max_size=6))
def test_choose_never_takes_what_is_doubted_and_never_an_older_one_instead_of_an_undoubted(found: list[Candidate]) -> None:
    choice = choose(found)
    assert choice == choose(found)
    if choice.taken is None:
        return
    assert choice.taken in found
    assert choice.taken.copy.path not in choice.doubts
    undoubted = [item for item in found if item.copy.path not in choice.doubts]
    assert choice.taken.copy.rank == max(item.copy.rank for item in undoubted)
    for item in undoubted:
        if not item.is_kept and item.token and item.uuid != choice.taken.uuid:
            assert choice.taken.copy.knowledge is not None
            assert item.token in choice.taken.copy.knowledge.tokens.get(item.uuid, ())
