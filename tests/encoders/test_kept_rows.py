"""Feature rows that are kept: the model behind them is loaded when one is missing, and must be the one declared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from fixture_lm import ACTIONS, PROMPTS

from llmrl.answers.answers import AnswerCache, AnswerCacheError, KeptRows
from llmrl.build import build
from llmrl.config.compose import compose
from llmrl.encoders import model as module
from llmrl.encoders.model import ModelEncoder
from llmrl.schema.encoders import ModelEncoderConfig

TEXTS = [(prompt, tuple(ACTIONS[i : i + 3])) for i, prompt in enumerate(PROMPTS[:3])]


@pytest.fixture
def cache(tmp_path: Path) -> AnswerCache:
    return AnswerCache(tmp_path / "kept", durable=False)


def settings(folder: str, **more: object) -> ModelEncoderConfig:
    return ModelEncoderConfig(**{"model": folder, "device": "cpu", "pooling": "last"} | more)  # type: ignore[arg-type]


def refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load", lambda *_: pytest.fail("loaded the model"))


def test_what_is_kept_needs_no_model(llama_folder: str, cache: AnswerCache, monkeypatch: pytest.MonkeyPatch) -> None:
    computed = ModelEncoder(settings(llama_folder)).encode(TEXTS)
    first = ModelEncoder(settings(llama_folder), KeptRows(cache)).encode(TEXTS)
    refuse(monkeypatch)
    again = ModelEncoder(settings(llama_folder), KeptRows(cache))
    assert again.dim == 48
    for plain, one, other in zip(computed, first, again.encode(TEXTS), strict=True):
        assert plain.tobytes() == one.tobytes() == other.tobytes()
        assert other.dtype == np.float32
    assert [rows.shape for rows in again.encode([("x", []), TEXTS[0]])] == [(0, 48), (3, 48)]


def test_the_model_is_loaded_for_what_is_missing_and_reads_that_once(llama_folder: str, cache: AnswerCache) -> None:
    ModelEncoder(settings(llama_folder), KeptRows(cache)).encode(TEXTS[:1])
    encoder = ModelEncoder(settings(llama_folder), KeptRows(cache))
    assert encoder.network is None
    forwarded: list[list[int]] = []
    forward = ModelEncoder._forward

    def counted(texts: list[list[int]]) -> np.ndarray:
        forwarded.extend(texts)
        return forward(encoder, texts)

    encoder._forward = counted  # type: ignore[method-assign, assignment]
    state, actions = TEXTS[1]
    found = encoder.encode([TEXTS[0], (state, actions), (state, (*actions, actions[0]))])
    assert len(forwarded) == 2 + len(actions)  # two texts tell whether the model sees any difference
    assert found[2][-1].tobytes() == found[1][0].tobytes()


@pytest.mark.parametrize("other", [{"pooling": "mean"}, {"dtype": "bfloat16"}])
def test_another_encoder_has_rows_of_its_own(llama_folder: str, cache: AnswerCache, other: dict[str, str]) -> None:
    one = ModelEncoder(settings(llama_folder), KeptRows(cache)).encode(TEXTS)
    another = ModelEncoder(settings(llama_folder, **other), KeptRows(cache)).encode(TEXTS)
    assert not np.array_equal(one[0], another[0])


def test_a_model_that_changes_before_it_is_loaded_is_refused(
    llama_folder: str, cache: AnswerCache, tmp_path: Path
) -> None:
    folder = shutil.copytree(llama_folder, tmp_path / "model")
    ModelEncoder(settings(str(folder)), KeptRows(cache)).encode(TEXTS[:1])
    encoder = ModelEncoder(settings(str(folder)), KeptRows(cache))
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"rms_norm_eps": 0.1}))
    with pytest.raises(ValueError, match="has changed since the run started"):
        encoder.encode(TEXTS)


def test_a_run_is_built_on_kept_rows_alone(llama_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = ["learner=dqn", "encoder=lm", f"encoder.model={llama_folder}", f"paths.cache={tmp_path / 'kept'}"]
    with pytest.raises(AnswerCacheError, match="no feature row of small-llama"):
        build(compose([*overrides, "cached_only=true"]))
    parts = build(compose(overrides))
    assert parts.answers is None
    assert parts.table is not None
    rows = parts.table.encoder.encode(TEXTS)
    refuse(monkeypatch)
    only = build(compose([*overrides, "cached_only=true"])).table
    assert only is not None
    assert only.encoder.encode(TEXTS)[2].tobytes() == rows[2].tobytes()
    with pytest.raises(AnswerCacheError, match=r"1 of 1 feature rows of small-llama.*'new\\nAction: go'"):
        only.encoder.encode([("new", ("go",))])
