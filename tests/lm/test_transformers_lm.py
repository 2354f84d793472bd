from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fixture_lm import ACTIONS, PROMPTS, build_llama, build_windowed
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from llmrl.lm import network, transformers_lm
from llmrl.lm.language_model import LanguageModelError, Sampling
from llmrl.lm.transformers_lm import TransformersLM

FAMILIES = ("llama_folder", "gpt2_folder", "windowed_folder")


@pytest.fixture(scope="module")
def llama(llama_folder: str) -> TransformersLM:
    return TransformersLM(llama_folder, device="cpu", threads=1)


@pytest.fixture(scope="module", params=FAMILIES)
def lm(request: pytest.FixtureRequest) -> TransformersLM:
    return TransformersLM(request.getfixturevalue(request.param), device="cpu", threads=1)


def differences(a, b):
    assert [[s.tokens for s in scores] for scores in a] == [[s.tokens for s in scores] for scores in b]
    return [abs(x.logprob - y.logprob) for p, q in zip(a, b, strict=True) for x, y in zip(p, q, strict=True)]


# ---- scores ----------------------------------------------------------------------------------------------------------

texts = st.text(alphabet="abcdefgh tomato\n1é", min_size=1, max_size=30)


@settings(max_examples=30, deadline=None)
@given(
    states=st.lists(st.tuples(texts, st.lists(texts, max_size=6)), max_size=5),
    batch_size=st.sampled_from([1, 3]),
)
def test_the_tree_agrees_with_single_rows(lm: TransformersLM, states, batch_size: int):
    lm.batch_size = batch_size
    prompts, continuations = [p for p, _ in states], [c for _, c in states]
    found = lm.score(prompts, continuations)
    assert max(differences(found, lm.score_exactly(prompts, continuations)), default=0.0) < 1e-4
    lm.batch_size = 1


def test_a_score_is_the_sum_of_the_next_token_log_probabilities(llama: TransformersLM):
    prompt, continuation = PROMPTS[0], f" {ACTIONS[3]}\n"
    before = llama.tokenizer(prompt)["input_ids"]
    after = llama.tokenizer(continuation, add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        logprobs = llama.network(torch.tensor([before + after])).logits[0].log_softmax(-1)
    expected = sum(logprobs[len(before) - 1 + j, token].item() for j, token in enumerate(after))
    [[score]] = llama.score([prompt], [[continuation]])
    assert before[0] == llama.tokenizer.bos_token_id
    assert score.tokens == len(after)
    assert score.logprob == pytest.approx(expected, abs=1e-4)


def test_one_state_at_a_time_its_numbers_depend_on_nothing_else(lm: TransformersLM):
    together = lm.score(PROMPTS, [ACTIONS] * len(PROMPTS))
    assert [lm.score([prompt], [ACTIONS])[0] for prompt in PROMPTS] == together
    assert lm.score(PROMPTS[::-1], [ACTIONS] * len(PROMPTS)) == together[::-1]


def test_long_prompts_share_what_they_begin_with(lm: TransformersLM, monkeypatch: pytest.MonkeyPatch):
    prompts = [f"{PROMPTS[1]} go to board 1\n" * 4 + prompt for prompt in PROMPTS]
    monkeypatch.setattr(transformers_lm, "SHARES_FROM", min(map(len, lm.texts.prompts(prompts))))
    assert transformers_lm.SHARES_FROM > 2 * network.BLOCK
    menus = [ACTIONS[:3], ACTIONS, ACTIONS[:1], ACTIONS]
    found = lm.score(prompts, menus)
    assert lm.paths == (["blocks"] if lm.proof.allows("blocks", 240) else ["rows"]) * 4
    assert max(differences(found, lm.score_exactly(prompts, menus))) < 1e-4
    assert lm.score(prompts[::-1], menus[::-1]) == found[::-1]
    monkeypatch.setattr(network, "BLOCKS_BYTES", 1)  # room for one block: all are computed again, to the same bits
    assert lm.score(prompts, menus) == found


def test_batched_states_come_back_in_the_callers_order(llama_folder: str, llama: TransformersLM):
    batched = TransformersLM(llama_folder, device="cpu", batch_size=3)
    menus = [ACTIONS[i:] for i in range(len(PROMPTS))]
    assert max(differences(batched.score(PROMPTS, menus), llama.score(PROMPTS, menus))) < 1e-4


def test_a_window_is_kept(tmp_path: Path, windowed_folder: str):
    wide = TransformersLM(windowed_folder, device="cpu")
    prompt = PROMPTS[-1] * 2
    assert len(wide.tokenizer(prompt)["input_ids"]) > 40
    assert wide.score([prompt], [ACTIONS]) == wide.score_exactly([prompt], [ACTIONS])

    narrow = TransformersLM(build_windowed(tmp_path / "narrow", window=8), device="cpu", batch_size=4)
    assert narrow.score(PROMPTS, [ACTIONS] * 4) == narrow.score_exactly(PROMPTS, [ACTIONS] * 4)
    assert narrow.paths == ["rows"] * 4
    # The window matters here: the tree would have been wrong.
    narrow.proof = replace(narrow.proof, tree="beyond")
    assert max(differences(narrow.score(PROMPTS, [ACTIONS] * 4), narrow.score_exactly(PROMPTS, [ACTIONS] * 4))) > 0.1


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 1.0), ("float16", 0.1)])
def test_half_precision(gpt2_folder: str, dtype: str, tolerance: float):
    half = TransformersLM(gpt2_folder, device="cpu", dtype=dtype)
    full = TransformersLM(gpt2_folder, device="cpu")
    assert "no" not in (half.proof.tree, half.proof.cache)  # rounding is no other number
    assert half.identity.dtype == dtype
    difference = differences(half.score(PROMPTS, [ACTIONS] * 4), full.score(PROMPTS, [ACTIONS] * 4))
    assert 0 < max(difference) < tolerance


def test_nothing_to_score(llama: TransformersLM):
    assert llama.score([], []) == []
    assert llama.score([PROMPTS[0]], [[]]) == [[]]


# ---- generations -----------------------------------------------------------------------------------------------------


def chi_square(counts: Counter, probabilities: dict, draws: int) -> tuple[float, float]:
    """The statistic, and a bound that chance alone exceeds about once in ten thousand."""
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-4)
    assert sum(counts.values()) == draws
    classes: dict = {}  # rare answers together: the statistic needs some expected in every class
    for name, p in probabilities.items():
        into = name if p * draws >= 10 else "rare"
        observed, expected = classes.get(into, (0, 0.0))
        classes[into] = (observed + counts[name], expected + p * draws)
    statistic = sum((observed - expected) ** 2 / expected for observed, expected in classes.values())
    freedom = len(classes) - 1
    assert freedom > 0
    return statistic, freedom + 4 * (2 * freedom) ** 0.5 + 8


def next_tokens(lm: TransformersLM, ids: list[int], temperature: float, top_p: float) -> dict[int, float]:
    """What a token is to be drawn from, computed the plain way."""
    with torch.inference_mode():
        logits = lm.network(torch.tensor([ids])).logits[0, -1].double()
    p = torch.softmax(logits / temperature, -1).numpy()
    order = np.argsort(-p)
    kept = order[: 1 + int(np.searchsorted(p[order].cumsum(), top_p))] if top_p < 1 else order
    return {int(token): float(p[token] / p[kept].sum()) for token in kept}


def answers(lm: TransformersLM, prompt: str, tokens: int, temperature: float, top_p: float) -> dict[str, float]:
    """The probability of every answer of so many tokens."""
    before = lm.tokenizer(prompt)["input_ids"]
    sequences = {(): 1.0}
    for _ in range(tokens):
        longer = {}
        for sequence, p in sequences.items():
            if sequence[-1:] == (lm.tokenizer.eos_token_id,):
                longer[sequence] = p
                continue
            for token, q in next_tokens(lm, [*before, *sequence], temperature, top_p).items():
                longer[(*sequence, token)] = p * q
        sequences = longer
    texts: dict[str, float] = Counter()
    for sequence, p in sequences.items():
        texts[lm.tokenizer.decode(sequence, skip_special_tokens=True)] += p
    return texts


@pytest.mark.parametrize(
    ("tokens", "temperature", "top_p"), [(1, 1.0, 1.0), (1, 0.5, 1.0), (1, 1.0, 0.7), (2, 1.0, 0.3), (3, 0.7, 0.15)]
)
def test_answers_come_as_often_as_the_model_says(llama: TransformersLM, tokens: int, temperature: float, top_p: float):
    draws = 3000
    [found] = llama.sample([PROMPTS[0]], [range(draws)], Sampling(tokens, temperature, top_p, stop=""))
    probabilities = answers(llama, PROMPTS[0], tokens, temperature, top_p)
    assert set(found) <= set(probabilities)
    statistic, bound = chi_square(Counter(found), probabilities, draws)
    assert statistic < bound


def test_answers_come_as_often_as_their_scores_say(llama: TransformersLM):
    draws = 3000
    [found] = llama.sample([PROMPTS[1]], [range(draws)], Sampling(1, stop=""))
    pieces = [llama.tokenizer.decode([token]) for token in range(len(llama.tokenizer))]
    [ids] = llama.texts.prompts([PROMPTS[1]])
    once = [text for text in pieces if pieces.count(text) == 1 and text]
    tokens = llama.texts.continuations(PROMPTS[1], ids, once)
    texts = [text for text, its in zip(once, tokens, strict=True) if len(its) == 1]
    assert len(texts) > 100
    [scores] = llama.score([PROMPTS[1]], [texts])
    probabilities = {text: float(np.exp(score.logprob)) for text, score in zip(texts, scores, strict=True)}
    counts = Counter(text if text in probabilities else "another" for text in found)
    probabilities["another"] = 1 - sum(probabilities.values())
    statistic, bound = chi_square(counts, probabilities, draws)
    assert statistic < bound


def greedy(lm: TransformersLM, prompt: str, tokens: int) -> list[int]:
    """The likeliest tokens up to the end of the text, the whole text computed anew for each."""
    ids, new = lm.tokenizer(prompt)["input_ids"], []
    while len(new) < tokens:
        token = next(iter(next_tokens(lm, ids + new, 1.0, 1.0)))
        if token == lm.tokenizer.eos_token_id:
            break
        new.append(token)
    return new


def test_every_step_continues_the_text_so_far(lm: TransformersLM):
    sampling = Sampling(max_tokens=12, temperature=0.0, stop="")
    expected = [[lm.tokenizer.decode(greedy(lm, prompt, 12))] for prompt in PROMPTS]
    for lm.batch_size in (4, 1):
        assert lm.sample(PROMPTS, [[0]] * len(PROMPTS), sampling) == expected


def test_a_generation_depends_on_its_prompt_and_seed_alone(lm: TransformersLM):
    sampling = Sampling(max_tokens=12)
    seeds = [[3, 1, 4, 1, 5], [], [9, 2**48 + 7], [6]]
    together = lm.sample(PROMPTS, seeds, sampling)
    assert list(map(len, together)) == [5, 0, 2, 1]
    assert together[0][1] == together[0][3]
    assert len(set(together[0])) == 4
    for prompt, mine, texts in zip(PROMPTS, seeds, together, strict=True):
        assert [lm.sample([prompt], [[seed]], sampling)[0][0] for seed in mine] == texts


def test_an_answer_ends_before_the_stop_string(llama: TransformersLM):
    seeds = [range(40)]
    [whole] = llama.sample([PROMPTS[0]], seeds, Sampling(max_tokens=10, stop=""))
    for stop in ("a", " t", "om"):
        [cut] = llama.sample([PROMPTS[0]], seeds, Sampling(max_tokens=10, stop=stop))
        assert any(stop in text for text in whole)
        assert cut == [text.split(stop)[0] for text in whole]
    [cut] = llama.sample([PROMPTS[0]], seeds, Sampling(max_tokens=10, stop=("a", " t")))
    assert cut == [text.split("a")[0].split(" t")[0] for text in whole]


def test_an_answer_ends_where_the_model_ends_it(tmp_path: Path, llama_folder: str, llama: TransformersLM):
    tokens = greedy(llama, PROMPTS[0], 6)
    end = next(i for i in range(2, 6) if tokens[i] not in tokens[:i])
    folder = shutil.copytree(llama_folder, tmp_path / "ends")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, tokens[end]]}))
    lm = TransformersLM(str(folder), device="cpu")
    [[text]] = lm.sample([PROMPTS[0]], [[0]], Sampling(max_tokens=6, temperature=0.0, stop=""))
    assert text == llama.tokenizer.decode(tokens[:end])


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_a_prompt_that_does_not_fit_is_named_with_its_lengths(llama: TransformersLM):
    long = "tomato " * 300
    with pytest.raises(ValueError, match=r"has \d+ tokens; with \d+ .* more than the 256 .*history_turns"):
        llama.score([PROMPTS[0], long], [ACTIONS, ACTIONS])
    with pytest.raises(ValueError, match="more than the 256"):
        llama.sample([PROMPTS[0]], [[1]], Sampling(max_tokens=250))


def test_texts_without_tokens(llama: TransformersLM, gpt2_folder: str):
    with pytest.raises(ValueError, match="no tokens"):
        llama.score([PROMPTS[0]], [["a", ""]])
    assert llama.score([""], [["a"]])[0][0].logprob < 0  # the beginning-of-text token is something to start from
    with pytest.raises(ValueError, match="give it some text"):
        TransformersLM(gpt2_folder, device="cpu").score([""], [["a"]])


def test_weights_that_are_not_numbers_are_no_model(tmp_path: Path, llama_folder: str):
    folder = shutil.copytree(llama_folder, tmp_path / "nan")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LanguageModelError, match="not a finite number"):
        TransformersLM(str(folder), device="cpu")


def test_logits_that_are_not_numbers_are_no_answer(llama_folder: str):
    broken = TransformersLM(llama_folder, device="cpu")
    with torch.no_grad():
        broken.network.model.norm.weight[0] = float("nan")
    with pytest.raises(LanguageModelError, match="not a finite number"):
        broken.score([PROMPTS[0]], [ACTIONS])
    with pytest.raises(LanguageModelError, match="not finite"):
        broken.sample([PROMPTS[0]], [[1]], Sampling())


def test_weights_that_are_missing_are_not_made_up(tmp_path: Path, llama_folder: str):
    folder = shutil.copytree(llama_folder, tmp_path / "torn")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lacks 1 weights"):
        TransformersLM(str(folder), device="cpu")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "int8"}, "float32, bfloat16, float16"),
        ({"device": "tpu"}, "auto, cpu or cuda"),
        ({"batch_size": 0}, "1 or more"),
    ],
)
def test_settings_out_of_range(llama_folder: str, settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        TransformersLM(llama_folder, **settings)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has CUDA")
def test_a_device_that_is_not_here(llama_folder: str):
    with pytest.raises(ValueError, match=r"lm\.device=cpu"):
        TransformersLM(llama_folder, device="cuda")


def test_the_context_may_be_full_to_the_last_token(tmp_path: Path):
    lm = TransformersLM(build_llama(tmp_path / "tight", context=24), device="cpu")
    tokens = len(lm.tokenizer(PROMPTS[2])["input_ids"])
    room = "a" * (24 - tokens)
    assert lm.score([PROMPTS[2]], [[room]])[0][0].tokens == 24 - tokens
    with pytest.raises(ValueError, match="more than the 24"):
        lm.score([PROMPTS[2]], [[room + "a"]])


def test_what_is_kept_of_it_is_found_without_importing_it() -> None:
    """`llmrl.build` names the engine by itself."""
    assert TransformersLM.engine == "transformers"
