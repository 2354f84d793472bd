from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrl.data.sum_tree import SumTree

VALUES = st.lists(st.floats(0, 10), min_size=1, max_size=40).filter(lambda values: sum(values) > 1e-3)


@given(VALUES, st.data())
def test_a_mass_is_found_where_the_running_sum_exceeds_it(values: list[float], data: st.DataObject) -> None:
    tree, v = SumTree(len(values)), np.array(values)
    tree[np.arange(v.size)] = v
    assert tree.total == pytest.approx(v.sum())
    mass = np.array(data.draw(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20))) * tree.total
    found = tree.find(mass)
    assert (v[found] > 0).all()
    after = v.cumsum()[found]
    assert (after - v[found] <= mass + 1e-9).all()
    assert (mass <= after + 1e-9).all()


@given(VALUES, st.lists(st.tuples(st.integers(0, 39), st.floats(0, 10)), min_size=1, max_size=30))
def test_values_can_be_changed_and_the_last_of_equals_counts(values: list[float], changes) -> None:
    tree, expected = SumTree(len(values)), np.array(values)
    tree[np.arange(expected.size)] = expected
    places = np.array([place % expected.size for place, _ in changes])
    tree[places] = np.array([value for _, value in changes])
    for place, (_, value) in zip(places, changes, strict=True):
        expected[place] = value
    assert tree[np.arange(expected.size)].tolist() == expected.tolist()
    assert tree.total == pytest.approx(expected.sum())


def test_equal_parts_of_the_total_fall_to_leaves_in_proportion() -> None:
    tree, values = SumTree(6), np.array([1.0, 0.0, 2.0, 4.0, 0.0, 3.0])
    tree[np.arange(6)] = values
    found = tree.find((np.arange(1000) + 0.5) / 1000 * tree.total)
    assert np.bincount(found, minlength=6) / 1000 == pytest.approx(values / values.sum(), abs=1e-3)
