"""Runs the cells of a study; a finished run is not run again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from llmrl.collect import collect, parse_order
from llmrl.config.compose import compose
from llmrl.core.overrides import ConfigError
from llmrl.core.targets import add_search_folder
from llmrl.launch.processes import run_all
from llmrl.lm.serve import served_for
from llmrl.run.folder import is_complete
from llmrl.run.identity import identify_run
from llmrl.studies.study import Cell, Study, compose_cells
from llmrl.train import train


def run_study(
    study: Study, cells: Sequence[Cell], runs: Path, jobs: int, tell: Callable[[str], None]
) -> list[tuple[Cell, Exception]]:
    """Runs `cells` of `study`, `jobs` at a time. Returns those that failed, with their errors."""
    start, failed = time.monotonic(), []
    run = partial(run_cell, runs=runs, own_cache=study.empty_caches)
    with served_for(_compose_arms(cells), tell):
        for done, (cell, error) in enumerate(run_all(run, cells, jobs), 1):
            size = "" if cell.size is None else f" size {cell.size:,}"
            said = "" if error is None else f"  {type(error).__name__}: {error}"
            tell(f"[{done}/{len(cells)}] {time.monotonic() - start:.0f} s  {cell.arm} seed {cell.seed}{size}{said}")
            if error is not None:
                failed.append((cell, error))
    return failed


def _compose_arms(cells: Sequence[Cell]) -> list[DictConfig]:
    """The configs of the arms that can be composed; the others are told when they run."""
    found = []
    for arm in dict.fromkeys(cell.arm for cell in cells):
        with suppress(ConfigError):
            found += [cfg for _, cfg in compose_cells(cell for cell in cells if cell.arm == arm)]
    return found


def run_cell(cell: Cell, runs: Path, own_cache: bool) -> None:
    if cell.config_dir is not None:
        add_search_folder(cell.config_dir)
    cache = [f"paths.cache={runs}/caches/{cell.arm}-{cell.seed}.sqlite3"] if own_cache else []
    train(cell.compose(*cache, f"paths.runs={runs}", "progress=false"))


def find_unfinished(cells: Sequence[Cell], runs: Path, seen: set[str]) -> list[Cell]:
    """The cells that have no complete run in `runs`, each run once. Raises ConfigError for one that cannot be composed.

    `seen` holds the ids of runs that are wanted already, and gains those of `cells`.
    """
    left = []
    for cell, cfg in compose_cells(cells):
        identity = identify_run(cfg)
        if identity.id not in seen and not is_complete(identity.folder(runs)):
            left.append(cell)
        seen.add(identity.id)
    return left


def collect_missing(words: list[str], runs: Path, tell: Callable[[str], None]) -> str:
    """Collects a data set that is not there yet, and says what it is."""
    order, overrides = parse_order(words)
    return collect(compose(overrides), order, runs, tell)
