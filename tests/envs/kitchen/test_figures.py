"""Map A's published figures, computed exactly by enumeration, and what the two rewards make the best policy do."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
import pytest

from llmrl.envs.kitchen import text
from llmrl.envs.kitchen.env import overcooked_salad, overcooked_tomato
from llmrl.envs.kitchen.expert import enumerate_states, expert_actions
from llmrl.envs.kitchen.layouts import TOMATO, TOMATO_LETTUCE, overcooked_a
from llmrl.envs.kitchen.world import Kitchen

TASKS = {"tomato": (TOMATO, overcooked_tomato), "salad": (TOMATO_LETTUCE, overcooked_salad)}
GAMMA = 0.99


@dataclass(frozen=True)
class Tables:
    """A kitchen as arrays over (state, paid ingredients; macro-action). State 0 is the initial one."""

    successor: np.ndarray
    steps: np.ndarray
    pay: np.ndarray
    served: np.ndarray  # [state]


@cache
def kitchen_of(task: str) -> Kitchen:
    return overcooked_a(TASKS[task][0])


@cache
def tables(task: str, once: bool) -> Tables:
    """Every ingredient is paid once, or at every chop. A served state stays as it is and pays nothing."""
    kitchen = kitchen_of(task)
    most_paid = len(kitchen.dish) if once else 0
    paid_sets = [frozenset(paid) for n in range(most_paid + 1) for paid in combinations(kitchen.dish, n)]
    nodes = [(state, paid) for paid in paid_sets for state in enumerate_states(kitchen)]
    number = {node: i for i, node in enumerate(nodes)}
    shape = (len(nodes), kitchen.num_actions)
    successor, steps, pay = np.empty(shape, int), np.ones(shape, int), np.zeros(shape)
    for i, (state, paid) in enumerate(nodes):
        if state.served:
            successor[i] = i
            continue
        for action in range(kitchen.num_actions):
            effect = kitchen.apply(state, action)
            rewarded = effect.chopped in kitchen.dish and effect.chopped not in paid
            last = 0.2 * rewarded + {1: 1.0, -1: -0.1, 0: 0.0}[effect.delivery]
            pay[i, action] = sum(-0.001 * 0.99**t for t in range(effect.steps)) + last * 0.99 ** (effect.steps - 1)
            steps[i, action] = effect.steps
            successor[i, action] = number[effect.state, paid | {effect.chopped} if once and rewarded else paid]
    return Tables(successor, steps, pay, np.array([state.served for state, _ in nodes]))


def random_success(task: str, primitive_steps: int, decisions: int | None = None) -> float:
    """The chance that uniform play serves the dish, with decisions begun before `primitive_steps` have passed."""
    t = tables(task, once=False)
    after = np.arange(primitive_steps)[:, None, None] + t.steps  # [time, state, action]
    value = np.zeros((primitive_steps + t.steps.max(), len(t.served)))
    value[:, t.served] = 1.0
    if decisions is None:
        for now in reversed(range(primitive_steps)):
            value[now] = value[after[now], t.successor].mean(axis=1)
    else:
        for _ in range(decisions):
            value[:primitive_steps] = value[after, t.successor].mean(axis=2)
    return float(value[0, 0])


def optimal(task: str, once: bool, sweeps: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Value iteration: V* and a best policy, with gamma per decision and no end but serving."""
    t = tables(task, once)
    value = np.zeros(len(t.served))
    for _ in range(sweeps):
        q = t.pay + GAMMA * value[t.successor]
        value = q.max(axis=1)
    return value, q.argmax(axis=1)


@pytest.mark.parametrize(("task", "states", "texts", "menus"), [("tomato", 25, 21, 6), ("salad", 1161, 787, 39)])
def test_states_texts_and_menus(task, states, texts, menus):
    kitchen = kitchen_of(task)
    every = enumerate_states(kitchen)
    assert len(every) == len(set(every)) == states
    assert len({text.observation(kitchen, s) for s in every}) == texts
    assert len({text.menu(kitchen, s) for s in every}) == menus


@pytest.mark.parametrize(
    ("task", "decisions", "steps", "total"), [("tomato", 6, 28, 1.11028), ("salad", 10, 45, 1.33810)]
)
def test_straight_line_optimum(task, decisions, steps, total):
    """Among the ways of fewest decisions, the one of fewest primitive steps."""
    kitchen = kitchen_of(task)

    @cache
    def best(state):
        if state.served:
            return 0, ()
        effects = [(kitchen.apply(state, action), action) for action in sorted(expert_actions(kitchen, state))]
        return min((e.steps + best(e.state)[0], (action, *best(e.state)[1])) for e, action in effects)

    primitive, way = best(kitchen.initial())
    assert (len(way), primitive) == (decisions, steps)
    env = TASKS[task][1]()
    shown, _ = env.reset()
    rewards, durations = [], []
    for action in way:
        shown, reward, terminated, truncated, info = env.step(shown["actions"][action])
        rewards.append(reward)
        durations.append(info["duration"])
    assert terminated
    assert not truncated
    assert info["success"]
    assert sum(durations) == steps
    assert sum(rewards) == pytest.approx(total, abs=5e-6)


@pytest.mark.parametrize(
    ("task", "percent", "cap", "capped_percent"), [("tomato", 45.6, 31, 15.8), ("salad", 0.83, 51, 0.2)]
)
def test_random_play(task, percent, cap, capped_percent):
    """What was published is the share in 3,000 episodes: three standard errors are allowed."""
    for published, exact in (
        (percent / 100, random_success(task, 200)),
        (capped_percent / 100, random_success(task, 200, cap)),
    ):
        assert abs(exact - published) < 3 * np.sqrt(exact * (1 - exact) / 3000)


def test_the_environment_ends_as_the_computation_does():
    env, episodes, successes = overcooked_tomato(), 1000, 0
    env.action_space.seed(0)
    for _ in range(episodes):
        env.reset()
        over = False
        while not over:
            _, _, terminated, truncated, info = env.step(env.action_space.sample())
            over = terminated or truncated
        successes += info["success"]
    exact = random_success("tomato", 200, 31)
    assert abs(successes / episodes - exact) < 3 * np.sqrt(exact * (1 - exact) / episodes)


@pytest.mark.parametrize(("task", "published", "value"), [("tomato", 1.625, 1.62879), ("salad", 1.754, 1.75811)])
def test_the_original_reward_has_a_loop(task, published, value):
    """Chop, serve the wrong thing, chop again: the best policy goes round for ever and never serves the dish."""
    values, policy = optimal(task, once=False)
    assert values[0] == pytest.approx(value, abs=1e-5)
    assert optimal(task, once=False, sweeps=500)[0][0] == pytest.approx(published, abs=5e-4)  # 500 decisions ahead
    assert play(task, "original", policy) == (False, pytest.approx(values[0], abs=1e-5))


@pytest.mark.parametrize("task", TASKS)
def test_paying_once_makes_serving_best(task):
    values, policy = optimal(task, once=True)
    assert play(task, "once", policy) == (True, pytest.approx(values[0], abs=1e-6))
    assert np.abs(values[tables(task, once=True).served]).max() == 0


def play(task: str, reward: str, policy: np.ndarray) -> tuple[bool, float]:
    """Success and discounted return of a policy over the nodes of `tables`, in the environment itself."""
    t = tables(task, once=reward == "once")
    env = TASKS[task][1](reward=reward, max_decisions=1500, max_primitive_steps=10**6)
    shown, _ = env.reset()
    node, total = 0, 0.0
    for decision in range(1500):
        action = policy[node]
        shown, pay, terminated, _, _ = env.step(shown["actions"][action])
        total += GAMMA**decision * pay
        node = t.successor[node, action]
        if terminated:
            return True, total
    return False, total
