from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from llmrl.run.checkpoint import (
    TornCheckpoint,
    checkpoint_steps,
    read_about,
    read_manifest,
    read_state,
    read_weights,
    write_checkpoint,
)

FILES = ("weights.safetensors", "state.json", "arrays.safetensors", "manifest.json")


def written(path: Path) -> Path:
    weights = {"w": torch.arange(12.0).reshape(3, 4).T, "half": torch.ones(2, dtype=torch.bfloat16)}
    state = {"rng": {"state": 2**100}, "rows": np.arange(6).reshape(2, 3), "moments": [torch.ones(3), {}], "none": None}
    write_checkpoint(path, weights, state, {"env_steps": 250, "logs": {}})
    return path


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    path = written(tmp_path / "checkpoints" / "250")
    assert sorted(p.name for p in path.iterdir()) == sorted(FILES)
    weights, state = read_weights(path), read_state(path)
    assert torch.equal(weights["w"], torch.arange(12.0).reshape(3, 4).T)
    assert weights["half"].dtype == torch.bfloat16
    assert state["rng"] == {"state": 2**100}
    assert isinstance(state["rows"], np.ndarray)
    assert state["rows"].dtype == np.int64
    assert state["rows"].tolist() == [[0, 1, 2], [3, 4, 5]]
    state["rows"][0] = 7  # what is learned further may be written
    assert torch.equal(state["moments"][0], torch.ones(3))
    assert state["moments"][1] == {}
    assert state["none"] is None
    manifest = read_manifest(path)
    assert manifest == read_about(path)
    assert manifest["env_steps"] == 250
    assert manifest["files"].keys() == set(FILES[:3])


def test_equal_states_are_equal_bytes(tmp_path: Path) -> None:
    for name, state in (("1", {"a": np.ones(2), "b": 1.5}), ("2", {"b": np.float64(1.5), "a": np.ones(2)})):
        write_checkpoint(tmp_path / name, {}, state, {})
    for name in FILES:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "empty"])
def test_damage_is_found(name: str, damage: str, tmp_path: Path) -> None:
    file = written(tmp_path / "250") / name
    data = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        middle = len(data) // 2
        flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        file.write_bytes({"flipped": flipped, "cut": data[:-2], "empty": b""}[damage])
    with pytest.raises(TornCheckpoint, match=rf"{tmp_path / '250'}: its {name} (differs|is|cannot)"):
        read_manifest(tmp_path / "250")


@pytest.mark.parametrize("text", ["[]", "1", "{}", '{"files": {}}', '{"sha256": "0"}'])
def test_a_manifest_of_something_else_is_damaged(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(TornCheckpoint, match="damaged"):
        read_about(tmp_path)


def test_weights_are_read_without_the_rest(tmp_path: Path) -> None:
    path = written(tmp_path / "250")
    for name in ("state.json", "arrays.safetensors"):
        (path / name).unlink()
    assert read_weights(path).keys() == {"w", "half"}
    assert read_about(path)["env_steps"] == 250
    with pytest.raises(TornCheckpoint, match=r"arrays\.safetensors cannot be read"):
        read_state(path)


def test_steps_are_in_order_and_nothing_else_counts(tmp_path: Path) -> None:
    assert checkpoint_steps(tmp_path) == []
    for name in ("1000", "250", ".250.77.tmp"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert checkpoint_steps(tmp_path) == [250, 1000]


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only texts can name"):
        write_checkpoint(tmp_path / "1", {}, {"visits": {3: 1}}, {})
    with pytest.raises(ValueError, match=r"since\.loss is nan"):
        write_checkpoint(tmp_path / "1", {}, {"since": {"loss": float("nan")}}, {})
    with pytest.raises(TypeError, match="set is not a number"):
        write_checkpoint(tmp_path / "1", {}, {"seen": {1}}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_replaced_whole(tmp_path: Path) -> None:
    path = written(tmp_path / "250")
    write_checkpoint(path, {}, {"again": True}, {"env_steps": 250})
    assert read_state(path) == {"again": True}
    assert read_manifest(path)["env_steps"] == 250
    assert [p.name for p in tmp_path.iterdir()] == ["250"]
