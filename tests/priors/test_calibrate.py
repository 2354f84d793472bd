"""prior.calibrate=pmi: log p(a | s) less log p(a | the same menu without the state), against sums made by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from priors.table_model import CELLAR, HALL, MENU, TOKENS, Model, at, make

from llmrl.config.compose import ConfigError, compose, unread_overrides
from llmrl.core.state import TextState
from llmrl.run.identity import identify_run

BLANK = "Leave. "
OTHER_MENU = TextState("Leave.", "A hall.", MENU[:2])
OTHER_TASK = TextState("Stay.", "A hall.", MENU)
Table = dict[tuple[str, str], float]


def continuation(action: str) -> str:
    return f" {action}\n"


def by_hand(table: Table, state: TextState, weight: float, normalise: str, temperature: float = 1.0) -> list[float]:
    """exp(x / temperature), summing to 1: one action after the other, in plain arithmetic."""
    exponents = []
    for action in state.actions:
        text = continuation(action)
        divisor = {"none": 1, "token": TOKENS[text], "word": len(action.split())}[normalise]
        seen, unseen = table[f"{state.task} {state.observation}", text], table[f"{state.task} ", text]
        exponents.append((seen / divisor - weight * unseen / divisor) / temperature)
    odds = [math.exp(x - max(exponents)) for x in exponents]
    return [o / sum(odds) for o in odds]


logprobs = st.lists(st.floats(-400.0, 0.0), min_size=3, max_size=3)


@given(
    logprobs, logprobs, st.floats(0.01, 2.0), st.sampled_from(["none", "token", "word"]), st.sampled_from([0.1, 1.0, 5])
)
@example([-1.0, -2.0, -4.0], [0.0, 0.0, 0.0], 1.0, "none", 1.0)  # certain of all without the state: nothing comes off
@example([-400.0, 0.0, -400.0], [0.0, -400.0, 0.0], 2.0, "none", 0.1)  # far apart: no overflow
@settings(max_examples=60, deadline=None)
def test_the_weights_are_those_by_hand(
    seen: list[float], unseen: list[float], weight: float, normalise: str, temperature: float
) -> None:
    texts = [continuation(action) for action in MENU]
    table = {("Leave. A hall.", t): x for t, x in zip(texts, seen, strict=True)}
    table |= {(BLANK, t): x for t, x in zip(texts, unseen, strict=True)}
    given = {"normalise": normalise, "calibrate": "pmi", "calibrate_weight": weight, "temperature": temperature}
    prior = make("scored", model=Model(logprob=lambda prompt, text: table[prompt, text]), **given)
    assert at(prior) == pytest.approx(by_hand(table, HALL, weight, normalise, temperature), rel=1e-9, abs=1e-15)


def by_text(prompt: str, text: str) -> float:
    return -float((7 * len(prompt) + 3 * len(text)) % 11)


def test_states_with_one_task_and_one_menu_share_the_question_without_a_state() -> None:
    model = Model(logprob=by_text)
    prior = make("scored", model=model, calibrate="pmi")
    prior.candidates([HALL, CELLAR, OTHER_TASK], "behaviour")
    assert sorted(model.scored) == ["Leave. ", "Leave. A cellar.", "Leave. A hall.", "Stay. ", "Stay. A hall."]
    prior.candidates([TextState("Leave.", "An attic.", MENU), HALL], "behaviour")
    assert model.scored[5:] == ["Leave. An attic."]
    assert prior.lm_metrics()["lm/distinct_prompts"] == 6  # what the model was asked, with and without a state
    assert prior.lm_metrics()["lm/queries"] == 5  # and of how many states that were acted in


def test_what_is_taken_off_has_no_history_and_is_kept(tmp_path: Path) -> None:
    model = Model(logprob=by_text)
    cache = tmp_path / "kept.sqlite3"
    long = TextState("Leave.", "A hall.", MENU, (("A cellar.", "wait"),))
    told = at(make("scored", model=model, cache=cache, calibrate="pmi"), long)
    assert sorted(model.scored) == ["Leave. ", "Leave. A hall. wait"]
    again = Model()
    assert at(make("scored", model=again, cache=cache, calibrate="pmi"), long) == told
    marginal = make("scored", model=again, cache=cache, control="marginal")
    at(marginal, HALL)  # asks the very question
    assert again.scored == []


def test_another_menu_has_a_question_of_its_own() -> None:
    model = Model(logprob=by_text)
    prior = make("scored", model=model, calibrate="pmi")
    small, large = prior.candidates([OTHER_MENU, HALL], "behaviour")
    assert (small.actions.size, large.actions.size) == (2, 3)
    assert large.log_weights[0] - large.log_weights[1] == pytest.approx(small.log_weights[0] - small.log_weights[1])


def test_controls_are_made_from_what_is_left() -> None:
    model = Model(logprob=by_text)
    plain = make("scored", model=model, calibrate="pmi")
    shuffled = make("scored", model=model, calibrate="pmi", control="shuffled")
    assert sorted(at(shuffled)) == pytest.approx(sorted(at(plain)))
    half = make("scored", model=model, calibrate="pmi", control="marginal", calibrate_weight=0.5)
    logits = [by_text(BLANK, continuation(action)) / 2 for action in MENU]
    odds = [math.exp(x) for x in logits]
    assert at(half) == pytest.approx([o / sum(odds) for o in odds])


def test_asking_ahead_asks_both_questions() -> None:
    class Ahead(Model):
        def start_score(self, prompts, continuations):  # type: ignore[no-untyped-def]
            found = self.score(prompts, continuations)
            return lambda: found

        def start_sample(self, prompts, seeds, sampling):  # type: ignore[no-untyped-def]
            raise AssertionError

    model = Ahead(logprob=by_text)
    prior = make("scored", model=model, calibrate="pmi")
    prior.begin({"behaviour": [HALL, CELLAR]})
    assert (model.calls, sorted(model.scored)) == (1, ["Leave. ", "Leave. A cellar.", "Leave. A hall."])
    ahead = at(prior)
    assert model.calls == 1
    assert ahead == at(make("scored", model=Model(logprob=by_text), calibrate="pmi"))


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("prior=generated prior.calibrate=pmi", "prior=generated does not read this; prior=scored or sampled does"),
        ("prior=oracle prior.calibrate=pmi", "prior=oracle does not read this"),
        ("learner=dqn prior.calibrate=pmi", "prior=uniform does not read this"),
        ("prior.calibrate=pmi prior.calibrate_weight=0", "must be above 0; prior.calibrate=none takes nothing off"),
        ("prior.calibrate=pm", "did you mean prior.calibrate=pmi"),
        ("learner=prior_only prior=marginal prior.calibrate=pmi", "prior=marginal shows no observation"),
        ("prior.calibrate=pmi prompt.template='{{task}}'", "the template of prompt 'plain-1' shows no observation"),
    ],
)
def test_what_it_cannot_do_is_refused(typed: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compose(typed.split(" "))


def test_a_weight_that_is_not_read_names_no_run() -> None:
    typed = ["prior.calibrate_weight=0.5"]
    cfg = compose(typed)
    assert identify_run(cfg).id == identify_run(compose([])).id
    assert unread_overrides(typed, cfg) == [
        "prior.calibrate_weight=0.5 changes nothing: prior.calibrate=pmi reads this"
    ]
    weighted = [identify_run(compose(["prior.calibrate=pmi", f"prior.calibrate_weight={w}"])).id for w in (0.5, 1.0)]
    assert len({*weighted, identify_run(cfg).id}) == 3
