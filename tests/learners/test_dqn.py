"""The identities that make DQN and DQN-Prior one family, and the equations themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrl.data.transitions import Transition
from llmrl.encoders.encoder import FeatureTable
from llmrl.encoders.hash import HashEncoder
from llmrl.envs.state import TextState
from llmrl.learners.dqn import DQN, _categorical, _logits
from llmrl.priors.candidates import Candidates
from llmrl.schema import DQNConfig, EncoderConfig

ACTIONS = ("left", "right", "up", "down")
STATE = TextState("Find the door.", "A corridor.", ACTIONS)
NEXT = TextState("Find the door.", "A hall.", ACTIONS)


def learner(**settings_: object) -> DQN:
    return DQN(
        DQNConfig(**{"batch": 4, "learning_starts": 0, "hidden": [16]} | settings_),
        0,
        FeatureTable(HashEncoder(EncoderConfig(dim=32))),
    )  # type: ignore[arg-type]


def weighted(weights: list[float], actions: list[int] | None = None) -> Candidates:
    w = np.array(weights) / np.sum(weights)
    return Candidates(np.arange(w.size) if actions is None else np.array(actions), np.log(w))


def distribution(agent: DQN, candidates: Candidates) -> np.ndarray:
    return agent.posterior(STATE, candidates)[1]


def test_an_infinite_temperature_is_the_prior_alone() -> None:
    candidates = weighted([1, 2, 3, 4])
    assert distribution(learner(alpha=float("inf")), candidates) == pytest.approx(np.exp(candidates.log_weights))


def test_one_candidate_is_the_prior_alone() -> None:
    agent = learner(alpha=0.01)
    assert agent.act([STATE] * 3, [weighted([1], [2])] * 3).tolist() == [2, 2, 2]


def test_uniform_weights_on_every_action_are_boltzmann_dqn() -> None:
    agent = learner(alpha=0.1)
    q, pi = agent.posterior(STATE, weighted([1, 1, 1, 1]))
    assert pi == pytest.approx(np.exp(q / 0.1) / np.exp(q / 0.1).sum(), rel=1e-4)


def test_the_posterior_multiplies_the_prior_and_the_likelihood() -> None:
    agent = learner(alpha=0.1)
    w = np.array([0.1, 0.2, 0.3, 0.4])
    q, pi = agent.posterior(STATE, weighted(list(w)))
    expected = w * np.exp(q / 0.1)
    assert pi == pytest.approx(expected / expected.sum(), rel=1e-4)


def test_zero_temperature_is_greedy_and_ties_go_by_weight() -> None:
    q = torch.tensor([[1.0, 2.0, 2.0, 0.0]])
    log_w = torch.log(torch.tensor([[0.4, 0.1, 0.3, 0.2]]))
    assert _logits(q, log_w, 0.0).softmax(-1)[0].tolist() == pytest.approx([0, 0.25, 0.75, 0])


def test_a_padded_or_weightless_candidate_is_never_drawn() -> None:
    logits = _logits(torch.tensor([[5.0, -torch.inf, 9.0]]), torch.tensor([[0.0, -torch.inf, -torch.inf]]), 0.5)
    rng = np.random.default_rng(0)
    assert {int(_categorical(logits, rng)[0]) for _ in range(50)} == {0}


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=6), st.integers(0, 2**31))
@settings(max_examples=30)
def test_draws_follow_their_distribution(logits: list[float], seed: int) -> None:
    p = torch.tensor([logits], dtype=torch.float64).softmax(-1)[0].numpy()
    drawn = _categorical(torch.tensor([logits] * 4000), np.random.default_rng(seed))
    share = np.bincount(drawn, minlength=p.size) / drawn.size
    assert np.abs(share - p).max() < 0.05  # more than six standard deviations


def backup(agent: DQN, candidates: Candidates) -> float:
    state_id = agent.table.ids([NEXT])[0]
    rows = torch.from_numpy(agent.table.first_row[state_id] + candidates.actions)[None]
    return float(agent._backup(rows, torch.from_numpy(candidates.log_weights).float()[None])[0])


def target_q(agent: DQN, candidates: Candidates) -> np.ndarray:
    state_id = agent.table.ids([NEXT])[0]
    rows = torch.from_numpy(agent.table.first_row[state_id] + candidates.actions)
    with torch.no_grad():
        return agent._values(rows[None], agent.target)[0][0].numpy()


@pytest.mark.parametrize("kind", ["max", "soft", "expected", "sampled"])
def test_a_backup_over_one_candidate_is_its_value(kind: str) -> None:
    agent, one = learner(backup=kind, alpha=0.3), weighted([1], [1])
    assert backup(agent, one) == pytest.approx(target_q(agent, one)[0], rel=1e-5)


def test_the_soft_backup_is_the_log_of_the_weighted_mean() -> None:
    agent, c = learner(backup="soft", alpha=0.3), weighted([1, 2, 5], [0, 1, 3])
    q, w = target_q(agent, c), np.exp(c.log_weights)
    assert backup(agent, c) == pytest.approx(0.3 * np.log((w * np.exp(q / 0.3)).sum()), rel=1e-5)


@given(st.lists(st.integers(1, 9), min_size=4, max_size=4), st.integers(2, 50))
@settings(max_examples=25)
def test_a_soft_value_does_not_change_when_all_counts_are_multiplied(counts: list[int], factor: int) -> None:
    agent = learner(backup="soft", alpha=0.2)
    assert backup(agent, weighted([c * factor for c in counts])) == pytest.approx(
        backup(agent, weighted(counts)), rel=1e-6
    )  # type: ignore[arg-type]


def test_the_expected_backup_is_the_mean_under_the_posterior() -> None:
    agent, c = learner(backup="expected", alpha=0.3), weighted([1, 2, 5, 1])
    q, w = target_q(agent, c), np.exp(c.log_weights)
    pi = w * np.exp(q / 0.3)
    assert backup(agent, c) == pytest.approx(
        (pi / pi.sum() * q).sum(), rel=1e-4
    )  # online equals target before learning


def transition(reward: float, terminated: bool = False, truncated: bool = False, env: int = 0) -> Transition:
    return Transition(
        env, STATE, 1, reward, 2, terminated, truncated, NEXT, None if terminated else weighted([1, 1, 1, 1])
    )


def test_n_step_returns_are_discounted_and_cut_episodes_bootstrap() -> None:
    agent = learner(n_step=3, gamma=0.5)
    agent.observe([transition(1.0)])
    agent.observe([transition(2.0)])
    agent.observe([transition(4.0, truncated=True)])
    assert agent.replay._returns[:3].tolist() == [1 + 1 + 1, 2 + 2, 4]
    assert agent.replay._discounts[:3].tolist() == [0.125, 0.25, 0.5]
    agent.observe([transition(1.0, terminated=True)])
    assert agent.replay._discounts[3] == 0


def test_environments_do_not_share_a_window() -> None:
    agent = learner(n_step=2, gamma=1.0)
    agent.observe([transition(1.0, env=0), transition(10.0, env=1)])
    agent.observe([transition(2.0, env=0), transition(20.0, env=1)])
    assert agent.replay._returns[: agent.replay.size].tolist() == [3, 30]


def test_primitive_steps_discount_as_a_semi_mdp() -> None:
    agent = learner(n_step=1, gamma=0.5, discount_by="primitive_steps")
    agent.observe([transition(1.0)])
    assert agent.replay._discounts[0] == 0.25


def test_learning_moves_q_to_what_was_paid() -> None:
    agent = learner(n_step=1, batch=8, lr=0.01, update_every=1, updates=2)
    for _ in range(150):
        agent.observe([transition(0.7, terminated=True)])
        agent.update()
    assert agent.posterior(STATE, weighted([1], [1]))[0][0] == pytest.approx(0.7, abs=0.02)


def test_updates_follow_the_ratio() -> None:
    agent = learner(n_step=1, batch=2, learning_starts=4, update_every=2, updates=3)
    for _ in range(10):
        agent.observe([transition(0.0)])
        agent.update()
    assert agent.steps == 3 * 3  # rounds at decisions 6, 8 and 10


def test_epsilon_decays_to_its_final_value() -> None:
    agent = learner(epsilon=1.0, epsilon_final=0.1, epsilon_decay=10)
    assert agent._epsilon() == 1.0
    agent.decisions = 5
    assert agent._epsilon() == pytest.approx(0.55)
    agent.decisions = 99
    assert agent._epsilon() == pytest.approx(0.1)


def test_optimism_raises_every_value() -> None:
    q = learner().posterior(STATE, weighted([1, 1, 1, 1]))[0]
    assert learner(optimism=2.0).posterior(STATE, weighted([1, 1, 1, 1]))[0] == pytest.approx(q + 2, rel=1e-5)
