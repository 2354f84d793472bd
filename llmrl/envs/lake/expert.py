"""An expert on a lake. It maximises the chance to reach the goal, and then minimises the expected steps.

Both come from value iteration over gymnasium's table. The chance is that of reaching the goal without a limit of
decisions. Several actions may keep that chance, such as walking in circles. Then the fewest expected steps to the end
of the episode decide. On ice that is not slippery the chance is 1, and the steps are the length of the shortest way. So
the same rule gives exactly the actions on shortest ways.
"""

from __future__ import annotations

import numpy as np

from llmrl.envs.lake.lake import Lake
from llmrl.envs.lake.text import ACTIONS

CONVERGED = 1e-14  # change of a value in one iteration, in relation to the largest value
TIE = 1e-8  # values closer than this are one: what iteration leaves open, after thousands of them, is far less


def expert_actions(lake: Lake) -> list[frozenset[str]]:
    """For each cell the texts of all best actions; none where the episode has ended or the goal is out of reach."""
    to_goal, goes_on = _tables(lake)
    chance = _fixed_point(to_goal, goes_on)
    best_chance = chance.max(axis=1, keepdims=True)
    steps = _fixed_point(np.where(chance < best_chance - TIE, -np.inf, -1.0), goes_on)
    fewest = steps.max(axis=1, keepdims=True)  # counted below 0
    best = (steps >= fewest * (1 + TIE)) & (best_chance > 0)
    return [frozenset(text for text, is_best in zip(ACTIONS, row, strict=True) if is_best) for row in best]


def _tables(lake: Lake) -> tuple[np.ndarray, np.ndarray]:
    """The probability of reaching the goal in one step [cell, action], and of going on at a cell [cell, action, cell].

    Where an episode has ended both are 0.
    """
    cells = len(lake.cells)
    to_goal, goes_on = np.zeros((cells, len(ACTIONS))), np.zeros((cells, len(ACTIONS), cells))
    for cell, by_action in lake.table.items():
        for action, outcomes in by_action.items():
            for probability, reached, reward, terminated in outcomes:
                if not terminated:
                    goes_on[cell, action, reached] += probability
                elif reward > 0:
                    to_goal[cell, action] += probability
    return to_goal, goes_on


def _fixed_point(gain: np.ndarray, goes_on: np.ndarray) -> np.ndarray:
    """The values [cell, action] of the best way to gain, in each step, `gain` [cell, action]."""
    values = gain
    while True:
        new = gain + goes_on @ values.max(axis=1)
        finite = np.isfinite(new)
        change = np.abs(new[finite] - values[finite]).max()
        values = new
        if change <= CONVERGED * max(1.0, np.abs(new[finite]).max()):
            return values
