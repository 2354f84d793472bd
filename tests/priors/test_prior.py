from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from priors.table_model import CELLAR, HALL, LOGPROBS, MENU, USES, Model, at, make, weights

from llmrl.core.candidates import Use
from llmrl.core.state import TextState
from llmrl.priors.prior import Prior
from llmrl.priors.sources import Key, Source
from llmrl.priors.supports import Drawn, Draws
from llmrl.schema.priors import PriorConfig, SupportConfig

# ---- every source and support ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["uniform", "scored", "generated"])
@pytest.mark.parametrize("k", [None, 1, 2, 7])
@pytest.mark.parametrize("redraw", ["visit", "never", "union"])
@pytest.mark.parametrize("mix", [0.0, 0.3, 1.0])
def test_weights_are_a_distribution_over_a_support(source: str, k: int | None, redraw: str, mix: float) -> None:
    model = Model(lambda prompt, number: ("wait", "nonsense", "go north", "fly")[number % 4])
    support = SupportConfig(k, redraw)
    # Free answers need a count from some use; that of the target serves a behaviour with all actions.
    prior = make(source, model=model, mix=mix, behaviour=support, evaluation=support, target=SupportConfig(3))
    for use in USES:
        for _ in range(3):
            for c, state in zip(prior.candidates([HALL, CELLAR, HALL], use), (HALL, CELLAR, HALL), strict=True):
                assert np.exp(c.log_weights).sum() == pytest.approx(1, abs=1e-12)
                assert c.actions.tolist() == sorted(set(c.actions.tolist()))
                assert set(c.actions.tolist()) <= set(range(len(state.actions)))
                if use != "target" and k is None:
                    assert c.actions.size == len(MENU)
                elif use != "target" and redraw != "union":
                    assert c.actions.size <= k


def test_a_source_that_asks_needs_a_model() -> None:
    with pytest.raises(ValueError, match=r"prior\.source=scored asks a language model: choose one with lm=tiny"):
        Prior(PriorConfig("x", "scored"), 0)


# ---- uniform, scored -------------------------------------------------------------------------------------------------


def test_uniform_is_equal_weight_on_everything() -> None:
    prior = make("uniform")
    assert at(prior) == pytest.approx([1 / 3] * 3)
    assert prior.lm_metrics() == {
        "lm/queries": 0, "lm/distinct_prompts": 0, "lm/parse_failures": 0, "prior/fallback": 0,
    }  # fmt: skip


def test_uniform_k_is_k_draws_that_tend_to_equal_weights() -> None:
    assert sorted(at(make("uniform", k=1))) == [0, 0, 1]
    assert at(make("uniform", k=60_000)) == pytest.approx([1 / 3] * 3, abs=0.01)


@pytest.mark.parametrize(
    ("normalise", "logits"),
    [("none", [-1, -2, -4]), ("token", [-1 / 3, -2 / 5, -4 / 2]), ("word", [-1 / 2, -2 / 4, -4 / 1])],
)
def test_scored_is_the_softmax_of_normalised_log_probabilities(normalise: str, logits: list[float]) -> None:
    expected = np.exp(logits) / np.exp(logits).sum()
    assert at(make("scored", normalise=normalise)) == pytest.approx(expected.tolist(), rel=1e-12)


def test_scores_far_below_zero_do_not_underflow(monkeypatch: pytest.MonkeyPatch) -> None:
    for action in MENU:
        monkeypatch.setitem(LOGPROBS, f" {action}\n", LOGPROBS[f" {action}\n"] - 5000)
    assert at(make("scored")) == pytest.approx((np.exp([-1, -2, -4]) / np.exp([-1, -2, -4]).sum()).tolist())


@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.0])
def test_a_temperature_sharpens_or_flattens_what_was_scored(temperature: float) -> None:
    p = np.array(at(make("scored")))
    expected = p ** (1 / temperature) / (p ** (1 / temperature)).sum()
    assert at(make("scored", temperature=temperature)) == pytest.approx(expected.tolist(), rel=1e-12)
    assert at(make("scored", temperature=temperature, mix=0.3)) == pytest.approx((0.7 * expected + 0.1).tolist())


def test_mixing_comes_before_the_draws() -> None:
    scored = np.array(at(make("scored")))
    assert at(make("scored", mix=0.2)) == pytest.approx((0.8 * scored + 0.2 / 3).tolist())
    assert at(make("scored", mix=1.0)) == pytest.approx([1 / 3] * 3)
    prior = make("scored", mix=0.5, k=1)
    assert all(sorted(at(prior)) == [0, 0, 1] for _ in range(20))


class Longest(Source):
    """The longest action."""

    def weights(self, keys: Sequence[Key], use: Use) -> list[np.ndarray]:
        return [np.array([float(a == max(key.actions, key=len)) for a in key.actions]) for key in keys]


def test_a_source_of_one_method_has_every_support() -> None:
    key = Key(HALL.observation, HALL.actions)
    supports: dict[Use, SupportConfig] = {"behaviour": SupportConfig(), "target": SupportConfig(4, "union")}
    prior = Drawn(Longest(), Draws(0, supports), 0.3)
    (c,) = prior.candidates([key], "behaviour", count=True)
    assert weights(c) == pytest.approx([0.1, 0.8, 0.1])
    for _ in range(100):
        (c,) = prior.candidates([key], "target", count=True)
    assert weights(c) == pytest.approx([0.1, 0.8, 0.1], abs=0.06)
    assert prior.explain(key, "target").draws == 400


# ---- sampled: scored with k draws ------------------------------------------------------------------------------------


def test_weights_of_a_sample_are_its_counts() -> None:
    prior = make("scored", k=4)
    for _ in range(20):
        counts = 4 * np.array(at(prior))
        assert counts == pytest.approx(counts.round())
        assert counts.sum() == pytest.approx(4)


def test_many_draws_tend_to_the_scored_distribution() -> None:
    scored = at(make("scored", mix=0.1))
    assert at(make("scored", mix=0.1, k=100_000)) == pytest.approx(scored, abs=0.01)  # six standard deviations
    one_by_one = make("scored", mix=0.1, k=1)
    assert np.mean([at(one_by_one) for _ in range(5000)], axis=0) == pytest.approx(scored, abs=0.045)


def test_a_visit_draws_afresh_and_a_seed_draws_again() -> None:
    prior, same, other = make("scored", k=3), make("scored", k=3), make("scored", k=3, seed=1)
    drawn = [at(prior) for _ in range(12)]
    assert len({tuple(w) for w in drawn}) > 1
    assert [at(same) for _ in range(12)] == drawn
    assert [at(other) for _ in range(12)] != drawn


def test_uses_draw_from_streams_of_their_own() -> None:
    alone, beside = make("scored", k=3), make("scored", k=3)
    expected = [at(alone) for _ in range(8)]
    found = []
    for i in range(8):
        beside.start_evaluation("greedy", i)
        at(beside, use="evaluation")
        at(beside, use="target")
        found.append(at(beside))
    assert found == expected


@pytest.mark.parametrize("source", ["uniform", "scored", "generated"])
@pytest.mark.parametrize("redraw", ["visit", "union"])
def test_an_evaluation_is_named_by_when_it_happens(source: str, redraw: str) -> None:
    def evaluation(prior: Prior, *name: str | int) -> list[list[float]]:
        prior.start_evaluation(*name)
        return [at(prior, use="evaluation") for _ in range(13)]

    def fresh() -> Prior:
        model = Model(lambda prompt, number: MENU[number // 8 % 3])  # each visit reads other answers
        return make(source, model=model, redraw=redraw, k=3, limit=5, mix=0.5)

    prior, late = fresh(), fresh()
    first, second = evaluation(prior, "behaviour", 0), evaluation(prior, "behaviour", 100)
    assert first != second
    assert evaluation(late, "behaviour", 100) == second


STATES = [TextState("Leave.", f"Room {i}.", MENU) for i in range(6)]


@given(st.lists(st.tuples(st.sampled_from(STATES), st.sampled_from(USES)), max_size=12))
@settings(max_examples=20, deadline=None)
@pytest.mark.parametrize("source", ["uniform", "scored", "generated"])
def test_frozen_draws_belong_to_the_prompt_alone(source: str, visits: list[tuple[TextState, Use]]) -> None:
    def prior() -> Prior:
        return make(source, k=3, redraw="never", mix=0.3)

    expected, visited = {s: at(prior(), s) for s in STATES}, prior()
    for state, use in visits:
        assert at(visited, state, use) == expected[state]


def test_frozen_draws_differ_between_prompts_menus_and_seeds() -> None:
    prior = make("scored", k=4, redraw="never")
    assert len({tuple(at(prior, s)) for s in STATES}) > 1
    assert {tuple(at(make("scored", k=4, redraw="never", seed=s))) for s in range(6)} != {tuple(at(prior))}
    menus = [tuple(MENU[i] for i in order) for order in ([0, 1, 2], [1, 2, 0], [2, 0, 1])]
    same = make("uniform", k=5, redraw="never")
    assert len({tuple(at(same, TextState("Leave.", "A hall.", menu))) for menu in menus}) > 1


def test_the_first_frozen_draws_are_among_more_of_them() -> None:
    for state in STATES:
        few, many = (np.array(at(make("scored", k=k, redraw="never"), state)) * k for k in (5, 15))
        assert (few <= many + 1e-9).all()


def test_history_that_the_prompt_does_not_show_changes_nothing() -> None:
    prior = make("scored", k=4, redraw="never")
    long = TextState("Leave.", "A hall.", MENU, (("x", "wait"), ("y", "go north")))
    short = TextState("Leave.", "A hall.", MENU, (("y", "go north"),))
    assert at(prior, long) == at(prior, short)
    assert prior.lm_metrics()["lm/distinct_prompts"] == 1
    at(prior, HALL)
    assert prior.lm_metrics()["lm/distinct_prompts"] == 2


def test_a_union_keeps_all_draws_so_far() -> None:
    prior, fresh = make("scored", k=2, redraw="union"), make("scored", k=2)
    total = np.zeros(3)
    for visit in range(1, 8):
        total += 2 * np.array(at(fresh))
        assert at(prior) == pytest.approx((total / (2 * visit)).tolist())
    assert at(prior, CELLAR) == pytest.approx(at(fresh))  # each state has its own


def test_uses_have_supports_of_their_own() -> None:
    prior = make("scored", behaviour=SupportConfig(1), target=SupportConfig(None), evaluation=SupportConfig(2, "never"))
    assert sorted(at(prior)) == [0, 0, 1]
    assert min(at(prior, use="target")) > 0
    assert at(prior, use="evaluation") == at(prior, use="evaluation")
    assert prior.frozen_in_evaluation
    assert not make("scored", k=2).frozen_in_evaluation
    assert make("scored").frozen_in_evaluation


# ---- generated -------------------------------------------------------------------------------------------------------


def says(*answers: str) -> Model:
    """These answers, then nothing that is an action."""
    return Model(lambda prompt, number: answers[number] if number < len(answers) else "...")


def failed(prior: Prior) -> tuple[int, int]:
    """(parse failures, fallbacks)"""
    metrics = prior.lm_metrics()
    return metrics["lm/parse_failures"], metrics["prior/fallback"]


def test_the_first_k_that_project_count_in_index_order() -> None:
    model = says("wait", "dance", "Go north!", "sing", "wait", "open the red door", "open the red door")
    prior = make("generated", model=model, k=3, limit=5, redraw="never")
    assert at(prior) == pytest.approx([1 / 3, 0, 2 / 3])
    assert [number for _, number in model.asked] == [0, 1, 2, 3, 4]  # no more than needed
    assert prior.lm_metrics()["lm/parse_failures"] == 2


def test_fewer_stay_fewer() -> None:
    model = says("dance", "wait", "sing", "go north", "hum")
    prior = make("generated", model=model, k=3, limit=2, redraw="never")
    assert at(prior) == pytest.approx([0.5, 0, 0.5])
    assert len(model.asked) == 3 + 2
    assert failed(prior) == (3, 0)


def test_none_at_all_is_uniform_and_counted() -> None:
    prior = make("generated", model=says(), k=3, limit=2, redraw="never")
    assert at(prior) == pytest.approx([1 / 3] * 3)
    assert failed(prior) == (5, 1)


def test_a_parse_failure_is_counted_once_an_answer() -> None:
    model = says("dance", "wait", "sing", "go north", "hum")
    prior = make("generated", model=model, k=3, limit=2, redraw="never")
    for use in (*USES, *USES):
        prior.candidates([HALL, HALL], use)
    assert prior.lm_metrics()["lm/parse_failures"] == 3
    assert len(model.asked) == 5


def test_an_answer_that_names_two_actions_is_counted_apart() -> None:
    model = says("wait or go north", "wait", "never wait", "sing")
    prior = make("generated", model=model, k=4, limit=2, redraw="never")
    assert at(prior) == pytest.approx([0, 0, 1])
    metrics = prior.lm_metrics()
    assert (metrics["lm/parse_failures"], metrics["lm/ambiguous"]) == (5, 1)
    again = make("generated", model=model, k=4, limit=2, redraw="never")
    again.restore(prior.save())
    again.candidates([HALL], "evaluation")  # the same answers: counted before it stopped
    assert again.lm_metrics() == metrics
    assert "lm/ambiguous" not in make("scored").lm_metrics()  # which reads no answers


def test_a_visit_reads_the_next_answers() -> None:
    model = Model(lambda prompt, number: MENU[number // 4] if number < 12 else "...")
    prior = make("generated", model=model, k=2, limit=2, redraw="visit")
    assert [at(prior) for _ in range(4)] == [[1, 0, 0], [0, 1, 0], [0, 0, 1], pytest.approx([1 / 3] * 3)]
    both = make("generated", model=Model(model.say), k=2, limit=2, redraw="visit").candidates([HALL, HALL], "behaviour")
    assert [weights(c) for c in both] == [[1, 0, 0], [0, 1, 0]]  # two environments in one state visit it twice


def test_a_union_of_answers_grows() -> None:
    model = Model(lambda prompt, number: MENU[number // 4])
    prior = make("generated", model=model, k=2, limit=2, redraw="union")
    assert at(prior) == [1, 0, 0]
    assert at(prior) == pytest.approx([0.5, 0.5, 0])
    assert at(prior) == pytest.approx([1 / 3] * 3)


def test_free_answers_can_weigh_all_actions() -> None:
    prior = make("generated", model=says("wait", "wait"), mix=0.3, behaviour=SupportConfig(), target=SupportConfig(2))
    assert at(prior) == pytest.approx([0.1, 0.1, 0.8])
    with pytest.raises(ValueError, match=r"set prior\.behaviour\.k"):
        at(make("generated"))


def test_mixing_replaces_answers_by_any_action() -> None:
    answers = make("generated", model=Model(lambda *_: "wait"), k=3000, mix=0.3, redraw="never")
    assert at(answers) == pytest.approx([0.1, 0.1, 0.8], abs=0.05)
    assert make("generated", k=1, mix=1.0).candidates([HALL], "behaviour")[0].actions.size == 1


def test_a_draw_seed_names_a_table_of_generations() -> None:
    def seen(seed: int, draw_seed: int | None) -> list[int]:
        model = Model()
        at(make("generated", seed=seed, model=model, k=1, draw_seed=draw_seed))
        return model.draw_seeds

    assert seen(3, None) == [3]
    assert seen(3, 0) == seen(4, 0) == [0]


def test_seeds_that_share_a_table_share_its_answers(tmp_path: Path) -> None:
    first, second, third = Model(), Model(), Model()
    file = tmp_path / "kept.sqlite3"
    shared = [at(make("generated", s, m, file, k=2, draw_seed=0)) for s, m in ((1, first), (2, second))]
    assert shared[0] == shared[1]
    assert second.calls == 0
    at(make("generated", 2, third, file, k=2))
    assert third.calls == 1


# ---- counting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["scored", "generated"])
def test_metrics_do_not_depend_on_what_was_kept(source: str, tmp_path: Path) -> None:
    def run(model: Model) -> tuple[list[list[float]], dict[str, int]]:
        prior = make(source, model=model, cache=tmp_path / "kept.sqlite3", k=3, mix=0.1)
        seen = []
        for states in ([HALL, CELLAR], STATES, [HALL, HALL], STATES):
            for use in USES:
                seen += [weights(c) for c in prior.candidates(states, use)]
        return seen, prior.lm_metrics()

    def say(prompt: str, number: int) -> str:
        return ("dance", "wait", "go north")[(len(prompt) + number) % 3]

    cold, warm = Model(say), Model(say)
    assert run(cold) == run(warm)
    assert cold.calls > 0
    assert warm.calls == 0


def test_queries_are_states_that_were_to_be_acted_in() -> None:
    prior = make("scored", k=2)
    prior.candidates([HALL, HALL, CELLAR], "behaviour")
    prior.candidates([HALL, *STATES], "target")
    prior.candidates([CELLAR], "evaluation")  # counts as nothing
    assert prior.lm_metrics() == {
        "lm/queries": 3, "lm/distinct_prompts": 8, "lm/parse_failures": 0, "prior/fallback": 0,
    }  # fmt: skip


def test_a_batch_asks_the_model_once() -> None:
    model = Model()
    prior = make("scored", model=model)
    prior.candidates([HALL, CELLAR, HALL, *STATES], "behaviour")
    assert model.calls == 1
    prior.candidates([CELLAR, *STATES], "target")
    assert model.calls == 1
