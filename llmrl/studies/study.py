"""The format of a study: arms, seeds and sizes, each cell a run like any other.

A study is a YAML file: `common` overrides, `seeds`, and `arms` by name, each a list of overrides or a mapping with
`set` (overrides) and `seeds` (how many, where not all). `+name` in a list stands for the overrides of `sets.name`, so
that what was tuned is written once; what comes later replaces what came before. `tables` names the tables: how the
names of its arms begin, and the arm that they are compared with. `empty_caches: true` gives each run a cache of answers
of its own, empty at first, which is what a comparison of seconds or tokens needs. `config_dir` is a folder of config
groups, beside the file.

An offline study also has `collect`, lists of what `llmrl collect` is told first, and `sizes`: each arm runs once per
size, or per size of its own `sizes`, with `data.size=SIZE`, the overrides of its `at.SIZE` and after them those of
`then`; an arm with `sizes: []` learns from no data, and `alone` names the arm that is an arm's prior without data.
`judge` and the keys beside it say in which other games trained agents are evaluated (`llmrl/studies/judge.py`).

Seeds are the outer loop, so that a study that is stopped early has something of every arm.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml  # type: ignore[import-untyped]
from omegaconf import DictConfig, OmegaConf

from llmrl.config.compose import compose, config_folder
from llmrl.core.overrides import ConfigError
from llmrl.core.suggestions import did_you_mean
from llmrl.run.identity import identify_run

if TYPE_CHECKING:
    from llmrl.run.load import RunInfo

JUDGED: dict[str, Any] = {"evaluate": {}, "matrix": {}, "judge": {}, "episodes": 2, "ceilings": []}
KEYS = {
    "about",
    "title",
    "common",
    "seeds",
    "sets",
    "arms",
    "tables",
    "empty_caches",
    "collect",
    "sizes",
    "config_dir",
    "figure",
}
OF_AN_ARM = {"set", "seeds", "sizes", "at", "then", "alone"}


@dataclass(frozen=True)
class Cell:
    arm: str
    seed: int
    overrides: list[str]
    size: int | None = None  # transitions of an offline run
    config_dir: Path | None = None

    def compose(self, *more: str) -> DictConfig:
        return compose([*self.overrides, *more], self.config_dir)


@dataclass(frozen=True)
class Study:
    name: str
    title: str  # above its panel of a figure
    common: list[str]
    seeds: int
    arms: dict[str, dict[str, Any]]
    tables: dict[str, str]  # how the names of its arms begin -> the arm that they are compared with
    empty_caches: bool
    collect: list[list[str]]  # what `llmrl collect` is told before anything runs
    sizes: list[int]
    config_dir: Path | None  # config groups of its own
    judged: dict[str, Any]  # evaluate, episodes, judge, ceilings, matrix: what trained agents are evaluated in
    also: list[str]  # overrides of every cell, after its own
    figure: str | None  # quality: sample efficiency against the quality of priors

    @classmethod
    def read(cls, file: Path) -> Study:
        """Raises ConfigError for a file that is no study."""
        plain = read_yaml(file)
        check_keys(plain, KEYS | set(JUDGED), ("arms", "seeds"), str(file))
        arms = {}
        for name, arm in plain["arms"].items():
            arm = {"set": arm} if isinstance(arm, list) else arm
            check_keys(arm, OF_AN_ARM, ("set",), f"{file}: arms.{name}")
            if arm.get("alone", name) not in plain["arms"]:
                raise ConfigError(f"{file}: arms.{name}: alone: {arm['alone']} is none of {', '.join(plain['arms'])}")
            arms[name] = arm | {"set": list(_unfold(arm["set"], plain.get("sets", {}), f"{file}: arms.{name}"))}
        tables = plain.get("tables", {})
        for prefix, against in tables.items():
            if against not in arms:
                raise ConfigError(f"{file}: tables.{prefix}: {against} is none of {', '.join(arms)}")
        return cls(
            file.stem,
            plain.get("title", file.stem),
            plain.get("common", []),
            plain["seeds"],
            arms,
            tables,
            plain.get("empty_caches", False),
            plain.get("collect", []),
            plain.get("sizes", []),
            file.parent / plain["config_dir"] if "config_dir" in plain else None,
            {key: plain.get(key, default) for key, default in JUDGED.items()},
            [],
            plain.get("figure"),
        )

    def override(self, overrides: Sequence[str], seeds: int | None = None) -> Study:
        """The study with more overrides in every cell, and with fewer seeds.

        Raises ConfigError for another environment than that of the data it collects.
        """
        if self.collect and (other := [o for o in overrides if o.startswith(("env=", "env."))]):
            raise ConfigError(
                f"{other[0]}: {self.name} learns from data of its own environment; copy its file, and change `collect`"
            )
        return replace(
            self, also=[*self.also, *overrides], seeds=self.seeds if seeds is None else min(seeds, self.seeds)
        )

    def cells(self, arms: list[str] | None = None, seeds: int | None = None) -> Iterator[Cell]:
        chosen = {name: arm for name, arm in self.arms.items() if arms is None or name in arms}
        if missing := set(arms or []) - set(chosen):
            raise ConfigError(f"{self.name} has no arm {', '.join(sorted(missing))}; there are {', '.join(self.arms)}")
        for seed in range(self.seeds if seeds is None else seeds):
            for name, arm in chosen.items():
                if seed >= arm.get("seeds", self.seeds):
                    continue
                for size in arm.get("sizes", self.sizes) or [None]:
                    own = [] if size is None else [f"data.size={size}", *arm.get("at", {}).get(size, [])]
                    overrides = [*self.common, *arm["set"], *own, *arm.get("then", []), *self.also, f"seed={seed}"]
                    yield Cell(
                        name, seed, list({o.partition("=")[0]: o for o in overrides}.values()), size, self.config_dir
                    )


def compose_cells(cells: Iterable[Cell]) -> Iterator[tuple[Cell, DictConfig]]:
    """Each cell with its config. Cells that differ in their seed are composed once."""
    composed: dict[tuple[str, ...], DictConfig] = {}
    for cell in cells:
        key = tuple(o for o in cell.overrides if not o.startswith("seed="))
        if key not in composed:
            composed[key] = compose(list(key), cell.config_dir)
        cfg = composed[key].copy()
        OmegaConf.set_readonly(cfg, False)
        cfg.seed = cell.seed
        OmegaConf.set_readonly(cfg, True)
        yield cell, cfg


@dataclass(frozen=True)
class Results:
    """The complete runs of a study, read once for all its tables and figures."""

    study: Study
    cells: list[tuple[Cell, RunInfo]]

    def arms(self, only: Sequence[str] | None = None) -> dict[str, list[RunInfo]]:
        """Arm -> its runs, by seed; arms that have none, and that are not among `only`, are left out."""
        arms: dict[str, list[RunInfo]] = {}
        for cell, run in self.cells:
            if only is None or cell.arm in only:
                arms.setdefault(cell.arm, []).append(run)
        return arms


def find_results(
    study: Study, runs: Path, only: list[str] | None = None, left_out: Callable[[str, ConfigError], None] | None = None
) -> Results:
    """The complete runs of the study in `runs`, wherever they lie there.

    `left_out` hears of each arm whose model or data are not on this machine; by default that is no matter here.
    """
    from llmrl.run.load import load_runs

    found = {run.summary["run_id"]: run for run in load_runs(runs) if run.status == "complete"}
    cells, done = list(study.cells(only)), []
    for arm in dict.fromkeys(cell.arm for cell in cells) if found else ():
        try:
            own = [(cell, identify_run(cfg).id) for cell, cfg in compose_cells(c for c in cells if c.arm == arm)]
        except ConfigError as error:
            if left_out is not None:
                left_out(arm, error)
            continue
        done += [(cell, found[run_id]) for cell, run_id in own if run_id in found]
    return Results(study, done)


def _unfold(overrides: list[str], sets: dict[str, list[str]], where: str) -> Iterator[str]:
    for override in overrides:
        if not override.startswith("+"):
            yield override
        elif override[1:] in sets:
            yield from _unfold(sets[override[1:]], sets, where)
        else:
            raise ConfigError(f"{where}: there is no set {override[1:]}; there are {', '.join(sets)}")


def study_files() -> dict[str, Path]:
    """The studies that come with llmrl, by name."""
    return {file.stem: file for file in sorted((config_folder() / "study").glob("*.yaml"))}


def find_study(name: str) -> Study:
    """A study of ours by its name, or a file. Raises ConfigError."""
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise ConfigError(f"{name}: there is no such file")
        return Study.read(Path(name))
    files = study_files()
    if name not in files:
        raise ConfigError(
            f"{name}: no such study{did_you_mean([name], files)}; there are {', '.join(files)}, or FILE.yaml"
        )
    return Study.read(files[name])


def read_yaml(file: Path) -> Any:
    """Raises ConfigError for a text that is no YAML."""
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: this is no YAML: {' '.join(str(error).split())}") from None


def check_keys(plain: Any, known: Collection[str], needed: Sequence[str], where: str) -> None:
    """Raises ConfigError where `plain` is no mapping, has other keys than `known`, or lacks some that are `needed`."""
    if not isinstance(plain, dict):
        raise ConfigError(f"{where}: expected keys and values, with {' and '.join(needed) or ', '.join(sorted(known))}")
    if wrong := sorted(map(str, set(plain) - set(known))):
        raise ConfigError(f"{where}: unknown keys {', '.join(wrong)}; there are {', '.join(sorted(known))}")
    if missing := [key for key in needed if plain.get(key) is None]:
        raise ConfigError(f"{where}: {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
