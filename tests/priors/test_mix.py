"""The bandit of prior.mix=auto: by its equations, by what it does, and in a prior and a rollout."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from priors.table_model import CELLAR, HALL, Model, make, weights

from llmrl.priors.mix import GAMMA, WEIGHTS, Mixing
from llmrl.schema import SupportConfig

EPISODES = st.lists(st.tuples(st.sampled_from(WEIGHTS), st.floats(-5, 5)), min_size=1, max_size=40)


@given(EPISODES)
def test_what_a_weight_is_worth_is_the_sum_of_the_equations(episodes: list[tuple[float, float]]) -> None:
    mixing = Mixing(0)
    for weight, ret in episodes:
        mixing.hear(weight, ret)
    share = [GAMMA ** (len(episodes) - 1 - i) for i in range(len(episodes))]
    mean = sum(g * x for g, (_, x) in zip(share, episodes, strict=True)) / sum(share)
    found = mixing.metrics()
    for weight in WEIGHTS:
        n = sum(g for g, (m, _) in zip(share, episodes, strict=True) if m == weight)
        x = sum(g * x for g, (m, x) in zip(share, episodes, strict=True) if m == weight)
        assert found[f"prior/mix/{weight:g}"] == pytest.approx((x + mean) / (n + 1), abs=1e-9)
    played = sum(g * m for g, (m, _) in zip(share, episodes, strict=True)) / sum(share)
    assert found["prior/mix"] == pytest.approx(played)


def played(worth: dict[float, float], episodes: int, mixing: Mixing, scale: float = 1.0) -> list[float]:
    """The weights of so many episodes that succeed as often as `worth` says, for a return of `scale`."""
    rng, chosen = np.random.default_rng(1), []
    for i in range(episodes):
        chosen.append(mixing.draw("train", 0, i))
        mixing.hear(chosen[-1], scale * float(rng.random() < worth[chosen[-1]]))
    return chosen


@pytest.mark.parametrize("best", WEIGHTS)
def test_the_best_weight_is_found_and_the_others_are_tried_again_now_and_then(best: float) -> None:
    worth = dict.fromkeys(WEIGHTS, 0.1) | {best: 0.8}
    mixings = [Mixing(seed) for seed in range(5)]
    missed = np.array([np.array(played(worth, 600, mixing)) != best for mixing in mixings])
    assert missed[:, :150].mean() < 0.2
    assert 0.02 < missed[:, 150:].mean() < 0.12
    assert [mixing.best for mixing in mixings] == [best] * 5


def test_it_changes_its_mind_when_another_weight_becomes_the_best() -> None:
    mixing = Mixing(0)
    played({0.05: 0.8, 0.5: 0.1, 1.0: 0.1}, 150, mixing)
    later = played({0.05: 0.1, 0.5: 0.1, 1.0: 0.8}, 300, mixing)
    assert np.mean(np.array(later[-100:]) == 1.0) > 0.7


def test_no_scale_of_returns_is_assumed() -> None:
    worth = {0.05: 0.2, 0.5: 0.6, 1.0: 0.3}
    assert played(worth, 60, Mixing(3)) == played(worth, 60, Mixing(3), scale=1024.0)


@pytest.mark.parametrize("ret", [0.0, 1.0])
def test_equal_returns_tell_nothing(ret: float) -> None:
    mixing, counts = Mixing(0), dict.fromkeys(WEIGHTS, 0)
    assert mixing.best == WEIGHTS[0]
    assert mixing.metrics()["prior/mix"] is None
    for i in range(300):
        weight = mixing.draw("train", 0, i)
        counts[weight] += 1
        mixing.hear(weight, ret)
    assert min(counts.values()) > 60


def test_a_restored_one_goes_on_alike() -> None:
    mixing, again = Mixing(4), Mixing(4)
    played({0.05: 0.2, 0.5: 0.6, 1.0: 0.3}, 30, mixing)
    mixing.draw_for_targets(7)
    again.load_state_dict(mixing.state_dict())
    again.restore(mixing.save())
    assert again.draw_for_targets(50) == mixing.draw_for_targets(50)
    assert again.draw("train", 2, 9) == mixing.draw("train", 2, 9) == mixing.draw("train", 2, 9)
    assert again.metrics() == mixing.metrics()


# ---- in a prior ------------------------------------------------------------------------------------------------------

ALONE = np.exp([-1, -2, -4]) / np.exp([-1, -2, -4]).sum()


def test_each_state_is_mixed_with_the_weight_of_its_episode() -> None:
    prior = make("scored", mix="auto")
    found = prior.candidates([HALL, CELLAR, HALL], "behaviour", mixes=[0.05, 0.5, 1.0])
    for c, m in zip(found, (0.05, 0.5, 1.0), strict=True):
        assert weights(c) == pytest.approx(((1 - m) * ALONE + m / 3).tolist())


def test_evaluations_use_the_best_weight_and_targets_one_that_is_drawn() -> None:
    prior = make("scored", mix="auto")
    assert prior.mixing is not None
    for weight, ret in [(1.0, 1.0), (0.05, 0.0), (0.5, 0.0)] * 20:
        prior.mixing.hear(weight, ret)
    (proposal,) = prior.proposals([HALL]) or []
    assert proposal.weights == pytest.approx([1 / 3] * 3)
    assert weights(prior.candidates([HALL], "evaluation")[0]) == pytest.approx([1 / 3] * 3)
    explained = prior.explain(HALL, "evaluation").weights
    assert explained is not None
    assert explained == pytest.approx([1 / 3] * 3)
    targets = prior.candidates([HALL] * 100, "target")
    assert sum(weights(c) == pytest.approx([1 / 3] * 3) for c in targets) > 60


def test_draws_have_the_frequencies_of_the_mixture() -> None:
    prior = make("scored", mix="auto", k=1)
    for m in (0.05, 1.0):
        drawn = prior.candidates([HALL] * 3000, "behaviour", mixes=[m] * 3000)
        share = np.mean([weights(c) for c in drawn], axis=0)
        assert share == pytest.approx((1 - m) * ALONE + m / 3, abs=0.05)


def test_counts_of_free_answers_are_mixed_too() -> None:
    model = Model(lambda prompt, number: "wait")
    prior = make("generated", model=model, mix="auto", behaviour=SupportConfig(None, "never"), k=3)
    (found,) = prior.candidates([HALL], "behaviour", mixes=[0.5])
    assert weights(found) == pytest.approx([1 / 6, 1 / 6, 2 / 3])


def test_an_uninformed_prior_has_nothing_to_mix() -> None:
    assert make("uniform", mix="auto").mixing is None
    assert make("scored", mix=0.3).mixing is None
