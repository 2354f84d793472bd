from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from pathlib import Path

import huggingface_hub.constants
import platformdirs
import pytest
import transformers

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


PARTS = [
    "model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "additional_chat_templates/tools.jinja",
    "vocab.json", "merges.txt", "vocab.txt", "tokenizer.model", "model.safetensors.index.json",
    "adapter_config.json", "adapter_model.safetensors", "modeling_mine.py", "layers/mine.py", "shards/one.safetensors",
    "nobody.knows",
]  # fmt: skip
NO_PARTS = [
    "README.md", "readme", "LICENSE", "LICENSE.txt", "card.json", "images/curve.png", ".gitattributes", ".git/HEAD",
    ".cache/huggingface/download/config.json.metadata", "model.gguf", "onnx/model.onnx", "tf_model.h5",
    "flax_model.msgpack", "checkpoint-500/model.safetensors", "__pycache__/modeling_mine.cpython-311.pyc",
]  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_another_byte_is_another_model(folder: Path, name: str):
    known = [identify(str(folder))]
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).touch()
    for byte in (b" ", b"\n"):  # of one size, and within one tick of the file system's clock
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-1] + byte if byte == b"\n" else content + byte)
        known.append(identify(str(folder)))
    assert len({identity.revision for identity in known}) == 3
    assert len({identity.tokenizer for identity in known}) == (3 if name == "tokenizer.json" else 1)


@pytest.mark.parametrize("name", NO_PARTS)
def test_what_no_answer_depends_on_is_no_part(folder: Path, name: str):
    known = identify(str(folder))
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"1")
    assert identify(str(folder)) == known


def test_a_folder_behind_a_link_is_part_of_it_and_a_link_upwards_is_not_followed(folder: Path, tmp_path: Path):
    known = identify(str(folder))
    (folder / "up").symlink_to(folder)
    assert identify(str(folder)) == known
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "mine.py").touch()
    (folder / "code").symlink_to(tmp_path / "code")
    with_code = identify(str(folder))
    assert with_code != known
    (tmp_path / "code" / "mine.py").write_text("1")
    assert identify(str(folder)) not in (known, with_code)


def test_a_file_of_another_name_is_another_model(folder: Path):
    known = identify(str(folder))
    (folder / "generation_config.json").rename(folder / "generation_config.json.old")
    assert identify(str(folder)) != known


@pytest.mark.parametrize("model", ["tiny-1", "tiny-2"])
def test_what_is_told_of_an_embedded_model_is_no_part_of_it(model: str, tmp_path: Path):
    assert identify(model).model == model
    copy = Path(shutil.copytree(local_folder(model) or "", tmp_path / model))
    (copy / "card.json").unlink()
    assert identify(str(copy)) == identify(model)


def test_large_files_are_read_once(folder: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_REMEMBERED", (folder / "model.safetensors").stat().st_size)
    known = identify(str(folder))
    read = module._sha256

    def small(file: Path) -> str:
        assert file.name != "model.safetensors", "read again"
        return read(file)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_sha256", small)
        assert identify(str(folder)) == known
    (own_cache / "llmrl" / "weights.json").write_text('{"torn')
    assert identify(str(folder)) == known


def test_weights_as_old_as_those_before_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch):
    weights = folder / "model.safetensors"
    monkeypatch.setattr(module, "_REMEMBERED", 1)
    known, then = identify(str(folder)), weights.stat()
    other = folder.parent / "other"
    other.write_bytes(weights.read_bytes()[:-1] + b"!")
    os.utime(other, ns=(then.st_atime_ns, then.st_mtime_ns))
    other.replace(weights)
    assert (weights.stat().st_size, weights.stat().st_mtime_ns) == (then.st_size, then.st_mtime_ns)
    assert identify(str(folder)).revision != known.revision


def test_a_revision_is_checked(folder: Path):
    revision = identify(str(folder)).revision
    assert identify(str(folder), revision[:12]).revision == revision
    with pytest.raises(ValueError, match=f"has revision {revision[:16]}, not 'feedfacefeed'"):
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


def test_a_tokenizer_written_in_python_is_hashed_by_what_it_knows(folder: Path):
    for file in folder.glob("tokenizer*"):
        file.unlink()
    transformers.ByT5Tokenizer().save_pretrained(folder)
    known = identify(str(folder)).tokenizer
    assert identify(str(folder)).tokenizer == known
    transformers.ByT5Tokenizer(extra_ids=3, additional_special_tokens=None).save_pretrained(folder)
    assert identify(str(folder)).tokenizer != known


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
        assert lm.identity == ModelIdentity("somebody/model", commit, "float32", f"{here.tokenizer} computed-2")
    assert lm.score(["a"], [["b"]]) == TransformersLM(llama_folder, device="cpu").score(["a"], [["b"]])


def test_loading_says_nothing(llama_folder: str, capfd: pytest.CaptureFixture[str]):
    TransformersLM(llama_folder, device="cpu")
    assert capfd.readouterr() == ("", "")
