"""Success that is computed: against sums over every path, and against the world that the table stands for."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from llmrl import build
from llmrl.build import build_env, build_exact
from llmrl.config.compose import compose, config_folder
from llmrl.core.candidates import Proposal
from llmrl.core.state import TextState
from llmrl.envs.model import Outcome, Shown
from llmrl.rollout.exact import Exact

WALK = ("left", "right")
OWN = config_folder()


class Slope:
    """Three rooms in a row; the third is the goal. A step may slip back, which takes longer, and costs."""

    task = "walk"

    def __init__(self, max_decisions: int, max_primitive_steps: int | None, slip: float = 0.25) -> None:
        self.max_decisions, self.max_primitive_steps, self.slip = max_decisions, max_primitive_steps, slip

    def initial(self) -> list[tuple[float, Hashable]]:
        return [(0.5, 0), (0.5, 1)]

    def shown(self, state: Hashable) -> Shown:
        return Shown("a room", WALK, frozenset({"right"}))

    def outcomes(self, state: Hashable, action: int) -> list[Outcome]:
        assert isinstance(state, int)
        back = Outcome(self.slip, max(0, state - 1), -1.0, 3, False, False)
        there = max(0, state - 1) if action == 0 else state + 1
        return [back, Outcome(1 - self.slip, there, float(there == 2), 1 + action, there == 2, there == 2)]


class Fixed:
    """Both a prior and a learner: plays `chances(state)`, whatever it is given."""

    def __init__(self, right: float | None = None, proposal: Proposal | None = None) -> None:
        self.right = right
        self.proposal = proposal or Proposal(np.array([0.5, 0.5]), None)

    def proposals(self, states: Sequence[TextState], experts: Sequence[frozenset[str] | None]) -> list[Proposal]:
        assert all(e == {"right"} for e in experts)
        return [self.proposal for _ in states]

    def chances(self, state: TextState) -> np.ndarray:
        if self.right is not None:
            return np.array([1 - self.right, self.right])
        came_right = state.history[-1][1] == "right" if state.history else False  # a policy that remembers
        return np.array([0.9, 0.1]) if came_right else np.array([0.2, 0.8])

    def policy(self, states: Sequence[TextState], proposals: Sequence[Proposal], greedy: bool) -> list[np.ndarray]:
        return [self.chances(s) for s in states]


def by_paths(model: Slope, agent: Fixed, turns: int) -> tuple[float, float, float]:
    """The same by walking every path."""
    ret = success = length = 0.0
    paths = [(p, state, (), 0) for p, state in model.initial()]
    for _ in range(model.max_decisions):
        after = []
        for p, state, history, taken in paths:
            length += p
            chances = agent.chances(TextState("walk", "a room", WALK, history))
            for action, name in enumerate(WALK):
                for o in model.outcomes(state, action):
                    q = p * chances[action] * o.probability
                    ret += q * o.reward
                    success += q * (o.terminated and o.success)
                    kept = (*history, ("a room", name))[-turns:] if turns else ()
                    steps = taken + o.duration
                    if not o.terminated and (model.max_primitive_steps is None or steps < model.max_primitive_steps):
                        after.append((q, o.state, kept, steps))
        paths = after
    return ret, success, length


@pytest.mark.parametrize("turns", [0, 1, 2])
@pytest.mark.parametrize("cap", [None, 1, 4, 7, 100])
@pytest.mark.parametrize("right", [None, 0.0, 0.3, 1.0])
def test_it_is_the_sum_over_all_paths(turns: int, cap: int | None, right: float | None) -> None:
    model, agent = Slope(6, cap), Fixed(right)
    exact = Exact.of([model], turns, at_most=1000)
    assert exact is not None
    found = exact.evaluate(agent, agent, greedy=False)  # type: ignore[arg-type]
    assert found is not None
    remembers = agent if turns or right is not None else Fixed(0.8)  # without a history it never came right
    assert (found.ret, found.success, found.length) == pytest.approx(by_paths(model, remembers, turns), abs=1e-12)
    assert found.metrics("eval")["eval/exact"] is True


def test_tasks_count_alike() -> None:
    easy, hard, agent = Slope(20, None, slip=0.0), Slope(2, None, slip=0.9), Fixed(0.7)

    def success(*models: Slope) -> float:
        exact = Exact.of(models, 0, at_most=100)
        assert exact is not None
        found = exact.evaluate(agent, agent, greedy=False)  # type: ignore[arg-type]
        assert found is not None
        return found.success

    assert success(easy, hard) == pytest.approx((success(easy) + success(hard)) / 2)
    assert success(easy) > success(hard)


def test_a_world_without_a_model_or_with_too_many_states_is_not_listed() -> None:
    assert Exact.of([Slope(3, None), None], 0, at_most=100) is None
    assert Exact.of([Slope(3, None)], 2, at_most=3) is None
    assert Exact.of([Slope(3, None), Slope(3, None)], 0, at_most=3) is None
    assert Exact.of([Slope(3, None)], 0, at_most=2) is not None


@given(
    st.lists(st.floats(0.05, 1), min_size=2, max_size=2).map(lambda w: np.array(w) / sum(w)),
    st.sampled_from([None, 1, 2, 3]),
    st.integers(1, 4),
)
@settings(deadline=None, max_examples=30)
def test_the_ceiling_is_the_best_that_the_candidates_allow(p: np.ndarray, k: int | None, decisions: int) -> None:
    model, agent = Slope(decisions, None), Fixed(proposal=Proposal(p, k))

    def best(state: int, left: int) -> float:
        if left == 0:
            return 0.0
        value = []
        for a in range(2):
            outcomes = model.outcomes(state, a)
            worth = [float(o.success) if o.terminated else best(o.state, left - 1) for o in outcomes]  # type: ignore[arg-type]
            value.append(sum(o.probability * w for o, w in zip(outcomes, worth, strict=True)))
        if k is None:
            return max(value)
        return sum(np.prod(p[list(d)]) * max(value[a] for a in d) for d in itertools.product(range(2), repeat=k))

    exact = Exact.of([model], 0, at_most=10)
    assert exact is not None
    assert exact.ceiling(agent) == pytest.approx(sum(q * best(s, decisions) for q, s in model.initial()))  # type: ignore[arg-type, misc]


def test_an_action_that_is_never_proposed_lowers_the_ceiling() -> None:
    exact = Exact.of([Slope(9, None)], 0, at_most=10)
    assert exact is not None
    assert exact.ceiling(Fixed(proposal=Proposal(np.array([1.0, 0.0]), None))) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("world", ["overcooked_tomato", "overcooked_salad", "overcooked_random"])
@pytest.mark.parametrize("reward", ["once", "original"])
def test_a_kitchens_model_is_the_kitchen(world: str, reward: str) -> None:
    env = build_env(compose([f"env={world}", f"env.reward={reward}", "learner=random"]))
    (task,) = env.task_ids  # type: ignore[attr-defined]
    model = env.model(task)  # type: ignore[attr-defined]
    rng = np.random.default_rng(0)
    for _ in range(20):
        seen, info = env.reset(seed=0)
        ((_, state),) = model.initial()
        over = False
        while not over:
            shown = model.shown(state)
            assert (seen["task"], seen["observation"], seen["actions"]) == (
                model.task,
                shown.observation,
                shown.actions,
            )
            assert info["expert_actions"] == shown.expert_actions
            action = int(rng.integers(len(shown.actions)))
            (outcome,) = model.outcomes(state, action)
            seen, reward_paid, terminated, truncated, info = env.step(shown.actions[action])
            assert (outcome.reward, outcome.duration, outcome.terminated) == (reward_paid, info["duration"], terminated)
            over, state = terminated or truncated, outcome.state


def test_random_play_in_the_fixed_kitchens() -> None:
    """Both caps bind here; 3,000 sampled episodes of the originals gave 15.8 % and 0.2 %."""
    for world, success in (("overcooked_tomato", 0.148443), ("overcooked_salad", 0.003844)):
        cfg = compose([f"env={world}", "learner=random"])
        exact = build_exact(cfg, 0)
        assert exact is not None
        uniform = _Uniform()
        found = exact.evaluate(uniform, uniform, False)  # type: ignore[arg-type]
        assert found is not None
        assert found.success == pytest.approx(success, abs=1e-6)


def test_runs_of_one_process_share_the_lists_and_nothing_else() -> None:
    def built(*overrides: str) -> Exact:
        exact = build_exact(compose(["env=overcooked_tomato", "learner=random", *overrides]), 0)
        assert exact is not None
        return exact

    first, second, other = built(), built("seed=1"), built("env.max_decisions=9")
    assert first is not second
    assert first._tables is second._tables
    uniform = _Uniform()
    found = [exact.evaluate(uniform, uniform, False) for exact in (first, second, other)]  # type: ignore[arg-type]
    assert found[0] == found[1] != found[2]
    assert first._followed is not second._followed


@pytest.mark.parametrize("world", sorted(str(p.relative_to(OWN / "env")) for p in (OWN / "env").rglob("*.yaml")))
def test_every_worlds_settings_name_its_lists(world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists of texts too, which a world of an extra that is not installed may have."""
    given: list[object] = []

    def opened(**arguments: object) -> _NoModel:
        given.append(arguments)
        return _NoModel()

    monkeypatch.setattr(build, "_target", lambda part, node: opened)
    build._list_states.cache_clear()
    cfg = compose([f"env={world.removesuffix('.yaml')}", "learner=random"])
    assert build_exact(cfg, 0) is None
    assert build_exact(cfg, 0) is None
    expected = {key: value for key, value in OmegaConf.to_container(cfg.env).items() if key not in ("kind", "name")}
    assert given == [expected]
    build._list_states.cache_clear()


class _NoModel:
    def close(self) -> None:
        pass


class _Uniform:
    def proposals(self, states: Sequence[TextState], experts: object) -> list[Proposal]:
        return [Proposal(np.full(len(s.actions), 1 / len(s.actions)), None) for s in states]

    def policy(self, states: Sequence[TextState], proposals: Sequence[Proposal], greedy: bool) -> list[np.ndarray]:
        return [p.weights for p in proposals]
