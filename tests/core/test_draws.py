"""What uniform numbers draw by weight."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llmrl.core.seeding import draw_from

WEIGHTS = st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1e6)), min_size=1, max_size=8).filter(any)
UNIFORM = st.floats(0, 1, exclude_max=True)


@given(WEIGHTS, UNIFORM)
def test_the_place_is_where_the_sum_of_weights_passes_the_number(weights: list[float], u: float) -> None:
    place, cumulative = int(draw_from(np.cumsum(weights), u)), np.cumsum(weights)
    assert weights[place] > 0
    assert cumulative[place] > u * cumulative[-1]
    assert place == 0 or cumulative[place - 1] <= u * cumulative[-1]


@given(
    st.lists(st.tuples(*[st.floats(0.01, 1)] * 3), min_size=1, max_size=4), st.lists(UNIFORM, min_size=1, max_size=4)
)
def test_many_at_once_are_drawn_as_one_by_one(weights: list[tuple[float, ...]], us: list[float]) -> None:
    cumulative_SA = np.cumsum(weights, -1)
    drawn_SK = draw_from(cumulative_SA[:, None, :], np.array([us] * len(weights)))
    assert drawn_SK.tolist() == [[int(draw_from(row, u)) for u in us] for row in cumulative_SA]


def test_it_draws_as_numpy_does() -> None:
    rng, mine, theirs = (np.random.default_rng(seed) for seed in (0, 1, 1))
    for _ in range(2000):
        w = rng.random(5) * (rng.random(5) < 0.7) + [0, 0, 1e-3, 0, 0]
        assert draw_from(w.cumsum(), mine.random()) == theirs.choice(5, p=w / w.sum())
