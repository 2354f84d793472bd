"""The texts of `llmrl cache`, for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import RenderableType
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from llmrl.answers.inspection import Group, Info, Verified
from llmrl.answers.pruning import Pruned
from llmrl.answers.transfer import Merged

SHOWN = 20  # problems


def info_tables(found: Info) -> Iterator[RenderableType]:
    yield Text(f"{found.path}, {decimal(found.bytes)}, schema {found.schema}", overflow="fold")
    if found.answers:
        table = _table("answers of", "prompts", "answers")
        for group in found.answers:
            model = group.about["model"]
            name = f"{model['model']} {model['revision'][:8]} {model['dtype']}, {group.about['engine']}"
            _row(table, f"{name}, {group.about['mode']}", group, (group.prompts, group.answers))
        yield table
    if found.rows:
        table = _table("feature rows of", "rows")
        for group in found.rows:
            about = group.about
            name = f"{about.get('model')} {str(about.get('revision'))[:8]} {about.get('dtype')}, {about.get('pooling')}"
            _row(table, name, group, (group.answers,))
        yield table
    if not (found.answers or found.rows):
        yield Text("nothing is kept yet")


def verify_lines(found: Verified) -> Iterator[str]:
    yield f"looked at {found.prompts:,} prompts, {found.answers:,} answers and {found.rows:,} feature rows"
    yield from _problems(found.problems, "wrong")
    if not found.problems:
        yield "all is as it should be"
    else:
        yield "`llmrl cache prune --damaged` removes the wrong records"
        yield "if the file itself is damaged: move it away, then `llmrl cache import` takes over its readable entries"


def prune_line(found: Pruned, done: bool) -> str:
    what = f"{found.answers:,} answers (all of {found.prompts:,} prompts) and {found.rows:,} feature rows"
    if done:
        return f"removed {what}; {decimal(found.bytes)} given back"
    if not (found.answers or found.prompts or found.rows):
        return "nothing to remove"
    return f"would remove {what}; add --yes to do it"


def export_lines(out: Path, found: Merged) -> Iterator[str]:
    yield f"{out}: {found.prompts:,} prompts, {found.answers:,} answers, {found.rows:,} feature rows"
    yield from _problems(found.problems, "left out")
    yield f"to use it: llmrl cache import {out.name}, then the run's command with --cached-only"


def import_lines(source: Path, into: object, found: Merged) -> Iterator[str]:
    yield f"{source}: {found.answers:,} answers and {found.rows:,} feature rows are new in {into}"
    yield f"{found.known:,} were kept already, {found.differing:,} of them with another value: those here stay"
    yield from _problems(found.problems, "left out")


def _problems(problems: Sequence[str], what: str) -> Iterator[str]:
    if problems:
        yield f"{what}: {len(problems):,}"
    for problem in problems[:SHOWN]:
        yield f"  {problem}"
    if len(problems) > SHOWN:
        yield f"  and {len(problems) - SHOWN:,} more"


def _table(first: str, *counts: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, overflow="fold")
    for column in counts:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("from", no_wrap=True)
    table.add_column("to", no_wrap=True)
    return table


def _row(table: Table, name: str, group: Group, counts: Sequence[int]) -> None:
    table.add_row(Text(name), *(f"{count:,}" for count in counts), group.first[:10], group.last[:10])
