"""Completion of a word in a shell. It reads names of files and folders, and nothing else."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import typer

from llmrl.schema.run import TrainConfig


def overrides(context: typer.Context, incomplete: str) -> list[str]:
    """`learner=`, and `learner=dqn`. Bash splits words at `=`; other shells do not."""
    words = [word for value in context.params.values() if isinstance(value, list | tuple) for word in value]
    groups = _groups(context)
    if words and not incomplete and words[-1] in groups:  # after `learner=`, whose `=` is taken away by now
        return list(groups[words[-1]])
    if words[-1:] == ["="] and len(words) > 1:
        return [option for option in groups.get(words[-2], ()) if option.startswith(incomplete)]
    group, equals, option = incomplete.partition("=")
    if equals:
        return [f"{group}={name}" for name in groups.get(group, ()) if name.startswith(option)]
    names = dict.fromkeys([*groups, *(f.name for f in fields(TrainConfig))])
    return [f"{name}=" for name in names if name.startswith(group)]


def run_names(context: typer.Context, incomplete: str) -> list[str]:
    """Folders of runs under `--runs`."""
    root = Path(context.params.get("runs") or "runs")
    return sorted(p.parent.name for p in root.glob("*/summary.json") if p.parent.name.startswith(incomplete))


def runs_and_overrides(context: typer.Context, incomplete: str) -> list[str]:
    return run_names(context, incomplete) + overrides(context, incomplete)


def groups(context: typer.Context, incomplete: str) -> list[str]:
    return [name for name in _groups(context) if name.startswith(incomplete)]


def options(context: typer.Context, incomplete: str) -> list[str]:
    """The options of the group that was typed before."""
    found = _groups(context).get(str(context.params.get("name")), ())
    return [option for option in found if option.startswith(incomplete)]


def _groups(context: typer.Context) -> dict[str, dict[str, Path]]:
    from llmrl.config.compose import config_folder
    from llmrl.core.overrides import ConfigFolders

    return ConfigFolders(config_folder(), context.params.get("config_dir")).groups
