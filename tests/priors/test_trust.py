"""The bandit of prior.mix=auto: by its equations, by what it does, and in a prior and a rollout."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from priors.table_model import CELLAR, HALL, Model, make, weights

from llmrl.priors.trust import GAMMA, MIX, Trust

EPISODES = st.lists(st.tuples(st.booleans(), st.floats(-5, 5)), min_size=1, max_size=40)


@given(EPISODES)
def test_what_an_arm_is_worth_is_the_sum_of_the_equations(episodes: list[tuple[bool, float]]) -> None:
    trust = Trust(0)
    for used, ret in episodes:
        trust.hear(used, ret)
    share = [GAMMA ** (len(episodes) - 1 - i) for i in range(len(episodes))]
    mean = sum(g * x for g, (_, x) in zip(share, episodes, strict=True)) / sum(share)
    found = trust.metrics()
    for arm, name in ((True, "prior/worth"), (False, "prior/worth_without")):
        n = sum(g for g, (used, _) in zip(share, episodes, strict=True) if used == arm)
        x = sum(g * x for g, (used, x) in zip(share, episodes, strict=True) if used == arm)
        assert found[name] == pytest.approx((x + mean) / (n + 1), abs=1e-9)
    played = sum(g * used for g, (used, _) in zip(share, episodes, strict=True)) / sum(share)
    assert found["prior/used"] == pytest.approx(played)


def played(worth: dict[bool, float], episodes: int, trust: Trust, scale: float = 1.0) -> list[bool]:
    """The arms of so many episodes that succeed as often as `worth` says, for a return of `scale`."""
    rng, chosen = np.random.default_rng(1), []
    for i in range(episodes):
        chosen.append(trust.draw("train", 0, i))
        trust.hear(chosen[-1], scale * float(rng.random() < worth[chosen[-1]]))
    return chosen


@pytest.mark.parametrize("best", [False, True])
def test_the_better_arm_is_found_and_the_other_is_tried_again_now_and_then(best: bool) -> None:
    worth = {best: 0.8, not best: 0.1}
    trusts = [Trust(seed) for seed in range(5)]
    missed = np.array([np.array(played(worth, 600, trust)) != best for trust in trusts])
    assert missed[:, :150].mean() < 0.15
    assert 0.01 < missed[:, 150:].mean() < 0.08
    assert [trust.best for trust in trusts] == [best] * 5


def test_it_changes_its_mind_when_the_other_arm_becomes_the_better_one() -> None:
    trust = Trust(0)
    played({True: 0.8, False: 0.1}, 150, trust)
    later = played({True: 0.1, False: 0.8}, 300, trust)
    assert np.mean(later[-100:]) < 0.3


def test_no_scale_of_returns_is_assumed() -> None:
    worth = {True: 0.2, False: 0.6}
    assert played(worth, 60, Trust(3)) == played(worth, 60, Trust(3), scale=1024.0)


@pytest.mark.parametrize("ret", [0.0, 1.0])
def test_equal_returns_tell_nothing(ret: float) -> None:
    trust, used = Trust(0), 0
    assert trust.best
    assert trust.metrics()["prior/used"] is None
    for i in range(300):
        chosen = trust.draw("train", 0, i)
        used += chosen
        trust.hear(chosen, ret)
    assert 110 < used < 190


def test_a_restored_one_goes_on_alike() -> None:
    trust, again = Trust(4), Trust(4)
    played({True: 0.2, False: 0.6}, 30, trust)
    trust.draw_for_targets(7)
    again.load_state_dict(trust.state_dict())
    again.restore(trust.save())
    assert again.draw_for_targets(50) == trust.draw_for_targets(50)
    assert again.draw("train", 2, 9) == trust.draw("train", 2, 9) == trust.draw("train", 2, 9)
    assert again.metrics() == trust.metrics()


# ---- in a prior ------------------------------------------------------------------------------------------------------

ALONE = np.exp([-1, -2, -4]) / np.exp([-1, -2, -4]).sum()
UNIFORM = pytest.approx([1 / 3] * 3)


def test_a_state_has_the_prior_of_its_episode_or_all_actions() -> None:
    prior = make("scored", mix="auto")
    found = prior.candidates([HALL, CELLAR, HALL], "behaviour", informed=[True, False, False])
    assert weights(found[0]) == pytest.approx(((1 - MIX) * ALONE + MIX / 3).tolist())
    assert weights(found[1]) == weights(found[2]) == UNIFORM


def test_without_the_prior_nothing_is_asked_and_no_support_is_drawn() -> None:
    model = Model(lambda prompt, number: "wait")
    prior = make("generated", model=model, mix="auto", k=2)
    found = prior.candidates([HALL] * 5, "behaviour", informed=[False] * 5)
    assert [weights(c) for c in found] == [UNIFORM] * 5
    assert (prior.counts.queries, model.asked) == (0, [])
    prior.candidates([HALL], "behaviour", informed=[True])
    assert prior.counts.queries == 1
    assert model.asked


def test_evaluations_use_the_better_arm_and_targets_one_that_is_drawn() -> None:
    prior = make("scored", mix="auto", k=1)
    assert prior.trust is not None
    for used, ret in [(False, 1.0), (True, 0.0)] * 20:
        prior.trust.hear(used, ret)
    (proposal,) = prior.proposals([HALL]) or []
    assert proposal.k is None
    assert proposal.weights == UNIFORM
    assert weights(prior.candidates([HALL], "evaluation")[0]) == UNIFORM
    explained = prior.explain(HALL, "evaluation").weights
    assert explained is not None
    assert explained == UNIFORM
    targets = prior.candidates([HALL] * 100, "target")
    assert sum(c.actions.size == 3 for c in targets) > 80
    for used, ret in [(False, 0.0), (True, 1.0)] * 60:
        prior.trust.hear(used, ret)
    (proposal,) = prior.proposals([HALL]) or []
    assert proposal.k == 1
    assert proposal.weights == pytest.approx(((1 - MIX) * ALONE + MIX / 3).tolist())
    assert sum(c.actions.size == 1 for c in prior.candidates([HALL] * 100, "target")) > 80


def test_an_uninformed_prior_has_nothing_to_trust() -> None:
    assert make("uniform", mix="auto").trust is None
    assert make("scored", mix=0.3).trust is None
