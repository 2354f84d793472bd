"""Transitions in checkpoints."""

from __future__ import annotations

import numpy as np

from llmrl.core.candidates import Candidates
from llmrl.core.state import TextState
from llmrl.core.transitions import Transition

HALL = TextState("Leave.", "A hall.", ("north", "wait"), (("A cellar.", "north"),))
GIVEN = Candidates(np.array([0, 1]), np.log([0.25, 0.75]))
CUT = Transition(3, HALL, 1, -0.5, 2, False, True, HALL, GIVEN, GIVEN)


def test_what_is_saved_is_restored() -> None:
    again = Transition.from_saved(CUT.save())
    assert (again.env, again.state, again.action, again.reward, again.next_state) == (3, HALL, 1, -0.5, HALL)
    for found in (again.candidates, again.next_candidates):
        assert found is not None
        assert found.actions.tolist() == GIVEN.actions.tolist()
        assert found.log_weights.tolist() == GIVEN.log_weights.tolist()


def test_a_checkpoint_of_a_version_that_kept_no_candidates_is_read() -> None:
    saved = CUT.save()
    del saved["candidates"]
    assert Transition.from_saved(saved).candidates is None
