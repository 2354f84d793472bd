"""One run: is it finished already? Else it is computed. Torch is loaded only then."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from llmrl.config.compose import as_checked
from llmrl.lm.serve import serve_for_block
from llmrl.loggers.live import sent_live
from llmrl.loggers.logger import chosen_loggers
from llmrl.report.progress import Reporter, Silent
from llmrl.run.folder import RunFolder, is_complete, read_object, read_summary
from llmrl.run.identity import RunIdentity, identify_run
from llmrl.run.versions import git_state
from llmrl.training.fit_report import describe_misfit
from llmrl.training.preflight import refuse_unready

if TYPE_CHECKING:
    from llmrl.training.base import Training

RESULTS = ("summary.json", "metrics.jsonl", "episodes.jsonl", "curve.png")


def train(
    cfg: DictConfig, reporter: Reporter | None = None, *, fresh: bool = False, allow_drift: bool = False
) -> dict[str, Any]:
    """Runs `cfg` (see `llmrl.compose`) and returns its summary, and in it `folder`, where everything of the run is.

    A finished run is not run again, an unfinished one goes on from its last checkpoint. `fresh`: it is begun anew, and
    what there was is kept aside. `allow_drift`: it goes on though numbers may differ here, and is marked. The server of
    `lm.serve` runs for as long as the run.

    Everything is in the run's folder when this returns, and whatever an error or Ctrl-C left of it when it does not.
    Raises ValueError for what a person can mend, LanguageModelError and WorldError for what failed, Paused where a
    model is out of reach.
    """
    cfg = as_checked(cfg)
    reporter = reporter or Silent()
    identity = identify_run(cfg)
    path = identity.folder(Path(cfg.paths.runs))
    if not fresh and is_complete(path):
        return _show_finished(path, cfg, reporter)
    refuse_unready(cfg)
    if cfg.data is None:
        reporter.begin(path.name, path, cfg.env_steps)
    else:
        reporter.begin(path.name, path, cfg.learner.gradient_steps, "gradient steps")
    with serve_for_block(cfg, reporter.note) as cfg:
        return _compute(cfg, identity, reporter, fresh, allow_drift)


def _compute(
    cfg: DictConfig, identity: RunIdentity, reporter: Reporter, fresh: bool, allow_drift: bool
) -> dict[str, Any]:
    import torch

    torch.set_num_threads(cfg.threads)
    with RunFolder.open(Path(cfg.paths.runs), identity.name, identity.id, fresh) as folder:
        if folder.note:
            reporter.note(folder.note)
        if not folder.finished:
            training = _training(cfg)(cfg, identity, folder, reporter, allow_drift)
            with sent_live(chosen_loggers(cfg.logger), folder.path, training.note, reporter.doing):
                training.run()
        reporter.done(folder.summary, folder.cost, list_files(folder.path))
        if (wrong := describe_misfit(folder.summary.get("fit", {}), cfg)) is not None:
            reporter.note(wrong)
        return read_result(folder.path)


def _show_finished(path: Path, cfg: DictConfig, reporter: Reporter) -> dict[str, Any]:
    reporter.note(f"{path} is complete: nothing to compute{_made_by(path)}")
    for name in chosen_loggers(cfg.logger):
        reporter.note(f"nothing is sent to {name} now: `llmrl runs push {path.name} --to {name}` sends a finished run")
    summary = read_summary(path)
    reporter.done(summary, read_object(path / "cost.json"), list_files(path))
    if (wrong := describe_misfit(summary.get("fit", {}), cfg)) is not None:
        reporter.note(wrong)
    return read_result(path)


def _training(cfg: DictConfig) -> type[Training]:
    if cfg.data is None:
        from llmrl.training.online import OnlineTraining

        return OnlineTraining
    from llmrl.training.offline import OfflineTraining

    return OfflineTraining


def read_result(path: Path) -> dict[str, Any]:
    """A run's summary, with its folder."""
    return {**read_summary(path), "folder": str(path)}


def list_files(path: Path) -> list[Path]:
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
