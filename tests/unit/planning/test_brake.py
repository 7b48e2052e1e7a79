"""When nothing may leave any disk, and what is said then."""

from __future__ import annotations

import lzma
from dataclasses import replace
from random import Random

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from distbackupd.planning.brake import (
    BrakeThresholds,
    Braking,
    Changes,
    Share,
    SourceFacts,
    SourceState,
    decide,
    looks_random,
)

ANY = settings(derandomize=True, database=None, deadline=None)
MB = 1_000_000
GOOD = SourceFacts(b"/photos", SourceState.GOOD)


def changes(
    known: int = 0,
    vanished: int = 0,
    rewritten: int = 0,
    rewritten_since_disk: int = 0,
    scrambled: int = 0,
    size: tuple[int, int, int] = (0, 0, 0),
) -> Changes:
    """By numbers of files; ``size``: bytes of those known, vanished and rewritten."""
    return Changes(
        Share(known, size[0]), Share(vanished, size[1]), Share(rewritten, size[2]), rewritten_since_disk, scrambled
    )


@pytest.mark.parametrize(
    ("changed", "on"),
    [
        (changes(), False),
        (changes(known=1000), False),
        (changes(known=1000, vanished=200), False),
        (changes(known=1000, vanished=201), True),
        (changes(known=1000, rewritten=201), True),
        (changes(known=1000, vanished=101, rewritten=100), True),
        (changes(known=90, vanished=88), True),
        (changes(known=33_000, vanished=18_150), True),
        (changes(known=10, vanished=9), False),
        (changes(known=10, vanished=10), True),
        (changes(known=49, vanished=10), True),
        (changes(known=50, vanished=10), False),
        (changes(known=1000, vanished=1, size=(300 * MB, 61 * MB, 0)), False),
        (changes(known=1000, vanished=1, size=(300 * MB, 64 * MB, 0)), True),
        (changes(known=1000, vanished=1, rewritten=1, size=(300 * MB, 32 * MB, 32 * MB)), True),
        (changes(known=1000, vanished=1, size=(1000 * MB, 200 * MB, 0)), False),
        (changes(known=100_000, rewritten=100, rewritten_since_disk=100), False),
        (changes(known=100_000, rewritten_since_disk=100, scrambled=49), False),
        (changes(known=100_000, rewritten_since_disk=100, scrambled=50), True),
        (changes(known=100_000, rewritten_since_disk=1000, scrambled=499), False),
        (changes(known=100_000, rewritten_since_disk=1000, scrambled=500), True),
    ],
)
def test_decide_by_what_changed(changed: Changes, on: bool) -> None:
    assert decide(changed, [GOOD]).on is on


@pytest.mark.parametrize("state", [state for state in SourceState if state is not SourceState.GOOD])
def test_decide_by_a_source_until_somebody_lets_it_go(state: SourceState) -> None:
    braking = decide(Changes(), [GOOD, SourceFacts(b"/films", state)])
    assert braking.causes == (f"the source /films {state.value}",)
    assert not decide(Changes(), [GOOD, SourceFacts(b"/films", state, released=True)]).on


def test_sentence_tells_every_cause_with_numbers_and_what_to_do() -> None:
    changed = changes(10_000, 3000, 1200, 1200, 1100, size=(2000 * MB, 900 * MB, 100 * MB))
    assert decide(changed, [SourceFacts(b"/films", SourceState.EMPTY)]).sentence == (
        "the brake is on: the source /films is empty, although files were known; of 10,000 files (2.00 GB) 3,000 "
        "vanished and 1,200 were rewritten (1.00 GB), that is 42% of the files and 50% of the bytes, more than 20%; "
        "1,100 of 1,200 rewritten files look like random bytes now and did not before, as if they had been encrypted. "
        "Nothing is deleted on any disk, copying goes on while room lasts; look at the sources, and if all is as you want "
        "it, say 'dsb brake release'"
    )
    assert Braking().sentence == ""


def test_sentence_of_what_no_whole_scan_saw_says_that_one_may_lift_it() -> None:
    assert "the next scan of everything lifts it if the files only moved" in Braking(("x",), unconfirmed=True).sentence
    assert "the next scan" not in Braking(("x",)).sentence


COUNTS = st.integers(0, 10**7)
SHARES = st.builds(Share, COUNTS, st.integers(0, 10**13))


@ANY
@given(st.builds(Changes, SHARES, SHARES, SHARES, COUNTS, COUNTS), SHARES)
def test_decide_more_lost_never_lets_go(changed: Changes, more: Share) -> None:
    for worse in (replace(changed, vanished=changed.vanished + more), replace(changed, rewritten=changed.rewritten + more)):
        assert decide(worse, []).on or not decide(changed, []).on


@ANY
@given(SHARES, SHARES, st.sampled_from([0.05, 0.2, 0.5]), st.integers(1, 1000), st.integers(1, 10**9))
def test_decide_brakes_by_files_or_by_bytes_from_a_floor_on(
    known: Share, lost: Share, share: float, files: int, size: int
) -> None:
    on = decide(Changes(known, lost), [], BrakeThresholds(share=share, files=files, size=size)).on
    by_files = lost.files > share * known.files and lost.files >= files
    by_bytes = lost.size > share * known.size and lost.size >= size
    assert on is (by_files or by_bytes)


@ANY
@given(SHARES, SHARES, SHARES)
def test_decide_vanished_and_rewritten_count_alike(known: Share, one: Share, other: Share) -> None:
    assert decide(Changes(known, one, other), []).on is decide(Changes(known, other, one), []).on


def test_decide_thresholds_can_be_set() -> None:
    changed = changes(known=100, vanished=10)
    assert not decide(changed, []).on
    assert decide(changed, [], BrakeThresholds(share=0.05, files=5)).on
    assert not decide(changes(), [], BrakeThresholds(share=0, files=0, size=0)).on


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
