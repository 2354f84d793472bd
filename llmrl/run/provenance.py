"""Where a run comes from: code, packages, model, machine. None of it enters the run id; a resumed run is held to it."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import torch
from omegaconf import DictConfig

import llmrl
from llmrl.config import model_identity
from llmrl.run.versions import git_state, package_versions


def provenance(cfg: DictConfig) -> dict[str, Any]:
    """provenance.json of a run. `machine_type` is what byte-identity is promised on."""
    model = model_identity(cfg)
    return {
        "llmrl": llmrl.__version__,
        "git": git_state(),
        "python": platform.python_version(),
        "packages": package_versions(),
        "machine_type": machine_type("cpu" if cfg.lm is None else cfg.lm.get("device", "cpu"), cfg.threads),
        "machine": {"platform": platform.platform(), "cpus": os.cpu_count()},
        "model": None if model is None else asdict(model),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def machine_type(device: str, threads: int) -> dict[str, Any]:
    """`device` is that of the language model: auto, cpu or cuda. Raises ValueError for one that is not here."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("lm.device=cuda, but torch sees no CUDA device here: use lm.device=cpu or lm.device=auto")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return {
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "threads": threads,
        "torch": torch.__version__,
    }
