"""Backups and choices over padded candidates: their definitions, and that what has no weight has no part in any."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from priors.table_model import HALL, MENU, Model, make

from llmrl.core.candidates import Candidates, Proposal
from llmrl.core.state import TextState
from llmrl.core.transitions import Transition
from llmrl.data.training_set import OfflineData, Supports
from llmrl.encoders.encoder import FeatureTable
from llmrl.encoders.hash import HashEncoder
from llmrl.learners import backups
from llmrl.learners.cql import CQL
from llmrl.learners.dqn import DQN
from llmrl.learners.drrn import DRRN
from llmrl.schema.encoders import EncoderConfig
from llmrl.schema.learners import CQLConfig, DQNConfig, DRRNConfig
from llmrl.schema.priors import SupportConfig

INF = float("inf")
W, Q = (0.6, 0.4, 0.0), (0.0, 0.1, 5.0)  # the best action by far is one that the prior rules out


def log(weights: Any) -> torch.Tensor:
    return torch.log(torch.tensor([weights]))


def test_zero_temperature_is_greedy_and_ties_go_by_weight() -> None:
    q = torch.tensor([[1.0, 2.0, 2.0, 0.0]])
    pi = backups.posterior(q, log([0.4, 0.1, 0.3, 0.2]), 0.0).softmax(-1)
    assert pi[0].tolist() == pytest.approx([0, 0.25, 0.75, 0])


def test_a_padded_or_weightless_candidate_is_never_drawn() -> None:
    logits = backups.posterior(torch.tensor([[5.0, -INF, 9.0]]), torch.tensor([[0.0, -INF, -INF]]), 0.5)
    rng = np.random.default_rng(0)
    assert {int(backups.draw_actions(logits, rng)[0]) for _ in range(50)} == {0}


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=6), st.integers(0, 2**31))
@settings(max_examples=30)
def test_draws_follow_their_distribution(logits: list[float], seed: int) -> None:
    p = torch.tensor([logits], dtype=torch.float64).softmax(-1)[0].numpy()
    drawn = backups.draw_actions(torch.tensor([logits] * 4000), np.random.default_rng(seed))
    share = np.bincount(drawn, minlength=p.size) / drawn.size
    assert np.abs(share - p).max() < 0.05  # more than six standard deviations


VALUES = st.lists(st.floats(-2, 2, width=32), min_size=4, max_size=4)
COUNTS = st.lists(st.integers(0, 5), min_size=4, max_size=4).filter(any)


@given(VALUES, st.lists(st.integers(0, 5), min_size=4, max_size=4))
def test_a_product_takes_the_mode_of_the_prior_times_the_likelihood(q: list[float], counts: list[int]) -> None:
    w = np.array(counts) + 0.01
    w[counts.index(min(counts))] = 0.0  # never taken
    w /= w.sum()
    pi = backups.product(torch.tensor([q]), log(w.tolist()), 0.3).softmax(-1)[0].numpy()
    score = w * np.exp(np.array(q) / 0.3)
    assert (score[pi > 0] >= score.max() * (1 - 1e-5)).all()
    assert pi[w == 0] == pytest.approx(0)


def test_a_product_whose_values_are_equal_is_the_mode_of_the_prior_and_equals_share_by_weight() -> None:
    pi = backups.product(torch.full((1, 4), 0.7), log([0.4, 0.1, 0.4, 0.1]), 0.3).softmax(-1)
    assert pi[0].tolist() == pytest.approx([0.5, 0, 0.5, 0])


# ---- what has no weight ----------------------------------------------------------------------------------------------


@given(VALUES, COUNTS)
def test_the_hard_maximum_is_the_limit_of_the_soft_one(q: list[float], counts: list[int]) -> None:
    """max Q + alpha log w_best <= soft <= max Q, over the actions of positive weight."""
    w = np.array(counts) / sum(counts)
    target, log_w = torch.tensor([q]).double(), torch.log(torch.from_numpy(w))[None]
    hard = float(backups.hard(target, log_w > -INF))
    assert hard == max(value for value, weight in zip(q, w, strict=True) if weight > 0)
    assert float(backups.soft(target, log_w, 0.0)) == hard
    for alpha in (1.0, 0.1, 1e-3, 1e-6):
        soft = float(backups.soft(target, log_w, alpha))
        assert hard + alpha * np.log(w[w > 0].min()) - 1e-9 <= soft <= hard + 1e-9


@given(VALUES, VALUES, COUNTS)
def test_double_q_is_the_greedy_expectation(q: list[float], online: list[float], counts: list[int]) -> None:
    log_w = torch.log(torch.tensor([counts]) / sum(counts))
    if len({v for v, n in zip(online, counts, strict=True) if n}) < sum(n > 0 for n in counts):
        return  # among equals one takes the first and the other all, by weight
    greedy = backups.posterior(torch.tensor([online]), log_w, 0.0)
    double = backups.hard(torch.tensor([q]), log_w > -INF, torch.tensor([online]))
    assert double.item() == pytest.approx(backups.expected_backup(torch.tensor([q]), greedy).item(), abs=1e-6)


@pytest.mark.parametrize("ruled_out", [5.0, 1e9, INF])
def test_no_backup_values_what_the_prior_rules_out(ruled_out: float) -> None:
    q, log_w = torch.tensor([[0.0, 0.1, ruled_out]]), log(W)
    assert backups.hard(q, log_w > -INF).item() == pytest.approx(0.1)
    assert backups.hard(q, log_w > -INF, q).item() == pytest.approx(0.1)
    for alpha in (0.0, 0.5, INF):
        logits = backups.posterior(q, log_w, alpha)
        assert logits[0, 2] == -INF
        assert backups.expected_backup(q, logits).item() <= 0.1 + 1e-7
        if alpha < INF:
            assert backups.soft(q, log_w, alpha).item() <= 0.1 + 1e-7


def table() -> FeatureTable:
    return FeatureTable(HashEncoder(EncoderConfig(dim=32)))


def say_w(prompt: str, number: int) -> str:
    return MENU[0 if number % 5 < 3 else 1]  # three of five, two of five, and never the third


def set_values(features: torch.Tensor, q: Any, *networks: torch.nn.Sequential) -> None:
    """Linear networks that have these values on these rows."""
    weights = torch.linalg.lstsq(features.double(), torch.tensor(q).double().unsqueeze(-1)).solution
    for net in networks:
        with torch.no_grad():
            net[0].weight.copy_(weights.T)
            net[0].bias.zero_()


@pytest.mark.parametrize(
    "cfg",
    [
        {"backup": "max", "double_q": False},
        {"backup": "max", "double_q": True},
        {"backup": "soft", "double_q": False, "alpha": 0.0},
        {"backup": "expected", "double_q": False, "alpha": 0.0},
        {"backup": "sampled", "double_q": False, "alpha": 0.0},
        {"backup": "expected", "double_q": False, "alpha": 0.001, "combine": "product"},
    ],
)
def test_dqn_never_learns_from_what_free_answers_never_named(cfg: dict[str, Any]) -> None:
    prior = make("generated", model=Model(say_w), behaviour=SupportConfig(5, "never"))
    agent = DQN(DQNConfig(hidden=[], n_step=1, batch=1, gamma=1.0, **cfg), 0, table())
    (c,) = prior.candidates([HALL], "target")
    assert np.exp(c.log_weights) == pytest.approx(W)  # it is in the support, with no weight
    before = TextState("Leave.", "A cellar.", MENU)
    agent.observe([Transition(0, before, 0, 0.0, 1, False, True, HALL, c)])
    first = agent.table.first_row_of(HALL)
    set_values(agent.table.features[first : first + 3], Q, agent.q, agent.target)
    b = agent.replay.sample(1)
    found = agent._backup(torch.from_numpy(b.next_rows), torch.from_numpy(b.next_log_weights))
    assert found.item() == pytest.approx(0.1, abs=1e-5)
    for greedy in (True, False):
        assert agent.evaluate([HALL] * 20, [c] * 20, np.random.default_rng(0), greedy).max() < 2
    assert agent.act([HALL] * 20, [c] * 20).max() < 2


@pytest.mark.parametrize("double_q", [False, True])
@pytest.mark.parametrize("backup", ["max", "soft", "expected"])
def test_cql_never_learns_from_what_the_prior_rules_out(backup: str, double_q: bool) -> None:
    if double_q and backup != "max":
        return
    cfg = CQLConfig(hidden=[], backup=backup, double_q=double_q, alpha=0.0, gamma=1.0)
    learner = CQL(cfg, 0, table())
    one = np.zeros(1, dtype=np.int64)
    yes = np.ones(1, dtype=bool)
    supports = Supports([Proposal(np.array(W), None)])
    learner.study(OfflineData([HALL], supports, one, one, one.astype(float), one + 1, one, yes, yes, yes))
    set_values(learner.table.features[:3], Q, learner.nets["q"], learner.nets["target"])
    assert learner._backup(np.zeros(1, dtype=np.int64)).item() == pytest.approx(0.1, abs=1e-5)


def test_drrn_never_learns_from_what_the_prior_rules_out() -> None:
    agent = DRRN(DRRNConfig(batch=1, n_step=1, gamma=1.0), 0)
    for ruled_out in range(3):
        w = np.insert([0.6, 0.4], ruled_out, 0.0)
        with np.errstate(divide="ignore"):
            c = Candidates(np.arange(3), np.log(w))
        agent.observe([Transition(0, HALL, 0, 0.0, 1, False, True, HALL, c)])
        (q,) = agent._values([HALL])
        assert agent._targets(agent.memory.kept[-1:]).item() == pytest.approx(q[w > 0].max(), abs=1e-6)
