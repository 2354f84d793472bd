"""`llmrl runs list`: a row a run, with what tells the runs apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from llmrl.config.compose import ConfigError
from llmrl.core.files import to_json
from llmrl.core.suggestions import did_you_mean
from llmrl.report.groups import settings, telling
from llmrl.report.numbers import percent
from llmrl.report.tables import COLOURS, age, far_titles, latest
from llmrl.run.folder import ASIDE
from llmrl.run.load import RunInfo

BUDGETS = {"env_steps": "env_steps", "gradient_steps": "learner.gradient_steps", "transitions": "data.size"}


@dataclass(frozen=True)
class Row:
    """One run. `told`: setting -> value of those in which the runs that are listed differ, and of the seed."""

    run: RunInfo
    told: dict[str, Any]
    far: dict[str, int]
    budget: dict[str, int]
    success: float | None

    @property
    def aside(self) -> bool:
        return ASIDE.search(self.run.name) is not None

    def value(self, column: str) -> Any:
        known = {"run": self.run.name, "status": self.run.status, "success": self.success, "age": self.run.age}
        return (known | self.far | self.told)[column]


def rows(runs: Sequence[RunInfo], sort: str | None = None) -> list[Row]:
    """`sort`: a column's name, with a leading - for descending order. Raises ConfigError where there is none such."""
    flats = [_flat(run) for run in runs]
    keys = telling([{key: value for key, value in flat.items() if key not in BUDGETS.values()} for flat in flats])
    found = []
    for run, flat in zip(runs, flats, strict=True):
        far, success = latest(run)
        told = {key: flat.get(key) for key in keys} | {"seed": _seed(run)}
        budget = {key: flat[name] for key, name in BUDGETS.items() if flat.get(name) is not None}
        found.append(Row(run, told, far, budget, success))
    return found if sort is None else _sort_rows(found, sort)


def as_json(found: Sequence[Row]) -> str:
    """A list of objects; `settings` are those in which the runs differ."""
    return to_json(
        [
            {
                "run": row.run.name, "path": str(row.run.path), "status": row.run.status, "aside": row.aside, **row.far,
                "success": row.success, "age_seconds": round(row.run.age), "settings": row.told,
            }
            for row in found
        ]
    )  # fmt: skip


def render(found: Sequence[Row], console: Console) -> RenderableType:
    """A table where it fits on the console, else a few lines a run."""
    table = _table(found)
    if console.measure(table, options=console.options.update(width=10_000)).maximum <= console.width:
        return table
    return Group(*(part for row in found for part in _lines(row)))


def _table(found: Sequence[Row]) -> Table:
    far = far_titles([row.far for row in found])
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("run", no_wrap=True)
    for key in _columns(found):
        table.add_column(_title(key, found), no_wrap=True)
    table.add_column("status", no_wrap=True)
    for column in (*far.values(), "success", "age"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in found:
        status = Text(row.run.status, style=COLOURS.get(row.run.status, ""))
        told = (Text(_format_value(row.told.get(key))) for key in _columns(found))
        counts = (_count(row, key) for key in far)
        table.add_row(
            Text(_short_name(row)), *told, status, *counts,
            percent(row.success), age(row.run.age),
        )  # fmt: skip
    return table


def _lines(row: Row) -> list[RenderableType]:
    counts = [f"{_count(row, key)} {title.replace(chr(10), ' ')}" for key, title in far_titles([row.far]).items()]
    rest = f", {', '.join(counts)}, success {percent(row.success)}, {age(row.run.age)} ago"
    state = Text.assemble((row.run.status, COLOURS.get(row.run.status, "")), rest)
    told = [f"{_title(key, [row])}={_format_value(value)}" for key, value in row.told.items()]
    return [Text(f"{_short_name(row)}  {' '.join(told)}", overflow="fold"), Padding(state, (0, 0, 0, 2))]


def _short_name(row: Row) -> str:
    """The end of its name, which no other run has."""
    return row.run.name.rpartition("-s")[2].partition("-")[2] or row.run.name


def _columns(found: Sequence[Row]) -> list[str]:
    return list(found[0].told)


def _title(key: str, found: Sequence[Row]) -> str:
    if key.endswith((".name", ".id")):
        return key.rpartition(".")[0]
    last = key.rpartition(".")[2]
    return last if [other.rpartition(".")[2] for other in _columns(found)].count(last) == 1 else key


def _count(row: Row, key: str) -> str:
    at, of = row.far.get(key), row.budget.get(key)
    if at is None:
        return "-"
    return f"{at:,}" if of in (None, at) or row.run.status == "complete" else f"{at:,}/{of:,}"


def _sort_rows(found: list[Row], sort: str) -> list[Row]:
    descending, name = sort.startswith("-"), sort.removeprefix("-")
    columns = {"run": "run", "status": "status", "success": "success", "age": "age"}
    columns |= {title.replace("\n", " "): key for key, title in far_titles([row.far for row in found]).items()}
    for key in {key for row in found for key in (*row.far, *row.told)}:
        columns |= {key: key, _title(key, found) if key in found[0].told else key: key}
    if name not in columns:
        hint = did_you_mean([name], columns) or f"; there are {', '.join(sorted(columns))}"
        raise ConfigError(f"--sort {sort}: there is no such column{hint}")

    def value(row: Row) -> Any:
        try:
            return row.value(columns[name])
        except KeyError:
            return None

    there = [row for row in found if value(row) is not None]
    numbers = all(isinstance(value(row), int | float) for row in there)
    there.sort(key=lambda row: value(row) if numbers else str(value(row)), reverse=descending)
    return there + [row for row in found if value(row) is None]


def _format_value(value: Any) -> str:
    return "-" if value is None else to_json(value).strip('"') if not isinstance(value, str) else value


def _flat(run: RunInfo) -> dict[str, Any]:
    try:
        return settings(run)
    except ValueError:  # nothing written yet, or nothing that can be read
        return {}


def _seed(run: RunInfo) -> Any:
    try:
        return run.config.get("seed")
    except ValueError:
        return None
