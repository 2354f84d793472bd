"""The figures of a run as a person reads them: an evaluation in a line, the end in a table, shares, durations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def evaluation_line(row: dict[str, Any]) -> str:
    text = f"{_done(row):>17}  success {percent(row.get('eval/success')):>4}"
    if row.get("eval_greedy/success") is not None:
        text += f" (greedy {percent(row['eval_greedy/success']):>4})"
    return text + f"  return {number(row.get('eval/return')):>6}  length {number(row.get('eval/length'), 1):>5}"


def end_table(summary: dict[str, Any], cost: dict[str, Any]) -> Table:
    """The end of a run in a few rows: its last evaluation, its questions to the model, its time."""
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_row("status", f"{summary.get('status')} after {_done(summary)}")
    if "transitions" in summary:
        table.add_row("data", f"{summary['transitions']:,} transitions")
    for block, title in (("eval", "success"), ("eval_greedy", "greedy")):
        if values := summary.get(block):
            values = {key.rpartition("/")[2]: value for key, value in values.items()}
            text = f"{percent(values.get('success'))}, return {number(values.get('return'))}"
            table.add_row(title, f"{text}, {number(values.get('length'), 1)} decisions an episode")
    if alone := _alone(summary.get("fit") or {}):
        table.add_row("prior alone", alone)
    lm = {key.rpartition("/")[2]: value for key, value in (summary.get("lm") or {}).items()}
    if lm.get("queries"):
        text = f"asked about {count(lm['queries'])} states, {count(lm.get('distinct_prompts', 0))} distinct prompts"
        if lm.get("parse_failures"):
            text += f", {count(lm['parse_failures'])} not understood"
            text += f" ({count(lm['ambiguous'])} ambiguous)" if lm.get("ambiguous") else ""
        table.add_row("model", text)
        kept, computed = cost.get("lm/cache_hits"), cost.get("lm/computed")
        if kept is not None and computed is not None:
            table.add_row("answers", f"{count(computed)} computed, {count(kept)} kept from before")
    if cost.get("seconds") is not None:
        table.add_row("time", duration(cost["seconds"]))
    return table


def _alone(fit: dict[str, Any]) -> str | None:
    """The worth of the prior before anything is learned, beside uniform actions."""
    if "success" in fit:
        return f"success {percent(fit['success'])}; uniform actions {percent(fit['uniform_success'])}"
    if "expert" in fit:
        told = f"an expert's action with chance {percent(fit['expert'])}"
        return f"{told}; uniform actions {percent(fit['uniform_expert'])}"
    return None


def _done(row: dict[str, Any]) -> str:
    if "gradient_steps" in row:
        return f"{row['gradient_steps']:,} gradient steps"
    return f"{row.get('env_steps', 0):,} decisions"


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def time_left(steps: int, steps_per_second: float) -> str:
    return f"{duration(steps / steps_per_second)} left" if steps_per_second > 0 else ""


def duration(seconds: float) -> str:
    """1:05, or 2:01:05."""
    minutes, s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{s:02}" if hours else f"{minutes}:{s:02}"


def count(n: int) -> str:
    """At most five characters for what is shown in a moving line."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**4, "k")):
        if n >= size:
            scale = size if unit != "k" else 1000
            return f"{n / scale:.1f}{unit}" if n / scale < 100 else f"{n / scale:.0f}{unit}"
    return f"{n:,}"
