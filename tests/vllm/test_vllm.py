"""The embedded model, served by a real vLLM and computed in this process: the same numbers, the same answers, the same
learning. `make test-vllm` makes vLLM's environment, names it in LLMRL_VLLM, and runs this.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from chances import CHANCE, goodness_of_fit, homogeneity

import llmrl
from llmrl.config.compose import compose
from llmrl.lm.language_model import Sampling, distance
from llmrl.lm.openai_lm import VllmLM
from llmrl.lm.transformers_lm import TransformersLM
from llmrl.lm.vllm import Server, Serving, find_vllm, serving
from llmrl.prompts.prompt import Prompt
from llmrl.query import distinct_states
from llmrl.run.load import load_runs

pytestmark = pytest.mark.skipif("LLMRL_VLLM" not in os.environ, reason="needs a vLLM: make test-vllm")

MODEL, STATES, REFERENCE_STATES, DRAWS = "tiny-1", 500, 50, 300
TOLERANCE = 1e-3  # nats, of a whole continuation


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    vllm = find_vllm(os.environ["LLMRL_VLLM"])
    with serving(vllm, Serving(MODEL, dtype="float32", max_model_len=1024), print) as server:
        yield server


@pytest.fixture(scope="module")
def served(server: Server) -> Iterator[VllmLM]:
    lm = VllmLM(MODEL, url=server.url, dtype="float32")
    yield lm
    lm.close()


@pytest.fixture(scope="module")
def lm() -> TransformersLM:
    return TransformersLM(MODEL, device="cpu", threads=1)


@pytest.fixture(scope="module")
def states() -> list[tuple[str, list[str]]]:
    """Prompts and continuations, as a run asks them: kitchens, with two turns of history."""
    cfg = compose(["env=overcooked_random", "env.count=8", "prompt.history_turns=2"])
    template = Prompt(cfg.prompt)
    found = [(p, template.continuations(actions)) for p, actions in distinct_states(cfg, template, STATES)]
    assert len(found) == STATES
    return found


def test_log_probabilities_are_those_of_the_model_in_this_process(
    served: VllmLM, lm: TransformersLM, states: list[tuple[str, list[str]]]
) -> None:
    prompts, menus = [p for p, _ in states], [m for _, m in states]
    here = lm.score(prompts, menus)
    apart = distance(served.score(prompts, menus), here)
    some = slice(0, REFERENCE_STATES)
    reference = distance(served.score_reference(prompts[some], menus[some]), here[some])
    print(
        f"\n{STATES} states, {sum(map(len, menus))} actions, by {served.provenance['scoring']}: {apart:.1e} nats apart"
    )
    print(f"{REFERENCE_STATES} of them by prompt_logprobs: {reference:.1e} nats apart")
    assert served.provenance["scoring"] == "trie"
    assert apart < TOLERANCE
    assert reference < TOLERANCE


def test_answers_come_as_often_as_their_scores_say_and_as_in_this_process(
    served: VllmLM, lm: TransformersLM, states: list[tuple[str, list[str]]]
) -> None:
    some = states[:: STATES // 5][:5]
    prompts = [p for p, _ in some]
    seeds = [range(1000 * i, 1000 * i + DRAWS) for i in range(len(some))]
    theirs, ours = (model.sample(prompts, seeds, Sampling(max_tokens=16)) for model in (served, lm))
    scores = served.score(prompts, [m for _, m in some])
    for (_, menu), there, here, scored in zip(some, theirs, ours, scores, strict=True):
        expected = {text.removesuffix("\n"): np.exp(score.logprob) for text, score in zip(menu, scored, strict=True)}
        exact = goodness_of_fit(Counter(there), expected)
        alike = homogeneity(Counter(there), Counter(here))
        print(
            f"\nchi-square of {DRAWS} answers: p={exact:.3f} against their scores, p={alike:.3f} against {DRAWS} here"
        )
        assert exact > CHANCE
        assert alike > CHANCE


def test_an_answer_depends_on_its_seed_and_n_answers_are_those_of_n_seeds(
    served: VllmLM, states: list[tuple[str, list[str]]]
) -> None:
    prompts = [states[0][0]]
    (together,) = served.sample(prompts, [range(7, 15)], Sampling())
    alone = [served.sample(prompts, [[seed]], Sampling())[0][0] for seed in range(7, 15)]
    assert together == alone
    assert len(set(together)) > 1


def test_dqn_prior_learns_over_the_server_as_it_does_in_this_process(server: Server, tmp_path: Path) -> None:
    run = ["env=overcooked_tomato", "env_steps=800", "evaluation.every=200", "progress=false"]
    rows = {}
    for lm in ("tiny", "vllm"):
        more = [f"lm.model={MODEL}", "lm.dtype=float32", f"lm.url={server.url}"] if lm == "vllm" else []
        places = [f"paths.runs={tmp_path / lm}", f"paths.cache={tmp_path / lm}.sqlite3"]
        llmrl.train(compose([*run, f"lm={lm}", *more, *places]))
        (done,) = load_runs(tmp_path / lm)
        rows[lm] = [json.loads(line) for line in (done.path / "metrics.jsonl").read_text().splitlines()]
    curves = {name: [row["eval/success"] for row in found] for name, found in rows.items()}
    print(f"\nsuccess, computed exactly, after 0, 200, ... 800 decisions: {curves}")
    assert curves["vllm"] == pytest.approx(curves["tiny"], abs=0.02)
    assert curves["vllm"][-1] > 0.9 > curves["vllm"][0]
    assert [row["lm/distinct_prompts"] for row in rows["vllm"]] == [row["lm/distinct_prompts"] for row in rows["tiny"]]
