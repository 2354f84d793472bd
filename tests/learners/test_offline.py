"""Offline learners: their losses against the formulas, and that they learn what the data say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from llmrl.core.candidates import Candidates, Proposal
from llmrl.core.state import TextState
from llmrl.data.training_set import OfflineData, Supports
from llmrl.encoders.encoder import FeatureTable
from llmrl.encoders.hash import HashEncoder
from llmrl.learners.bc import BC
from llmrl.learners.cql import CQL
from llmrl.learners.iql import IQL
from llmrl.learners.offline import OfflineLearner
from llmrl.learners.product import ProductOfExperts
from llmrl.schema.encoders import EncoderConfig
from llmrl.schema.learners import BCConfig, CQLConfig, IQLConfig

ROOMS = [TextState("Go.", f"room {i}", ("east", "west", "wait")) for i in range(3)]
W = np.array([0.5, 0.3, 0.2])


def table() -> FeatureTable:
    return FeatureTable(HashEncoder(EncoderConfig(dim=32)))


def data(k: int | None = None, weights: np.ndarray = W, rows: int = 4) -> OfflineData:
    """room 0 -east-> room 1 -east-> room 2 -wait-> success; and one that only goes west and is cut."""
    return OfflineData(
        ROOMS,
        Supports([Proposal(weights, k)] * 3),
        np.array([0, 1, 2, 0])[:rows],
        np.array([0, 0, 2, 1])[:rows],
        np.array([0.0, 0.0, 1.0, 0.0])[:rows],
        np.ones(rows, dtype=np.int64),
        np.array([1, 2, -1, 0])[:rows],
        np.array([False, False, True, True])[:rows],
        np.array([True, True, True, False])[:rows],
        np.array([True, True, True, True])[:rows],
    )


def q_of(learner: Any, net: str) -> torch.Tensor:
    """[rooms, actions]"""
    rows = torch.from_numpy(learner.first_row_S[:, None] + np.arange(3))
    return learner.nets[net](learner.table.features[rows]).squeeze(-1)


def cql(given: OfflineData, **changed: Any) -> CQL:
    learner = CQL(CQLConfig(hidden=[16], **changed), 0, table())
    learner.study(given)
    with torch.no_grad():  # the two nets differ, as they do after a while
        for p in learner.nets["target"].parameters():
            p.add_(0.1 * torch.randn_like(p, generator=None))
    return learner


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


EVERY = np.array([0, 1, 2, 3])


@pytest.mark.parametrize("regulariser", ["uniform", "prior"])
@pytest.mark.parametrize("backup", ["max", "soft", "expected"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_loss_of_cql_is_its_formula(regulariser: str, backup: str, reduction: str) -> None:
    learner = cql(data(), c=2.5, regulariser=regulariser, backup=backup, reduction=reduction, loss="mse", alpha=0.5)
    loss, told = learner.loss(EVERY)
    q, target, log_w = q_of(learner, "q"), q_of(learner, "target"), torch.from_numpy(np.log(W)).float()
    if backup == "max":
        v = target.amax(-1)
    elif backup == "soft":
        v = 0.5 * (log_w + target / 0.5).logsumexp(-1)
    else:
        v = ((log_w + q / 0.5).softmax(-1) * target).sum(-1)
    y = torch.stack([0.99 * v[1], 0.99 * v[2], torch.tensor(1.0), 0.99 * v[0]]).detach()
    own = torch.stack([q[0, 0], q[1, 0], q[2, 2], q[0, 1]])
    scores = q + log_w if regulariser == "prior" else q
    gap = (scores.logsumexp(-1)[[0, 1, 2, 0]] - own).mean()
    squares = 0.5 * (own - y) ** 2
    td = squares.mean() if reduction == "mean" else squares.sum()
    assert loss.item() == pytest.approx((td + 2.5 * gap).item(), rel=1e-5)
    assert told["conservative"].item() == pytest.approx(gap.item(), rel=1e-5)


def test_double_q_takes_the_action_of_one_and_the_value_of_the_other() -> None:
    learner = cql(data(), double_q=True, c=0, loss="mse")
    q, target = q_of(learner, "q"), q_of(learner, "target")
    v = target.gather(-1, q.argmax(-1, keepdim=True)).squeeze(-1)
    y = torch.stack([0.99 * v[1], 0.99 * v[2], torch.tensor(1.0), 0.99 * v[0]])
    own = torch.stack([q[0, 0], q[1, 0], q[2, 2], q[0, 1]])
    assert learner.loss(EVERY)[0].item() == pytest.approx((0.5 * (own - y) ** 2).mean().item(), rel=1e-5)


def test_a_rows_own_action_is_in_the_sum_unless_that_is_turned_off() -> None:
    only_west = np.array([0.0, 1.0, 0.0])
    q = q_of(cql(data(weights=only_west)), "q")
    rows, own = torch.tensor([0, 1, 2, 0]), torch.tensor([0, 0, 2, 1])
    q_own, q_west = q[rows, own], q[rows, 1]
    with_own = torch.where(own == 1, q_west, torch.logaddexp(q_own, q_west))
    found = cql(data(weights=only_west)).loss(EVERY)[1]["conservative"]
    assert found.item() == pytest.approx((with_own - q_own).mean().item(), rel=1e-5)
    assert found.item() >= 0
    without = cql(data(weights=only_west), data_action=False).loss(EVERY)[1]["conservative"]
    assert without.item() == pytest.approx((q_west - q_own).mean().item(), rel=1e-4)


def test_joined_actions_are_in_the_target_too() -> None:
    only_wait = np.array([0.0, 0.0, 1.0])
    learner = cql(data(weights=only_wait), c=0, loss="mse", join=True)
    q, target = q_of(learner, "q"), q_of(learner, "target")
    v0 = target[0].max()  # east and west are taken there, wait is proposed
    v1, v2 = target[1, [0, 2]].max(), target[2, 2]
    y = torch.stack([0.99 * v1, 0.99 * v2, torch.tensor(1.0), 0.99 * v0])
    own = torch.stack([q[0, 0], q[1, 0], q[2, 2], q[0, 1]])
    assert learner.loss(EVERY)[0].item() == pytest.approx((0.5 * (own - y) ** 2).mean().item(), rel=1e-5)


def test_the_loss_of_iql_is_its_formula() -> None:
    learner = IQL(IQLConfig(hidden=[16], expectile=0.9, temperature=0.5), 0, table())
    learner.study(data())
    loss, told = learner.loss(EVERY)
    q, target, f = q_of(learner, "q"), q_of(learner, "target"), q_of(learner, "policy")
    v = learner.nets["v"](learner.table.features[torch.from_numpy(learner.row_S)]).squeeze(-1)
    rows, own = torch.tensor([0, 1, 2, 0]), torch.tensor([0, 0, 2, 1])
    u = target[rows, own] - v[rows]
    value = (torch.where(u < 0, 0.1, 0.9) * u**2).mean()
    y = torch.stack([0.99 * v[1], 0.99 * v[2], torch.tensor(1.0), 0.99 * v[0]])
    td = ((q[rows, own] - y) ** 2).mean()
    log_pi = (f + torch.from_numpy(np.log(W)).float()).log_softmax(-1)  # of a product with the prior
    policy = -((u / 0.5).exp().clamp(max=100) * log_pi[rows, own]).mean()
    assert [told[k].item() for k in ("value", "td", "policy")] == pytest.approx(
        [value.item(), td.item(), policy.item()], rel=1e-5
    )
    loss.backward()
    assert learner.nets["q"][0].weight.grad is not None
    assert learner.nets["target"][0].weight.grad is None


def bc(given: OfflineData, **changed: Any) -> BC:
    learner = BC(BCConfig(weights=None, hidden=[16], lr=3e-3, **changed), 0, table())
    learner.study(given)
    return learner


def test_cloning_times_a_prior_is_a_product_of_experts() -> None:
    learner = bc(data())
    log_pi = (q_of(learner, "policy") + torch.from_numpy(np.log(W)).float()).log_softmax(-1)
    expected = -(log_pi[0, 0] + log_pi[1, 0] + log_pi[2, 2] + log_pi[0, 1]) / 4
    assert learner.loss(EVERY)[0].item() == pytest.approx(expected.item(), rel=1e-5)
    flat = bc(data(weights=np.full(3, 1 / 3)))
    cloned = F.cross_entropy(q_of(flat, "policy")[[0, 1, 2, 0]], torch.tensor([0, 0, 2, 1]))
    assert flat.loss(EVERY)[0].item() == pytest.approx(cloned.item(), rel=1e-5)


@pytest.mark.parametrize(("alpha", "weight"), [(0.0, 0.5), (0.3, 1.0), (1.0, 1.0), (1.7, 0.4)])
def test_what_sharpens_a_product_sharpens_both_experts(alpha: float, weight: float) -> None:
    sharpened(bc(data(), product=True, alpha=alpha, learned_weight=weight), alpha, weight)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0, 1.7])
def test_the_policy_of_iql_is_sharpened_as_a_whole(alpha: float) -> None:
    learner = IQL(IQLConfig(hidden=[16], alpha=alpha), 0, table())
    learner.study(data())
    sharpened(learner, alpha, 1.0)


def sharpened(learner: ProductOfExperts, alpha: float, weight: float) -> None:
    """It acts by [w exp(weight f)]^(1/alpha), computed and drawn."""
    states = data().states
    w = [np.array([0.7, 0.3, 0.0]), np.array([0.01, 0.98, 0.01])]
    f = learner.values(states[:2])
    with np.errstate(divide="ignore"):
        product = [np.log(w_A) + weight * f_A for w_A, f_A in zip(w, f, strict=True)]
    proposals = [Proposal(w_A, None) for w_A in w]
    for greedy in (False, True):
        pi = learner.policy(states[:2], proposals, greedy)
        for pi_A, x_A in zip(pi, product, strict=True):
            expected = np.exp((x_A - x_A.max()) / alpha) if alpha and not greedy else (x_A == x_A.max()).astype(float)
            assert pi_A == pytest.approx(expected / expected.sum(), abs=1e-6)
    candidates = [Candidates(np.flatnonzero(w_A), np.log(w_A[w_A > 0])) for w_A in w]
    rng = np.random.default_rng(0)
    drawn = np.array([learner.evaluate(states[:2], candidates, rng, greedy=False) for _ in range(3000)])
    for pi_A, taken in zip(learner.policy(states[:2], proposals, greedy=False), drawn.T, strict=True):
        assert np.bincount(taken, minlength=3) / 3000 == pytest.approx(pi_A, abs=0.04)


@pytest.mark.parametrize("kind", ["bc_prior", "iql"])
@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_of_data_that_the_prior_made_nothing_is_learned_but_the_prior(kind: str, alpha: float) -> None:
    """Ten rows of one room, taken as often as w says, all worth the same: the policy is w, and not its square."""
    n = np.ones(10, dtype=np.int64)
    rows = OfflineData(
        ROOMS[:1], Supports([Proposal(W, None)]), 0 * n, np.repeat([0, 1, 2], [5, 3, 2]), 1.0 * n, n, -n, n > 0, n > 0,
        n > 0,
    )  # fmt: skip
    learner: ProductOfExperts
    if kind == "iql":
        learner = IQL(IQLConfig(hidden=[16], lr=0.01, batch=10, temperature=1e6, alpha=alpha), 0, table())
    else:
        learner = BC(BCConfig(weights=None, hidden=[16], lr=0.01, batch=10, product=True, alpha=alpha), 0, table())
    learner.study(rows)
    learner.batch = lambda: np.arange(10)  # type: ignore[method-assign]
    for _ in range(400):
        learner.step()
    (pi,) = learner.policy(ROOMS[:1], [Proposal(W, None)], greedy=False)
    expected = W ** (1 / alpha) / (W ** (1 / alpha)).sum()
    assert pi == pytest.approx(expected, abs=5e-3)
    all_of = Candidates(np.arange(3), np.log(W))
    drawn = learner.evaluate(ROOMS[:1] * 4000, [all_of] * 4000, np.random.default_rng(0), greedy=False)
    assert np.bincount(drawn, minlength=3) / 4000 == pytest.approx(expected, abs=0.04)  # more than five deviations
    assert (learner.evaluate(ROOMS[:1], [all_of], np.random.default_rng(0), greedy=True) == 0).all()


def test_filtered_cloning_draws_from_what_succeeded() -> None:
    learner = bc(data(), successful=True)
    assert set(learner.batch()) == {0, 1, 2}
    assert set(bc(data()).batch()) == {0, 1, 2, 3}
    cut = OfflineData(**{**data().__dict__, "whole": np.array([False, True, True, True])})
    assert set(bc(cut, successful=True).batch()) == {0, 1, 2}
    assert set(bc(cut, successful=True, whole=True).batch()) == {1, 2}
    failures = OfflineData(**{**data().__dict__, "successful": np.zeros(4, dtype=bool)})
    with pytest.raises(ValueError, match="none of the 4 transitions is of an episode that is known to have succeeded"):
        bc(failures, successful=True)


@pytest.mark.parametrize("kind", ["bc", "cql", "cql_prior", "iql"])
def test_it_learns_what_the_data_say(kind: str) -> None:
    given = data(k=2 if kind == "cql_prior" else None, weights=np.full(3, 1 / 3))
    learner: Any = {
        "bc": lambda: bc(given, successful=True),
        "cql": lambda: cql(given, lr=3e-3),
        "cql_prior": lambda: cql(given, lr=3e-3, join=True),
        "iql": lambda: IQL(IQLConfig(hidden=[16], lr=3e-3, temperature=0.02), 0, table()),
    }[kind]()
    if kind == "iql":
        learner.study(given)
    assert isinstance(learner, OfflineLearner)
    for _ in range(400):
        told = learner.step()
    assert all(np.isfinite(value) for value in told.values())
    greedy = learner.policy(ROOMS, [Proposal(np.full(3, 1 / 3), None)] * 3, greedy=True)
    assert [p.argmax() for p in greedy] == [0, 0, 2]


@pytest.mark.parametrize(
    "make", [lambda t: IQL(IQLConfig(hidden=[4]), 0, t), lambda t: CQL(CQLConfig(hidden=[4]), 0, t)]
)
def test_more_states_than_a_table_begins_with(make: Any) -> None:
    rooms = [TextState("Go.", f"room {i}", ("east", "west")) for i in range(700)]
    n = len(rooms)
    given = OfflineData(
        rooms,
        Supports([Proposal(np.full(2, 0.5), None)] * n),
        np.arange(n),
        np.zeros(n, dtype=np.int64),
        np.zeros(n),
        np.ones(n, dtype=np.int64),
        np.append(np.arange(1, n), -1),
        np.append(np.zeros(n - 1, dtype=bool), True),
        np.ones(n, dtype=bool),
        np.ones(n, dtype=bool),
    )
    learner = make(FeatureTable(HashEncoder(EncoderConfig(dim=8))))
    learner.study(given)
    assert np.isfinite(learner.step()["loss/td"])
    assert learner.first_row_S.tolist() == [learner.table.first_row_of(room) for room in rooms]


def test_equal_seeds_learn_equal_numbers() -> None:
    first, again = (cql_steps(seed) for seed in (0, 0))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], cql_steps(1)[0])


def cql_steps(seed: int) -> list[torch.Tensor]:
    learner = CQL(CQLConfig(hidden=[8]), seed, table())
    learner.study(data(k=2))
    for _ in range(3):
        learner.step()
    return list(learner.state_dict().values())
