"""Checkpoints: folders of safetensors and JSON, published whole, and checked by their checksums when they are read.

weights.safetensors   what was learned, for `play` and for whoever uses it elsewhere
state.json            everything else that a run needs to go on exactly where it was,
arrays.safetensors    and the arrays in it
manifest.json         sizes and checksums of these files and of the run's logs up to here, and what the run was
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from llmrl.core.files import publish_folder, to_json

WEIGHTS, STATE, ARRAYS, MANIFEST = "weights.safetensors", "state.json", "arrays.safetensors", "manifest.json"


class TornCheckpoint(ValueError):
    """A checkpoint that cannot be used: unfinished, damaged, or of a version that kept something else."""


def write_checkpoint(path: Path, weights: Mapping[str, Tensor], state: Any, about: Mapping[str, Any]) -> None:
    """Publishes the folder `path`, normally `<run>/checkpoints/<step>`.

    state: nested dicts with text keys, lists, arrays, tensors and what JSON can hold; finite numbers only, outside of
    arrays. `about`: what else the manifest says. Raises ValueError for what it cannot hold.
    """
    arrays: dict[str, Tensor] = {}
    plain = _split(state, arrays)
    files = {
        WEIGHTS: safetensors.torch.save({name: t.contiguous() for name, t in weights.items()}),
        STATE: (to_json(plain) + "\n").encode(),
        ARRAYS: safetensors.torch.save(arrays),
    }
    sums = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    manifest = {**about, "files": sums}
    publish_folder(path, files | {MANIFEST: (to_json({**manifest, "sha256": _sha256(manifest)}) + "\n").encode()})


def read_about(path: Path) -> dict[str, Any]:
    """The `about` of a checkpoint, as `read_manifest` gives it, without a look at the files."""
    return _manifest(path)


def read_manifest(path: Path) -> dict[str, Any]:
    """The checkpoint's `about`, and its `files`. Raises TornCheckpoint unless every file is as it was written."""
    manifest = _manifest(path)
    for name in manifest["files"]:
        _read_verified(path, manifest, name)
    return manifest


def read_state(path: Path) -> Any:
    """The `state` that `write_checkpoint` was given. Raises TornCheckpoint."""
    manifest = _manifest(path)
    arrays = safetensors.torch.load(_read_verified(path, manifest, ARRAYS))
    return _join(json.loads(_read_verified(path, manifest, STATE)), arrays)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint, also of one whose state is no longer needed. Raises TornCheckpoint."""
    return safetensors.torch.load(_read_verified(path, _manifest(path), WEIGHTS))


def checkpoint_steps(run: Path) -> list[int]:
    """The steps at which a run kept checkpoints, in order."""
    folder = run / "checkpoints"
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) if folder.is_dir() else []


def _manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        found = manifest.pop("sha256")
        if found == _sha256(manifest) and isinstance(manifest["files"], dict):
            return dict(manifest)
    except OSError as error:
        raise TornCheckpoint(f"{path}: its {MANIFEST} cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise TornCheckpoint(f"{path}: its {MANIFEST} is damaged")


def _read_verified(path: Path, manifest: Mapping[str, Any], name: str) -> bytes:
    try:
        data = (path / name).read_bytes()
    except OSError as error:
        raise TornCheckpoint(f"{path}: its {name} cannot be read ({error.strerror})") from None
    if hashlib.sha256(data).hexdigest() != manifest["files"][name]["sha256"]:
        raise TornCheckpoint(f"{path}: its {name} differs from the file written")
    return data


def _sha256(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(to_json(manifest).encode()).hexdigest()


def _split(value: Any, arrays: dict[str, Tensor]) -> Any:
    """`value` with each array moved to `arrays`, and its name in its place."""
    if isinstance(value, Tensor | np.ndarray):
        kind = "tensor" if isinstance(value, Tensor) else "array"
        name = str(len(arrays))
        arrays[name] = torch.as_tensor(value).contiguous()
        return {f"__{kind}__": name}
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise ValueError(f"only texts can name the parts of a checkpoint, not {list(value)[:3]}")
        return {key: _split(value[key], arrays) for key in sorted(value)}  # equal states are equal bytes
    if isinstance(value, list | tuple):
        return [_split(inner, arrays) for inner in value]
    return value


def _join(value: Any, arrays: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_join(inner, arrays) for inner in value]
    if not isinstance(value, dict):
        return value
    if list(value) == ["__tensor__"]:
        return arrays[value["__tensor__"]].clone()  # aligned: sums over it are then the same bits as before
    if list(value) == ["__array__"]:
        return arrays[value["__array__"]].clone().numpy()
    return {key: _join(inner, arrays) for key, inner in value.items()}
