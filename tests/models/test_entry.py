from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from llmrl.config.compose import compose, config_folder
from llmrl.core.overrides import ConfigError, ConfigFolders
from llmrl.models.entry import read_entries, read_entry

PLAIN: dict[str, Any] = {
    "about": "a test",
    "kind": "lm",
    "file": "m.gguf",
    "sha256": "0" * 64,
    "size": 10,
    "convert": "gguf",
    "sources": [{"wheels": {"some-model==1.0": "some_model/m.gguf"}}],
    "licence": "MIT",
    "licence_url": "https://example.org/licence",
}
RECOMMENDED = {"prompt": "plain", "normalise": "word", "calibrate": "pmi", "calibrate_weight": 0.5, "temperature": 0.5}


def folders(root: Path, **entries: Any) -> ConfigFolders:
    (root / "models").mkdir(exist_ok=True)
    for name, plain in entries.items():
        (root / "models" / f"{name}.yaml").write_text(yaml.safe_dump(plain))
    return ConfigFolders(config_folder(), root)


def test_the_entries_that_are_shipped_are_read() -> None:
    own = {entry.name: entry for entry in read_entries(ConfigFolders(config_folder()))}
    assert {"smollm2", "gemma3-270m", "minilm"} <= set(own)
    assert all(entry.terms is not None for entry in own.values() if entry.licence != "Apache-2.0")


def test_models_are_no_group_of_a_run() -> None:
    with pytest.raises(ConfigError, match="models"):
        compose(["models=smollm2"])


def test_an_entry_of_ones_own(tmp_path: Path) -> None:
    entry = read_entry("mine", folders(tmp_path, mine=PLAIN | RECOMMENDED))
    assert (entry.name, entry.size, entry.bos) == ("mine", 10, None)
    assert entry.settings() == [
        "prompt=plain", "prior.normalise=word", "prior.calibrate=pmi", "prior.calibrate_weight=0.5",
        "prior.temperature=0.5",
    ]  # fmt: skip
    assert str(entry.sources[0]) == "the Python package index (some-model==1.0)"


def test_an_entry_may_not_hide_one_that_is_shipped(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"llmrl has a models/smollm2\.yaml of its own"):
        folders(tmp_path, smollm2=PLAIN)


def test_a_name_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean model=smollm2"):
        read_entry("smolm2", folders(tmp_path))


HUB = {"hub": "owner/name"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"licence": None}, "licence"),
        ({"sizes": 3}, "sizes"),
        ({"size": "large"}, "size"),
        ({"size": 0}, "at least 1"),
        ({"sha256": "ABC"}, "64 hexadecimal digits"),
        ({"convert": "ggfu"}, "did you mean convert=gguf"),
        ({"kind": "model"}, "choose one of lm, encoder"),
        ({"normalise": "tokens"}, "did you mean normalise=token"),
        ({"calibrate": "pmis"}, "did you mean calibrate=pmi"),
        ({"file": "../m.gguf"}, "without a folder"),
        ({"licence_url": "http://example.org"}, "https://"),
        ({"name": "other"}, "leave it out"),
        ({"convert": "zip", "bos": True}, "only convert=gguf"),
        ({"sources": []}, "sources: expected a list"),
        ({"sources": [{}]}, r"sources\[0\]: expected one of wheels, hub and url"),
        ({"sources": [HUB | {"url": "https://example.org", "file": "m"}]}, "expected one of"),
        ({"sources": [{"wheels": {"some-model": "m"}}]}, "expected PACKAGE==VERSION"),
        ({"sources": [{"wheels": {"--index-url==1": "m"}}]}, "expected PACKAGE==VERSION"),
        ({"sources": [{"url": "http://example.org/m"}]}, "begins with https://"),
        ({"sources": [{"url": "https://example.org/m", "file": "m"}]}, "file and revision are of a hub id"),
        ({"sources": [{"hub": "name", "file": "m"}]}, "expected OWNER/NAME"),
        ({"sources": [HUB]}, "convert=folder needs a hub id without file"),
        ({"convert": "folder"}, "convert=folder needs a hub id without file"),
    ],
)
def test_what_is_wrong_with_an_entry_is_named(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    plain = {key: value for key, value in (PLAIN | change).items() if value is not None}
    with pytest.raises(ConfigError, match=said) as caught:
        read_entry("mine", folders(tmp_path, mine=plain))
    assert "mine.yaml" in str(caught.value)
