"""The format of a paper: its tables, the studies that fill them, published figures with their source, and scales.

A paper is a YAML file of configs/paper:

    title, paper, about   what it is, and the paper's reference
    differs               a list: what differs from the paper
    published             a list of figures: `of`, `value`, `source`, and `kind` of source (paper, code, third party);
                          without a value it is printed as not available
    tables                by name: `study`, `kind`, `arms` (all where absent) and `against`, the arm compared with
    scales                by name: `seeds`, `set` (overrides of every cell), `instead` (other studies), `needs`,
                          `without` (tables that are left out)

A table's kind is `curves` (learning curves compared), `transitions` (data to a level of success), `games` (trained
agents in other games) or `matrix` (learned with a model, played with another). Only the arms of tables are run.
`instead` gives a study's place to another, all of whose arms are shown, or to none. A study alone is a paper, too.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from llmrl.config.compose import config_folder
from llmrl.core.overrides import ConfigError
from llmrl.core.suggestions import did_you_mean
from llmrl.studies.study import Study, check_keys, find_study, read_yaml, study_files

Kind = Literal["curves", "transitions", "games", "matrix"]
LAPTOP = "laptop"  # the scale of a study, and of a paper where nothing is said
SCALES = ("smoke", LAPTOP, "full")
KEYS = {"title", "paper", "about", "differs", "published", "tables", "scales"}
OF_A_TABLE, OF_A_FIGURE = {"title", "study", "kind", "arms", "against"}, {"of", "value", "source", "kind"}
OF_A_SCALE = {"seeds", "set", "instead", "needs", "without"}
SOURCES = ("paper", "code", "third party")


@dataclass(frozen=True)
class TableSpec:
    name: str
    title: str
    study: str
    kind: Kind
    arms: list[str]
    against: str | None


@dataclass(frozen=True)
class Published:
    """A figure that somebody else published. `value`: None where no source gives one."""

    of: str
    value: str | None
    source: str
    kind: str

    def cells(self) -> list[str]:
        """A row of a table: what it is, the figure, and its source."""
        return [self.of, self.value or "not available", f"{self.source} ({self.kind})"]


@dataclass(frozen=True)
class Paper:
    name: str
    file: str  # as it was named: a name of ours, or a file
    title: str
    paper: str | None
    about: str
    differs: list[str]
    published: list[Published]
    tables: list[TableSpec]
    studies: dict[str, Study]  # as the scale and the command line change them
    needs: str | None  # what the scale needs that is not on every machine
    scale: str
    changes: list[str]  # overrides of every cell, those of the scale first
    typed: list[str]  # those of them that a person typed

    @property
    def command(self) -> str:
        """The shell command that makes all of it."""
        scale = [] if self.scale == LAPTOP else ["--scale", self.scale]
        return shlex.join(["llmrl", "reproduce", self.file, *self.typed, *scale])

    @property
    def folder(self) -> str:
        """The folder of its tables; each scale has one."""
        return self.name if self.scale == LAPTOP else f"{self.name}-{self.scale}"

    def arms(self, study: str, tables: Sequence[str] | None = None) -> list[str]:
        """The arms of a study that are in the tables, or in those that are named, in the study's order."""
        shown = {
            arm for t in self.tables if t.study == study and (tables is None or t.name in tables) for arm in t.arms
        }
        return [arm for arm in self.studies[study].arms if arm in shown]


def paper_files() -> dict[str, Path]:
    """The papers that come with llmrl, by name."""
    return {file.stem: file for file in sorted((config_folder() / "paper").glob("*.yaml"))}


def is_paper(name: str) -> bool:
    """Whether it is the name of a paper or a study, or a YAML file."""
    return name in paper_files() or name in study_files() or name.endswith((".yaml", ".yml"))


def find_paper(name: str, scale: str = LAPTOP, overrides: Sequence[str] = ()) -> Paper:
    """A paper or a study of ours by its name, or a file of either, at a scale. Raises ConfigError."""
    files = paper_files()
    if name in files:
        return _read(files[name], name, scale, overrides)
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise ConfigError(f"{name}: there is no such file")
        plain = read_yaml(Path(name))
        if isinstance(plain, dict) and "tables" in plain and "arms" not in plain:
            return _read(Path(name), name, scale, overrides)
    elif name not in study_files():
        near = did_you_mean([name], [*files, *study_files()])
        there = f"; there are the papers {', '.join(files)}, and the studies {', '.join(study_files())}"
        raise ConfigError(f"{name}: no such paper or study{near or there}; a file ends in .yaml")
    if scale != LAPTOP:
        raise ConfigError(f"--scale {scale}: a study has one scale; papers have others: {', '.join(files)}")
    return _of_study(find_study(name), name, overrides)


def _of_study(study: Study, file: str, overrides: Sequence[str]) -> Paper:
    tables = [
        TableSpec(
            prefix or study.name,
            f"{study.title}, {prefix}" if prefix else study.title,
            study.name,
            "transitions" if study.sizes else "curves",
            [arm for arm in study.arms if arm.startswith(prefix)],
            against,
        )
        for prefix, against in study.tables.items()
    ]
    if study.judged["judge"]:
        tables.append(TableSpec("games", "in other games", study.name, "games", list(study.arms), None))
    if study.judged["matrix"]:
        tables.append(
            TableSpec("models", "with other models", study.name, "matrix", list(study.judged["matrix"]), None)
        )
    shown = {arm for table in tables for arm in table.arms}
    if rest := [arm for arm in study.arms if arm not in shown]:
        tables.append(TableSpec("rest", study.title, study.name, "curves", rest, None))
    studies = {study.name: study.override(overrides)}
    typed = list(overrides)
    return Paper(study.name, file, study.title, None, "", [], [], tables, studies, None, LAPTOP, typed, typed)


def _read(file: Path, name: str, scale: str, overrides: Sequence[str]) -> Paper:
    plain = read_yaml(file)
    check_keys(plain, KEYS, ("title", "tables"), str(file))
    scales = plain.get("scales", {})
    check_keys(scales, SCALES, (), f"{file}: scales")
    if scale != LAPTOP and scale not in scales:
        there = ", ".join(name for name in SCALES if name == LAPTOP or name in scales)
        raise ConfigError(f"--scale {scale}: {file.stem} has no such scale; it has {there}")
    at: dict[str, Any] = scales.get(scale) or {}
    check_keys(at, OF_A_SCALE, (), f"{file}: scales.{scale}")
    check_keys(dict.fromkeys(at.get("without", [])), plain["tables"], (), f"{file}: scales.{scale}.without")
    changes = [*at.get("set", []), *overrides]
    studies: dict[str, Study] = {}
    tables = []
    for key, table in plain["tables"].items():
        where = f"{file}: tables.{key}"
        check_keys(table, OF_A_TABLE, ("study",), where)
        study = at.get("instead", {}).get(table["study"], table["study"])
        if study is None or key in at.get("without", []):
            continue
        if study != table["study"]:
            table = {"title": table.get("title", key), "study": study}
        found = find_study(study).override(changes, at.get("seeds"))
        studies.setdefault(found.name, found)
        tables.append(_table(key, table, found, where))
    published = []
    for i, figure in enumerate(plain.get("published", [])):
        check_keys(figure, OF_A_FIGURE, ("of", "source", "kind"), f"{file}: published[{i}]")
        if figure["kind"] not in SOURCES:
            raise ConfigError(f"{file}: published[{i}].kind: {figure['kind']} is none of {', '.join(SOURCES)}")
        value = figure.get("value")
        published.append(
            Published(figure["of"], None if value is None else str(value), figure["source"], figure["kind"])
        )
    return Paper(
        file.stem,
        name,
        plain["title"],
        plain.get("paper"),
        plain.get("about", ""),
        plain.get("differs", []),
        published,
        tables,
        studies,
        at.get("needs"),
        scale,
        changes,
        list(overrides),
    )


def _table(name: str, table: Mapping[str, Any], study: Study, where: str) -> TableSpec:
    kind = table.get("kind", "transitions" if study.sizes else "curves")
    if kind not in get_args(Kind):
        raise ConfigError(f"{where}.kind: {kind} is none of {', '.join(get_args(Kind))}")
    if kind == "matrix":
        arms = list(study.judged["matrix"])
    elif kind == "games":
        judged = study.judged["judge"]
        arms = list(dict.fromkeys([*judged, *(other for others in judged.values() for other in others)]))
    else:
        arms = [arm for arm in table.get("arms", study.arms) if arm in study.arms]
    against = table.get("against") or next(iter(study.tables.values()), None)
    for arm in [*table.get("arms", []), *([against] if against else [])]:
        if arm not in study.arms:
            raise ConfigError(f"{where}: {arm} is none of {', '.join(study.arms)}")
    return TableSpec(name, table.get("title", name), study.name, kind, arms, against)
