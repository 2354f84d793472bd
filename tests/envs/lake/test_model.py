from __future__ import annotations

from collections.abc import Callable, Collection, Hashable

import numpy as np
import pytest
from gymnasium.envs.toy_text.frozen_lake import MAPS, FrozenLakeEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrl.envs.lake.env import LakeEnv, frozen_lake
from llmrl.envs.lake.expert import expert_actions
from llmrl.envs.lake.lake import Lake, random_lake, standard_lake
from llmrl.envs.lake.model import LakeModel
from llmrl.envs.lake.text import ACTIONS
from llmrl.envs.model import Shown

MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))


@pytest.mark.parametrize("slippery", [False, True])
@pytest.mark.parametrize("size", [4, 8])
def test_outcomes_are_gymnasium_s(size: int, slippery: bool):
    model = frozen_lake(size=size, slippery=slippery, max_decisions=9).model(f"frozen_lake/{size}x{size}")
    table = FrozenLakeEnv(desc=MAPS[f"{size}x{size}"], is_slippery=slippery).P
    letters = "".join(MAPS[f"{size}x{size}"])
    assert model.initial() == [(1.0, 0)]
    assert (model.max_decisions, model.max_primitive_steps) == (9, None)
    for cell in (i for i, letter in enumerate(letters) if letter in "SF"):
        for action in range(4):
            outcomes = model.outcomes(cell, action)
            assert sum(o.probability for o in outcomes) == pytest.approx(1, abs=1e-12)
            assert [(o.probability, o.state, o.reward, o.terminated) for o in outcomes] == table[cell][action]
            assert all(o.success == (letters[o.state] == "G") and o.duration == 1 for o in outcomes)


def test_the_model_shows_what_the_world_shows():
    env = frozen_lake(layout="random", count=3, slippery=True, map="full")
    for seed in range(30):
        shown, info = env.reset(seed=seed)
        model = env.model(info["task_id"])
        over = False
        while not over:
            assert model.task == shown["task"]
            assert model.shown(env.cell) == (shown["observation"], shown["actions"], info["expert_actions"])
            shown, _, terminated, truncated, info = env.step(ACTIONS[seed % 4])
            over = terminated or truncated


def test_how_often_one_slips():
    env = frozen_lake(slippery=True)
    env.reset(seed=0)
    counts: dict[int, int] = {}
    for _ in range(3000):
        env.reset()
        env.step("go right")
        counts[env.cell] = counts.get(env.cell, 0) + 1
    assert set(counts) == {0, 1, 4}  # up is the edge
    assert all(abs(count - 1000) < 5 * np.sqrt(3000 * 2 / 9) for count in counts.values())


@pytest.mark.parametrize(
    ("size", "decisions", "slippery", "uniform", "expert"),
    [
        (4, 20, False, 0.01244, 1.0),
        (4, 20, True, 0.01244, 0.19537),
        (4, 100, True, 0.01394, 0.74016),
        (8, 100, False, 0.00174, 1.0),
        (8, 100, True, 0.00174, 0.51425),
        (8, 200, True, 0.00190, 0.88565),
    ],
)
def test_figures(size: int, decisions: int, slippery: bool, uniform: float, expert: float):
    model = frozen_lake(size=size, slippery=slippery).model(f"frozen_lake/{size}x{size}")
    assert success_of(model, decisions, lambda shown: shown.actions) == pytest.approx(uniform, abs=5e-6)
    assert success_of(model, decisions, lambda shown: shown.expert_actions) == pytest.approx(expert, abs=5e-6)


def test_the_most_that_20_decisions_can_do_on_slippery_ice():
    lake = standard_lake(4, slippery=True)
    chance = np.zeros(16)
    for _ in range(20):
        later = [max(sum(p * (r or chance[s]) for p, s, r, _ in lake.table[cell][a]) for a in range(4))
                 for cell in range(16)]  # fmt: skip
        chance = np.array(later)
    assert chance[lake.start] == pytest.approx(0.19913, abs=5e-6)


@settings(deadline=None)
@given(st.integers(2, 8), st.integers(0, 10_000))
def test_on_firm_ice_experts_are_the_shortest_ways(size: int, index: int):
    lake = random_lake(size, index, slippery=False)
    distance = distances(lake)
    for cell, experts in enumerate(expert_actions(lake)):
        nearer = {a for a in range(4) if distance.get(neighbour(lake, cell, a), np.inf) < distance.get(cell, -1)}
        assert experts == {ACTIONS[a] for a in nearer}


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 8), st.integers(0, 10_000))
def test_following_the_expert_reaches_the_goal_of_any_lake(size: int, index: int):
    env = LakeEnv([random_lake(size, index, slippery=False)], max_decisions=size * size)
    _, info = env.reset()
    over = False
    while not over:
        *_, terminated, truncated, info = env.step(min(info["expert_actions"]))
        over = terminated or truncated
    assert info["success"]


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 6), st.integers(0, 10_000))
def test_on_slippery_ice_no_way_is_likelier_or_quicker(size: int, index: int):
    lake = random_lake(size, index, slippery=True)
    experts = expert_actions(lake)
    open_cells = [cell for cell, texts in enumerate(experts) if texts]
    assert lake.start in open_cells
    for choose in (min, max):  # whichever of several experts one follows
        policy = {cell: ACTIONS.index(choose(experts[cell])) for cell in open_cells}
        chance, steps = of_policy(policy, lake)
        for cell in open_cells:
            chances = [sum(o[0] * chance[o[1]] for o in lake.table[cell][a]) for a in range(4)]
            assert max(chances) == pytest.approx(chance[cell], abs=1e-7)  # no action gains: the policy is a best one
            more = [sum(o[0] * steps[o[1]] for o in lake.table[cell][a]) + 1 for a in range(4)]
            kept = [a for a in range(4) if chances[a] > chance[cell] - 1e-7]
            assert experts[cell] == {ACTIONS[a] for a in kept if more[a] < steps[cell] * (1 + 1e-6)}
            assert min(more[a] for a in kept) == pytest.approx(steps[cell])


@pytest.mark.parametrize(("size", "chance"), [(4, 14 / 17), (8, 1.0)])
def test_the_chance_on_the_standard_slippery_lakes(size: int, chance: float):
    lake = standard_lake(size, slippery=True)
    policy = {cell: ACTIONS.index(min(texts)) for cell, texts in enumerate(expert_actions(lake)) if texts}
    assert of_policy(policy, lake)[0][lake.start] == pytest.approx(chance)


def test_where_the_chance_is_kept_experts_hurry():
    lake = Lake("corner", ["SF", "FG"], slippery=True)
    assert expert_actions(lake) == [
        frozenset({"go down", "go right"}),  # "go left" and "go up" reach the goal as surely, and later
        frozenset({"go right"}),  # slips down or stays; "go down" may slip back to the start
        frozenset({"go down"}),
        frozenset(),
    ]


def success_of(model: LakeModel, decisions: int, choices: Callable[[Shown], Collection[str]]) -> float:
    """How likely one reaches the goal within so many decisions, each drawn evenly from `choices`."""
    at: dict[Hashable, float] = {state: chance for chance, state in model.initial()}
    success = 0.0
    for _ in range(decisions):
        later: dict[Hashable, float] = {}
        for state, chance in at.items():
            shown = model.shown(state)
            for text in choices(shown):
                for o in model.outcomes(state, shown.actions.index(text)):
                    share = chance * o.probability / len(choices(shown))
                    if o.terminated:
                        success += share * o.success
                    else:
                        later[o.state] = later.get(o.state, 0.0) + share
        at = later
    return success


def neighbour(lake: Lake, cell: int, action: int) -> int:
    row, column = divmod(cell, lake.size)
    down, right = MOVES[action]
    return min(max(row + down, 0), lake.size - 1) * lake.size + min(max(column + right, 0), lake.size - 1)


def distances(lake: Lake) -> dict[int, int]:
    """Steps to the goal, of every cell that is no hole and has a way; breadth first, from the goal."""
    found, frontier = {lake.goal: 0}, [lake.goal]
    for cell in frontier:
        for action in range(4):
            other = neighbour(lake, cell, action)
            if other not in found and lake.cells[other] in "SF":
                found[other] = found[cell] + 1
                frontier.append(other)
    return found


def of_policy(policy: dict[int, int], lake: Lake) -> tuple[np.ndarray, np.ndarray]:
    """The chance of reaching the goal and the expected steps to the end, of each cell, from the equations they satisfy.

    They have no solution where the policy could walk for ever.
    """
    cells = len(lake.cells)
    left, right = np.eye(cells), np.zeros((cells, 2))
    right[lake.goal, 0] = 1.0
    for cell, action in policy.items():
        right[cell, 1] = 1.0
        for probability, reached, _, _ in lake.table[cell][action]:
            left[cell, reached] -= probability
    chance, steps = np.linalg.solve(left, right).T
    return chance, steps
