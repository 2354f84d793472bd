"""The beginning of a run, before torch is loaded: its name, and all of one that is finished already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from llmrl.config import run_id, run_name
from llmrl.fit import complaint
from llmrl.progress import Reporter
from llmrl.run.folder import is_complete, own_folder, read_object, read_summary
from llmrl.run.versions import git_state

RESULTS = ("summary.json", "metrics.jsonl", "episodes.jsonl", "curve.png")


def shown_if_finished(cfg: DictConfig, reporter: Reporter) -> dict[str, Any] | None:
    """The summary of a checked config's run; None where there is none that is finished."""
    path = own_folder(Path(cfg.paths.runs), run_name(cfg), run_id(cfg))
    if not is_complete(path):
        return None
    reporter.note(f"{path} is complete: nothing to compute{_made_by(path)}")
    summary = read_summary(path)
    reporter.done(summary, read_object(path / "cost.json"), written(path))
    if (wrong := complaint(summary.get("fit", {}), cfg)) is not None:
        reporter.note(wrong)
    return named(path)


def announce(cfg: DictConfig, reporter: Reporter) -> None:
    """Which run of a checked config begins, and how far it goes."""
    path = own_folder(Path(cfg.paths.runs), run_name(cfg), run_id(cfg))
    if cfg.data is None:
        reporter.begin(path.name, path, cfg.env_steps)
    else:
        reporter.begin(path.name, path, cfg.learner.gradient_steps, "gradient steps")


def named(path: Path) -> dict[str, Any]:
    """A run's summary, with its folder."""
    return {**read_summary(path), "folder": str(path)}


def written(path: Path) -> list[Path]:
    """The files of a run that a person may want to open."""
    return [path / name for name in RESULTS if (path / name).exists()]


def _made_by(path: Path) -> str:
    provenance, now = read_object(path / "provenance.json"), git_state()
    resumed = provenance.get("resumed", [])
    commits = list(dict.fromkeys(git["commit"][:7] for entry in (provenance, *resumed) if (git := entry.get("git"))))
    said = f"; made by commit {' and '.join(commits)}" if commits else ""
    if commits and now is not None and commits != [now["commit"][:7]]:
        said += f", today's is {now['commit'][:7]}"
    if any(entry["drift"] or entry["lost_episodes"] for entry in resumed):
        said += "; RESUMED UNDER OTHER CONDITIONS (`llmrl runs show` says which)"
    return said
