"""The identities that make DQN and DQN-Prior one family, and the equations themselves."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrl.core.candidates import Candidates, Proposal
from llmrl.core.state import TextState
from llmrl.core.transitions import Transition
from llmrl.encoders.encoder import FeatureTable
from llmrl.encoders.hash import HashEncoder
from llmrl.learners.dqn import DQN
from llmrl.learners.learner import Diverged
from llmrl.learners.weights import network, write_weights
from llmrl.schema.encoders import EncoderConfig
from llmrl.schema.learners import DQNConfig

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


# ---- the chances of its actions, computed --------------------------------------------------------------------------


class Even:
    """In place of a generator: evenly spaced numbers, so that shares are chances to within one of `size`."""

    def random(self, size: int) -> np.ndarray:
        return (np.arange(size) + 0.5) / size


def shares(agent: DQN, candidates: Candidates, greedy: bool, size: int = 2000) -> np.ndarray:
    chosen = agent.evaluate([STATE] * size, [candidates] * size, Even(), greedy)  # type: ignore[arg-type]
    return np.bincount(chosen, minlength=len(ACTIONS)) / size


PROPOSED = np.array([0.4, 0.0, 0.5, 0.1])


@pytest.mark.parametrize("greedy", [False, True])
@pytest.mark.parametrize("settings_", [{"alpha": 0.05}, {"alpha": 0.5, "alpha_eval": 0.02}, {"alpha_eval": 0.0}])
def test_the_policy_is_what_evaluation_does_over_all_draws(greedy: bool, settings_: dict[str, float]) -> None:
    agent = learner(epsilon=0.5, **settings_)  # epsilon has no part in an evaluation
    expected = np.zeros(4)
    for drawn in product([0, 2, 3], repeat=3):
        counts = np.bincount(drawn, minlength=4)
        there = np.flatnonzero(counts)
        expected += PROPOSED[list(drawn)].prod() * shares(agent, weighted(list(counts[there]), list(there)), greedy)
    (found,) = agent.policy([STATE], [Proposal(PROPOSED, 3)], greedy)  # type: ignore[misc]
    assert found == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("greedy", [False, True])
@pytest.mark.parametrize("settings_", [{"alpha": 0.05}, {"combine": "product", "alpha": 0.5}])
def test_the_policy_on_all_candidates_is_what_evaluation_does(greedy: bool, settings_: dict[str, object]) -> None:
    agent, there = learner(**settings_), np.flatnonzero(PROPOSED)
    expected = shares(agent, weighted(list(PROPOSED[there]), list(there)), greedy)
    states, proposals = [NEXT, STATE], [Proposal(np.full(4, 0.25), None), Proposal(PROPOSED, None)]
    found = agent.policy(states, proposals, greedy)
    assert found is not None
    assert found[1] == pytest.approx(expected, abs=2e-3)


def test_a_product_over_draws_has_no_formula() -> None:
    assert learner(combine="product").policy([STATE], [Proposal(PROPOSED, 3)], greedy=True) is None


def test_a_policy_is_the_same_alone_and_among_thousands() -> None:
    agent = learner(alpha=0.1)
    states = [TextState("Find the door.", f"Room {i}.", ACTIONS[: 2 + i % 3]) for i in range(2000)]
    proposals = [Proposal(np.full(len(s.actions), 1 / len(s.actions)), 5) for s in states]
    together = agent.policy(states, proposals, greedy=False)
    assert together is not None
    for i in (0, 777, 1999):
        assert together[i] == pytest.approx(agent.policy([states[i]], [proposals[i]], False)[0], abs=1e-5)  # type: ignore[index]


# ---- what it may have instead of a prior, or beside it -------------------------------------------------------------


def test_a_product_explores_by_the_prior() -> None:
    candidates = [weighted([1, 1, 1, 1])] * 4000
    greedy = learner(combine="product").act([STATE] * 4000, candidates)
    assert len(set(greedy.tolist())) == 1
    explored = learner(combine="product", epsilon=1.0).act([STATE] * 4000, candidates)
    assert np.bincount(explored) / 4000 == pytest.approx(np.full(4, 0.25), abs=0.04)  # more than five deviations


def bonuses(agent: DQN, places: list[int]) -> list[float]:
    """What the returns that lie at `places` are raised by now."""
    agent.replay.rng = Places(places)  # type: ignore[assignment]
    return agent._bonuses(agent.replay.sample(len(places))).tolist()


class Places:
    """In place of a generator: these places of the ring."""

    def __init__(self, places: list[int]) -> None:
        self.places = np.array(places)

    def integers(self, high: int, size: int) -> np.ndarray:
        return self.places


def test_a_count_bonus_is_by_the_visits_up_to_now() -> None:
    agent = learner(n_step=1, count_bonus=0.5)
    paid = [transition(1.0) for _ in range(400)]
    agent.observe(paid[:2])
    assert bonuses(agent, [0, 1]) == pytest.approx([0.5 / 2**0.5] * 2)
    for t in paid[2:]:
        agent.observe([t])
    agent.observe([Transition(0, NEXT, 1, 0.0, 1, True, False, STATE, None)])  # another pair has visits of its own
    assert bonuses(agent, [*range(400), 400]) == pytest.approx([0.5 * 0.050] * 400 + [0.5])
    assert (agent.replay._returns[:400] == 1.0).all()  # what was paid stays what was paid


def test_a_count_bonus_enters_every_reward_of_an_n_step_return() -> None:
    agent = learner(n_step=3, gamma=0.5, count_bonus=1.0, discount_by="primitive_steps")  # each takes two of them
    other = Transition(0, NEXT, 2, 0.0, 2, True, False, STATE, None)
    agent.observe([transition(0.0), transition(0.0), other])
    first, rest = 1 / 2**0.5, 1.0  # two visits, one visit
    shares = [first + first / 4 + rest / 16, first + rest / 4, rest]
    assert bonuses(agent, [0, 1, 2]) == pytest.approx(shares)


def test_a_replayed_return_is_learned_from_with_the_bonus_of_now() -> None:
    """Of one pair that always pays 0.2 and ends: Q tends to 0.2 + c / sqrt(N)."""
    agent = learner(n_step=1, batch=8, lr=0.01, count_bonus=0.5, learning_starts=10_000, hidden=[])
    for _ in range(100):
        agent.observe([transition(0.2, terminated=True)])
    for _ in range(400):
        agent._gradient_step()
    assert agent.posterior(STATE, weighted([1], [1]))[0][0] == pytest.approx(0.2 + 0.05, abs=1e-3)


def optimistic(agent: DQN, state: TextState) -> np.ndarray:
    """What it thinks of each action where it acts."""
    return agent._q_of(agent.table.ids([state]), [weighted([1, 1, 1, 1])], optimistic=True)[0].numpy()


def test_what_was_never_tried_stays_optimistic_and_what_was_tried_often_is_what_was_learned() -> None:
    agent = learner(n_step=1, batch=16, lr=0.003, alpha=0.0, optimism=1.0, update_every=1)
    tried, everything = [weighted([1, 1, 1], [0, 1, 2])] * 8, [weighted([1, 1, 1, 1])] * 8
    rng = np.random.default_rng(0)

    def decide(n: int, candidates: list[Candidates], pay: list[float]) -> None:
        for _ in range(n // 8):
            states = [STATE, NEXT] * 4
            actions = [int(rng.choice(c.actions)) for c in candidates]
            agent.observe(
                [Transition(e, s, a, pay[a], 1, True, False, s, None)
                 for e, (s, a) in enumerate(zip(states, actions, strict=True))]
            )  # fmt: skip
            agent.update()

    decide(400, tried, [0.1, 0.2, 0.3, 0.25])
    for state in (STATE, NEXT):
        q = agent.posterior(state, everything[0])[0]
        assert optimistic(agent, state)[3] == pytest.approx(q[3] + 1, abs=1e-6)
        assert optimistic(agent, state)[:3] == pytest.approx([0.1, 0.2, 0.3], abs=0.05)
        assert optimistic(agent, state)[3] > 0.8
        assert agent.act([state], everything[:1]).tolist() == [3]
        assert agent.evaluate([state], everything[:1], rng, greedy=True) == q.argmax()  # of what was learned, alone
    decide(800, everything, [0.1, 0.2, 0.3, 0.25])
    for state in (STATE, NEXT):
        assert optimistic(agent, state) == pytest.approx([0.1, 0.2, 0.3, 0.25], abs=0.03)
        assert agent.act([state], everything[:1]).tolist() == [2]


@pytest.mark.parametrize("kind", ["max", "soft", "expected", "sampled"])
@pytest.mark.parametrize("double_q", [False, True])
def test_targets_are_optimistic_about_what_was_tried_seldom(kind: str, double_q: bool) -> None:
    agent = learner(optimism=2.0, backup=kind, double_q=double_q, alpha=0.3)
    plain = learner(backup=kind, double_q=double_q, alpha=0.3)
    one = weighted([1], [1])
    for visits in range(4):
        assert backup(agent, one) == pytest.approx(backup(plain, one) + 2 / (visits + 1) ** 2, rel=1e-5)
        agent.observe([Transition(0, NEXT, 1, 0.0, 1, True, False, STATE, None)])
    untried = weighted([1, 1], [1, 2])
    if kind == "max":
        assert backup(agent, untried) == pytest.approx(backup(plain, weighted([1], [2])) + 2, rel=1e-5)


def test_optimism_and_weights_from_a_file_go_together(tmp_path: Path) -> None:
    file = tmp_path / "q.safetensors"
    write_weights(file, learner().q, "q", HashEncoder(EncoderConfig(dim=32)), [16], {})
    agent = learner(weights=str(file), optimism=0.5)
    q = agent.posterior(STATE, weighted([1, 1, 1, 1]))[0]
    assert optimistic(agent, STATE) == pytest.approx(q + 0.5)


def test_the_first_decisions_of_a_prefilled_learner_are_the_priors() -> None:
    q, _ = learner().posterior(STATE, weighted([1, 1, 1, 1]))
    worst, best = int(q.argmin()), int(q.argmax())
    candidates = [weighted([1 - 1e-12 if i == worst else 1e-12 for i in range(4)])] * 3
    agent = learner(alpha=1e-6, prefill=4)
    assert agent.act([STATE] * 3, candidates).tolist() == [worst] * 3
    agent.observe([transition(0.0)] * 3)
    assert agent.act([STATE] * 3, candidates).tolist() == [worst, best, best]  # the fourth, and no more


def test_large_errors_are_learned_from_more_often() -> None:
    agent = learner(n_step=1, batch=4, priority=1.0, importance=0.0, update_every=1, lr=1e-6)
    for reward in (0.0, 0.0, 0.0, 50.0):
        agent.observe([transition(reward, terminated=True)])
    for _ in range(8):
        agent._gradient_step()
    assert np.bincount(agent.replay.sample(400).places, minlength=4)[3] > 380


def test_importance_weighs_the_loss() -> None:
    """Errors of 1, 1, 2 and 4 eighths of the total: a batch of 8, one draw from each eighth, holds 1, 1, 2 and 4."""
    rewards, drawn = np.array([0.0, 1.0, 2.0, 4.0]), np.array([1, 1, 2, 4])

    def gradient(importance: float) -> float:
        agent = learner(
            n_step=1, batch=8, loss="mse", grad_clip=1e9, buffer=4, priority=1.0, importance=importance, hidden=[]
        )
        agent.observe([transition(reward, terminated=True) for reward in rewards])
        agent.replay.set_errors(np.arange(4), drawn.astype(np.float64))
        agent._gradient_step()
        return float(agent.q[0].bias.grad)  # of the mean of w (Q - y)^2: its mean of 2 w (Q - y)

    q = learner(hidden=[]).posterior(STATE, weighted([1], [1]))[0][0]
    assert gradient(0.0) == pytest.approx((2 * drawn * (q - rewards)).sum() / 8, rel=1e-4)
    assert gradient(1.0) == pytest.approx((2 * drawn * (q - rewards) / drawn).sum() / 8, rel=1e-4)


def test_q_and_its_target_start_from_a_file(tmp_path: Path) -> None:
    encoder, file = HashEncoder(EncoderConfig(dim=32)), tmp_path / "q.safetensors"
    torch.manual_seed(5)
    kept = network(32, [16])
    write_weights(file, kept, "q", encoder, [16], {})
    agent = learner(weights=str(file))
    for net in (agent.q, agent.target):
        assert all(torch.equal(a, b) for a, b in zip(net.parameters(), kept.parameters(), strict=True))
    with pytest.raises(ValueError, match=r"learner.hidden=\[16\]"):
        learner(weights=str(file), hidden=[8])


@pytest.mark.parametrize("number", [np.nan, np.inf, 1e35])
def test_an_absurd_loss_changes_no_weight(number: float) -> None:
    agent = learner(n_step=1)
    before = {name: tensor.clone() for name, tensor in agent.state_dict().items()}
    for _ in range(4):
        agent.observe([Transition(0, STATE, 0, number, 1, True, False, NEXT, None)])
    with pytest.raises(Diverged, match=r"the loss or its gradient.*lower learner\.lr \(now 0\.001\)"):
        agent.update()
    assert all(tensor.equal(before[name]) for name, tensor in agent.state_dict().items())


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e35])
def test_nothing_is_done_by_an_absurd_q(number: float) -> None:
    agent = learner()
    with torch.no_grad():
        agent.q[-1].bias.fill_(number)  # type: ignore[union-attr, operator]
    candidates = weighted([1, 1], [1, 2])
    with pytest.raises(Diverged, match="Q is not a finite number"):
        agent.act([STATE], [candidates])
    for greedy in (False, True):
        with pytest.raises(Diverged, match="Q is not a finite number"):
            agent.evaluate([STATE], [candidates], np.random.default_rng(0), greedy)
        with pytest.raises(Diverged, match="Q is not a finite number"):
            agent.policy([STATE], [Proposal(np.full(4, 0.25), None)], greedy)
