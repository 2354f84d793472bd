"""The table of a study: a row for each arm, compared with one of them as `llmrl compare` does."""

from __future__ import annotations

from collections.abc import Iterator

from llmrl.core.overrides import ConfigError
from llmrl.report.compare import Pair, compare
from llmrl.report.compare_tables import format_estimate, with_interval
from llmrl.report.result import ResultTable
from llmrl.run.load import RunInfo
from llmrl.studies.study import Results

LEVELS = (0.5, 0.8, 0.95)  # of success


def curve_table(name: str, title: str, results: Results, against: str, only: list[str] | None = None) -> ResultTable:
    """A row for each arm that has runs, or each of `only`, compared with `against` as `llmrl compare` does.

    Decisions are medians of seeds, with their interval; what is censored is printed as a bound.
    """
    arms = results.arms(None if only is None else [*only, against])
    if against not in arms:
        raise ConfigError(f"no complete run of {against}; there are runs of {', '.join(arms) or 'no arm'}")
    steps = [f"decisions to {100 * level:.0f} %" for level in LEVELS]
    columns = ["arm", "seeds", "final success, %", "area", *steps, f"times fewer than {against}, to 80 %"]
    claims: dict[str, None] = {}
    notes: dict[str, None] = {}
    rows = list(_rows(arms, against, claims, notes))
    return ResultTable(name, title, columns, rows, list(claims), list(notes))


def _rows(
    arms: dict[str, list[RunInfo]], against: str, claims: dict[str, None], notes: dict[str, None]
) -> Iterator[list[str]]:
    for arm, own in arms.items():
        others = arms[against] if arm != against else next((a for name, a in arms.items() if name != against), None)
        if others is None:
            raise ConfigError(f"{against} is the only arm with complete runs: there is nothing to compare")
        c = compare(own, others, levels=LEVELS, allow_different=True)
        (group,), (pair,) = c.groups, c.pairs
        notes |= dict.fromkeys(c.notes)
        if arm != against:
            claims |= dict.fromkeys(_claims(arm, pair, c.against.label, against))
        final = with_interval(group.final, "{:.1f}", "{:.0f}")
        area = "-" if group.area is None else f"{group.area.low:.3f}"
        needed = [format_estimate(e) for e in group.needed]
        fewer = format_estimate(pair.ratios[1])
        yield [arm, str(len(own)), final, area, *needed, "" if arm == against else fewer]


def _claims(arm: str, pair: Pair, other: str, against: str) -> Iterator[str]:
    """By the names of arms, which tell more than those of learners; a line for all levels of which the same is said."""
    levels: dict[str, list[str]] = {}
    for claim in pair.claims:
        at, _, text = claim.partition(": ")
        for label, name in ((pair.label, arm), (other, against)):
            text = text.replace(f"{label} has", f"{name} has")
        text = text.replace(f"{pair.label} needs", "needs").replace(f"than {other}", f"than {against}")
        levels.setdefault(text, []).append(at.removeprefix("to ").removesuffix(" %"))
    for text, named in levels.items():
        yield f"{arm}, to {', '.join(named[:-1])}{' and ' if named[1:] else ''}{named[-1]} %: {text}"
