from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from fixture_lm import ACTIONS, PROMPTS
from tiny_gguf import write_gemma, write_llama

import llmrl.lm.gguf as module
from llmrl.lm.gguf import convert
from llmrl.lm.identify import identify, local_folder
from llmrl.lm.model_folders import find_stored, read_notice
from llmrl.lm.transformers_lm import TransformersLM


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMRL_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def tokenizer_of(folder: str | Path) -> transformers.PreTrainedTokenizerBase:
    return transformers.AutoTokenizer.from_pretrained(folder)


def test_a_llama_computes_what_it_did(tmp_path: Path, llama_folder: str) -> None:
    lm = TransformersLM(str(write_llama(llama_folder, tmp_path / "m.gguf", add_bos=True)))
    for there, here in zip(
        TransformersLM(llama_folder).score(PROMPTS, [ACTIONS] * len(PROMPTS)),
        lm.score(PROMPTS, [ACTIONS] * len(PROMPTS)),
        strict=True,
    ):
        assert [s.tokens for s in there] == [s.tokens for s in here]
        assert [s.logprob for s in here] == pytest.approx([s.logprob for s in there], abs=1e-4)


def test_a_gemma_is_dequantised_and_computes_what_it_did(tmp_path: Path) -> None:
    file, original = write_gemma(tmp_path / "m.gguf")
    folder = tmp_path / "made"
    convert(file, folder)
    config = json.loads((folder / "config.json").read_text())
    assert config["dtype"] == "float32"
    assert "quantization_config" not in config
    network = transformers.AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.tensor([[2, *range(260, 290)]])
    with torch.inference_mode():
        assert torch.allclose(network(ids).logits, original(ids).logits, atol=1e-4)


@pytest.mark.parametrize(
    ("says", "wanted", "begins"), [(True, None, True), (False, None, False), (False, True, True), (True, False, False)]
)
def test_the_tokenizer_of_a_gemma_puts_the_first_token_as_the_file_says(
    says: bool, wanted: bool | None, begins: bool, tmp_path: Path
) -> None:
    """transformers makes one that never does, and without the token a Gemma babbles."""
    file, _ = write_gemma(tmp_path / "m.gguf", add_bos=says)
    convert(file, tmp_path / "made", wanted)
    ids = tokenizer_of(tmp_path / "made")("take the bowl")["input_ids"]
    assert (ids[0] == 2) == begins
    assert ids.count(2) == begins
    assert tokenizer_of(tmp_path / "made").decode(ids, skip_special_tokens=True) == "take the bowl"


@pytest.mark.parametrize("says", [True, False])
def test_the_tokenizer_of_a_llama_is_the_same(says: bool, tmp_path: Path, llama_folder: str) -> None:
    convert(write_llama(llama_folder, tmp_path / "m.gguf", add_bos=says), tmp_path / "made")
    there, here = tokenizer_of(llama_folder), tokenizer_of(tmp_path / "made")
    for text in (*PROMPTS, *ACTIONS, " put it\n"):
        own = there(text)["input_ids"]
        assert here(text)["input_ids"] == (own if says else own[1:])


def test_a_file_is_converted_once_and_named_by_its_contents(
    tmp_path: Path, llama_folder: str, models: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file = write_llama(llama_folder, tmp_path / "m.gguf")
    first = identify(str(file))
    assert "converted once" in capfd.readouterr().err
    folder = local_folder(str(file))
    assert folder is not None
    assert find_stored(folder.name) == folder
    assert first.model == folder.name
    assert read_notice(folder)["sha256"].startswith(folder.name.removeprefix("gguf-"))

    def never(*_: object) -> None:
        raise AssertionError("converted again")

    monkeypatch.setattr(module, "convert", never)
    other = tmp_path / "other.gguf"
    file.rename(other)
    assert identify(str(other)) == first
    assert [path.name for path in models.iterdir() if not path.name.startswith(".")] == [folder.name]


def test_the_same_file_gives_the_same_identity_under_another_transformers(
    tmp_path: Path, llama_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_llama(llama_folder, tmp_path / "m.gguf")
    found = []
    for version in ("5.16.1", "5.19.9"):
        monkeypatch.setattr("transformers.configuration_utils.__version__", version)
        monkeypatch.setattr("transformers.generation.configuration_utils.__version__", version)
        convert(file, tmp_path / version / "made")
        found.append(identify(str(tmp_path / version / "made")))
    assert found[0] == found[1]


def test_a_conversion_that_failed_leaves_nothing(tmp_path: Path, models: Path, llama_folder: str) -> None:
    file = write_llama(llama_folder, tmp_path / "m.gguf")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"m\.gguf holds no language model that transformers reads"):
        identify(str(file))
    assert [path.suffix for path in models.iterdir()] == [".lock"]


def test_missing_packages_are_told_with_the_command(
    tmp_path: Path, llama_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_llama(llama_folder, tmp_path / "m.gguf")
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "gguf" else object())
    with pytest.raises(ValueError, match=r"gguf is not installed: pip install 'gguf>=\d"):
        identify(str(file))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no such folder.*FILE\.gguf"):
        identify(str(tmp_path / "m.gguf"))
