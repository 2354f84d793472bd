"""Features from hidden states, with small causal models and a small BERT that is made here."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fixture_lm import ACTIONS, PROMPTS
from transformers import AutoModel, AutoTokenizer, BertConfig, BertForMaskedLM, BertModel, BertTokenizerFast

from llmrl.config.compose import ConfigError, compose
from llmrl.encoders.model import BertEncoder, ModelEncoder, pair_text
from llmrl.run.identity import identify_run, model_identity
from llmrl.run.provenance import provenance
from llmrl.schema.encoders import ModelEncoderConfig

CONTEXT = 64
TEXTS = [(prompt, tuple(ACTIONS[i : i + 4])) for i, prompt in enumerate(PROMPTS)]
WORDS = sorted({w.lower() for t in (*PROMPTS, *ACTIONS) for w in t.replace(".", " ").replace(":", " ").split()})


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _save_bert(BertModel, tmp_path_factory.mktemp("bert") / "small-bert")


def _save_bert(architecture: type, folder: Path) -> str:
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(i) for i in range(ord("a"), ord("z") + 1)]
    pieces = [*specials, *".:", *letters, *(f"##{x}" for x in letters), *"12", "##1", "##2"]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys([*pieces, *WORDS]))}
    tokenizer = BertTokenizerFast(vocab=vocabulary)
    # Weights are ten times the usual start, so that attention matters and a wrong mask shows.
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=CONTEXT, initializer_range=0.2,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        architecture(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(params=["llama", "gpt2", "windowed", "bert"])
def kind(request: pytest.FixtureRequest) -> tuple[type[ModelEncoder], str]:
    folder: str = request.getfixturevalue(f"{request.param}_folder")
    return (BertEncoder if request.param == "bert" else ModelEncoder), folder


def _settings(folder: str, pooling: str = "last") -> ModelEncoderConfig:
    return ModelEncoderConfig(model=folder, pooling=pooling, device="cpu")


def _plain(folder: str, text: str, pooling: str) -> np.ndarray:
    """One row, from transformers alone."""
    tokens = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(folder).eval()(tokens).last_hidden_state[0].double().numpy()
    row = {"cls": hidden[0], "last": hidden[-1], "mean": hidden.mean(0)}[pooling]
    return (row - row.mean()) / row.std()


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
def test_rows_are_the_pooled_last_layer_with_mean_0_and_variance_1(
    kind: tuple[type[ModelEncoder], str], pooling: str
) -> None:
    make, folder = kind
    if pooling == "cls" and make is ModelEncoder:
        with pytest.raises(ValueError, match=r"gives different texts the same row.*encoder\.pooling=last or mean"):
            make(_settings(folder, pooling))
        return
    encoder = make(_settings(folder, pooling))
    found = encoder.encode(TEXTS)
    assert [rows.shape for rows in found] == [(len(actions), encoder.dim) for _, actions in TEXTS]
    assert all(rows.dtype == np.float32 for rows in found)
    for (state, actions), rows in zip(TEXTS[:2], found, strict=False):
        for action, row in zip(actions[:2], rows, strict=False):
            assert row == pytest.approx(_plain(folder, pair_text(state, action), pooling), abs=1e-5)
    assert len({row.tobytes() for rows in found for row in rows}) == sum(len(actions) for _, actions in TEXTS)


def test_a_row_depends_on_its_own_text_alone(kind: tuple[type[ModelEncoder], str]) -> None:
    make, folder = kind
    encoder = make(_settings(folder, "mean"))
    together = encoder.encode(TEXTS)
    for (state, actions), rows in zip(TEXTS, together, strict=True):
        for action, row in zip(actions, rows, strict=True):
            ((alone,),) = encoder.encode([(state, [action])])
            assert alone.tobytes() == row.tobytes()
    again = make(_settings(folder, "mean")).encode(TEXTS[::-1])[::-1]
    assert all(a.tobytes() == b.tobytes() for a, b in zip(again, together, strict=True))


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_padding_changes_no_more_than_rounding(kind: tuple[type[ModelEncoder], str], pooling: str) -> None:
    make, folder = kind
    encoder = make(_settings(folder, pooling))
    alone = np.concatenate(encoder.encode(TEXTS))
    encoder._batch_size = 5  # as on a GPU
    batched = np.concatenate(encoder.encode(TEXTS))
    assert len({len(encoder._tokenize(pair_text(s, a))) for s, actions in TEXTS for a in actions}) > 3
    assert batched == pytest.approx(alone, abs=1e-4)


def test_nothing_is_encoded_of_nothing(llama_folder: str) -> None:
    encoder = ModelEncoder(_settings(llama_folder))
    assert encoder.encode([]) == []
    assert [rows.shape for rows in encoder.encode([("x", []), ("x", ["a"])])] == [(0, 48), (1, 48)]


def test_a_text_that_is_too_long_is_refused_and_never_cut(bert_folder: str) -> None:
    encoder = BertEncoder(_settings(bert_folder, "cls"))
    fits = CONTEXT - len(encoder._tokenize(pair_text("", "go")))
    encoder.encode([("the " * fits, ["go"])])
    with pytest.raises(
        ValueError, match=rf"has {CONTEXT + 1} tokens.*{CONTEXT} that small-bert.*encoder\.history_turns"
    ):
        encoder.encode([("the " * (fits + 1), ["go"])])


def test_a_model_saved_with_another_head_is_read_as_well(tmp_path: Path) -> None:
    """Checkpoints of masked language models have no pooler, which no hidden state depends on."""
    folder = _save_bert(BertForMaskedLM, tmp_path / "masked")
    ((row,),) = BertEncoder(_settings(folder, "cls")).encode([("You hold nothing.", ["go"])])
    assert row == pytest.approx(_plain(folder, pair_text("You hold nothing.", "go"), "cls"), abs=1e-5)


def test_half_precision_gives_float32_rows_near_the_others(llama_folder: str) -> None:
    exact = np.concatenate(ModelEncoder(_settings(llama_folder)).encode(TEXTS))
    half = np.concatenate(ModelEncoder(replace(_settings(llama_folder), dtype="bfloat16")).encode(TEXTS))
    assert half.dtype == np.float32
    assert np.abs(half - exact).mean() < 0.2
    assert not np.array_equal(half, exact)


def test_features_that_are_no_numbers_are_refused(llama_folder: str) -> None:
    encoder = ModelEncoder(_settings(llama_folder))
    with torch.no_grad():
        next(encoder.network.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match="features that are not finite numbers in float32"):
        encoder.encode(TEXTS)


def test_what_cannot_be_loaded_is_told_in_one_line(tmp_path: Path, llama_folder: str, bert_folder: str) -> None:
    with pytest.raises(ValueError, match=r"^encoder\.model='absent'.*no such folder.*encoder\.model=FOLDER"):
        ModelEncoder(_settings("absent"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no model: weights"):
        BertEncoder(_settings(str(tmp_path / "empty")))
    lacking = tmp_path / "lacking"
    shutil.copytree(llama_folder, lacking)
    config = json.loads((lacking / "config.json").read_text())
    (lacking / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(ValueError, match=r"lacks \d+ weights.*random numbers"):
        ModelEncoder(_settings(str(lacking)))
    with pytest.raises(ValueError, match=r"set encoder\.revision="):
        BertEncoder(replace(_settings(bert_folder), revision="0123456789"))


def test_a_hub_model_out_of_reach_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"^encoder\.model='nobody/nothing' is not a folder here, not downloaded") as e:
        BertEncoder(_settings("nobody/nothing"))
    assert "\n" not in str(e.value)


def test_no_gpu_is_said_by_the_setting(llama_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"encoder\.device=cuda.*use encoder\.device=cpu"):
        ModelEncoder(replace(_settings(llama_folder), device="cuda"))
    cfg = compose(["encoder=lm", f"encoder.model={llama_folder}", "encoder.device=cuda"])
    identity = identify_run(cfg)
    with pytest.raises(ValueError, match=r"encoder\.device=cuda.*use encoder\.device=cpu"):
        provenance(cfg, identity)


def test_the_models_identity_names_the_run_and_stands_in_its_provenance(tmp_path: Path, bert_folder: str) -> None:
    cfg = compose(["learner=dqn", "encoder=bert", f"encoder.model={bert_folder}"])
    identity = model_identity(cfg, "encoder")
    assert identity is not None
    assert identity == BertEncoder(_settings(bert_folder, "cls")).identity
    found = provenance(cfg, identify_run(cfg))
    assert (found["encoder"]["model"], found["encoder"]["revision"]) == ("small-bert", identity.revision)
    assert found["model"] is None

    elsewhere = shutil.copytree(bert_folder, tmp_path / "small-bert")
    moved = compose(["learner=dqn", "encoder=bert", f"encoder.model={elsewhere}"])
    assert identify_run(moved).id == identify_run(cfg).id
    with (elsewhere / "model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\0\1\0")
    assert identify_run(moved).id != identify_run(cfg).id
    with pytest.raises(ConfigError, match=r"encoder\.model='absent'"):
        identify_run(compose(["learner=dqn", "encoder=bert", "encoder.model=absent"]))


def test_settings_say_what_was_found(llama_folder: str) -> None:
    """So that weights learned on these features can be held to the same model, wherever it lies."""
    encoder = ModelEncoder(_settings(llama_folder))
    assert (encoder.cfg.model, encoder.cfg.revision) == ("small-llama", encoder.identity.revision)


@pytest.mark.parametrize(("option", "pooling"), [("lm", "mean"), ("bert", "cls")])
def test_the_configs(option: str, pooling: str) -> None:
    cfg = compose(["learner=dqn", f"encoder={option}"]).encoder
    assert (cfg.name, cfg.pooling, cfg.device) == (option, pooling, "auto")
