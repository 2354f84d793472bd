"""A comparison as text: tables for a terminal of 80 columns and for Markdown, and JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from llmrl.config import ConfigError
from llmrl.report.compare import Comparison, Group, Pair
from llmrl.report.groups import TITLES
from llmrl.report.statistics import RESAMPLES, Estimate, digits
from llmrl.run.files import publish, to_json

PICTURES = (".png", ".svg", ".pdf")


def shown(comparison: Comparison) -> RenderableType:
    """For a terminal."""
    parts: list[RenderableType] = [Text(_title(comparison), style="bold")]
    for sheet in _sheets(comparison):
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for i, column in enumerate(sheet.columns):
            table.add_column(column, overflow="fold", justify="right" if i else "left")
        for row in sheet.rows:
            table.add_row(*(Text("\n".join(cell)) for cell in row))
        parts += [Text(), table]
    for heading, lines in _lists(comparison):
        parts += [Text(), Text(heading, style="bold")]
        parts += [Padding(Text(line), (0, 0, 0, 2), expand=False) for line in lines]
    return Lines(*parts)


def markdown(comparison: Comparison) -> str:
    parts = [f"**{_title(comparison)}**"]
    for sheet in _sheets(comparison):
        lines = [sheet.columns, ["---"] + ["---:"] * (len(sheet.columns) - 1)]
        lines += [["<br>".join(cell).replace("|", "\\|") for cell in row] for row in sheet.rows]
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    parts += [f"{heading}:\n\n" + "\n".join(f"- {line}" for line in lines) for heading, lines in _lists(comparison)]
    return "\n\n".join(parts) + "\n"


def as_json(comparison: Comparison) -> str:
    """Every figure, unrounded; null where nothing bounds it. The curves stay in the runs."""
    return to_json(_plain(asdict(comparison))) + "\n"


def check_suffix(file: Path) -> None:
    """Raises ConfigError for a kind of file that `write` does not write."""
    if file.suffix not in (".md", ".json", *PICTURES):
        raise ConfigError(f"--out {file}: what is written is .md, .json, .png, .svg or .pdf, by the name's end")


def write(comparison: Comparison, file: Path) -> Path:
    """Tables as Markdown, all figures as JSON, or the curves as a picture."""
    if file.suffix in PICTURES:
        from llmrl.report.plots import comparison as draw

        return draw(comparison, file)
    file.parent.mkdir(parents=True, exist_ok=True)
    publish(file, markdown(comparison) if file.suffix == ".md" else as_json(comparison))
    return file


@dataclass(frozen=True)
class Sheet:
    """One table; a cell is a figure and, in the lines below it, its interval and what it rests on."""

    columns: list[str]
    rows: list[list[list[str]]]


def _title(c: Comparison) -> str:
    points = max(seed.x_T.size for group in (*c.groups, c.against) for seed in group.curves)
    spaced = ", evenly spaced in log" if c.log else ""
    return f"{c.world}: {TITLES.get(c.metric, c.metric)} over {_unit(c)}, {points} evaluations{spaced}"


def _sheets(c: Comparison) -> Iterator[Sheet]:
    groups = [*c.groups, c.against]
    levels = [f"{level * 100:g} %" for level in c.levels]
    log = c.log and any(group.log_area for group in groups)
    yield Sheet(
        ["group", "seeds", "final success, %", "area under curve", *(["area, log axis"] if log else [])],
        [[[g.label], [str(len(g.seeds))], _share(g.final), _area(g.area), *([_area(g.log_area)] if log else [])]
         for g in groups],
    )  # fmt: skip
    yield Sheet([f"{_unit(c)} to", *levels], [[[g.label], *_needed(g)] for g in groups])
    yield Sheet(
        [f"times fewer {_unit(c)} than {c.against.label}", *levels], [[[p.label], *_ratios(p)] for p in c.pairs]
    )
    yield Sheet(
        [f"final success minus that of {c.against.label}, points", "all seeds", "paired", "smallest detectable"],
        [[[p.label], *_differences(p)] for p in c.pairs],
    )


def _lists(c: Comparison) -> Iterator[tuple[str, list[str]]]:
    several = len(c.pairs) > 1
    claims = [f"{p.label} {claim}" if several and "no claim" in claim else claim for p in c.pairs for claim in p.claims]
    yield "What may be claimed", claims
    how = f"intervals: 95 %, {RESAMPLES:,} resamples of seeds and of their sampled episodes; last evaluation, not best"
    yield "Notes", [how, *c.notes]


def _needed(g: Group) -> Iterator[list[str]]:
    for needed, reached in zip(g.needed, g.reached, strict=True):
        point = digits(needed.low) if isfinite(needed.high) else f">{digits(needed.low)}"
        yield [point, between(needed.interval_low, needed.interval_high), f"{reached} of {len(g.seeds)} seeds"]


def _ratios(p: Pair) -> Iterator[list[str]]:
    for i, ratio in enumerate(p.ratios):
        cell = [between(ratio.low, ratio.high), between(ratio.interval_low, ratio.interval_high)]
        if p.paired_ratios is not None:
            paired = p.paired_ratios[i]
            cell.append(f"paired {between(paired.interval_low, paired.interval_high)}")
        yield cell


def _differences(p: Pair) -> list[list[str]]:
    detectable = "-" if p.detectable is None else f"{p.detectable:.1%}"
    paired = p.paired_difference
    return [
        [f"{p.difference.low * 100:+.1f}", _points(p.difference)],
        ["-"] if paired is None else [f"{paired.low * 100:+.1f}", _points(paired)],
        [detectable.removesuffix("%")],
    ]


def _points(e: Estimate) -> str:
    return f"{e.interval_low * 100:+.1f} to {e.interval_high * 100:+.1f}"


def _share(e: Estimate) -> list[str]:
    return [f"{e.low * 100:.1f}", f"{e.interval_low * 100:.1f} to {e.interval_high * 100:.1f}"]


def _area(e: Estimate | None) -> list[str]:
    return ["-"] if e is None else [f"{e.low:.3f}", f"{e.interval_low:.3f} to {e.interval_high:.3f}"]


def between(low: float, high: float) -> str:
    """What is known of a figure: where bounds are printed, a lower one is rounded down and an upper one up."""
    if low == high:
        return digits(low)
    if not isfinite(high):
        return f"≥{digits(low, -1)}" if low > 0 else "unknown"
    return f"{digits(low, -1)} to {digits(high, 1)}" if low > 0 else f"≤{digits(high, 1)}"


def _unit(c: Comparison) -> str:
    return TITLES.get(c.x, c.x)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if key != "curves"}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not isfinite(value) else value
