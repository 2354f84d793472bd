"""What a state remembers."""

from __future__ import annotations

import pytest

from llmrl.core.state import TextState


def room(number: int) -> dict[str, object]:
    return {"task": "Leave.", "observation": f"Room {number}.", "actions": ["on", "wait"]}


@pytest.mark.parametrize(("turns", "rooms"), [(None, [0, 1, 2, 3]), (0, []), (1, [3]), (2, [2, 3]), (9, [0, 1, 2, 3])])
def test_a_state_remembers_the_last_turns_of_its_episode(turns: int | None, rooms: list[int]) -> None:
    state = TextState.of(room(0))
    assert state == TextState("Leave.", "Room 0.", ("on", "wait"))
    for number in range(1, 5):
        before, state = state, state.after("on", room(number), turns)
        assert state.history == before.history_after("on", turns)
    assert state == TextState("Leave.", "Room 4.", ("on", "wait"), tuple((f"Room {i}.", "on") for i in rooms))
