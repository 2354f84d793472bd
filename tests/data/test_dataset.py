"""What a data set is held to, and how it is drawn from."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from data.datasets import any_rows, built, row, rows
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrl.data.dataset import DataError


@settings(max_examples=60, deadline=None)
@given(any_rows())
def test_rows_come_back_as_they_were(given: list[dict[str, Any]]) -> None:
    data = built(given)
    assert list(data.rows()) == given
    assert len(set(data.texts)) == len(data.texts)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown action": ({"action": "north"}, "its action is not on its menu"),
    "empty menu": ({"actions": []}, "its menu is empty"),
    "nan": ({"reward": float("nan")}, "its reward is no finite number"),
    "infinite": ({"reward": float("inf")}, "its reward is no finite number"),
    "two tasks": ({"task": "another"}, "task changes within an episode"),
    "two agents": ({"agent": "another"}, "agent changes within an episode"),
    "no way there": ({"observation": "elsewhere"}, "its observation is not the row before's next_observation"),
    "ends and goes on": ({"truncated": True}, "its episode continues after its end"),
    "both ends": ({"truncated": True, "terminated": True}, "it is both terminated and truncated"),
    "twice on a menu": ({"actions": ["east", "east"]}, "an action is on a menu twice"),
    "nothing next": ({"next_actions": []}, "it ends nothing, and the menu after it is empty"),
    "no time": ({"duration": 0}, "its duration is below 1"),
    "kind": ({"action": 3}, "action is 3, and has to be a text"),
    "success": ({"success": "yes"}, "success is 'yes', and has to be true or false"),
    "menu": ({"actions": "east"}, "actions is 'east', and has to be a list of texts"),
    "column": ({"colour": "red"}, "colour is no column of a data set"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named_with_its_row(name: str) -> None:
    changed, said = BAD[name]
    given = rows(2, 4)
    given[3] |= changed
    with pytest.raises(DataError, match="made up, row 3: ") as error:
        built(given)
    assert said in str(error.value)


def test_an_episode_without_end() -> None:
    given = [*rows(2), row(1, 0, 3), row(2, 0, 1)]
    with pytest.raises(DataError, match="row 2: its episode stops here without an end"):
        built(given)
    with pytest.raises(DataError, match="row 1: its episode stops here without an end"):
        built([row(0, 0, 3), row(0, 1, 3)])
    with pytest.raises(DataError, match="row 2: episodes are not numbered"):
        built([*rows(2), row(2, 0, 1)])
    with pytest.raises(DataError, match="row 0: episodes are not numbered"):
        built([row(1, 0, 1)])
    with pytest.raises(DataError, match="holds no transition"):
        built([])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.integers(0, 99), st.data())
def test_smaller_draws_begin_larger_ones(lengths: list[int], seed: int, data: st.DataObject) -> None:
    given = built(rows(*lengths))
    whole = given.draw_rows(None, seed)
    assert sorted(whole) == list(range(len(given)))
    size = data.draw(st.integers(1, len(given)))
    assert np.array_equal(given.draw_rows(size, seed), whole[:size])
    starts = set(given.starts)
    assert all(b == a + 1 or b in starts for a, b in pairwise(whole))
    with pytest.raises(ValueError, match=f"data.size={len(given) + 1}: the file holds {len(given)} transitions"):
        given.draw_rows(len(given) + 1, seed)


def test_draws_of_other_seeds_differ() -> None:
    given = built(rows(*[2] * 20))
    assert len({tuple(given.draw_rows(None, seed)) for seed in range(5)}) == 5


def test_states_have_the_history_of_their_episode() -> None:
    given = built(rows(2, 3))
    before, after = given.states(np.array([4, 2]), 5)
    assert before[0].history == (("room 0", "east"), ("room 1", "east"))
    assert before[1].history == ()
    assert after[0].history == (*before[0].history, ("room 2", "east"))
    assert after[0].actions == ()
    assert (after[1].observation, after[1].history) == ("room 1", (("room 0", "east"),))
    assert all(s.history == () for states in given.states(np.arange(5), 0) for s in states)


def test_the_content_is_that_of_the_rows() -> None:
    given = rows(2, 3)
    assert built(given).content() == built(given, collected="otherwise").content()
    changed = [*given[:-1], given[-1] | {"agent": "expert"}]
    other = [row | {"agent": "expert"} if row["episode"] == 1 else row for row in given]
    assert built(other).content() != built(given).content()
    with pytest.raises(DataError):
        built(changed)
