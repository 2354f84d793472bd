from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrl.core.candidates import Candidates
from llmrl.core.state import TextState
from llmrl.core.transitions import Transition
from llmrl.data.replay import SMALLEST_ERROR, NStepWindow, Replay

STATES = [TextState("t", str(i), ("a", "b")) for i in range(60)]
BOTH = Candidates(np.arange(2), np.log([0.5, 0.5]))


def step(t: int, reward: float, duration: int = 1, end: str = "", env: int = 0) -> Transition:
    candidates = None if end == "terminated" else BOTH
    return Transition(
        env, STATES[t], 0, reward, duration, end == "terminated", end == "truncated", STATES[t + 1], candidates
    )


EPISODE = st.tuples(
    st.lists(st.tuples(st.floats(-2, 2), st.integers(1, 4)), min_size=1, max_size=12),
    st.sampled_from(["terminated", "truncated"]),
)


@given(st.lists(EPISODE, min_size=1, max_size=3), st.integers(1, 6), st.floats(0.5, 1), st.booleans())
@settings(max_examples=80, deadline=None)
def test_n_step_returns_are_the_sums_they_are_defined_as(episodes, n: int, gamma: float, by_primitive: bool) -> None:
    window = NStepWindow(n, gamma, by_primitive)
    for steps, end in episodes:  # the window is empty again after each
        transitions = [step(t, r, d, end if t == len(steps) - 1 else "") for t, (r, d) in enumerate(steps)]
        found = [x for t in transitions for x in window.add(t)]
        assert [x.first for x in found] == transitions  # each once, in order
        for t, x in enumerate(found):
            part = transitions[t : t + n]
            gammas = [gamma**p.duration if by_primitive else gamma for p in part]
            ret = sum(np.prod(gammas[:i]) * p.reward for i, p in enumerate(part))
            assert x.last is part[-1]
            assert list(x.steps) == part
            assert sum(share * p.reward for share, p in zip(x.shares, part, strict=True)) == pytest.approx(x.ret)
            assert x.ret == pytest.approx(ret, rel=1e-9, abs=1e-9)
            ended = part[-1].terminated
            assert x.discount == pytest.approx(0.0 if ended else np.prod(gammas))


def test_an_unfinished_window_waits() -> None:
    window = NStepWindow(3, 0.9, False)
    assert [len(list(window.add(step(t, 1.0)))) for t in range(4)] == [0, 0, 1, 1]


def test_environments_have_windows_of_their_own() -> None:
    window = NStepWindow(2, 1.0, False)
    assert list(window.add(step(0, 1.0, env=0))) == []
    assert list(window.add(step(0, 10.0, env=1))) == []
    assert [x.ret for x in window.add(step(1, 2.0, env=0))] == [3.0]
    assert [x.ret for x in window.add(step(1, 20.0, env=1, end="terminated"))] == [30.0, 20.0]
    assert [x.ret for x in window.add(step(2, 4.0, env=0))] == [6.0]


def add(replay: Replay, number: int, width: int) -> None:
    rows = np.arange(number, number + width)
    replay.add(number, number / 10, 0.9, rows, np.log(np.full(width, 1 / width)))


@given(st.integers(1, 9), st.lists(st.integers(1, 5), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_the_ring_keeps_the_latest_and_pads_every_support(capacity: int, widths: list[int]) -> None:
    replay = Replay(capacity, np.random.default_rng(0))
    for number, width in enumerate(widths):
        add(replay, number, width)
    assert replay.size == min(capacity, len(widths))
    batch = replay.sample(400)
    kept = range(max(0, len(widths) - capacity), len(widths))
    assert set(batch.rows.tolist()) == set(kept)  # 400 draws of at most 9
    assert batch.next_rows.shape == batch.next_log_weights.shape == (400, max(widths))
    for row, ret, discount, rows, log_w in zip(*_columns(batch), strict=True):
        width = widths[row]
        assert ret == np.float32(row / 10)
        assert discount == np.float32(0.9)
        assert rows[:width].tolist() == list(range(row, row + width))
        assert (rows[width:] == -1).all()
        assert np.exp(log_w[:width]).sum() == pytest.approx(1, abs=1e-6)
        assert (log_w[width:] == -np.inf).all()


def test_it_remembers_which_decisions_a_return_sums_up() -> None:
    replay = Replay(2, np.random.default_rng(0), taken=3)
    for number, taken in enumerate([[7, 8, 9], [8, 9], [9]]):  # the third lies where the first was
        replay.add(
            number, 0.0, 0.9, np.zeros(1, dtype=np.int64), np.zeros(1), taken, [0.5**i for i in range(len(taken))]
        )
    again = Replay(2, np.random.default_rng(1), taken=3)
    again.restore(replay.save())
    for ring in (replay, again):
        batch = ring.sample(50)
        for row, rows, shares in zip(batch.rows, batch.taken_rows, batch.taken_shares, strict=True):
            assert shares.tolist() == {1: [1, 0.5, 0], 2: [1, 0, 0]}[row]
            assert rows[shares > 0].tolist() == {1: [8, 9], 2: [9]}[row]


def _columns(batch):
    return batch.rows, batch.returns, batch.discounts, batch.next_rows, batch.next_log_weights


def test_a_seed_names_the_batches() -> None:
    def batches(seed: int) -> list[list[int]]:
        replay = Replay(50, np.random.default_rng(seed))
        for number in range(50):
            add(replay, number, 1)
        return [replay.sample(8).rows.tolist() for _ in range(3)]

    assert batches(1) == batches(1) != batches(2)


def prioritised(errors: list[float], priority: float, importance: float) -> Replay:
    replay = Replay(len(errors), np.random.default_rng(0), priority, importance)
    for number in range(len(errors)):
        add(replay, number, 1)
    replay.set_errors(np.arange(len(errors)), np.array(errors))
    return replay


def test_large_errors_are_drawn_in_proportion_to_their_power() -> None:
    errors = [0.5, -2.0, 0.0, 1.0]
    replay = prioritised(errors, 0.6, 0.4)
    p = (np.abs(errors) + SMALLEST_ERROR) ** 0.6
    p /= p.sum()
    drawn = replay.sample(10_000).rows  # one from each of 10,000 equal parts: no chance but at the seams
    assert np.bincount(drawn, minlength=4) / drawn.size == pytest.approx(p, abs=1e-3)


def test_importance_undoes_what_priority_does() -> None:
    errors = [0.5, -2.0, 0.3, 1.0]
    p = (np.abs(errors) + SMALLEST_ERROR) ** 0.6
    p /= p.sum()
    batch = prioritised(errors, 0.6, 0.7).sample(64)
    weights = (4 * p[batch.rows]) ** -0.7
    assert batch.weights == pytest.approx(weights / weights.max(), rel=1e-6)
    assert (batch.rows == batch.places).all()
    whole = prioritised(errors, 0.6, 1.0).sample(20_000)
    even = np.bincount(whole.rows, weights=whole.weights, minlength=4)
    assert even / even.sum() == pytest.approx(np.full(4, 0.25), abs=1e-3)  # importance 1: as if drawn uniformly


def test_what_is_new_has_the_largest_priority_there_has_been() -> None:
    replay = Replay(3, np.random.default_rng(0), priority=1.0, importance=0.0)
    for number in range(3):
        add(replay, number, 1)
    replay.set_errors(np.arange(3), np.array([9.0, 3.0, 0.0]))
    replay.set_errors(np.array([0]), np.array([3.0]))
    add(replay, 3, 1)  # where 0 was
    drawn = np.bincount(replay.sample(12_000).rows, minlength=4) / 12_000
    assert drawn == pytest.approx([0, 3 / 12, 0, 9 / 12], abs=1e-3)


def test_without_priority_draws_are_uniform_and_nothing_is_weighted() -> None:
    replay, same = Replay(8, np.random.default_rng(1)), np.random.default_rng(1)
    for number in range(8):
        add(replay, number, 1)
    replay.set_errors(np.array([0]), np.array([100.0]))
    batch = replay.sample(16)
    assert batch.weights is None
    assert batch.rows.tolist() == same.integers(8, size=16).tolist()
