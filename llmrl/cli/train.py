"""`llmrl train`: one run, or a sweep."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmrl.cli import completion
from llmrl.cli.shell import GOES_ON, ConfigDir, explain_errors, show
from llmrl.core.processes import PAUSED

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from llmrl.sweep import Cell


class Shown(StrEnum):
    job = "job"


def train(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="GROUP=OPTION and KEY=VALUE, as in learner=dqn seed=3",
            show_default=False,
            autocompletion=completion.overrides,
        ),
    ] = None,
    multirun: Annotated[
        bool,
        typer.Option("--multirun", "-m", help="One run for each combination: seed='range(0,5)' learner=dqn,dqn_prior"),
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="The number of runs of a sweep at the same time.")] = 1,
    cfg: Annotated[Shown | None, typer.Option(help="Print the resolved config, and run nothing.")] = None,
    config_dir: ConfigDir = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew. The old folder of this run is set aside.")
    ] = False,
    allow_drift: Annotated[
        bool, typer.Option("--allow-drift", help="Resume though numbers may differ on this machine; the run is marked.")
    ] = False,
    cached_only: Annotated[
        bool, typer.Option("--cached-only", help="Compute no answer: use cached ones, and name those missing.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="End before training where data or prior do not fit the world.")
    ] = False,
) -> None:
    """Train an agent. Without arguments: DQN-Prior in a text kitchen, with the embedded model.

    The same command is the same run. It resumes where it stopped. A complete run is shown and not run again.
    """
    flags = {"cached_only": cached_only, "strict": strict}
    overrides = (overrides or []) + [f"{name}=true" for name, on in flags.items() if on]
    with explain_errors(GOES_ON):
        in_sweep = _die_with_the_sweep()
        from llmrl.config.compose import compose, unread_overrides

        if multirun:
            passed_on = [f"--{name}" for name, on in (("fresh", fresh), ("allow-drift", allow_drift)) if on]
            _sweep(overrides, config_dir, jobs, cfg is not None, passed_on)
            return
        config = compose(overrides, config_dir)
        if cfg is not None:
            _print_config(config)
            return
        for line in unread_overrides(overrides, config, config_dir):
            typer.echo(line, err=True)
        _train(config, fresh, allow_drift, in_sweep)


def _die_with_the_sweep() -> bool:
    """Whether this is a cell of a sweep. It then ends with the sweep's process, and releases its run."""
    sweep = os.environ.pop("LLMRL_SWEEP", None)
    if sweep is None:
        return False
    if sys.platform == "linux":
        from llmrl.core.processes import terminate_with_parent

        terminate_with_parent()
    if sweep != str(os.getppid()):  # the sweep was killed before this line
        raise typer.Exit(128 + signal.SIGTERM)
    return True


def _train(config: DictConfig, fresh: bool, allow_drift: bool, in_sweep: bool) -> None:
    from llmrl.report.progress import Events, reporter
    from llmrl.train import train

    shown = Events() if in_sweep else reporter(config.progress)
    try:
        train(config, shown, fresh=fresh, allow_drift=allow_drift)
    finally:
        shown.close()


def _sweep(overrides: list[str], config_dir: Path | None, jobs: int, only_print: bool, flags: Sequence[str]) -> None:
    from llmrl.config.compose import unread_overrides
    from llmrl.sweep import launch, plan, refuse_unready_cells

    planned = plan(overrides, config_dir)
    if only_print:
        for cell in planned:
            typer.echo(f"--- # {' '.join(cell.overrides)}")
            _print_config(cell.cfg)
        return
    lines = [line for cell in planned for line in unread_overrides(cell.overrides, cell.cfg, config_dir)]
    for line in dict.fromkeys(lines):
        typer.echo(line, err=True)
    refuse_unready_cells(planned, fresh="--fresh" in flags)
    from llmrl.lm.serve import served_for
    from llmrl.report.sweeps import Screen

    shared = set.intersection(*(set(cell.overrides) for cell in planned)) if len(planned) > 1 else set()
    names = [" ".join(word for word in cell.overrides if word not in shared) for cell in planned]
    waiting = [cell.cfg for cell in planned if "--fresh" in flags or not cell.is_complete]
    with served_for(waiting, typer.echo), Screen(names) as screen:
        codes = launch(planned, config_dir, jobs, screen, flags)
    _show_end(planned, codes)
    if any(codes):
        alike = set(codes) - {0}
        raise typer.Exit(alike.pop() if alike in ({PAUSED}, {2}) else 1)


def _show_end(planned: Sequence[Cell], codes: Sequence[int]) -> None:
    """Shows the state of each cell of a sweep. Shows and writes the table over seeds."""
    from llmrl.report import sweeps
    from llmrl.report.tables import sweep_table

    rows = []
    for cell, code in zip(planned, codes, strict=True):
        run = cell.run()
        status = "paused" if code == PAUSED else "failed" if code or run is None else run.status
        rows.append((cell.overrides, run, status))
    show(sweep_table(rows))
    made = [run for _, run, _ in rows if run is not None]
    if found := sweeps.arms(made):
        typer.echo()
        show(sweeps.arms_table(found))
        for path in sweeps.keep(found, made, Path(planned[0].cfg.paths.runs)):
            typer.echo(path)


def _print_config(config: DictConfig) -> None:
    from omegaconf import OmegaConf

    typer.echo(OmegaConf.to_yaml(config), nl=False)
