"""When nothing may leave any disk, and what is said then."""

from __future__ import annotations

import lzma
from random import Random

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from distbackupd.planning.brake import (
    BrakeThresholds,
    Braking,
    Changes,
    SourceFacts,
    SourceState,
    decide,
    looks_random,
)

ANY = settings(derandomize=True, database=None, deadline=None)
GOOD = SourceFacts(b"/photos", SourceState.GOOD)


@pytest.mark.parametrize(
    ("changes", "on"),
    [
        (Changes(), False),
        (Changes(known=1000), False),
        (Changes(known=1000, vanished=200), False),
        (Changes(known=1000, vanished=201), True),
        (Changes(known=1000, rewritten=201), True),
        (Changes(known=1000, vanished=101, rewritten=100), True),
        (Changes(known=150, vanished=100), False),
        (Changes(known=150, vanished=101), True),
        (Changes(known=100_000, rewritten=100), False),
        (Changes(known=100_000, rewritten=100, scrambled=49), False),
        (Changes(known=100_000, rewritten=100, scrambled=50), True),
        (Changes(known=100_000, rewritten=1000, scrambled=499), False),
        (Changes(known=100_000, rewritten=1000, scrambled=500), True),
    ],
)
def test_decide_by_what_changed(changes: Changes, on: bool) -> None:
    assert decide(changes, [GOOD]).on is on


@pytest.mark.parametrize("state", [state for state in SourceState if state is not SourceState.GOOD])
def test_decide_by_a_source_until_somebody_lets_it_go(state: SourceState) -> None:
    braking = decide(Changes(), [GOOD, SourceFacts(b"/films", state)])
    assert braking.causes == (f"the source /films {state.value}",)
    assert not decide(Changes(), [GOOD, SourceFacts(b"/films", state, released=True)]).on


def test_sentence_tells_every_cause_with_numbers_and_what_to_do() -> None:
    changes = Changes(known=10_000, vanished=3000, rewritten=1200, scrambled=1100)
    assert decide(changes, [SourceFacts(b"/films", SourceState.EMPTY)]).sentence == (
        "the brake is on: the source /films is empty, although files were known; of 10,000 files 3,000 vanished and 1,200 "
        "were rewritten since this disk was here last, that is 42%, more than 20%; 1,100 of 1,200 rewritten files look like "
        "random bytes now and did not before, as if they had been encrypted. Nothing is deleted on any disk, copying goes "
        "on while room lasts; look at the sources, and if all is as you want it, say 'dsb brake release'"
    )
    assert Braking().sentence == ""


@ANY
@given(
    st.builds(Changes, st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 10**7)),
    st.integers(0, 1000),
)
def test_decide_more_vanished_never_lets_go(changes: Changes, more: int) -> None:
    worse = Changes(changes.known, changes.vanished + more, changes.rewritten, changes.scrambled)
    assert decide(worse, []).on or not decide(changes, []).on


def test_decide_thresholds_can_be_set() -> None:
    changes = Changes(known=100, vanished=10)
    assert not decide(changes, []).on
    assert decide(changes, [], BrakeThresholds(share=0.05, files=5)).on
    assert not decide(Changes(known=0, vanished=0), [], BrakeThresholds(share=0, files=0)).on


def test_looks_random_tells_encrypted_from_written() -> None:
    noise = Random(1).randbytes(65_536)
    text = b" ".join(str(number).encode() for number in range(20_000))
    assert looks_random(noise)
    assert looks_random(noise[:4096])
    assert not looks_random(text)
    assert not looks_random(bytes(65_536))
    assert not looks_random(noise[:4095])
    assert not looks_random(noise[:-2000] + bytes(2000))
    assert not looks_random(lzma.compress(text)[:1000])
