"""The start of an unfinished run: its newest whole checkpoint, if this run made it, on such a machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrl.core.files import flatten
from llmrl.run.checkpoint import TornCheckpoint, checkpoint_steps, read_manifest
from llmrl.run.folder import CannotResume, RunFolder


@dataclass(frozen=True)
class Start:
    """`checkpoint`: a folder, None for the beginning. `passed_over`: what is wrong with those after it."""

    checkpoint: Path | None
    manifest: dict[str, Any]
    passed_over: list[str]
    damaged: bool  # whether one was passed over that should have done
    drift: dict[str, list[Any]]  # what differs, where that was allowed: name -> [then, now]

    @property
    def step(self) -> int | None:
        return None if self.checkpoint is None else int(self.checkpoint.name)

    @property
    def logs(self) -> dict[str, dict[str, Any]]:
        return self.manifest.get("logs", {})


def find_start(folder: RunFolder, conditions: Mapping[str, Any], allow_drift: bool) -> Start:
    """`conditions`: the manifest's `settings` (what names the run) and `machine` (what its bytes depend on besides).

    Raises CannotResume where they differ; with `allow_drift`, only for settings other than `numerics`.
    """
    passed_over, damaged = [], False
    for step in reversed(checkpoint_steps(folder.path)):
        path = folder.path / "checkpoints" / str(step)
        try:
            manifest = read_manifest(path)
        except TornCheckpoint as error:
            passed_over.append(str(error))
            damaged = True
            continue
        if not manifest["resumable"]:
            passed_over.append(f"{path} holds weights alone: the learner has no `save`")
            continue
        if not folder.holds(manifest["logs"]):
            passed_over.append(f"{path}: the run's logs are not those that belong to it")
            damaged = True
            continue
        return Start(path, manifest, passed_over, damaged, _drift(path, manifest, conditions, allow_drift))
    return Start(None, {}, passed_over, damaged, {})


def _drift(
    path: Path, manifest: Mapping[str, Any], conditions: Mapping[str, Any], allowed: bool
) -> dict[str, list[Any]]:
    settings = _differing(manifest["settings"], conditions["settings"])
    drift = _differing(manifest["machine"], conditions["machine"]) | {
        name: both for name, both in settings.items() if name == "numerics"
    }
    if set(settings) - set(drift):
        raise CannotResume(
            f"{path} was made with other settings ({_format_differences(settings)}): it does not belong to this run; "
            "move it away, or start anew with --fresh (the old folder is set aside)"
        )
    if drift and not allowed:
        raise CannotResume(
            f"{path} was made under other conditions ({_format_differences(drift)}), so that going on would not give "
            "the same numbers: do it where it was begun, go on here with --allow-drift (which marks the run), or start "
            "anew with --fresh (the old folder is set aside)"
        )
    return drift


def _differing(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[Any]]:
    a, b = flatten(then), flatten(now)
    return {key: [a.get(key), b.get(key)] for key in sorted(a | b) if a.get(key) != b.get(key)}


def _format_differences(differing: Mapping[str, list[Any]]) -> str:
    return "; ".join(f"{name}: {then} then, {now} now" for name, (then, now) in differing.items())
