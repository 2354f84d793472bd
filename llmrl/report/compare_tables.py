"""A comparison as text: tables for a terminal, Markdown and LaTeX, and all figures as JSON and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite, isnan
from pathlib import Path
from typing import Any

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from llmrl.config.compose import ConfigError
from llmrl.core.files import publish, to_json
from llmrl.report.compare import Comparison, Group, Pair
from llmrl.report.groups import TITLES
from llmrl.report.markdown import table as markdown_table
from llmrl.report.statistics import MIN_SEEDS, NO_INTERVAL, RESAMPLES, Estimate, digits

PICTURES = (".png", ".svg", ".pdf")


def render(comparison: Comparison) -> RenderableType:
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
        rows = [[_in_a_line(cell) for cell in row] for row in sheet.rows]
        parts.append("\n".join(markdown_table(sheet.columns, rows)))
    parts += [f"{heading}:\n\n" + "\n".join(f"- {line}" for line in lines) for heading, lines in _lists(comparison)]
    return "\n\n".join(parts) + "\n"


def latex(comparison: Comparison) -> str:
    """A tabular for each table, with the rules of booktabs; what may be claimed, and notes, as comments."""
    parts = [f"% {_title(comparison)}\n% \\usepackage{{booktabs}}"]
    for sheet in _sheets(comparison):
        head, *rows = [" & ".join(map(escape_latex, line)) + r" \\" for line in
                       [sheet.columns, *([_in_a_line(cell) for cell in row] for row in sheet.rows)]]  # fmt: skip
        columns = "l" + "r" * (len(sheet.columns) - 1)
        lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule", *rows, r"\bottomrule"]
        parts.append("\n".join([*lines, r"\end{tabular}"]))
    for heading, lines in _lists(comparison):
        parts.append("\n".join(f"% {line}" for line in (f"{heading}:", *lines)))
    return "\n\n".join(parts) + "\n"


def escape_latex(text: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(_LATEX.get(character, character) for character in text)


_LATEX = {character: f"\\{character}" for character in "#$%&_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "≥": r"$\geq$", "≤": r"$\leq$", '"': r"\textquotedbl{}",
}  # fmt: skip


def table(comparison: Comparison) -> str:
    """CSV: a row for each group and threshold, unrounded; empty where there is no figure or nothing bounds it."""
    rows = [_row(comparison, group, pair, i) for group, pair in _with_pairs(comparison)
            for i in range(len(comparison.levels))]  # fmt: skip
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _with_pairs(c: Comparison) -> Iterator[tuple[Group, Pair | None]]:
    yield from zip(c.groups, c.pairs, strict=True)
    yield c.against, None


def _row(c: Comparison, group: Group, pair: Pair | None, i: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        "world": c.world, "metric": c.metric, "x": c.x, "group": group.label,
        "against": c.against.label if pair else None, "seeds": len(group.seeds),
    }  # fmt: skip
    figures = {
        "final": group.final, "area": group.area, "log_area": group.log_area,
        "interquartile": group.interquartile, "improvement": pair and pair.improvement,
        "difference": pair and pair.difference, "paired_difference": pair and pair.paired_difference,
    }  # fmt: skip
    of_level = {
        "needed": group.needed[i], "above": group.above[i], "ratio": pair and pair.ratios[i],
        "paired_ratio": pair and pair.paired_ratios and pair.paired_ratios[i],
    }  # fmt: skip
    row |= _columns(figures) | {"detectable": pair and pair.detectable}
    row |= {"level": c.levels[i], "reached": group.reached[i]} | _columns(of_level)
    return row | {"claim": pair and pair.claims[i]}


def _columns(figures: Mapping[str, Any]) -> dict[str, float | None]:
    columns = {}
    for name, figure in figures.items():
        for end in ("low", "high", "interval_low", "interval_high"):
            value = getattr(figure, end, None)
            columns[f"{name}_{end}"] = value if value is not None and isfinite(value) else None
    return columns


def _in_a_line(cell: Sequence[str]) -> str:
    """A figure, and what it rests on in brackets."""
    return f"{cell[0]} ({'; '.join(cell[1:])})" if len(cell) > 1 else cell[0]


def as_json(comparison: Comparison) -> str:
    """Every figure, unrounded; null where nothing bounds it. The curves stay in the runs."""
    return to_json(as_plain(asdict(comparison))) + "\n"


TEXTS: dict[str, Callable[[Comparison], str]] = {
    ".md": markdown, ".json": as_json, ".csv": table, ".tex": latex,
}  # fmt: skip


def check_suffix(file: Path, kinds: Sequence[str] = (*TEXTS, *PICTURES)) -> None:
    """Raises ConfigError for a kind of file that is not written."""
    if file.suffix not in kinds:
        raise ConfigError(f"--out {file}: the name has to end with {', '.join(kinds[:-1])} or {kinds[-1]}")


def write(comparison: Comparison, file: Path, columns: int | None = None) -> Path:
    """Tables, all figures, or the curves as a picture, by the name's end; `columns` are those of a paper."""
    if file.suffix in PICTURES:
        from llmrl.report.plots import comparison as draw

        return draw(comparison, file, columns)
    file.parent.mkdir(parents=True, exist_ok=True)
    publish(file, TEXTS[file.suffix](comparison))
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
    yield Sheet([f"{_unit(c)} to", *levels], [[[g.label], *_crossing_cells(g)] for g in groups])
    yield Sheet(
        [f"times fewer {_unit(c)} than {c.against.label}", *levels], [[[p.label], *_ratios(p)] for p in c.pairs]
    )
    yield Sheet(
        [f"final success minus that of {c.against.label}, points", "all seeds", "paired", "smallest detectable"],
        [[[p.label], *_differences(p)] for p in c.pairs],
    )
    above = f"share above {', '.join(levels)}"
    yield Sheet(
        ["final success of seeds, %", "interquartile mean", f"better than one of {c.against.label}", above],
        [[[g.label], _share(g.interquartile), _share(p.improvement) if p else ["-"],
          [", ".join(f"{100 * share.low:.0f}" for share in g.above)]]
         for g, p in _with_pairs(c)],
    )  # fmt: skip


def _lists(c: Comparison) -> Iterator[tuple[str, list[str]]]:
    several = len(c.pairs) > 1
    claims = [f"{p.label} {claim}" if several and "no claim" in claim else claim for p in c.pairs for claim in p.claims]
    yield "What may be claimed", claims
    how = (
        f"intervals: 95 %, of shares by Student's t over seeds, of decisions and ratios by {RESAMPLES:,} resamples of "
        f"seeds, of the last table by stratified bootstrap; none from fewer than {MIN_SEEDS} seeds; last evaluation, "
        "not best"
    )
    yield "Notes", [how, _chances(c), *c.notes]


def _chances(c: Comparison) -> str:
    """The number of claims that the comparison looks for, and the number that chance alone would make."""
    looked = len(c.pairs) * len(c.levels)
    told = "1 claim is" if looked == 1 else f"{looked} claims are"
    return f"{told} looked for, each at 95 %: were there no difference, up to {looked * 0.05:.2g} would be expected"


def _crossing_cells(g: Group) -> Iterator[list[str]]:
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
        [f"{p.difference.low * 100:+z.1f}", _points(p.difference)],
        ["-"] if paired is None else [f"{paired.low * 100:+z.1f}", _points(paired)],
        [detectable.removesuffix("%")],
    ]


def _points(e: Estimate) -> str:
    return _interval(e, lambda end: f"{end * 100:+z.1f}")


def _share(e: Estimate) -> list[str]:
    return [f"{e.low * 100:.1f}", _interval(e, lambda end: f"{end * 100:.1f}")]


def _area(e: Estimate | None) -> list[str]:
    return ["-"] if e is None else [f"{e.low:.3f}", _interval(e, lambda end: f"{end:.3f}")]


def _interval(e: Estimate, told: Callable[[float], str]) -> str:
    return f"{told(e.interval_low)} to {told(e.interval_high)}" if e.known else NO_INTERVAL


def between(low: float, high: float) -> str:
    """The interval of a figure. Where bounds are printed, a lower one is rounded down and an upper one up.

    NaN: no interval was given.
    """
    if isnan(low):
        return NO_INTERVAL
    if low == high:
        return digits(low)
    if not isfinite(high):
        return f"≥{digits(low, -1)}" if low > 0 else "unknown"
    return f"{digits(low, -1)} to {digits(high, 1)}" if low > 0 else f"≤{digits(high, 1)}"


def format_estimate(e: Estimate) -> str:
    """A time or a ratio in a line, with its interval."""
    return f"{between(e.low, e.high)} ({between(e.interval_low, e.interval_high)})"


def with_interval(e: Estimate, form: str, end_form: str) -> str:
    """A share in percent, with its interval; the forms are of the estimate and of the ends."""
    return f"{form.format(100 * e.low)} ({_interval(e, lambda end: end_form.format(100 * end))})"


def _unit(c: Comparison) -> str:
    return TITLES.get(c.x, c.x)


def as_plain(value: Any) -> Any:
    """Data for a JSON file: null where there is no finite number, and no curves."""
    if isinstance(value, dict):
        return {key: as_plain(inner) for key, inner in value.items() if key != "curves"}
    if isinstance(value, list | tuple):
        return [as_plain(inner) for inner in value]
    return None if isinstance(value, float) and not isfinite(value) else value
