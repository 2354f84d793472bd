"""Scores and generations of small random models of many kinds, held to one unpadded row with eager attention."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import platformdirs
import pytest
import torch
from fixture_lm import ACTIONS, PROMPTS, build, word_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from llmrl.answers.answers import AnswerCache, Answers
from llmrl.config.compose import compose
from llmrl.lm.fast_path_proof import Proof
from llmrl.lm.language_model import LanguageModelError, Sampling
from llmrl.lm.network import Network
from llmrl.lm.small_copy import scaled_down
from llmrl.lm.transformers_lm import TransformersLM
from llmrl.run.identity import model_identity

SIZES = {
    "vocab_size": 320, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 4, "initializer_range": 0.3, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
}  # fmt: skip
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 40,
    "short_factor": [1.0] * 8, "long_factor": [1.0] * 4 + [16.0] * 4,
}  # fmt: skip
# Each has a limit of some tokens, below which some prompts lie and above which others do, or a cap of attention.
KINDS: dict[str, dict[str, Any]] = {
    "phi3": {"max_position_embeddings": 160, "original_max_position_embeddings": 40, "rope_parameters": LONGROPE},
    "gemma2": {"attn_logit_softcapping": 2.0, "head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 48},
    "doge": {"keep_window_size": 24, "max_position_embeddings": 256},
    "deepseek_v32": {
        "index_topk": 16, "index_n_heads": 2, "index_head_dim": 16, "q_lora_rank": 16, "kv_lora_rank": 16,
        "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16, "n_routed_experts": 4, "num_experts_per_tok": 2,
        "n_group": 1, "topk_group": 1, "moe_intermediate_size": 32, "first_k_dense_replace": 1,
    },
    "roberta": {"is_decoder": True, "max_position_embeddings": 258, "type_vocab_size": 1},
    "mistral": {"sliding_window": 24},
    "gpt_neo": {
        "attention_types": [[["global", "local"], 1]], "window_size": 24, "num_layers": 2, "num_heads": 4,
        "max_position_embeddings": 256,
    },
    "bloom": {"n_head": 4, "n_layer": 2},
    "mamba": {"state_size": 8},
}  # fmt: skip


def reference(lm: TransformersLM, prompt: str, text: str) -> float:
    """log p of what the two, as one text, have after the prompt."""
    before = lm.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    both = lm.tokenizer(prompt + text, add_special_tokens=False)["input_ids"]
    assert both[: len(before)] == before
    model = AutoModelForCausalLM.from_pretrained(lm.folder, attn_implementation="eager").eval()
    start = [lm.tokenizer.bos_token_id] if lm.texts.adds_bos else []
    ids = torch.tensor([start + both])
    with torch.inference_mode():
        logprobs = model(ids, use_cache=False).logits[0].log_softmax(-1)
    first = len(start) + len(before)
    return sum(logprobs[i - 1, ids[0, i]].item() for i in range(first, ids.shape[1]))


@pytest.fixture(scope="module", params=KINDS)
def lm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TransformersLM:
    folder = tmp_path_factory.mktemp("kinds") / request.param
    build(request.param, {**SIZES, **KINDS[request.param]}, folder)
    lm = TransformersLM(str(folder), device="cpu", batch_size=3)
    lm.folder = folder
    return lm


def test_every_kind_scores_as_its_single_rows_do(lm: TransformersLM):
    longest = max(ACTIONS, key=len)
    menu = [f" {action}\n" for action in (*ACTIONS[:2], longest)]
    found = lm.score(PROMPTS, [menu] * len(PROMPTS))
    for prompt, scores in zip(PROMPTS, found, strict=True):
        truth = [reference(lm, prompt, text) for text in menu]
        assert [score.logprob for score in scores] == pytest.approx(truth, abs=2e-3)
    # The neighbours of an action, and of a prompt, change nothing.
    alone = [[lm.score([prompt], [[text]])[0][0].logprob for text in menu] for prompt in PROMPTS]
    for scores, some in zip(found, alone, strict=True):
        assert some == pytest.approx([score.logprob for score in scores], abs=2e-3)


def test_an_unproven_tree_gives_wrong_scores(lm: TransformersLM):
    assert lm.proof.tree != "beyond"
    menu = [f" {action}\n" for action in ACTIONS]
    truth, proof = lm.score(PROMPTS, [menu] * len(PROMPTS)), lm.proof
    lm.proof = replace(proof, tree="beyond")
    try:
        found = lm.score(PROMPTS, [menu] * len(PROMPTS))
    except LanguageModelError:
        return
    finally:
        lm.proof = proof
    apart = [abs(x.logprob - y.logprob) for a, b in zip(truth, found, strict=True) for x, y in zip(a, b, strict=True)]
    assert max(apart) > 0.01


def test_every_kind_samples_what_single_rows_say(lm: TransformersLM):
    sampling = Sampling(max_tokens=12, temperature=0.0, stop="")
    found = lm.sample(PROMPTS, [[0]] * len(PROMPTS), sampling)
    exact = replace(lm.proof, cache="no")
    fast, lm.proof = lm.proof, exact
    assert lm.sample(PROMPTS, [[0]] * len(PROMPTS), sampling) == found
    lm.proof = fast


def test_a_slow_path_is_said_once(tmp_path: Path):
    folder = build("mistral", {**SIZES, "sliding_window": 24}, tmp_path / "narrow")
    lm = TransformersLM(folder, device="cpu")
    said: list[str] = []
    lm.hear(said.append)
    lm.score(["a", *PROMPTS], [[" b"]] * 5)
    assert lm.paths == ["tree", "tree", "rows", "tree", "rows"]
    lm.score(PROMPTS[1::2], [[" b"]] * 2)
    assert lm.paths == ["rows"] * 2
    assert len(said) == 1
    assert "more than 24 tokens" in said[0]


def test_each_kept_answer_names_the_way_it_was_computed(tmp_path: Path):
    lm = TransformersLM(build("mistral", {**SIZES, "sliding_window": 24}, tmp_path / "narrow"), device="cpu")
    cache = AnswerCache(tmp_path / "answers.sqlite3")
    answers = Answers(cache, lm.identity, lm.engine, lambda: lm)
    answers.scores(["a", PROMPTS[1], "b"], [[" b"]] * 3)
    answers.generations([PROMPTS[1]], 1, Sampling(max_tokens=2))
    cache.close()
    joined = "answers a JOIN questions USING (key) JOIN provenance p ON p.id = a.provenance"
    rows = sqlite3.connect(tmp_path / "answers.sqlite3").execute(f"SELECT question, body FROM {joined}").fetchall()
    paths = {(question["mode"], question["text"]): json.loads(body)["path"] for question, body in
             ((json.loads(question), body) for question, body in rows)}  # fmt: skip
    assert paths == {
        ("score", "a"): "tree", ("score", "b"): "tree", ("score", PROMPTS[1]): "rows",
        ("generate", PROMPTS[1]): "cache",
    }  # fmt: skip


def test_a_model_that_sees_what_comes_is_refused(tmp_path: Path):
    folder = build("bert", {**SIZES, "is_decoder": False, "type_vocab_size": 1}, tmp_path / "both-ways")
    with pytest.raises(ValueError, match="is not causal"):
        TransformersLM(folder, device="cpu")


def test_positions_that_no_text_reaches_are_not_counted(tmp_path: Path):
    kind = KINDS["roberta"] | {"max_position_embeddings": 60}
    lm = TransformersLM(build("roberta", {**SIZES, **kind}, tmp_path / "short"), device="cpu")
    [ids] = lm.texts.prompts([PROMPTS[0]])
    room = 58 - len(ids)
    assert room > 0
    assert lm.score([PROMPTS[0]], [["ä" * (room // 2) + "a" * (room % 2)]])[0][0].tokens == room
    with pytest.raises(ValueError, match="more than the 58"):
        lm.score([PROMPTS[0]], [["ä" * (room // 2) + "aa"]])


def test_a_tokenizer_with_more_tokens_than_the_model_is_named(tmp_path: Path):
    lm = TransformersLM(build("llama", {**SIZES, "vocab_size": 200}, tmp_path / "few"), device="cpu")
    with pytest.raises(ValueError, match=r"gives token \d+, and the model has embeddings of 200"):
        lm.score(PROMPTS, [[" a"]] * 4)


def test_a_model_that_fails_says_on_how_long_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lm = TransformersLM(build("llama", SIZES, tmp_path / "llama"), device="cpu")

    def broken(**inputs: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(lm._asked, "model", broken)
    lm.proof = Proof()
    with pytest.raises(LanguageModelError, match=r"failed on a text of \d+ tokens \(AssertionError: no reason given"):
        lm.score(["a"], [[" b"]])


def test_a_model_that_does_not_hold_to_its_proof_is_computed_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def failing(network: Network, states: object) -> None:
        raise LanguageModelError("as on a text that is too long")

    folder = build("llama", SIZES, tmp_path / "llama")
    TransformersLM(folder, device="cpu")  # its kind is proven by now
    monkeypatch.setattr(Network, "score_trees", failing)
    lm = TransformersLM(folder, device="cpu")
    said: list[str] = []
    lm.hear(said.append)
    assert lm.score(["a"], [[" b"]]) == lm.score_exactly(["a"], [[" b"]])
    lm.sample(["a"], [[1]], Sampling(max_tokens=2))
    assert lm.paths == ["cache"]
    assert len([note for note in said if "its tree gives other numbers" in note]) == 1


# ---- tokens ----------------------------------------------------------------------------------------------------------


def test_a_continuation_has_the_tokens_that_it_has_after_its_prompt(tmp_path: Path):
    """A tokenizer of Llama 2's kind puts a space before whatever it is given: apart, " go" would begin with two."""
    tokenizer = word_tokenizer(dummy_prefix=True)
    folder = build("llama", {**SIZES, "vocab_size": len(tokenizer)}, tmp_path / "dummy", tokenizer)
    lm = TransformersLM(folder, device="cpu")
    lm.folder = folder
    [[score]] = lm.score(["you see a tomato Next"], [[" go to board"]])
    assert score.tokens == 3
    assert score.logprob == pytest.approx(reference(lm, "you see a tomato Next", " go to board"), abs=1e-3)
    assert not any("joins" in note for note in lm.texts.notes)


def test_where_prompt_and_action_share_a_token_a_sentence_says_so(tmp_path: Path, llama_folder: str):
    lm = TransformersLM(llama_folder, device="cpu")
    said: list[str] = []
    lm.hear(said.append)
    lm.score(["take the tom"], [["ato\n"]])
    assert len(said) == 1
    assert "prompt.prefix=' '" in said[0]


def test_a_stop_may_be_a_special_token(tmp_path: Path):
    tokenizer = word_tokenizer(special=["<done>"])
    done = tokenizer.convert_tokens_to_ids("<done>")
    folder = build("llama", {**SIZES, "vocab_size": len(tokenizer)}, tmp_path / "done", tokenizer)
    lm = TransformersLM(folder, device="cpu")
    go, board = tokenizer.convert_tokens_to_ids(["go", "board"])
    assert lm.texts.before_stop([go, done, board], "<done>") == ("go ", True)
    assert lm.texts.before_stop([go, done, board], "") == ("go board", False)
    assert lm.texts.before_stop([go, board], "<done>") == ("go board", False)
    with torch.no_grad():  # a model that always says it
        lm.network.lm_head.weight.zero_()
        lm.network.lm_head.weight[done] = 10 * lm.network.model.norm.weight
    before = lm.counters()["lm/generated_tokens"]
    lm.sample(["go to"], [[1, 2]], Sampling(max_tokens=8, stop="<done>"))
    assert lm.counters()["lm/generated_tokens"] - before < 16


@pytest.mark.parametrize(("bos", "said"), [(None, 1), (True, 0), (False, 0)])
def test_a_beginning_that_the_tokenizer_leaves_out_is_named(tmp_path: Path, bos: bool | None, said: int):
    tokenizer = word_tokenizer()
    folder = build("llama", {**SIZES, "vocab_size": len(tokenizer)}, tmp_path / "bos", tokenizer)
    lm = TransformersLM(folder, device="cpu", bos=bos)
    notes: list[str] = []
    lm.hear(notes.append)
    assert len(notes) == said
    assert all("lm.bos=true" in note and "<s>" in note for note in notes)
    assert (lm.texts.prompts(["go"])[0][0] == tokenizer.bos_token_id) == bool(bos)
    assert lm.identity.tokenizer.endswith(" bos") == (bos is not None)
    named = model_identity(compose(["lm=hf", f"lm.model={folder}", f"lm.bos={'null' if bos is None else bos}"]))
    assert named == lm.identity


def test_a_template_without_system_messages_is_named(tmp_path: Path, llama_folder: str):
    from llmrl.lm.language_model import Conversation

    tokenizer = word_tokenizer()
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    )
    folder = build("llama", {**SIZES, "vocab_size": len(tokenizer)}, tmp_path / "chat", tokenizer)
    lm = TransformersLM(folder, device="cpu", bos=False)
    said = [{"role": "system", "content": "go"}, {"role": "user", "content": "see"}]
    with pytest.raises(ValueError, match=r"System role not supported.*prompt\.system=''"):
        lm.score([Conversation(said, "t")], [[" go"]])
    assert lm.score([Conversation(said[1:], "t")], [["go"]])[0][0].logprob < 0


def test_a_row_does_not_depend_on_the_longest_text_so_far(tmp_path: Path):
    """transformers keeps dynamic rotary factors until a short text comes."""
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
    settings = {**SIZES, "max_position_embeddings": 20, "rope_parameters": rope}
    lm = TransformersLM(build("llama", settings, tmp_path / "dynamic"), device="cpu")
    lm._context = None  # longer texts than the model was made for
    first = lm.score([PROMPTS[0]], [[" go left"]])
    lm.score([PROMPTS[0] * 4], [[" go left"]])
    assert lm.score([PROMPTS[0]], [[" go left"]]) == first
    assert lm.paths == ["rows"]


@pytest.mark.parametrize(
    ("kind", "settings", "limit"),
    [
        ("gemma2", {}, 4096),
        ("mistral", {"sliding_window": 1024}, 1024),
        ("phi3", {"original_max_position_embeddings": 2048}, 2048),
        ("llama", {"max_position_embeddings": 512}, 512),
        ("qwen2", {"max_window_layers": 28}, 32768),
    ],
)
def test_the_limit_is_the_smallest_that_the_config_names(kind: str, settings: dict[str, Any], limit: int):
    found, copies = scaled_down(AutoConfig.for_model(kind, **settings))
    assert found == limit
    assert all("4096" not in str(copy) for copy in copies[:2])


# ---- the proof -------------------------------------------------------------------------------------------------------


def test_a_proof_is_made_once_and_again_when_what_it_stands_on_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, llama_folder: str
):
    from llmrl.lm import fast_path_proof as proof

    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    made: list[PreTrainedModel] = []
    prove_copy = proof.prove_copy
    monkeypatch.setattr(proof, "prove_copy", lambda copy, *rest: (made.append(copy), prove_copy(copy, *rest))[1])
    state = torch.random.get_rng_state()
    first = TransformersLM(llama_folder, device="cpu").proof
    assert torch.equal(torch.random.get_rng_state(), state)
    assert TransformersLM(llama_folder, device="cpu").proof == first
    assert (first.tree, first.cache, first.alone, first.attention) == ("beyond", "beyond", False, "sdpa")
    assert len(made) == 1
    monkeypatch.setattr(proof, "_code", lambda: "another version")
    assert TransformersLM(llama_folder, device="cpu").proof == first
    assert len(made) == 2
    (tmp_path / "llmrl" / "proofs.json").write_text(json.dumps({"torn": 1})[:-2])
    assert TransformersLM(llama_folder, device="cpu").proof == first
    assert len(made) == 3


def test_a_cap_of_attention_that_sdpa_drops_is_kept(tmp_path: Path):
    lm = TransformersLM(build("gemma2", {**SIZES, **KINDS["gemma2"]}, tmp_path / "capped"), device="cpu")
    assert lm.proof.attention == "eager"
    assert lm.proof.tree == "within"
    assert lm.provenance["attention"] == "eager"
