"""DRRN: what it reads, its equations, and that it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrl.core.candidates import Candidates, Proposal
from llmrl.core.state import TextState
from llmrl.core.transitions import Transition
from llmrl.learners.drrn import DRRN, _hash_words, _Kept, _Memory
from llmrl.learners.learner import Diverged
from llmrl.schema.learners import DRRNConfig

ACTIONS = ("go left", "go right", "look around")
STATE = TextState("Find the door.", "A corridor.", ACTIONS, (("A hall.", "go left"), ("A garden.", "look around")))
NEXT = TextState("Find the door.", "A hall, and a way further on.", ACTIONS, (("A corridor.", "go right"),))
ALL = Candidates(np.arange(3), np.full(3, -np.log(3)))


def learner(seed: int = 0, **changed: Any) -> DRRN:
    small = {"batch": 4, "learning_starts": 0, "update_every": 1, "embedding": 8, "hidden": 8, "positive_share": 0.0}
    return DRRN(DRRNConfig(**{**small, **changed}), seed)


def step(reward: float = 0.0, action: int = 0, terminated: bool = False, after: TextState = NEXT) -> Transition:
    return Transition(0, STATE, action, reward, 3, terminated, False, after, None if terminated else ALL)


def q(agent: DRRN, state: TextState) -> np.ndarray:
    return agent.posterior(state, ALL)[0]


# ---- reading -------------------------------------------------------------------------------------------------------


def test_a_value_depends_on_the_task_the_observation_the_history_shown_and_the_action() -> None:
    agent = learner(history_turns=1)
    values = q(agent, STATE)
    assert len(set(values.tolist())) == len(ACTIONS)
    seen = {"task": "Find the cat.", "observation": "A cellar.", "history": (("A hall.", "go left"),)}
    for part, other in seen.items():
        changed = TextState(**{"task": STATE.task, "observation": STATE.observation, "actions": ACTIONS,
                               "history": STATE.history, part: other})  # fmt: skip
        assert not np.allclose(q(agent, changed), values, atol=1e-7), part
    older = TextState(STATE.task, STATE.observation, ACTIONS, (("A well.", "go right"), STATE.history[-1]))
    assert q(agent, older).tolist() == values.tolist()


def test_without_history_two_ways_to_a_state_are_one() -> None:
    agent = learner(history_turns=0)
    bare = TextState(STATE.task, STATE.observation, ACTIONS)
    assert q(agent, bare).tolist() == q(agent, STATE).tolist()


def test_an_order_of_words_is_an_order() -> None:
    agent = learner()
    swapped = TextState(STATE.task, "corridor A.", ACTIONS, STATE.history)
    assert not np.allclose(q(agent, swapped), q(agent, STATE), atol=1e-7)


@given(st.text(max_size=30))
def test_every_text_has_words_and_case_is_none(text: str) -> None:
    tokens = _hash_words(text)
    assert tokens.dtype == torch.int64
    assert len(tokens) >= 1
    assert _hash_words("Go LEFT, now!").tolist() == _hash_words("go left now").tolist()


@given(st.lists(st.sampled_from([STATE, NEXT]), min_size=1, max_size=5))
@settings(max_examples=20, deadline=None)
def test_a_value_does_not_depend_on_what_is_read_beside_it(states: list[TextState]) -> None:
    agent = learner()
    uniform = [Proposal(np.full(3, 1 / 3), None)] * len(states)
    for state, together in zip(states, agent.policy(states, uniform, greedy=False), strict=True):
        assert together == pytest.approx(agent.posterior(state, ALL)[1], abs=1e-5)


# ---- behaviour -----------------------------------------------------------------------------------------------------


def test_behaviour_is_boltzmann_over_the_menu() -> None:
    agent = learner(alpha=0.05)
    values, pi = agent.posterior(STATE, ALL)
    assert pi == pytest.approx(np.exp(values / 0.05) / np.exp(values / 0.05).sum(), rel=1e-4)
    assert agent.policy([STATE], [Proposal(np.full(3, 1 / 3), None)], greedy=False)[0] == pytest.approx(pi)


def test_the_greedy_policy_takes_the_best_of_the_candidates() -> None:
    agent = learner()
    best = int(q(agent, STATE).argmax())
    others = np.array([a for a in range(3) if a != best])
    fewer = Candidates(others, np.full(2, -np.log(2)))
    second = others[q(agent, STATE)[others].argmax()]
    rng = np.random.default_rng(0)
    assert agent.evaluate([STATE, STATE], [ALL, fewer], rng, greedy=True).tolist() == [best, second]
    (chances,) = agent.policy([STATE], [Proposal(np.full(3, 1 / 3), None)], greedy=True)
    assert chances.tolist() == np.eye(3)[best].tolist()


def test_evaluation_has_a_temperature_of_its_own() -> None:
    sharp = learner(alpha=1.0, alpha_eval=0.001).posterior(STATE, ALL)[1]
    assert sharp.max() > learner(alpha=1.0).posterior(STATE, ALL)[1].max() + 0.1


# ---- learning ------------------------------------------------------------------------------------------------------


def kept(agent: DRRN, *transitions: Transition) -> list[_Kept]:
    agent.observe(transitions)
    return agent.memory.kept


def target_q(agent: DRRN, state: TextState) -> np.ndarray:
    weights = agent.net.state_dict()
    online = {name: tensor.clone() for name, tensor in weights.items()}
    agent.load_state_dict(agent.target.state_dict())
    values = q(agent, state)
    agent.load_state_dict(online)
    return values


def test_the_target_is_the_reward_and_the_best_target_value_after_it() -> None:
    agent = learner(gamma=0.9)
    with torch.no_grad():
        agent.target.score.bias.add_(0.7)
    few = Candidates(np.array([0, 2]), np.full(2, -np.log(2)))
    cut = Transition(0, STATE, 2, 0.5, 1, False, True, NEXT, few)
    batch = kept(agent, step(0.25), step(1.0, 1, terminated=True), cut)
    values = target_q(agent, NEXT)
    assert values.max() > q(agent, NEXT).max() + 0.5  # of the target, not of the network that learns
    expected = [0.25 + 0.9 * values.max(), 1.0, 0.5 + 0.9 * values[[0, 2]].max()]
    assert agent._targets(batch).tolist() == pytest.approx(expected, rel=1e-5)
    assert agent._targets(batch[1:2]).tolist() == [1.0]


def test_returns_are_discounted_by_decisions_or_by_primitive_steps() -> None:
    for by, gamma in (("decisions", 0.9), ("primitive_steps", 0.9**3)):
        agent = learner(gamma=0.9, n_step=2, discount_by=by)
        (first, *_) = kept(agent, step(1.0), step(2.0))
        assert (first.ret, first.discount) == pytest.approx((1 + gamma * 2, gamma**2))


def test_the_target_network_follows_at_its_rate() -> None:
    agent = learner(target_rate=0.25, update_every=4)
    before = agent.target.score.weight.clone()
    kept(agent, *[step(1.0)] * 4)
    assert agent.update()["loss/td"] > 0
    after = agent.net.score.weight
    assert not torch.equal(before, after)
    assert torch.allclose(agent.target.score.weight, before + 0.25 * (after - before))


def test_gradient_steps_are_due_by_decisions() -> None:
    agent = learner(learning_starts=6, update_every=2)
    seen = []
    for _ in range(10):
        agent.observe([step(1.0)])
        seen.append(bool(agent.update()))
    assert seen == [False] * 7 + [True, False, True]


@given(st.integers(0, 8), st.floats(0, 1))
def test_a_share_of_a_batch_is_positive_where_anything_is(positives: int, share: float) -> None:
    memory = _Memory(8, share, np.random.default_rng(0))
    for i in range(20):  # the ring turns, and forgets
        memory.add(_Kept((0, 0), 0, 1.0 if i >= 20 - positives else -1.0, 0.9, None))
    assert len(memory.kept) == 8
    drawn = memory.sample(10)
    assert len(drawn) == 10
    found = sum(k.ret > 0 for k in drawn)
    assert found >= round(share * 10) if positives else found == 0


def test_it_learns_which_action_pays() -> None:
    agent = learner(lr=0.01, batch=16, hidden=16, alpha=0.1)
    for i in range(150):
        agent.observe([step(float(i % 3 == 1), i % 3, terminated=True)])
        agent.update()
    assert q(agent, STATE) == pytest.approx([0, 1, 0], abs=0.15)


def test_equal_seeds_are_equal_agents_and_weights_carry_over() -> None:
    one, other = learner(seed=3), learner(seed=4)
    assert q(one, STATE).tolist() == q(learner(seed=3), STATE).tolist() != q(other, STATE).tolist()
    other.load_state_dict(one.state_dict())
    assert q(other, STATE).tolist() == q(one, STATE).tolist()


def test_absurd_numbers_change_nothing_and_act_on_nothing() -> None:
    agent = learner()
    before = {name: tensor.clone() for name, tensor in agent.state_dict().items()}
    for _ in range(4):
        agent.observe([step(np.nan, terminated=True)])
    with pytest.raises(Diverged, match=r"the loss or its gradient.*lower learner\.lr"):
        agent.update()
    assert all(tensor.equal(before[name]) for name, tensor in agent.state_dict().items())
    with torch.no_grad():
        agent.net.score.bias.fill_(np.nan)
    with pytest.raises(Diverged, match="Q is not a finite number"):
        agent.act([STATE], [ALL])
    with pytest.raises(Diverged, match="Q is not a finite number"):
        agent.policy([STATE], [Proposal(np.full(3, 1 / 3), None)], greedy=True)
