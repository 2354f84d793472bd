"""Runs as tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from llmrl.report.numbers import percent
from llmrl.run.load import RunInfo

COLOURS = {  # of what a run, or a cell of a sweep, stands at
    "complete": "green", "done": "green", "running": "cyan", "failed": "red", "stopped": "yellow", "paused": "yellow",
}  # fmt: skip


def sweep_table(rows: Sequence[tuple[Sequence[str], RunInfo | None, str]]) -> Table:
    """One row a cell: the overrides in which cells differ, and how its run ended, if there is one."""
    far = far_titles([latest(run)[0] for _, run, _ in rows if run])
    shared = set.intersection(*(set(overrides) for overrides, _, _ in rows)) if len(rows) > 1 else set()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("cell", overflow="fold")
    table.add_column("status", no_wrap=True)
    for column in (*far.values(), "success", "greedy"):
        table.add_column(column, justify="right", no_wrap=True)
    for overrides, run, status in rows:
        at, success = latest(run) if run else ({}, None)
        greedy = _block(run.summary.get("eval_greedy")).get("success") if run else None
        cell, shown = " ".join(o for o in overrides if o not in shared), Text(status, style=COLOURS.get(status, ""))
        table.add_row(Text(cell), shown, *(format_count(at.get(key)) for key in far), percent(success), percent(greedy))
    return table


def run_table(run: RunInfo, commit_today: str | None) -> Table:
    """Everything about one run in two columns."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    summary, cost, made = run.summary, run.cost, run.provenance

    def add(title: str, text: str) -> None:
        table.add_row(title, Text(text))

    at, _ = latest(run)
    add("run", run.name)
    data = _data_file(run)
    key, unit = ("gradient_steps", "gradient steps") if data else ("env_steps", "decisions")
    add("status", f"{run.status}, {at.get(key, 0):,} {unit}, last written {age(run.age)} ago")
    if data:
        add("data", f"{format_count(at.get('transitions'))} transitions of {data}")
    for block in ("eval", "eval_greedy"):
        if values := _block(summary.get(block)):
            parts = [
                f"success {percent(values.pop('success', None))}",
                *(f"{k} {_value(v)}" for k, v in values.items()),
            ]
            add(block, ", ".join(parts))
    asked = {key: value for key, value in _block(summary.get("lm")).items() if value}
    spent = {key: value for key, value in cost.items() if value}
    for title, values in (("lm", asked), ("cost", spent)):
        if values:
            add(title, ", ".join(f"{key.removeprefix('lm/')} {_value(value)}" for key, value in values.items()))
    if model := made.get("model"):
        add("model", f"{model['model']}, revision {model['revision'][:12]}, {model['dtype']}")
    if machine := made.get("machine_type"):
        add("machine", ", ".join(f"{key} {value}" for key, value in machine.items()))
    if made.get("started"):
        add("started", made["started"])
    if resumed := made.get("resumed"):
        add("resumed", _resume_text(resumed, unit))
    add("commit", _commits(made.get("git"), commit_today))
    add("folder", str(run.path))
    return table


def _resume_text(entries: Sequence[Mapping[str, Any]], unit: str) -> str:
    told = f"{len(entries)} times" if len(entries) > 1 else "once"
    told += f", last at {entries[-1]['env_steps']:,} {unit}"
    drift = {name: both for entry in entries for name, both in entry["drift"].items()}
    if drift:
        differing = "; ".join(f"{name}: {then}, then {now}" for name, (then, now) in drift.items())
        told += f"; UNDER OTHER CONDITIONS ({differing}), so that numbers may differ"
    if lost := sum(entry["lost_episodes"] for entry in entries):
        told += f"; {lost} EPISODES LOST, since the world does not replay"
    return told


def latest(run: RunInfo) -> tuple[dict[str, int], float | None]:
    """(how far it is, success of the behaviour policy): from the summary, else from the last evaluation written.

    How far: `env_steps`, or `gradient_steps` and `transitions` of a run that learns from data; {} where nobody says.
    """
    row, success = run.summary, _block(run.summary.get("eval")).get("success")
    if row.get("env_steps") is None:
        row = run.metrics[-1] if run.metrics else {}
        success = row.get("eval/success")
    keys = ("gradient_steps", "transitions") if "gradient_steps" in row else ("env_steps",)
    return {key: row[key] for key in keys if row.get(key) is not None}, success


_FAR = {"env_steps": "decisions", "gradient_steps": "gradient\nsteps", "transitions": "transitions"}


def far_titles(found: Sequence[Mapping[str, int]]) -> dict[str, str]:
    """Column -> its title, for what these runs count (`latest`)."""
    counted = {key for at in found for key in at}
    return {key: title for key, title in _FAR.items() if key in counted} or {"env_steps": _FAR["env_steps"]}


def _data_file(run: RunInfo) -> str | None:
    """The file that the run learns from, where it learns from data alone and its config can be read."""
    try:
        return (run.config.get("data") or {}).get("file")
    except ValueError:
        return None


def format_count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def age(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def _block(values: Any) -> dict[str, Any]:
    """A block of a summary; its keys may carry the block's name."""
    return {key.rpartition("/")[2]: value for key, value in (values or {}).items()}


def _value(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)


def _commits(git: Mapping[str, Any] | None, today: str | None) -> str:
    if not git:
        return "unknown: not made in a git checkout"
    text = f"made by commit {git['commit'][:10]}{', with changes' if git.get('dirty') else ''}"
    return text if today in (None, git["commit"]) else f"{text}; today's is {today[:10]}"
