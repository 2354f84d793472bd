from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from llmrl.run.checkpoint import checkpoint_steps, read_checkpoint, write_checkpoint


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    tensors = {"w": torch.randn(3, 4).T, "steps": torch.tensor(7), "half": torch.ones(2, dtype=torch.bfloat16)}
    rows = {"rows": np.arange(6, dtype=np.int64).reshape(2, 3)}
    state = {"rng": {"state": 2**100}, "env": [1, None]}
    path = tmp_path / "checkpoints" / "250"
    write_checkpoint(
        path, {"q.safetensors": tensors, "replay.safetensors": rows, "state.json": state, "x.bin": b"\0\1"}
    )
    back = read_checkpoint(path)
    assert all(torch.equal(back["q.safetensors"][name], tensor) for name, tensor in tensors.items())
    assert torch.equal(back["replay.safetensors"]["rows"], torch.from_numpy(rows["rows"]))
    assert back["state.json"] == state
    assert back["x.bin"] == b"\0\1"


def test_steps_are_in_order_and_nothing_else_counts(tmp_path: Path) -> None:
    assert checkpoint_steps(tmp_path) == []
    for name in ("1000", "250", ".250.77.tmp"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert checkpoint_steps(tmp_path) == [250, 1000]


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected tensors by name"):
        write_checkpoint(tmp_path / "1", {"a.safetensors": [1]})
    with pytest.raises(ValueError, match="expected bytes"):
        write_checkpoint(tmp_path / "1", {"a.bin": "text"})
    with pytest.raises(ValueError, match="loss is nan"):
        write_checkpoint(tmp_path / "1", {"a.json": {"loss": float("nan")}})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "1")
