"""Runs for a person's own script: what is in their folders, with logs as tables of pyarrow or pandas.

A column has the same type in every run: counts are int64, what is true or false is bool, other metrics are float64,
and a value that a run has not is null. Columns that llmrl does not know have the type of their values.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrl.config.compose import ConfigError
from llmrl.core.files import flatten, read_lines
from llmrl.report.groups import settings
from llmrl.run import load
from llmrl.run.evaluations import FOLDER
from llmrl.run.folder import EPISODES, METRICS, TIMING, read_object

if TYPE_CHECKING:
    from typing import Literal

    import pyarrow as pa

    Kind = Literal["metrics", "episodes", "timing", "evaluations", "summary"]

KINDS = ("metrics", "episodes", "timing", "evaluations", "summary")
_COUNTS = {  # columns of whole numbers
    "env_steps", "primitive_steps", "episodes", "gradient_steps", "transitions", "prior/fallback", "lm/queries",
    "lm/distinct_prompts", "lm/parse_failures", "lm/ambiguous", "lm/tokens", "env", "episode", "length", "checkpoint",
}  # fmt: skip
_FLAGS = {"eval/exact", "eval_greedy/exact", "exact", "success"}
_TEXTS = {"task", "evaluation", "policy", "settings", "status"}
_NUMBERS = ("eval/", "eval_greedy/", "train/", "prior/", "data/", "loss/", "return", "seconds", "training_seconds")
_LAYOUTS: dict[str, tuple[str, ...]] = {  # the columns of a table without rows
    "metrics": ("env_steps", "primitive_steps", "episodes", "eval/return", "eval/success", "eval/length"),
    "episodes": ("env_steps", "env", "episode", "task", "return", "success", "length", "primitive_steps"),
    "timing": ("env_steps", "seconds", "training_seconds"),
    "evaluations": ("evaluation", "settings", "policy", "checkpoint", "exact", "task", "success", "return", "length"),
    "summary": ("status", "env_steps", "eval/return", "eval/success", "eval/length"),
}


class Table:
    """Rows of runs. It has all that `pyarrow.Table` has, and `arrow` is that table itself."""

    def __init__(self, arrow: pa.Table) -> None:
        self.arrow = arrow

    def to_pandas(self, **options: Any) -> Any:
        """The table as a pandas.DataFrame; `options` are those of `pyarrow.Table.to_pandas`.

        Raises ModuleNotFoundError, which says what to install, where there is no pandas.
        """
        try:
            import pandas  # noqa: F401
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "to_pandas needs pandas, which llmrl does not install: `pip install pandas`; without it, to_pylist() "
                "gives rows, and table['COLUMN'].to_numpy() a column",
                name="pandas",
            ) from error
        return self.arrow.to_pandas(**options)

    def __getattr__(self, name: str) -> Any:
        if name == "arrow":  # while it is copied or unpickled
            raise AttributeError(name)
        return getattr(self.arrow, name)

    def __getitem__(self, column: str | int) -> Any:
        return self.arrow[column]

    def __len__(self) -> int:
        return int(self.arrow.num_rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and bool(self.arrow.equals(other.arrow))

    __hash__ = None  # type: ignore[assignment]

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """So that pyarrow.table(...), polars.DataFrame(...) and others take it."""
        return self.arrow.__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        return repr(self.arrow)


@dataclass(frozen=True)
class Run:
    """One run. Files are read when they are asked for, once.

    A file that is torn or was changed raises ValueError, which names it. The last line of a run that is not complete
    may be cut off, and is left out.
    """

    info: load.RunInfo

    @property
    def folder(self) -> Path:
        return self.info.path

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def id(self) -> str:
        """All characters of the run's identity; its name ends with the first of them."""
        return str(self.info.summary["run_id"])

    @property
    def state(self) -> str:
        """complete, failed, running, or stopped: unfinished, and nobody works on it."""
        return self.info.status

    @property
    def config(self) -> dict[str, Any]:
        """Every setting, resolved."""
        return self.info.config

    @property
    def summary(self) -> dict[str, Any]:
        return self.info.summary

    @property
    def cost(self) -> dict[str, Any]:
        return self.info.cost

    @property
    def provenance(self) -> dict[str, Any]:
        return self.info.provenance

    @cached_property
    def metrics(self) -> Table:
        """A row for each evaluation."""
        return _make_table(self._lines(METRICS), f"{self.folder / METRICS}", "metrics")

    @cached_property
    def episodes(self) -> Table:
        """A row for each training episode."""
        return _make_table(self._lines(EPISODES), f"{self.folder / EPISODES}", "episodes")

    @cached_property
    def timing(self) -> Table:
        """A row for each evaluation: seconds and tokens until then, which depend on the machine and the cache."""
        return _make_table(self._lines(TIMING), f"{self.folder / TIMING}", "timing")

    @cached_property
    def evaluations(self) -> Table:
        """A row for each episode that `llmrl evaluate` played, or for each task where it computed success.

        `settings` are those in which the evaluation differs from the run, as JSON.
        """
        return _make_table(list(self._evaluation_rows()), f"{self.folder / FOLDER}", "evaluations")

    def table(self, kind: Kind) -> Table:
        """The table of that name; `summary` is one row, its blocks as `eval/success`. Raises ConfigError."""
        if kind not in KINDS:
            raise ConfigError(f"{kind!r}: there is no such table of a run; there are {', '.join(KINDS)}")
        if kind == "summary":
            flat = flatten(self.summary, separator="/")  # where a block is empty, {}
            row = {key: value for key, value in flat.items() if key != "run_id" and value != {}}
            row["status"] = self.state
            return _make_table([row], f"{self.folder / 'summary.json'}", "summary")
        found: Table = getattr(self, kind)
        return found

    def _lines(self, log: str) -> list[dict[str, Any]]:
        file = self.folder / log
        if self.summary.get("status") == "complete":
            if not file.is_file():
                raise ValueError(f"{self.name} is complete, and its {log} is missing: put the file back")
            if (data := file.read_bytes()) and not data.endswith(b"\n"):
                raise ValueError(f"{file} was cut off, though the run is complete: put the file back")
        return list(read_lines(file))

    def _evaluation_rows(self) -> Iterator[dict[str, Any]]:
        own = flatten(self.config)
        for folder in sorted((self.folder / FOLDER).glob("[!.]*")):
            summary = read_object(folder / "summary.json")
            if not summary:
                raise ValueError(f"{folder / 'summary.json'} cannot be read: move the folder away and evaluate again")
            other = flatten(load.RunInfo(folder).config)
            changed = {key: other.get(key) for key in sorted({*own, *other}) if other.get(key) != own.get(key)}
            changed = {key: value for key, value in changed.items() if not key.startswith(("data", "paths."))}
            same = {
                "evaluation": folder.name, "settings": json.dumps(changed), "policy": summary["policy"],
                "checkpoint": summary["checkpoint"], "exact": "exact" in summary,
            }  # fmt: skip
            for task, success in summary.get("exact", {}).items():
                yield {**same, "task": task, "success": success}
            for row in read_lines(folder / EPISODES):
                yield {**same, **row, "success": float(row["success"])}


def load_runs(root: Path | str = "runs", aside: bool = False) -> list[Run]:
    """The runs in a folder, or those that a glob pattern or the path of one means, by name.

    Other folders are left out, and without `aside` runs that were set aside; there may be none. A folder of a run whose
    summary.json cannot be read is left out too, and a warning names it.
    """
    holds_one = (Path(root) / "config.yaml").is_file()
    paths = [Path(root)] if holds_one else Path(root).iterdir() if Path(root).is_dir() else map(Path, glob(str(root)))
    if damaged := [path for path in sorted(paths) if load.is_damaged(path)]:
        told = "\n".join(f"  {path}" for path in damaged)
        warnings.warn(
            f"{len(damaged)} runs are left out, since their summary.json is missing or cannot be read; the command of "
            f"a run writes it anew:\n{told}",
            stacklevel=2,
        )
    return [Run(info) for info in load.load_runs(root, aside)]


def join_runs(runs: Iterable[Run], kind: Kind = "metrics") -> Table:
    """The tables of several runs in one, with `run` (its name), `seed`, and the settings in which the runs differ.

    A setting's column has its dotted key, as `learner.alpha`, and `config.KEY` where the table has a column KEY. Values
    of different kinds are texts of JSON. Settings that cannot change a result have no column. Raises ConfigError where
    there is no run, and ValueError for a run whose files cannot be read.
    """
    import pyarrow as pa

    runs = list(runs)
    if not runs:
        raise ConfigError("there is no run to join: load_runs found none, or all were left out")
    tables = [run.table(kind).arrow for run in runs]
    flats = [settings(run.info) for run in runs]
    keys = list(dict.fromkeys(key for flat in flats for key in flat))
    differing = [key for key in keys if len({repr(flat.get(key)) for flat in flats}) > 1]
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise ValueError(f"{kind} of these runs cannot be joined: {error}") from None
    sizes = [each.num_rows for each in tables]
    own: dict[str, Any] = {
        "run": _repeat(pa.array([run.name for run in runs]), sizes),
        "seed": _repeat(pa.array([run.config.get("seed") for run in runs], pa.int64()), sizes),
    }
    for key in differing:
        name = f"config.{key}" if key in table.column_names else key
        own[name] = _repeat(_infer([flat.get(key) for flat in flats]), sizes)
    return Table(pa.table({**own, **{name: table[name] for name in table.column_names}}))


def _repeat(values: pa.Array, sizes: Sequence[int]) -> pa.Array:
    """Each value as often as its run has rows."""
    import numpy as np

    return values.take(np.repeat(np.arange(len(sizes)), sizes))


def _make_table(rows: Sequence[dict[str, Any]], where: str, kind: str) -> Table:
    """Raises ValueError, naming the column, where values are of kinds that no column holds together."""
    import pyarrow as pa

    names = list(dict.fromkeys(name for row in rows for name in row)) if rows else list(_LAYOUTS[kind])
    first = [name for name in _LAYOUTS[kind] if name in names]
    arrays = {}
    for name in [*first, *(name for name in names if name not in first)]:
        values = [row.get(name) for row in rows]
        known = _known_type(name, kind, pa)
        try:
            arrays[name] = pa.array(values, known)
        except (pa.ArrowException, TypeError):  # somebody else's learner may mean something else by the name
            try:
                arrays[name] = pa.array(values)
            except (pa.ArrowException, TypeError) as error:
                raise ValueError(f"{where}: {name} holds values of different kinds ({error})") from None
    return Table(pa.table(arrays))


def _known_type(name: str, kind: str, pa: Any) -> Any:
    """None of a column that llmrl does not write."""
    if name == "success" and kind == "evaluations":  # computed, or of one episode
        return pa.float64()
    if name in _COUNTS:
        return pa.int64()
    if name in _FLAGS:
        return pa.bool_()
    if name in _TEXTS:
        return pa.string()
    return pa.float64() if name.startswith(_NUMBERS) else None


def _infer(values: Sequence[Any]) -> pa.Array:
    import pyarrow as pa

    try:
        return pa.array(values)
    except (pa.ArrowException, TypeError):
        return pa.array([None if value is None else json.dumps(value, ensure_ascii=False) for value in values])
