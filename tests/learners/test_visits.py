from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llmrl.learners.visits import Visits


@given(st.lists(st.integers(0, 5000), max_size=30), st.lists(st.integers(-1, 9000), min_size=1, max_size=10))
def test_it_counts_and_is_restored_as_it_was(counted: list[int], asked: list[int]) -> None:
    visits, again = Visits(), Visits()
    again.count(3)  # forgotten when another is restored
    for row in counted:
        visits.count(row)
    again.restore(visits.save())
    expected = Counter(counted)
    for found in (visits.of(np.array([asked])), again.of(np.array([asked]))):
        assert found.shape == (1, len(asked))
        assert all(n == expected[row] for n, row in zip(found[0].tolist(), asked, strict=True) if row >= 0)
    assert all((a == b).all() for a, b in zip(again.save().values(), visits.save().values(), strict=True))
    assert visits.of(np.zeros((4, 0), dtype=np.int64)).shape == (4, 0)
