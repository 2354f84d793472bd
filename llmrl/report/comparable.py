"""Which runs may be compared with which, and why others may not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrl.config.compose import ConfigError
from llmrl.config.unread import Settings
from llmrl.report.alfworld import Played, check_played
from llmrl.report.groups import TITLES, group_runs, settings
from llmrl.report.pretraining import pretrainings
from llmrl.run.load import RunInfo

SIZES = "transitions"  # the axis of offline runs: each run is one point
PAID_ONCE = ("seconds", "training_seconds", "lm/tokens")  # axes on which a kept answer costs nothing
UNBIASED = ("evaluation.exact_up_to", "evaluation.episodes")  # change how sure a success is, not its mean


class Refused(ConfigError):
    """Runs that cannot be compared as they were named."""


Named = Sequence[tuple[str, list[RunInfo]]]  # label -> runs by seed; the other side last


@dataclass(frozen=True)
class Sides:
    """Runs that may be compared."""

    named: Named
    notes: list[str]
    reasons: list[str]  # why nothing may be claimed


def prepare(
    runs: Sequence[RunInfo],
    against: Sequence[RunInfo],
    *,
    x: str = "env_steps",
    with_training: bool = False,
    allow_dirty: bool = False,
    allow_different: bool = False,
) -> Sides:
    """The comparison that `compare` makes, before anything is computed. Raises Refused and MixedCells."""
    notes: list[str] = []
    reasons: list[str] = []
    runs, against = _complete(runs, against, notes)
    _code([*runs, *against], allow_dirty, notes, reasons)
    named = _label(runs, against, ("data.size",) if x == SIZES else ())
    _evaluation(named, allow_different, notes, reasons)
    notes += check_played(Played.of(run) for _, group in named for run in group)
    _worlds(named, reasons)
    _axis(named, x)
    _knowledge(named, x if with_training else None, notes)
    return Sides(named, notes, reasons)


def _complete(
    runs: Sequence[RunInfo], against: Sequence[RunInfo], notes: list[str]
) -> tuple[list[RunInfo], list[RunInfo]]:
    """Both sides without what is unfinished, which is named."""
    both = {run.path.resolve() for run in runs} & {run.path.resolve() for run in against}
    if both:
        names = sorted(path.name for path in both)
        raise Refused(f"{len(both)} runs are on both sides, such as {names[0]}: name them more closely")
    unfinished = _list_some([run.name for run in (*runs, *against) if run.status != "complete"])
    a, b = ([run for run in side if run.status == "complete"] for side in (runs, against))
    if not a or not b:
        raise Refused(f"no run of one side is complete: {unfinished}; `llmrl train` again makes them so")
    if unfinished:
        notes.append(f"left out, unfinished: {unfinished}")
    return a, b


def _code(runs: Sequence[RunInfo], allow_dirty: bool, notes: list[str], reasons: list[str]) -> None:
    """Refuses runs whose code makes them incomparable."""
    numerics = {run.config.get("numerics"): run.name for run in runs}
    if len(numerics) > 1:
        told = ", ".join(f"{name} has {number}" for number, name in numerics.items())
        raise Refused(f"numerics differ, so that equal settings would not give equal curves ({told}): run one again")
    states: list[dict[str, Any]] = []
    dirty, drifted, outside = [], [], 0
    for run in runs:
        resumed = run.provenance.get("resumed", [])
        own = [run.provenance.get("git") or {}, *(entry["git"] or {} for entry in resumed)]
        states += own
        outside += not all(own)
        if any(state.get("dirty") for state in own):
            dirty.append(run.name)
        if any(entry["drift"] or entry["lost_episodes"] for entry in resumed):
            drifted.append(run.name)
    if dirty and not allow_dirty:
        raise Refused(
            f"{len(dirty)} of {len(runs)} runs were made by code with uncommitted changes, such as {dirty[0]}: commit "
            "and run again, or --allow-dirty, which marks the table"
        )
    if dirty:
        reasons.append("made by uncommitted code")
        notes.append(f"MADE BY UNCOMMITTED CODE: {len(dirty)} of {len(runs)} runs; nothing is claimed")
    if drifted:
        reasons.append("resumed under other conditions")
        notes.append(
            f"RESUMED UNDER OTHER CONDITIONS: {len(drifted)} of {len(runs)} runs, such as {drifted[0]} "
            "(`llmrl runs show` says which)"
        )
    if outside:
        reasons.append("made outside a git checkout")
        notes.append(f"MADE OUTSIDE A GIT CHECKOUT, by code of an unknown commit: {outside} of {len(runs)} runs")
    commits = sorted({str(state.get("commit", "unknown"))[:10] for state in states})
    notes.append(f"made by commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}")


def _label(runs: Sequence[RunInfo], against: Sequence[RunInfo], apart_from: Sequence[str]) -> Named:
    """Labelled by what tells all groups apart."""
    labels = group_runs([*runs, *against], apart_from)

    def side(own: set[RunInfo]) -> list[tuple[str, list[RunInfo]]]:
        groups = {label: sorted((run for run in group if run in own), key=cell_of) for label, group in labels.items()}
        return [(label, group) for label, group in groups.items() if group]

    named, others = side(set(runs)), side(set(against))
    if len(others) > 1:
        told = _list_some([label for label, _ in others], 5)
        raise Refused(f"--against is {len(others)} groups, and has to be one: {told}")
    ((label, other),) = others
    if label in dict(named):  # the same settings from another folder: other code, or another machine
        label = f"{label} (against)"
    for name, group in [*named, (label, other)]:
        _refuse_mixed(name, group)
    return [*named, (label, other)]


def _refuse_mixed(label: str, group: Sequence[RunInfo]) -> None:
    cells = [cell_of(run) for run in group]
    for cell in cells:
        if cells.count(cell) > 1:
            twice = ", ".join(str(run.path) for run in group if cell_of(run) == cell)
            raise Refused(f"{label}: seed {cell[0]} is there {cells.count(cell)} times ({twice}): leave one out")
    made = [run.provenance for run in group]
    for what, contents in (
        ("asked models of the same name", {(each.get("model") or {}).get("revision") for each in made}),
        ("read with encoders of the same name", {(each.get("encoder") or {}).get("revision") for each in made}),
        ("started from files of the same name", {each.get("weights") for each in made}),
        ("learned from files of the same name", {each.get("data") for each in made}),
    ):
        if len(contents) > 1:
            unknown = " (some do not say with which)" if None in contents else ""
            kind = "contents" if what.startswith("learned") else "weights"
            raise Refused(f"{label}: its runs {what} with {len(contents)} different {kind}{unknown}")


def _evaluation(named: Named, allow_different: bool, notes: list[str], reasons: list[str]) -> None:
    """Refuses groups of other worlds, other evaluations, other budgets."""
    flats = [settings(group[0]) for _, group in named]
    keys = sorted({k for flat in flats for k in flat if k.startswith(("env.", "evaluation.")) or k == "env_steps"})
    keys = [key for key in keys if key not in UNBIASED]
    different = "; ".join(
        f"{key} ({', '.join(dict.fromkeys(str(flat.get(key, '-')) for flat in flats))})"
        for key in keys
        if len({repr(flat.get(key)) for flat in flats if key != "env_steps" or key in flat}) > 1  # absent: from data
    )
    if different and not allow_different:
        raise Refused(
            f"the groups differ in {different}: only equal worlds, evaluated alike, are compared "
            "(--allow-different compares them nevertheless, and claims nothing)"
        )
    if different:
        reasons.append("not evaluated alike")
        notes.append(f"NOT EVALUATED ALIKE: {different}; nothing is claimed")
    histories = [{flat[key] for key in flat if key.endswith(".history_turns")} for flat in flats]
    if len(set().union(*histories)) > 1:
        told = [f"{label} {'/'.join(map(str, sorted(h)))}" for (label, _), h in zip(named, histories, strict=True) if h]
        notes.append(f"not all see the same history (turns that prior and Q are shown): {'; '.join(told)}")


def _worlds(named: Named, reasons: list[str]) -> None:
    """Worlds in which a result is no evidence, however it turns out."""
    found = (_no_evidence(settings(run)) for _, group in named for run in group[:1])
    reasons += dict.fromkeys(reason for reason in found if reason)


def _no_evidence(flat: Mapping[str, Any]) -> str | None:
    kind = Settings.of(flat).kind("env")
    if kind in ("overcooked_tomato", "frozen_lake"):
        return f"{kind} is a test of correctness"
    if flat.get("env.split") == "dev":
        return "split dev was used for tuning"
    read = {"overcooked_random": "train", "household": "corpus"}.get(str(kind))
    if read is not None and flat.get("env.split") == read:
        return f"split {read} is the embedded model's training data"
    return None


def _axis(named: Named, x: str) -> None:
    if x not in PAID_ONCE:
        return
    for label, group in named:
        if any(row.get("eval/exact") or row.get("eval_greedy/exact") for run in group for row in run.metrics):
            raise Refused(
                f"--x {x}: {label} was evaluated exactly, and the first exact evaluation asks the model about every "
                "state, so that training pays nothing: run with evaluation.exact_up_to=0 and an empty paths.cache for "
                "each run"
            )


def _knowledge(named: Named, counted: str | None, notes: list[str]) -> None:
    """The groups' knowledge before the run, which is a cost of their results too; `counted` on this axis."""
    for label, group in named:
        config = group[0].config
        suffix = f" (counted in {TITLES.get(counted, counted)})" if counted else ""
        notes += [f"{label} began with {pretraining}{suffix}" for pretraining in pretrainings(config)]
        if weights := (config.get("learner") or {}).get("weights"):
            notes.append(f"{label}: every seed starts from {Path(weights).name}; intervals are given this one file")
        prior = config.get("prior") or {}
        if prior.get("source") == "generated" and prior.get("draw_seed") is not None:
            notes.append(f"{label}: intervals are given one table of draws (prior.draw_seed={prior['draw_seed']})")


def seed_of(run: RunInfo) -> int:
    return int(run.config.get("seed", 0))


def cell_of(run: RunInfo) -> tuple[int, float]:
    """The settings that tell the runs of a group apart."""
    size = (run.config.get("data") or {}).get("size")
    return seed_of(run), float("inf") if size is None else float(size)


def _list_some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
