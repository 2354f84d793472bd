from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import worlds

from llmrl.core.candidates import Candidates
from llmrl.core.state import TextState
from llmrl.envs.pool import EnvPool, Outcome, Reset, Step, WorldError
from llmrl.priors.prior import Prior
from llmrl.rollout.rollout import Rollout, Tick
from llmrl.schema.priors import PriorConfig


class Recording(EnvPool):
    """A pool that remembers what it was told and said."""

    def __init__(self, make: Callable[[], Any], num_envs: int) -> None:
        super().__init__(make, num_envs)
        self.told: list[Reset | Step] = []
        self.said: list[Outcome] = []

    def run(self, commands: Sequence[Reset | Step]) -> list[Outcome]:
        outcomes = super().run(commands)
        self.told += commands
        self.said += outcomes
        return outcomes

    def resets(self, env: int) -> list[Reset]:
        return [c for c in self.told if isinstance(c, Reset) and c.env == env]


def rollout(
    make: Callable[[], Any] = worlds.Corridor, envs: int = 3, seed: int = 0, name: str = "train", **more: Any
) -> Rollout:
    r = Rollout(Recording(make, envs), Prior(PriorConfig("uniform"), seed), seed, name, **more)
    r.start()
    return r


def east(states: Sequence[TextState], candidates: Sequence[Candidates]) -> np.ndarray:
    return np.zeros(len(states), dtype=np.int64)


def west(states: Sequence[TextState], candidates: Sequence[Candidates]) -> np.ndarray:
    return np.ones(len(states), dtype=np.int64)


def ticks(r: Rollout, n: int, choose: Any = east) -> list[Tick]:
    return [r.tick(choose) for _ in range(n)]


def test_a_learner_is_told_what_each_action_was_chosen_among() -> None:
    r, given = rollout(), []

    def choose(states: Sequence[TextState], candidates: Sequence[Candidates]) -> np.ndarray:
        given.extend(candidates)
        return east(states, candidates)

    told = [t.candidates for tick in ticks(r, 12, choose) for t in tick.transitions]
    assert len(told) == 36
    assert all(mine is theirs for mine, theirs in zip(told, given, strict=True))


# ---- episodes are named ----------------------------------------------------------------------------------------------


def named(r: Rollout, env: int, n: int = 3) -> list[tuple[int, str | None]]:
    return [(c.seed, c.task) for c in r.pool.resets(env)][:n]  # type: ignore[attr-defined]


def test_an_episodes_seed_and_task_depend_on_its_name_alone() -> None:
    few, many, slow = rollout(envs=1), rollout(envs=4), rollout(envs=2)
    ticks(few, 30)
    ticks(many, 40)
    ticks(slow, 30, west)  # other actions, other lengths
    assert len(few.pool.resets(0)) > 3  # type: ignore[attr-defined]
    assert named(few, 0) == named(many, 0) == named(slow, 0)
    assert named(many, 1) == named(slow, 1)
    everything = [x for e in range(4) for x in named(many, e)]
    assert len({seed for seed, _ in everything}) == 12
    assert len({task for _, task in everything}) == 2
    for other in (rollout(seed=1), rollout(name="evaluation")):
        ticks(other, 30)
        assert not set(named(other, 0)) & set(named(few, 0))


@pytest.mark.parametrize("envs", [1, 2, 5])
def test_tasks_can_take_turns(envs: int) -> None:
    r = rollout(partial(worlds.Corridor, (1, 2, 3)), envs=envs, first_in_turn=0)
    for _ in range(3):
        r.start()  # one more episode of each
    order = [c.task for c in r.pool.told]  # type: ignore[attr-defined]
    assert order == [f"walk-{1 + i % 3}" for i in range(4 * envs)]


# ---- transitions -----------------------------------------------------------------------------------------------------


def test_transitions_come_in_environment_order_and_join_up() -> None:
    r = rollout(envs=3)
    before = list(r.states)
    for _ in range(20):
        tick = r.tick(west)
        assert [t.env for t in tick.transitions] == [0, 1, 2]
        for t in tick.transitions:
            assert t.state == before[t.env]
            assert t.state.actions[t.action] == "go west"
            assert t.duration == 2
            if not t.terminated and not t.truncated:
                assert r.states[t.env] == t.next_state
        before = list(r.states)


def test_a_cut_episode_bootstraps_and_a_terminated_one_does_not() -> None:
    cut = [t for tick in ticks(rollout(), 20, west) for t in tick.transitions if t.truncated]
    assert len(cut) == 3 * 3
    for t in cut:
        assert t.next_candidates is not None
        assert t.next_candidates.actions.tolist() == [0, 1]
        assert not t.terminated
    done = [t for tick in ticks(rollout(), 30) for t in tick.transitions if t.terminated]
    assert len(done) > 9
    for t in done:
        assert t.next_candidates is None
        assert t.reward == 1
        assert t.next_state.observation.endswith(("room 2.", "room 3."))


def test_only_the_active_ones_move() -> None:
    r = rollout(envs=3)
    before = list(r.states)
    tick = r.tick(east, [2, 0])
    assert [t.env for t in tick.transitions] == [2, 0]
    assert r.states[1] is before[1]


def test_without_learning_nothing_is_kept_or_begun_again() -> None:
    class Asked(Prior):
        uses: list[str] = []  # noqa: RUF012

        def candidates(self, states: Sequence[TextState], use: Any, experts: Any = None) -> list[Candidates]:
            self.uses.append(use)
            return super().candidates(states, use, experts)

    pool = Recording(worlds.Corridor, 2)
    prior = Asked(PriorConfig("uniform"), 0)
    r = Rollout(pool, prior, 0, "x", use="evaluation")
    r.start()
    seen = [r.tick(west, learning=False) for _ in range(6)]
    assert all(tick.transitions == [] for tick in seen)
    assert [len(tick.episodes) for tick in seen] == [0, 0, 0, 0, 0, 2]
    assert set(prior.uses) == {"evaluation"}
    assert len(pool.resets(0)) == 1


def test_episodes_are_summed_up() -> None:
    r = rollout(partial(worlds.Corridor, (2,), wind=0.0), envs=2)
    won = [e for tick in ticks(r, 4) for e in tick.episodes]
    assert [(e.env, e.number, e.task_id, e.ret, e.success, e.decisions, e.primitive_steps) for e in won] == [
        (e, n, "walk-2", 1.0, True, 2, 4) for n in range(2) for e in range(2)
    ]
    lost = [e for tick in ticks(r, 6, west) for e in tick.episodes]
    assert [(e.env, e.number, e.ret, e.success, e.decisions) for e in lost] == [
        (0, 2, 0, False, 6),
        (1, 2, 0, False, 6),
    ]


# ---- history ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", [0, 1, 3])
def test_states_carry_the_last_turns_of_their_own_episode(turns: int) -> None:
    r = rollout(envs=2, history_turns=turns)
    told: list[list[tuple[str, str]]] = [[], []]
    for _ in range(20):
        for e in range(2):
            assert list(r.states[e].history) == (told[e][-turns:] if turns else [])
        states = list(r.states)
        tick = r.tick(lambda states, _: np.array([len(s.observation + str(s.history)) % 2 for s in states]))
        for t in tick.transitions:
            told[t.env].append((states[t.env].observation, states[t.env].actions[t.action]))
            assert list(t.next_state.history) == (told[t.env][-turns:] if turns else [])
            if t.terminated or t.truncated:
                told[t.env] = []


# ---- coverage --------------------------------------------------------------------------------------------------------


class One:
    """A prior that proposes one action."""

    def __init__(self, index: int) -> None:
        self.index = index

    def candidates(self, states: Sequence[TextState], use: str, experts: Any = None) -> list[Candidates]:
        return [Candidates(np.array([self.index]), np.zeros(1)) for _ in states]

    def start_evaluation(self, *name: str | int) -> None:
        raise AssertionError("no evaluation here")


@pytest.mark.parametrize(("proposed", "covered"), [(0, 3), (1, 0)])
def test_coverage_counts_decisions_whose_candidates_hold_an_experts_action(proposed: int, covered: int) -> None:
    r = Rollout(EnvPool(worlds.Corridor, 3), One(proposed), 0, "train")  # type: ignore[arg-type]
    r.start()
    for _ in range(8):
        tick = r.tick(lambda states, candidates: np.array([c.actions[0] for c in candidates]))
        assert (tick.covered, tick.with_expert) == (covered, 3)


def test_what_has_no_weight_covers_nothing() -> None:
    class Ruled(One):
        def candidates(self, states: Sequence[TextState], use: str, experts: Any = None) -> list[Candidates]:
            return [Candidates(np.arange(2), np.where(np.arange(2) == self.index, 0.0, -np.inf)) for _ in states]

    for index, covered in ((0, 3), (1, 0)):
        r = Rollout(EnvPool(worlds.Corridor, 3), Ruled(index), 0, "train")  # type: ignore[arg-type]
        r.start()
        tick = r.tick(lambda states, candidates: np.array([c.possible[0] for c in candidates]))
        assert (tick.covered, tick.with_expert) == (covered, 3)


def test_coverage_counts_nothing_where_no_expert_is_known() -> None:
    class Unknown(worlds.Corridor):
        def _turn(self) -> Any:
            return super()._turn()._replace(expert_actions=None)

    for tick in ticks(rollout(Unknown), 8):
        assert (tick.covered, tick.with_expert) == (0, 0)


# ---- what an oracle is told ------------------------------------------------------------------------------------------


class Told(Prior):
    """Remembers which expert it was told of, for which state and use."""

    def __init__(self, cfg: PriorConfig) -> None:
        super().__init__(cfg, 0)
        self.told: list[tuple[str, str, frozenset[str] | None]] = []

    def candidates(self, states: Sequence[TextState], use: Any, experts: Any = None) -> list[Candidates]:
        self.told += [(use, s.observation, e) for s, e in zip(states, experts, strict=True)]
        return super().candidates(states, use, experts)


class Turning(worlds.Corridor):
    """Its expert goes west in every other room."""

    def _turn(self) -> Any:
        return super()._turn()._replace(expert_actions=frozenset({("go east", "go west")[self.at % 2]}))


@pytest.mark.parametrize("use", ["behaviour", "evaluation"])
def test_a_prior_is_told_the_expert_of_each_state(use: Any) -> None:
    prior = Told(PriorConfig("oracle", "oracle", mix=0.0))
    r = Rollout(EnvPool(partial(Turning, wind=0.0), 3), prior, 0, "x", use=use)
    r.start()
    for _ in range(12):
        tick = r.tick(lambda states, candidates: np.array([c.actions[0] for c in candidates]), [2, 0])
        assert (tick.covered, tick.with_expert) == (2, 2)
    assert {u for u, _, _ in prior.told} == {use, "target"}
    for _, observation, expert in prior.told:
        room = int(observation.removesuffix(".")[-1])
        assert expert == {("go east", "go west")[room % 2]}


def test_an_oracle_in_a_world_that_never_tells_is_an_error_at_the_first_tick() -> None:
    class Silent(worlds.Corridor):
        def _turn(self) -> Any:
            return super()._turn()._replace(expert_actions=None)

    r = Rollout(EnvPool(Silent, 2), Prior(PriorConfig("oracle", "oracle"), 0), 0, "train")
    r.start()
    with pytest.raises(ValueError, match=r"prior=oracle needs the actions of an expert, and this world names none"):
        r.tick(east)


# ---- worlds that break the rules -------------------------------------------------------------------------------------


def test_a_cut_episode_that_ends_without_actions_is_refused() -> None:
    r = rollout(worlds.Walled, envs=2)
    with pytest.raises(WorldError, match=r"environment 0 offers no action .* the last state still needs its actions"):
        r.tick(east)
