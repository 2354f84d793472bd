"""SmolLM2, served by a real llama.cpp and computed in this process: the same scores, the same answers, and runs.

`make test-llamacpp` builds the server, names its folder in LLMRL_LLAMACPP, and runs this.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gguf
import numpy as np
import pytest
from chances import CHANCE, goodness_of_fit

import llmrl
from llmrl.config.compose import compose
from llmrl.lm.language_model import PROBES, Sampling, Score, distance
from llmrl.lm.openai_lm import FORCED_AGREE, OpenAILM
from llmrl.lm.transformers_lm import TransformersLM
from llmrl.prompts.prompt import Prompt
from llmrl.query import distinct_states
from llmrl.run.load import load_runs
from scripts.bench.llamacpp import FLOAT32, serving, smollm2, write_as

pytestmark = pytest.mark.skipif("LLMRL_LLAMACPP" not in os.environ, reason="needs a llama.cpp: make test-llamacpp")

LLAMACPP = Path(os.environ.get("LLMRL_LLAMACPP", ""))
STATES, DRAWS, PROBED = 12, 400, 20
PROBED_TEXTS = [prompt for prompt, _ in PROBES], [texts for _, texts in PROBES]
EXACT = 1e-2  # nats, of a whole continuation, where the server computes in float32, too
# Nats a token, where it multiplies 4-bit weights with 8-bit activations: 0.05 and 0.15 were measured.
QUANTISED, QUANTISED_AT_MOST = 0.15, 0.5
ASKED_AGAIN = 1.0  # nats, of a whole action: 0.43 were measured
TOMATO = ["env=overcooked_tomato", "prompt.history_turns=2"]
SHORT = ["env_steps=32", "evaluation.every=32", "evaluation.exact_up_to=0", "evaluation.episodes=2", "progress=false"]


@pytest.fixture(scope="module")
def quantised() -> Path:
    return smollm2()


@pytest.fixture(scope="module")
def url(quantised: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(LLAMACPP, quantised, tmp_path_factory.mktemp("log") / "server.log") as server:
        yield server.url


@pytest.fixture(scope="module")
def lm(quantised: Path) -> TransformersLM:
    return TransformersLM(str(quantised), device="cpu", threads=1)


@pytest.fixture(scope="module")
def states(quantised: Path) -> list[tuple[str, list[str]]]:
    """Prompts and continuations, as runs ask them: half of them conversations."""
    found: list[tuple[str, list[str]]] = []
    for prompt in ("menu", "chat"):
        cfg = compose([*TOMATO, f"prompt={prompt}", "lm=hf", f"lm.model={quantised}"])
        template = Prompt(cfg.prompt)
        some = distinct_states(cfg, template, STATES // 2)
        found += [(p, template.continuations(actions)) for p, actions in some]
    return found


def test_scores_are_those_of_the_model_in_this_process(
    quantised: Path, lm: TransformersLM, states: list[tuple[str, list[str]]], tmp_path: Path
) -> None:
    exact = write_as(quantised, tmp_path / "smollm2-f32.gguf")
    with serving(LLAMACPP, exact, tmp_path / "server.log", *FLOAT32) as server, served_by(server.url) as served:
        there, here = scores(served, states), scores(lm, states)
        print(f"\n{len(states)} states in float32: {distance(there, here):.1e} nats apart; {dict(served.provenance)}")
        assert served.provenance["scoring"] == "forced"
        assert distance(there, here) < EXACT


def test_scores_of_the_quantised_file_stay_near(
    url: str, lm: TransformersLM, states: list[tuple[str, list[str]]]
) -> None:
    with served_by(url) as served:
        there, again, here = scores(served, states), scores(served, states), scores(lm, states)
    pairs = [(x, y) for p, q in zip(there, here, strict=True) for x, y in zip(p, q, strict=True)]
    apart = [abs(x.logprob - y.logprob) / y.tokens for x, y in pairs]
    print(
        f"\n{len(pairs)} actions, quantised: {np.mean(apart):.3f} nats a token apart, at most {max(apart):.3f}; "
        f"of a whole action at most {distance(there, here):.2f}, and {distance(there, again):.3f} when asked again"
    )
    assert [x.tokens for x, _ in pairs] == [y.tokens for _, y in pairs]
    assert np.mean(apart) < QUANTISED
    assert max(apart) < QUANTISED_AT_MOST
    assert distance(there, again) < ASKED_AGAIN


def test_probes_are_answered_alike_while_others_ask(
    url: str, quantised: Path, states: list[tuple[str, list[str]]], tmp_path: Path
) -> None:
    """And otherwise by another quantisation of the same weights."""
    with served_by(url) as served, served_by(url) as other:
        first, apart = served.probe(), []
        for i in range(PROBED):
            beside = other.start_sample([states[i % STATES][0]], [range(3)], Sampling(max_tokens=8, stop=""))
            apart.append(distance(served.score(*PROBED_TEXTS), first))
            beside()
    quantised_otherwise = write_as(quantised, tmp_path / "q8_0.gguf", gguf.GGMLQuantizationType.Q8_0)
    with serving(LLAMACPP, quantised_otherwise, tmp_path / "server.log") as server, served_by(server.url) as another:
        further = distance(another.probe(), first)
    print(f"\nprobes, {PROBED} times: at most {max(apart):.4f} nats apart; in Q8_0 {further:.2f}")
    assert max(apart) < FORCED_AGREE / 2
    assert further > FORCED_AGREE * 2


def test_answers_are_drawn_from_all_tokens_as_often_as_their_scores_say(url: str) -> None:
    """By its defaults llama.cpp draws from 40 tokens, and from none that is 20 times less likely than the first."""
    prompt = "Once upon a time there was a"
    words = [" little", " young", " small", " girl", " boy", " man", " beautiful", " village", " kingdom", " wise"]
    with served_by(url) as served:
        (drawn,) = served.sample([prompt], [range(DRAWS)], Sampling(max_tokens=1, stop=""))
        (scored,) = served.score([prompt], [words])
    expected = {word: float(np.exp(score.logprob)) for word, score in zip(words, scored, strict=True)}
    chance = goodness_of_fit(Counter(drawn), expected)
    print(f"\nchi-square of {DRAWS} answers: p={chance:.3f}; {sum(expected.values()):.2f} of the mass is named")
    assert len(set(drawn)) > 40
    assert chance > CHANCE


@pytest.mark.parametrize("more", [["prior=scored"], ["prior=generated", "prompt=chat"]], ids=["scored", "generated"])
def test_a_run_asks_it(url: str, tmp_path: Path, more: list[str]) -> None:
    places = [f"paths.runs={tmp_path}", f"paths.cache={tmp_path / 'answers.sqlite3'}"]
    asked = ["learner=prior_only", "lm=openai", "lm.model=smollm2", f"lm.url={url}", "lm.api_key_env=null"]
    summary = llmrl.train(compose(["env=overcooked_tomato", *SHORT, *asked, *more, *places]))
    (run,) = load_runs(tmp_path)
    assert summary["lm"]["queries"] > 0
    assert (run.path / "provenance.json").read_text().count("llama.cpp") == 1


def scores(lm: OpenAILM | TransformersLM, states: list[tuple[str, list[str]]]) -> list[list[Score]]:
    return lm.score([p for p, _ in states], [m for _, m in states])


@contextmanager
def served_by(url: str) -> Iterator[OpenAILM]:
    served = OpenAILM("smollm2", url=url, tokenizer="of the file")
    try:
        yield served
    finally:
        served.close()
