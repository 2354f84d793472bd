"""What takes the prior's place: shuffled, marginal, oracle, uniform uses; and what the exact evaluation is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from priors.table_model import CELLAR, HALL, MENU, USES, Model, at, make, weights

from llmrl.build import build, build_env
from llmrl.config.compose import ConfigError, compose
from llmrl.core.candidates import Use
from llmrl.core.seeding import stream
from llmrl.core.state import TextState
from llmrl.priors.prior import Prior
from llmrl.prompts.examples import Examples, Step, play_expert
from llmrl.schema.priors import PriorConfig, SupportConfig
from llmrl.training.preflight import refuse_unready

SCORED = np.exp([-1, -2, -4]) / np.exp([-1, -2, -4]).sum()  # of MENU, in every state
ROOMS = [TextState("Leave.", f"Room {i}.", MENU) for i in range(8)]
NORTH, WAIT = frozenset({"go north"}), frozenset({"wait"})


def proposed(prior: Prior, state: TextState = HALL, expert: frozenset[str] | None = None) -> np.ndarray:
    found = prior.proposals([state], [expert])
    assert found is not None
    return found[0].weights


# ---- shuffled --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 99), st.lists(st.tuples(st.sampled_from(ROOMS), st.sampled_from(USES)), max_size=12))
@settings(max_examples=20, deadline=None)
def test_shuffled_is_one_permutation_per_seed_prompt_and_menu(seed: int, visits: list[tuple[TextState, Use]]) -> None:
    prior = make("scored", seed, control="shuffled")
    for state, use in visits:  # whoever asks, and in whatever order
        order = stream(seed, "shuffled", f"Leave. {state.observation}", *MENU).permutation(3)
        assert at(prior, state, use) == pytest.approx(SCORED[order].tolist(), rel=1e-12)


def test_shuffled_differs_between_prompts_seeds_and_menus() -> None:
    def order(state: TextState, seed: int = 0) -> tuple[str, ...]:
        p = at(make("scored", seed, control="shuffled"), state)
        return tuple(sorted(state.actions, key=lambda action: p[state.actions.index(action)]))

    assert len({order(s) for s in ROOMS}) > 2
    assert len({order(HALL, seed) for seed in range(8)}) > 2
    turned = [tuple(MENU[(i + n) % 3] for i in range(3)) for n in range(3)]
    assert len({order(TextState("Leave.", "A hall.", menu)) for menu in turned}) > 1


def test_shuffled_is_mixed_and_drawn_from_as_any_other() -> None:
    order = stream(0, "shuffled", "Leave. A hall.", *MENU).permutation(3)
    expected = 0.6 * SCORED[order] + 0.4 / 3
    assert at(make("scored", control="shuffled", mix=0.4)) == pytest.approx(expected.tolist())
    assert at(make("scored", control="shuffled", mix=0.4, k=60_000)) == pytest.approx(expected.tolist(), abs=0.013)


# ---- marginal --------------------------------------------------------------------------------------------------------


def by_prompt(prompt: str, text: str) -> float:
    return -float((7 * len(prompt) + 3 * len(text)) % 11)


def test_marginal_is_scored_after_a_prompt_without_the_state() -> None:
    model = Model(logprob=by_prompt)
    prior = make("scored", model=model, control="marginal")
    logits = np.array([by_prompt("Leave. ", f" {action}\n") for action in MENU])
    expected = np.exp(logits) / np.exp(logits).sum()
    long = TextState("Leave.", "An attic, far above.", MENU, (("A hall.", "go north"),))
    for state in (HALL, CELLAR, long):
        assert at(prior, state) == pytest.approx(expected.tolist())
    assert model.scored == ["Leave. "]
    assert at(make("scored", model=Model(logprob=by_prompt)), long) != pytest.approx(expected.tolist())


def test_marginal_counts_the_prompts_that_were_asked() -> None:
    model = Model()
    prior = make("scored", model=model, control="marginal")
    prior.candidates([HALL, CELLAR, *ROOMS], "behaviour")
    at(prior, TextState("Stay.", "A hall.", MENU))
    assert model.scored == ["Leave. ", "Stay. "]
    assert prior.lm_metrics()["lm/distinct_prompts"] == 2
    assert prior.lm_metrics()["lm/queries"] == 11


def test_marginal_freezes_the_draws_of_each_state() -> None:
    prior = make("scored", control="marginal", k=4, redraw="never")
    assert len({tuple(at(prior, s)) for s in ROOMS}) > 1
    assert [at(prior, s) for s in ROOMS] == [at(make("scored", k=4, redraw="never"), s) for s in ROOMS]


# ---- copier ----------------------------------------------------------------------------------------------------------


class Voters:
    """Examples of each state: the actions that an expert took where it looked alike."""

    def __init__(self, votes: Mapping[TextState, Sequence[str]]) -> None:
        self.votes = votes

    def of(self, state: TextState) -> list[Step]:
        return [Step(state, action) for action in self.votes[state]]


def test_a_copier_counts_the_votes_of_examples() -> None:
    voters = Voters({HALL: [MENU[1], MENU[1], MENU[0], "an action of another menu"], CELLAR: ["another", "another"]})
    prior = Prior(PriorConfig("x", "copied", mix=0.0), 0, examples=voters)  # type: ignore[arg-type]
    assert at(prior, HALL) == pytest.approx([1 / 3, 2 / 3, 0])
    assert at(prior, CELLAR) == pytest.approx([1 / 3] * 3)
    assert not prior.asks
    assert prior.frozen_in_evaluation


def test_a_copier_copies_what_similar_examples_show() -> None:
    """Its examples are those of prompt=similar, in the same world."""
    parts = build(compose(["env=overcooked_tomato", "prior=copier", "learner=prior_only", "prior.mix=0"]))
    env = build_env(compose(["env=overcooked_tomato"]))
    examples = Examples(env.practice(), 4, 1, "similar")  # type: ignore[attr-defined]
    known = 0
    for state, _ in play_expert(env):  # type: ignore[arg-type]
        state = replace(state, history=())
        votes = [step.action for step in examples.of(state) if step.action in state.actions]
        expected = [votes.count(a) / len(votes) if votes else 1 / len(state.actions) for a in state.actions]
        (found,) = parts.prior.candidates([state], "evaluation")
        assert weights(found, len(state.actions)) == pytest.approx(expected)
        known += bool(votes)
    assert known


def test_a_copier_needs_games_to_practise_in() -> None:
    cfg = compose(["prior=copier", "env=overcooked_random", "env.split=train"])
    with pytest.raises(ConfigError, match="prior=copier: examples come from kitchens of the split train"):
        refuse_unready(cfg)


# ---- oracle ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [0.0, 0.25, 1.0])
@pytest.mark.parametrize(
    ("expert", "shares"),
    [(NORTH, [1, 0, 0]), (NORTH | WAIT, [0.5, 0, 0.5]), (frozenset(MENU), [1 / 3] * 3), (NORTH | {"fly"}, [1, 0, 0])],
)
def test_oracle_is_the_experts_actions_with_errors(error: float, expert: frozenset[str], shares: list[float]) -> None:
    expected = (1 - error) * np.array(shares) + error / 3
    assert at(make("oracle", error=error), expert=expert) == pytest.approx(expected.tolist())
    mixed = 0.8 * expected + 0.2 / 3
    assert at(make("oracle", error=error, mix=0.2), expert=expert) == pytest.approx(mixed.tolist())


def test_oracle_without_error_draws_experts_actions_alone() -> None:
    prior = make("oracle", k=5)
    for _ in range(20):
        assert at(prior, expert=NORTH | WAIT)[1] == 0


def test_oracle_is_uniform_where_the_expert_is_unknown() -> None:
    prior = make("oracle")
    found = prior.candidates([HALL, CELLAR, *ROOMS[:1]], "behaviour", [None, NORTH, frozenset()])
    assert [c.actions.tolist() for c in found] == [[0, 1, 2], [0], [0, 1, 2]]
    assert at(prior, ROOMS[1]) == pytest.approx([1 / 3] * 3)  # once told, it may be left without


@pytest.mark.parametrize("redraw", ["visit", "never", "union"])
def test_states_that_render_alike_have_experts_of_their_own(redraw: str) -> None:
    prior = make("oracle", k=3, redraw=redraw)
    for _ in range(3):
        assert at(prior, expert=NORTH) == [1, 0, 0]
        assert at(prior, expert=WAIT) == [0, 0, 1]
    assert at(prior, CELLAR, expert=WAIT) == [0, 0, 1]


def test_oracle_asks_no_model_and_counts_nothing() -> None:
    prior = make("oracle", k=2)
    at(prior, expert=NORTH)
    assert set(prior.lm_metrics().values()) == {0}


def test_an_oracle_needs_a_world_that_tells() -> None:
    for experts in (None, [None, None]):
        with pytest.raises(ValueError, match=r"prior=x needs the actions of an expert, and this world names none"):
            make("oracle").candidates([HALL, CELLAR], "behaviour", experts)
    with pytest.raises(ValueError, match="names none"):
        make("oracle").proposals([HALL], [None])
    assert make("oracle").candidates([], "target", []) == []


# ---- uses that know no prior -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["scored", "generated"])
@pytest.mark.parametrize("blind", USES)
def test_a_uniform_use_asks_the_model_nothing(source: str, blind: Use) -> None:
    model = Model()
    prior = make(source, model=model, k=2, **{blind: SupportConfig(2, uniform=True)})
    assert at(prior, use=blind) == pytest.approx([1 / 3] * 3)
    assert (model.calls, set(prior.lm_metrics().values())) == (0, {0})
    explained = prior.explain(HALL, blind)
    assert explained.weights is not None
    assert explained.weights.tolist() == pytest.approx([1 / 3] * 3)
    assert (explained.answers, explained.draws) == ([], None)


@pytest.mark.parametrize("blind", USES)
def test_the_other_uses_are_as_without_it(blind: Use) -> None:
    plain, prior = make("scored", k=3), make("scored", k=3, **{blind: SupportConfig(uniform=True)})
    for use in (*USES, *USES):
        expected = at(plain, use=use)
        assert at(prior, use=use) == (pytest.approx([1 / 3] * 3) if use == blind else expected)


def test_no_use_no_model() -> None:
    blind = SupportConfig(uniform=True)
    prior = Prior(PriorConfig("x", "scored", behaviour=blind, target=blind, evaluation=blind), 0)
    assert at(prior) == pytest.approx([1 / 3] * 3)
    with pytest.raises(ValueError, match="asks a language model"):
        Prior(PriorConfig("x", "scored", behaviour=blind, target=blind), 0)


def test_targets_are_queries_where_the_behaviour_asks_nothing() -> None:
    prior = make("scored", behaviour=SupportConfig(uniform=True))
    prior.candidates([HALL, CELLAR], "behaviour")
    prior.candidates([HALL, CELLAR], "target")
    assert prior.lm_metrics()["lm/queries"] == 2


@given(st.integers(0, 12), st.lists(st.integers(1, 4), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_a_behaviour_forgets_the_prior_after_so_many_decisions(after: int, ticks: list[int]) -> None:
    prior, plain = make("scored", k=1, uniform_after=after), make("scored", k=1)
    decision = 0
    for size in ticks:
        expected = plain.candidates(ROOMS[:size], "behaviour")
        for c, e in zip(prior.candidates(ROOMS[:size], "behaviour"), expected, strict=True):
            assert c.actions.tolist() == (e.actions.tolist() if decision < after else [0, 1, 2])
            decision += 1
        assert at(prior, use="evaluation") == at(plain, use="evaluation")
        assert at(prior, use="target") == at(plain, use="target")
    asked = min(decision, after)
    targets = len(np.flatnonzero(np.cumsum(ticks) >= after))  # those of a behaviour that no longer asks
    assert prior.lm_metrics()["lm/queries"] == asked + targets


# ---- identities ------------------------------------------------------------------------------------------------------


@given(st.sampled_from(ROOMS), st.integers(1, 9), st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_what_mixes_or_errs_always_is_uniform(state: TextState, k: int, seed: int) -> None:
    uniform = at(make("uniform", seed, k=k), state)
    assert at(make("oracle", seed, k=k, error=1.0), state, expert=WAIT) == uniform
    for control in (None, "shuffled", "marginal"):
        assert at(make("scored", seed, k=k, mix=1.0, control=control), state) == uniform


# ---- proposals: what the evaluation's candidates are drawn from ------------------------------------------------------

KINDS = [
    ("uniform", {}),
    ("scored", {}),
    ("scored", {"mix": 0.3}),
    ("scored", {"control": "shuffled"}),
    ("scored", {"control": "marginal"}),
    ("oracle", {"error": 0.4}),
]


@pytest.mark.parametrize(("source", "cfg"), KINDS)
def test_draws_are_expected_as_often_as_proposed(source: str, cfg: dict[str, object]) -> None:
    k, visits = 3, 3000
    prior = make(source, k=k, **cfg)
    (proposal,) = prior.proposals([HALL], [NORTH]) or []
    assert proposal.k == k
    drawn = sum(k * np.array(at(prior, use="evaluation", expert=NORTH)) for _ in range(visits))
    spread = np.sqrt(visits * k * proposal.weights * (1 - proposal.weights))
    assert (np.abs(drawn - visits * k * proposal.weights) <= 5 * spread).all()
    assert at(make(source, **cfg), expert=NORTH) == pytest.approx(proposal.weights.tolist())  # k=null: it is the prior


@pytest.mark.parametrize(("source", "cfg"), [*KINDS, ("generated", {}), ("generated", {"mix": 0.5})])
@pytest.mark.parametrize("k", [None, 4])
def test_candidates_that_stay_are_proposed_as_they_are(source: str, cfg: dict[str, object], k: int | None) -> None:
    prior = make(source, evaluation=SupportConfig(k, "never"), behaviour=SupportConfig(4), **cfg)
    for state in ROOMS:
        (proposal,) = prior.proposals([state], [NORTH]) or []
        assert proposal.k is None
        assert at(prior, state, "evaluation", NORTH) == pytest.approx(proposal.weights.tolist())


def test_a_uniform_evaluation_is_proposed_without_asking() -> None:
    model = Model()
    prior = make("generated", model=model, k=2, evaluation=SupportConfig(2, uniform=True))
    assert proposed(prior).tolist() == pytest.approx([1 / 3] * 3)
    assert model.calls == 0
    assert prior.frozen_in_evaluation


@pytest.mark.parametrize(
    ("source", "redraw"), [("scored", "union"), ("oracle", "union"), ("generated", "union"), ("generated", "visit")]
)
def test_what_changes_from_visit_to_visit_has_no_proposal(source: str, redraw: str) -> None:
    prior = make(source, k=2, redraw=redraw)
    assert prior.proposals([HALL], [NORTH]) is None
    assert not prior.frozen_in_evaluation


@pytest.mark.parametrize("source", ["scored", "generated"])
@pytest.mark.parametrize("redraw", ["visit", "never"])
def test_proposing_draws_and_counts_nothing(source: str, redraw: str) -> None:
    def say(prompt: str, number: int) -> str:
        return ("dance", "wait", "go north")[(len(prompt) + number) % 3]

    asked, silent = (make(source, model=Model(say), k=3, redraw=redraw, mix=0.2) for _ in range(2))
    for i in range(3):
        asked.start_evaluation("behaviour", i)
        silent.start_evaluation("behaviour", i)
        before = asked.lm_metrics()
        asked.proposals([HALL, CELLAR, *ROOMS])
        assert asked.lm_metrics() == before
        for use in USES:
            assert at(asked, use=use) == at(silent, use=use)
        assert asked.lm_metrics() == silent.lm_metrics()


# ---- for a person to look at -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "cfg"), KINDS)
def test_an_explanation_shows_what_was_drawn_from(source: str, cfg: dict[str, object]) -> None:
    prior = make(source, k=3, **cfg)
    at(prior, use="evaluation", expert=NORTH)
    explained = prior.explain(HALL, "evaluation", NORTH)
    assert explained.weights is not None
    assert explained.weights.tolist() == proposed(prior, expert=NORTH).tolist()
    assert explained.draws == 3


def test_an_explanation_of_free_answers_shows_those_that_were_used() -> None:
    prior = make("generated", model=Model(lambda prompt, n: ("dance", "wait", "go north", "sing")[n % 4]), k=2)
    at(prior), at(prior)
    explained = prior.explain(HALL, "behaviour")  # the second visit begins at answer 2 + limit
    named = [(text, projection.action) for text, projection in explained.answers]
    assert named == [("sing", None), ("dance", None), ("wait", 2), ("go north", 0)]
    assert explained.draws == 2
