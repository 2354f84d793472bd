"""A prior fitted to labels: its optimum against an independent one, its first weights, and where labels come from."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from math import inf
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from llmrl.build import build
from llmrl.config.compose import ConfigError, compose
from llmrl.core.state import TextState
from llmrl.envs.household.generate import random_game
from llmrl.priors.head import Head, Label, _Problem, bias_features, minimum
from llmrl.prompts.examples import POOL
from llmrl.rollout.labels import train_world
from llmrl.schema.kinds import KINDS

MENU = ("go north", "open the red door", "wait", "open it")


def labelled(n: int, seed: int, features: int = 3) -> tuple[list[Label], list[np.ndarray], list[np.ndarray]]:
    """Labels, what a prior says, and features, at random."""
    rng = np.random.default_rng(seed)
    labels, rows, phi = [], [], []
    for i in range(n):
        size = int(rng.integers(2, len(MENU) + 1))
        good = frozenset(MENU[j] for j in rng.permutation(size)[: rng.integers(1, size + 1)])
        labels.append(Label(TextState("t", str(i), MENU[:size]), good, i // 2))
        rows.append(rng.dirichlet(np.ones(size)))
        phi.append(rng.normal(size=(size, features)))
    return labels, rows, phi


def newton(phi: list[np.ndarray], rows: list[np.ndarray], labels: list[Label], strength: float) -> np.ndarray:
    """The minimum of equation (2), by its gradient and its Hessian, written down once more."""

    def at(theta: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        j, gradient, hessian = strength / 2 * theta @ theta, strength * theta, strength * np.eye(theta.size)
        for x, p, label in zip(phi, rows, labels, strict=True):
            w = p * np.exp(x @ theta - (x @ theta).max())
            w /= w.sum()
            good = np.array([a in label.good for a in label.state.actions], dtype=float)
            good /= good.sum()
            j -= good @ np.log(w)
            gradient += x.T @ (w - good)
            hessian += x.T @ (np.diag(w) - np.outer(w, w)) @ x
        return float(j), gradient, hessian

    theta = np.zeros(phi[0].shape[1])
    for _ in range(12):
        j, gradient, hessian = at(theta)
        step = np.linalg.solve(hessian, gradient)
        while np.abs(step).max() > 1e-9 and not at(theta - step)[0] < j:
            step /= 2
        theta = theta - step
    return theta


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 12), st.integers(0, 10**6), st.sampled_from([0.3, 1.0, 30.0]))
def test_the_minimum_is_the_one_that_newton_finds(n: int, seed: int, strength: float) -> None:
    labels, rows, phi = labelled(n, seed)
    found = minimum(_Problem.of(phi, rows, labels), strength, torch.zeros(3, dtype=torch.float64)).numpy()
    assert found == pytest.approx(newton(phi, rows, labels, strength), abs=1e-4)


def head_of(phi: list[np.ndarray], labels: list[Label]) -> Head:
    by_state = {label.state: x for label, x in zip(labels, phi, strict=True)}
    return Head(lambda states: [by_state[state] for state in states], lambda: labels)


def test_the_strength_is_the_largest_that_predicts_games_held_out_as_well_as_the_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    strengths = (inf, 30.0, 10.0, 3.0, 1.0, 0.3)
    monkeypatch.setattr("llmrl.priors.head.LAMBDAS", strengths)
    labels, rows, phi = labelled(24, 3)
    rng = np.random.default_rng(3)
    labels = [  # what the first feature says, more or less
        Label(
            label.state, frozenset([label.state.actions[int((x[:, 0] + rng.normal(size=len(x))).argmax())]]), label.game
        )
        for label, x in zip(labels, phi, strict=True)
    ]
    head = head_of(phi, labels)
    head.fit(labels, rows)
    full = [
        (x := np.column_stack([np.log(p), f])) - x.mean(0) for p, f in zip(rows, phi, strict=True)
    ]  # with log p, as the head has it

    def held_out(strength: float) -> np.ndarray:
        of_labels = np.zeros(24)
        for fold in range(5):
            inside = [i for i, label in enumerate(labels) if label.game % 5 != fold]
            theta = np.zeros(4)
            if strength < inf:
                theta = newton(
                    [full[i] for i in inside], [rows[i] for i in inside], [labels[i] for i in inside], strength
                )
            for i in set(range(24)) - set(inside):
                w = rows[i] * np.exp(full[i] @ theta)
                (good,) = labels[i].good
                of_labels[i] = np.log(w[labels[i].state.actions.index(good)] / w.sum())
        return of_labels

    found = {strength: held_out(strength) for strength in strengths}
    most = max(found.values(), key=np.sum)
    best = next(s for s, ll in found.items() if np.mean(most - ll) <= np.std(most - ll) / np.sqrt(24))
    assert most is not found[best]
    assert best < inf
    assert head.theta == pytest.approx(newton(full, rows, labels, best), abs=1e-3)
    for w, p, x in zip(head.weigh([label.state for label in labels], rows), rows, full, strict=True):
        assert w == pytest.approx(p * np.exp(x @ head.theta) / (p @ np.exp(x @ head.theta)))


def test_labels_of_chance_leave_the_prior_as_it_is() -> None:
    labels, rows, phi = labelled(30, 5, features=40)
    rng = np.random.default_rng(0)
    labels = [
        Label(label.state, frozenset([str(rng.choice(label.state.actions, p=p))]), label.game)
        for label, p in zip(labels, rows, strict=True)
    ]
    head = head_of(phi, labels)
    head.fit(labels, rows)
    assert head.theta is not None
    assert not head.theta.any()
    assert all(w is p for w, p in zip(head.weigh([label.state for label in labels], rows), rows, strict=True))


def test_one_label_holds_nothing_out_and_changes_nothing() -> None:
    labels, rows, phi = labelled(1, 0)
    head = head_of(phi, labels)
    head.fit(labels, rows)
    assert head.weigh([labels[0].state], rows)[0].tolist() == rows[0].tolist()


def test_a_bias_counts_words_and_knows_which() -> None:
    (x,) = bias_features([TextState("t", "o", MENU)])
    assert x[:, 0].tolist() == [2, 4, 1, 2]
    assert ((x[1, 1:] * x[3, 1:]).sum(), x[2, 1:].sum()) == (1, 1)  # "open"; "wait"


# ---- from a run's settings -------------------------------------------------------------------------------------------

TOMATO = ["learner=prior_only", "prior=learned"]


def test_labels_are_an_experts_in_train_games_and_fewer_are_the_first_of_more() -> None:
    def labels(n: int, *more: str, env: str = "overcooked_tomato") -> list[Label]:
        head = build(compose([*TOMATO, f"env={env}", f"prior.labels={n}", *more])).prior.head
        assert head is not None
        return list(head.labels())

    one = labels(12)
    assert len({label.state for label in one}) == 12
    assert one == labels(20)[:12]
    assert one != labels(12, "seed=1")
    for label in one:
        assert label.good
        assert label.good <= set(label.state.actions)
    home = labels(2, env="household/pick")
    assert all("go to" in " ".join(label.state.actions) for label in home)


def test_what_was_fitted_is_kept_with_the_weights() -> None:
    parts, again = (
        build(compose([*TOMATO, "env=overcooked_tomato", "prior.labels=6", "prior.evaluation.k=null"]))
        for _ in range(2)
    )
    state = TextState("Make a tomato salad.", "You see a tomato.", ("fetch the tomato", "wait", "go to the board"))
    (fitted,) = parts.prior.candidates([state], "evaluation")
    assert again.prior.head is not None
    again.prior.head.labels = list  # nothing is collected any more
    again.load_state_dict(parts.state_dict())
    assert again.prior.candidates([state], "evaluation")[0].log_weights.tolist() == fitted.log_weights.tolist()
    with pytest.raises(ValueError, match=r"prior\.labels are learned in training"):
        again.load_state_dict(parts.learner.state_dict())


def test_a_checkpoint_may_come_before_the_first_labels() -> None:
    """As where the first episodes of prior.mix=auto do not use the prior."""
    parts, again = (build(compose([*TOMATO, "env=overcooked_tomato", "prior.labels=6"])) for _ in range(2))
    again.load_state_dict(parts.state_dict())
    assert again.prior.head is not None
    assert again.prior.head.theta is None


@pytest.mark.parametrize(
    ("env", "more"),
    [
        ("overcooked_tomato", []),
        ("overcooked_salad", []),
        ("overcooked_random", ["env.split=dev"]),
        ("household/pick", ["env.split=dev"]),
    ],
)
def test_no_label_is_of_a_game_that_a_prompt_may_show(env: str, more: list[str]) -> None:
    own = OmegaConf.to_object(compose([f"env={env}", "learner=dqn", *more]).env)
    labelled, world = map(made, (train_world(own), own))
    shown = list(islice(world.practice(), POOL))
    assert len(shown) == POOL
    assert not games(labelled) & set().union(*map(games, shown))


def made(env: Any) -> Any:
    settings = {key: value for key, value in vars(env).items() if key not in ("name", "kind")}
    return resolve_name(KINDS["env"][env.kind].target)(**settings)


def games(world: Any) -> set[str]:
    """What its games are, whatever their names."""
    if hasattr(world, "kitchens"):
        return {repr(replace(kitchen, name="")) for kitchen in world.kitchens.values()}
    return {repr(random_game(*game)) for game in world.games.values()}


def test_without_labels_nothing_is_fitted() -> None:
    assert build(compose(["env=overcooked_tomato", "prior=sampled"])).prior.head is None
    blind = [f"prior.{use}.uniform=true" for use in ("behaviour", "target", "evaluation")]
    assert build(compose(["prior=calibrated", *blind])).prior.head is None


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ("prior=learned prior.labels=0", "prior.labels=0: prior=learned is made of labels alone"),
        ("prior=calibrated env=frozen_lake", "no games of its own split"),
        ("prior=calibrated env=overcooked_random env.split=train", "choose another split"),
        ("prior=learned prior.head=hidden", "prior.head=hidden: it reads the hidden states of a model"),
        ("prior=generated prior.labels=5", "prior=generated does not read this"),
        ("prior=calibrated prior.labels=1001", "at least 0 and at most 1000"),
    ],
)
def test_labels_that_cannot_be(overrides: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compose(overrides.split())
