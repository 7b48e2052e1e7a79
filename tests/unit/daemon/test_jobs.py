"""What was asked for is bounded, and what came of it is for whoever asked."""

from __future__ import annotations

import pytest

from distbackupd.daemon.jobs import MOST, MOST_OF_A_USER, Jobs
from distbackupd.model.errors import TooMuchAsked
from distbackupd.model.standing import Answer


def test_open_gives_numbers_of_their_own_until_a_user_has_enough() -> None:
    jobs = Jobs()
    numbers = [jobs.open(1000) for _ in range(MOST_OF_A_USER)]
    assert len(set(numbers)) == MOST_OF_A_USER
    with pytest.raises(TooMuchAsked, match="16 jobs of yours and 0 of others wait already, so nothing was added"):
        jobs.open(1000)
    jobs.close(Answer(numbers[0], 0))
    assert jobs.open(1000) not in numbers


def test_open_leaves_root_all_its_room_whatever_others_ask_for() -> None:
    jobs = Jobs()
    for user in range(MOST):
        jobs.open(1000 + user)
    with pytest.raises(TooMuchAsked):
        jobs.open(999)
    for _ in range(MOST):
        jobs.open(0)
    with pytest.raises(TooMuchAsked):
        jobs.open(0)


def test_outcome_is_for_the_asker_and_for_root() -> None:
    jobs = Jobs()
    job = jobs.open(1000)
    assert jobs.outcome(0, job) is None
    answer = Answer(job, 4, "/home/anna is full")
    jobs.close(answer)
    assert (jobs.outcome(1000, job), jobs.outcome(0, job), jobs.outcome(1001, job)) == (answer, answer, None)
    assert jobs.outcome(0, job + 1) is None


def test_close_of_what_was_never_asked_for_is_nothing() -> None:
    jobs = Jobs()
    jobs.close(Answer(7, 0))
    assert jobs.outcome(0, 7) is None


def test_outcomes_are_forgotten_the_oldest_first() -> None:
    jobs = Jobs()
    numbers = []
    for _ in range(1000):
        numbers.append(jobs.open(0))
        jobs.close(Answer(numbers[-1], 0))
    known = [number for number in numbers if jobs.outcome(0, number)]
    assert 100 <= len(known) < 1000
    assert known == numbers[-len(known) :]
