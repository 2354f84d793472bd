from __future__ import annotations

import hashlib
import json
import shutil
import socket
from pathlib import Path

import huggingface_hub.constants
import platformdirs
import pytest

from llmrl.lm import identify as module
from llmrl.lm.identify import identify, local_folder
from llmrl.lm.language_model import ModelIdentity
from llmrl.lm.transformers_lm import TransformersLM


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "user-cache"
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(folder / name))
    return folder


@pytest.fixture
def folder(tmp_path: Path, llama_folder: str) -> Path:
    return Path(shutil.copytree(llama_folder, tmp_path / "mine"))


def test_a_folder_is_known_by_its_name_and_contents(folder: Path, tmp_path: Path):
    known = identify(str(folder))
    assert (known.model, known.dtype) == ("mine", "float32")
    assert known.tokenizer == hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
    elsewhere = tmp_path / "elsewhere" / "mine"
    shutil.copytree(folder, elsewhere)
    assert identify(str(elsewhere)) == known
    assert TransformersLM(str(folder), device="cpu").identity == known


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_another_byte_is_another_model(folder: Path, name: str):
    before = identify(str(folder))
    with (folder / name).open("ab") as file:
        file.write(b" ")
    after = identify(str(folder))
    assert (before.tokenizer != after.tokenizer) == (name == "tokenizer.json")
    assert (before.revision != after.revision) == (name != "tokenizer.json")


def test_weights_are_read_once(folder: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch):
    known = identify(str(folder))
    with monkeypatch.context() as patch:
        patch.setattr(module, "_sha256", lambda file: pytest.fail(f"read {file} again"))
        assert identify(str(folder)) == known
    (own_cache / "llmrl" / "weights.json").write_text('{"torn')
    assert identify(str(folder)) == known


def test_a_revision_is_checked(folder: Path):
    revision = identify(str(folder)).revision
    assert identify(str(folder), revision[:12]).revision == revision
    with pytest.raises(ValueError, match=f"have revision {revision[:16]}, not 'feedfacefeed'"):
        identify(str(folder), "feedfacefeed")
    with pytest.raises(ValueError, match="not ''"):
        identify(str(folder), "")


def test_a_tokenizer_without_its_file_is_hashed_as_it_serialises(tmp_path: Path, gpt2_folder: str):
    folder = Path(shutil.copytree(gpt2_folder, tmp_path / "old"))
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("\n".join(" ".join(pair) for pair in model["merges"]))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    first = identify(str(folder)).tokenizer
    assert len(first) == 64
    assert identify(str(folder)).tokenizer == first


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_folder_without_a_model(folder: Path, missing: str):
    (folder / missing).unlink()
    with pytest.raises(ValueError, match="missing; write it with save_pretrained"):
        identify(str(folder))


@pytest.mark.parametrize("name", ["", "tiny-404", "./absent", "/absent/model", "a/b/c"])
def test_a_name_that_is_nothing(name: str):
    with pytest.raises(ValueError, match="no such folder, embedded model or hub id"):
        local_folder(name)


def test_a_hub_model_out_of_reach(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="hf download somebody/model"):
        identify("somebody/model", "main")


def test_a_downloaded_hub_model_needs_no_network(tmp_path: Path, llama_folder: str, monkeypatch: pytest.MonkeyPatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--somebody--model"
    shutil.copytree(llama_folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("asked the network"))
    here = identify(llama_folder)
    for revision in (None, "main", commit):
        lm = TransformersLM("somebody/model", revision=revision, device="cpu")
        assert lm.identity == ModelIdentity("somebody/model", commit, "float32", here.tokenizer)
    assert lm.score(["a"], [["b"]]) == TransformersLM(llama_folder, device="cpu").score(["a"], [["b"]])


def test_loading_says_nothing(llama_folder: str, capfd: pytest.CaptureFixture[str]):
    TransformersLM(llama_folder, device="cpu")
    assert capfd.readouterr() == ("", "")
