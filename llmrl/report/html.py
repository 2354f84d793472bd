"""A report as one HTML page that needs no other file: claims first, then tables, figures, costs and commands."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

import llmrl
from llmrl.config.compose import ConfigError
from llmrl.core.files import flatten, publish
from llmrl.report.command import shell_line
from llmrl.report.groups import settings, telling
from llmrl.report.result import ResultTable
from llmrl.run.load import RunInfo

TEMPLATE = "page.html.j2"
NO_CLAIM = ": no claim ("  # in the text that says why nothing is claimed
COSTS = {  # of a run -> its column
    "env_steps": "decisions", "seconds": "seconds", "lm/tokens": "tokens", "lm/computed": "answers computed",
    "lm/cache_hits": "answers kept before", "lm/distinct_prompts": "distinct prompts",
}  # fmt: skip


@dataclass(frozen=True)
class Figure:
    title: str
    svg: str


@dataclass(frozen=True)
class Report:
    title: str
    about: str
    tables: list[ResultTable]
    figures: list[Figure]
    runs: Mapping[str, Sequence[RunInfo]]  # of each arm, by seed
    command: str  # that makes all of it
    differs: list[str] = field(default_factory=list)  # from the paper
    published: list[list[str]] = field(default_factory=list)  # what, figure, source

    def html(self) -> str:
        from jinja2 import Environment

        template = (files("llmrl.report") / TEMPLATE).read_text(encoding="utf-8")
        page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template)
        return page.render(
            report=self,
            claims=[(t, claim) for t in self.tables for claim in t.claims if NO_CLAIM not in claim],
            unclaimed=[(t, claim) for t in self.tables for claim in t.claims if NO_CLAIM in claim],
            images=[(f.title, base64.b64encode(f.svg.encode()).decode()) for f in self.figures],
            costs=_costs(self.runs),
            cost_columns=list(COSTS.values()),
            commands=_commands(self.runs),
            differing=_differing(self.runs),
            provenance=_provenance(self.runs),
            version=llmrl.__version__,
            made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )


def write_report(report: Report, file: Path) -> Path:
    """Raises ConfigError for a file that does not end in .html."""
    if file.suffix not in (".html", ".htm"):
        raise ConfigError(f"--out {file}: a report is an HTML page; name a file that ends in .html")
    file.parent.mkdir(parents=True, exist_ok=True)
    publish(file, report.html())
    return file


def _costs(runs: Mapping[str, Sequence[RunInfo]]) -> list[tuple[str, int, list[str]]]:
    """The costs of each arm: its name, its seeds, and the mean of each cost over them."""
    rows = []
    for arm, group in runs.items():
        found = [{**run.cost, **(run.metrics[-1] if run.metrics else {})} for run in group]
        means = []
        for key in COSTS:
            values = [row[key] for row in found if isinstance(row.get(key), int | float)]
            means.append(f"{np.mean(values):,.0f}" if values else "-")
        rows.append((arm, len(group), means))
    return rows


def _commands(runs: Mapping[str, Sequence[RunInfo]]) -> list[tuple[str, str]]:
    """The command that makes the first run of each arm."""
    commands = []
    for arm, group in runs.items():
        with suppress(ValueError):  # a part of it is in a folder that is not there any more
            commands.append((arm, shell_line(group[0].config)))
    return commands


def _differing(runs: Mapping[str, Sequence[RunInfo]]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """The settings in which the arms differ, and each arm's values."""
    flats = {arm: settings(group[0]) for arm, group in runs.items() if group}
    keys = telling(list(flats.values())) if len(flats) > 1 else []
    return keys, [(arm, [_value(flat.get(key)) for key in keys]) for arm, flat in flats.items()]


def _provenance(runs: Mapping[str, Sequence[RunInfo]]) -> list[tuple[str, str]]:
    """The provenance of the runs; a fact in which they differ has all its values."""
    found: dict[str, dict[str, None]] = {}
    for run in (run for group in runs.values() for run in group):
        origin = run.provenance
        git = origin.get("git") or {}
        facts: dict[str, Any] = {
            "llmrl": origin.get("llmrl"),
            "commit": f"{git['commit'][:12]}{' with uncommitted changes' if git.get('dirty') else ''}" if git else None,
            "python": origin.get("python"),
            "machine": " ".join(f"{key}={value}" for key, value in (origin.get("machine_type") or {}).items()),
            **{f"package {name}": version for name, version in (origin.get("packages") or {}).items()},
            **{f"model, {key}": value for key, value in (origin.get("model") or {}).items()},
            **{f"environment, {key}": value for key, value in flatten(origin.get("world") or {}).items()},
            "data": origin.get("data"),
        }
        for name, value in facts.items():
            if value is not None:
                found.setdefault(name, {})[str(value)] = None
    return [(name, ", ".join(values)) for name, values in found.items()]


def _value(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
