"""A shelf over many rounds, and how well the planner spreads the risk over it."""

from __future__ import annotations

from random import Random

import pytest

from distbackupd.model.plans import Policy
from distbackupd.planning.simulation import Round, Simulation, share_of, synthetic_sizes
from tests.unit.planning.facts import a_disk, an_object

OBJECTS = 20_000


def simulated(*shares: float, rebalance: float = 0.1, objects: int = OBJECTS) -> Simulation:
    simulation = Simulation(Policy(rebalance=rebalance), 10**9, Random(1))
    simulation.add_sizes(synthetic_sizes(objects, Random(1)))
    total = simulation.total
    for number, share in enumerate(shares, start=1):
        simulation.add_disk(a_disk(number, share_of(total, share)))
    return simulation


def rounds(simulation: Simulation, count: int) -> list[Round]:
    states = []
    for _ in range(count):
        simulation.run_round()
        states.append(simulation.state())
    return states


def mostly(state: Round) -> dict[int, float]:
    """Shares of bytes by copies, without the few that fill a last gap."""
    return {copies: round(share, 2) for copies, share in state.copies.items() if share >= 0.005}


def test_synthetic_sizes_are_those_of_the_known_set() -> None:
    sizes = synthetic_sizes(1000, Random(7))
    assert sizes[:5] == [66852, 327055, 207444, 3469, 4904]
    assert sum(sizes) == 3_811_627_661


def test_six_equal_disks_lose_little_with_any_two_or_three() -> None:
    first, _, third = rounds(simulated(*[0.4] * 6), 3)
    assert (round(first.copied, 2), first.deleted) == (2.4, 0)
    assert mostly(first) == {2: 0.6, 3: 0.4}
    assert first.loss[1].mean == pytest.approx(0.04, abs=0.001)
    assert first.loss[1].worst <= 0.085  # filling the fewest copies first cannot do better than 0.075
    assert third.copied - first.copied <= 0.6
    assert mostly(third) == {2: 0.6, 3: 0.4}
    assert third.loss[1].worst <= 0.055
    assert third.loss[2].worst <= 0.20


def test_unequal_disks_come_near_to_what_their_sizes_allow() -> None:
    first, _, third = rounds(simulated(0.9, 0.5, 0.3, 0.3, 0.2, 0.2), 3)
    assert first.loss[1].worst <= 0.18
    assert mostly(third) == {2: 0.6, 3: 0.4}
    assert third.loss[1].worst <= 0.15  # no plan gets below 0.1


def test_without_a_budget_nothing_moves_after_the_first_round() -> None:
    first, second = rounds(simulated(*[0.4] * 6, rebalance=0), 2)
    assert second.copied == pytest.approx(first.copied, abs=0.001)


def test_growth_is_protected_first_and_costs_what_it_must() -> None:
    simulation = simulated(*[0.4] * 6, rebalance=0)
    rounds(simulation, 1)
    before = simulation.state().copied * simulation.total
    grown = simulation.total
    simulation.grow(0.05)
    grown = simulation.total - grown
    (state,) = rounds(simulation, 1)
    assert min(state.copies) == 2
    assert state.copied * simulation.total - before <= 2.2 * grown
    assert state.loss[1].worst <= 0.1


def test_a_dead_disk_is_made_up_for_by_its_successor() -> None:
    simulation = simulated(*[0.4] * 6)
    rounds(simulation, 1)
    simulation.lose_disk(3)
    assert simulation.state().copies[1] > 0.1
    simulation.add_disk(a_disk(7, share_of(simulation.total, 0.4)))
    after, later = rounds(simulation, 2)
    assert mostly(after) == {2: 0.6, 3: 0.4}
    assert after.copied <= 2.4 + 0.4 + 0.25
    assert later.loss[1].worst <= 0.06


def test_disks_added_later_even_the_risk_out() -> None:
    simulation = simulated(*[0.4] * 4)
    (before,) = rounds(simulation, 1)
    for number in (5, 6):
        simulation.add_disk(a_disk(number, share_of(simulation.total, 0.4)))
    after, later = rounds(simulation, 2)
    assert before.loss[1].worst > 0.3
    assert after.loss[1].worst <= 0.09
    assert later.loss[1].worst <= 0.06


def test_more_than_all_disks_hold_fills_them_with_first_copies() -> None:
    (state,) = rounds(simulated(0.3, 0.2, objects=2000), 1)
    assert state.copies == pytest.approx({0: 0.5, 1: 0.5}, abs=0.01)
    assert state.loss[0].worst >= 0.8


def test_no_disks_at_all() -> None:
    (state,) = rounds(simulated(objects=10), 1)
    assert (state.copied, state.copies, state.loss) == (0, {0: 1.0}, [])


def test_no_objects_at_all() -> None:
    (state,) = rounds(simulated(0.5, 0.5, objects=0), 1)
    assert (state.copied, state.copies) == (0, {})
    assert state.loss[0].worst == 0


def test_row_has_the_keys_that_both_planners_print() -> None:
    simulation = simulated(0.6, 0.6, 0.6, objects=3000)
    (state,) = rounds(simulation, 1)
    row = state.row(1.234)
    assert list(row) == ["round", "planner_cpu_s", "copied", "deleted", "copies", "loss"]
    assert (row["round"], row["planner_cpu_s"], row["copied"]) == (1, 1.23, pytest.approx(1.8, abs=0.01))
    assert set(row["loss"]) == {"1", "2"}
    assert set(row["loss"]["1"]) == {"mean", "worst"}
    assert all(isinstance(count, str) for count in row["copies"])


def test_the_objects_of_a_catalogue_keep_their_holders_and_wishes() -> None:
    simulation = Simulation(Policy(), 10**9, Random(1))
    sets = {5: frozenset[int](), 6: frozenset({1}), 7: frozenset({1, 2})}
    simulation.add_objects(
        [
            an_object(10, 100_000, 5, 1, 0, 0),
            an_object(11, 200_000, 6, 3, 1, 0),
            an_object(12, 300_000, 7, 1, 0, 1),
            an_object(13, 2**63, 5, 1, 0, 0),
            an_object(14, 400_000, 6, 1, 0, 0, 1),
        ],
        sets,
    )
    simulation.add_disk(a_disk(1, 2**30))
    simulation.add_disk(a_disk(2, 2**30))
    simulation.add_sizes([500_000])
    with pytest.raises(ValueError, match="there is a disk 2 already"):
        simulation.add_disk(a_disk(2, 5))
    plan = simulation.run_session(2)
    assert {copy.size for copy in plan.copies} == {100_000, 500_000}
    assert [eviction.object_id for eviction in plan.evictions] == [12]
    assert simulation.losses().lost([1]) == sum(a_disk(1, 0).footprint(size) for size in (200_000, 400_000))
    with pytest.raises(KeyError):
        simulation.lose_disk(3)


def test_equal_seeds_give_equal_rounds() -> None:
    assert rounds(simulated(0.5, 0.4, 0.3, objects=3000), 2) == rounds(simulated(0.5, 0.4, 0.3, objects=3000), 2)
