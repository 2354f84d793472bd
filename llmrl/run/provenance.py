"""Provenance of a run: code, packages, model, machine. None of it enters the run id; a resumed run must match it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

import llmrl
from llmrl.run.identity import RunIdentity, weights_contents
from llmrl.run.versions import git_state, package_versions

_SAID_LATER = {"success": "won"}  # of a world: what older runs had too and do not say, so that they can be resumed
COMPUTING = ("numpy", "tokenizers", "torch", "transformers")  # packages whose numbers a run is made of


def provenance(cfg: DictConfig, identity: RunIdentity, world: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """provenance.json of a run. `machine_type` is what byte-identity is promised on.

    `world` is what the world says it is made of: versions of its packages, a hash of its data; {} for one that is all
    in its config. `weights` is the SHA-256 of the file that the learner starts from, wherever it lies, and `data` that
    of the rows that it learns from; null without one.
    """
    weights = cfg.learner.get("weights")
    devices = {part: cfg[part].get("device", "cpu") for part in ("lm", "encoder") if cfg[part] is not None}
    return {
        "llmrl": llmrl.__version__,
        "git": git_state(),
        "python": platform.python_version(),
        "packages": package_versions(),
        "machine_type": machine_type(devices, cfg.threads),
        "machine": {"platform": platform.platform(), "cpus": os.cpu_count()},
        "model": None if identity.model is None else asdict(identity.model),
        "encoder": None if identity.encoder is None else asdict(identity.encoder),
        "data": None if cfg.data is None else identity.settings["data"]["file"],
        "world": dict(world or {}),
        "weights": weights_contents(weights) if isinstance(weights, str) and Path(weights).is_file() else None,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def machine(origin: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of the provenance that a run's bytes depend on besides its settings; a resumed run must match them."""
    packages = {name: origin["packages"].get(name) for name in COMPUTING}
    world = {
        key: value for key, value in origin["world"].items() if key not in _SAID_LATER or value != _SAID_LATER[key]
    }
    return {**origin["machine_type"], "packages": packages, **({"world": world} if world else {})}


def add_resumption(
    origin: Mapping[str, Any], now: Mapping[str, Any], step: int, drift: Mapping[str, Any], lost: Sequence[int]
) -> dict[str, Any]:
    """A run's provenance with one more entry of where it was taken up again, and how far that was from exact."""
    entry = {"at": now["started"], "env_steps": step, "git": now["git"], "drift": drift, "lost_episodes": len(lost)}
    return {**(origin or now), "resumed": [*origin.get("resumed", ()), entry]}


def machine_type(devices: Mapping[str, str], threads: int) -> dict[str, Any]:
    """`devices` are those of the models, by part: auto, cpu or cuda. Raises ValueError for one that is not here."""
    found = set()
    for part, device in devices.items():
        if device == "cuda" and not torch.cuda.is_available():
            raise ValueError(
                f"{part}.device=cuda, but torch sees no CUDA device here: use {part}.device=cpu or {part}.device=auto"
            )
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        found.add(torch.cuda.get_device_name(device) if device.startswith("cuda") else device)
    return {
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "device": " and ".join(sorted(found)) or "cpu",
        "threads": threads,
        "torch": torch.__version__,
    }
