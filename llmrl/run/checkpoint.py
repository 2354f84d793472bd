"""Checkpoints: folders of safetensors and JSON, published whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from llmrl.run.files import publish_folder, to_json


def write_checkpoint(path: Path, files: Mapping[str, Any]) -> None:
    """Publishes `files` as the folder `path`, normally `<run>/checkpoints/<step>`.

    A name that ends in .safetensors has a value {tensor name: tensor or array}; one that ends in .json has anything
    JSON can hold; any other has bytes. Raises ValueError for a value that does not fit its name.
    """
    publish_folder(path, {name: _packed(name, value) for name, value in files.items()})


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What `write_checkpoint` was given; arrays come back as tensors."""
    if not path.is_dir():
        raise ValueError(f"{path}: there is no such checkpoint")
    return {file.name: _unpacked(file) for file in sorted(path.iterdir())}


def checkpoint_steps(run: Path) -> list[int]:
    """The steps at which a run kept checkpoints, in order."""
    folder = run / "checkpoints"
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) if folder.is_dir() else []


def _packed(name: str, value: Any) -> bytes:
    if name.endswith(".safetensors"):
        if not isinstance(value, Mapping):
            raise ValueError(f"{name}: expected tensors by name, found {type(value).__name__}")
        return safetensors.torch.save({key: torch.as_tensor(v).contiguous() for key, v in value.items()})
    if name.endswith(".json"):
        return (to_json(value) + "\n").encode()
    if not isinstance(value, bytes):
        raise ValueError(f"{name}: expected bytes, found {type(value).__name__}; or name it .json or .safetensors")
    return value


def _unpacked(file: Path) -> Any:
    data = file.read_bytes()
    if file.suffix == ".safetensors":
        return safetensors.torch.load(data)
    return json.loads(data) if file.suffix == ".json" else data
