"""Runs as a script reads them: tables with the same columns over a sweep, and a name for whatever is damaged."""

from __future__ import annotations

import builtins
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from report.runs_on_disk import make_runs
from typer.testing import CliRunner

import llmrl
from llmrl.cli.main import app
from llmrl.config.compose import ConfigError

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "analyse-runs.md"
LAKE = ["env=frozen_lake", "env_steps=20"]


def learnt(seed: int) -> Any:
    return lambda step: min(1, step / (10 + seed))  # a whole number at both ends


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_runs(tmp_path, [*LAKE, "learner=dqn"], [0, 1], learnt, 20, 10)
    make_runs(tmp_path, [*LAKE, "learner=dqn", "learner.lr=0.01"], [0], learnt, 20, 10, exact=False)
    return tmp_path


def append(file: Path, *rows: dict[str, Any]) -> None:
    with file.open("a") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)


def test_a_column_has_one_type_in_all_runs(root: Path) -> None:
    runs = llmrl.load_runs(root)
    for run in runs:
        schema = run.metrics.schema
        assert schema.field("env_steps").type == schema.field("lm/distinct_prompts").type == pa.int64()
        assert schema.field("eval/success").type == pa.float64()  # though it is written as 0 and 1
        assert run.metrics["eval/success"].to_pylist() == [0.0, pytest.approx(10 / (10 + run.config["seed"])), 1.0]
        assert run.metrics.num_rows == len(run.metrics) == 3
        assert run.timing["seconds"].to_pylist() == [0.5, 0.6, 0.7]
        assert (run.id.startswith(run.name[-8:]), run.state) == (True, "complete")
        assert run.metrics is run.metrics  # read once


def test_joined_runs_tell_their_settings_and_have_nulls_where_one_has_no_value(root: Path) -> None:
    runs = llmrl.load_runs(root)
    joined = llmrl.join_runs(runs)
    assert joined.column_names[:3] == ["run", "seed", "learner.lr"]
    assert joined["run"].to_pylist() == [run.name for run in runs for _ in range(3)]
    assert joined["learner.lr"].to_pylist() == [run.config["learner"]["lr"] for run in runs for _ in range(3)]
    assert joined["seed"].type == joined["env_steps"].type == pa.int64()
    exact = {run.name: True if "eval/exact" in run.metrics.column_names else None for run in runs}
    assert list(exact.values()).count(None) == 1
    assert joined["eval/exact"].to_pylist() == [exact[name] for name in joined["run"].to_pylist()]
    assert pa.table(joined).equals(joined.arrow)
    assert joined == llmrl.join_runs(runs) != llmrl.join_runs(runs[:1])


def test_a_summary_is_a_row_with_its_blocks_and_budgets_keep_their_name(root: Path) -> None:
    make_runs(root, ["env=frozen_lake", "env_steps=40", "learner=dqn"], [0], learnt, 40, 10)
    joined = llmrl.join_runs(llmrl.load_runs(root), "summary")
    assert joined.num_rows == 4
    assert sorted(joined["config.env_steps"].to_pylist()) == sorted(joined["env_steps"].to_pylist()) == [20] * 3 + [40]
    assert set(joined["lm/queries"].to_pylist()) == {4321}
    assert set(joined["eval/return"].to_pylist()) == {0.12345}
    assert set(joined["status"].to_pylist()) == {"complete"}


def test_episodes_and_evaluations_are_tables(root: Path) -> None:
    run = llmrl.load_runs(root)[0]
    row = {"env": 0, "env_steps": 4, "episode": 0, "length": 4, "primitive_steps": 4, "return": 0, "success": False}
    append(run.folder / "episodes.jsonl", row | {"task": "lake"})
    assert run.episodes["success"].type == pa.bool_()
    assert run.episodes["return"].type == pa.float64()
    assert llmrl.load_runs(root)[1].episodes.num_rows == 0
    for name, more in {"a": {"exact": {"x": 0.5, "y": 1}}, "b": {"per_task": 1}}.items():
        folder = run.folder / "evaluations" / name
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text(json.dumps({"policy": "greedy", "checkpoint": 20, **more}))
        text = (run.folder / "config.yaml").read_text()
        (folder / "config.yaml").write_text(text.replace("is_slippery: true", "is_slippery: false"))
    append(folder / "episodes.jsonl", row | {"task": "lake", "success": True})
    found = llmrl.load_runs(root)[0].evaluations
    assert found["success"].to_pylist() == [0.5, 1.0, 1.0]
    assert found["exact"].to_pylist() == [True, True, False]
    assert found["task"].to_pylist() == ["x", "y", "lake"]
    joined = llmrl.join_runs(llmrl.load_runs(root), "evaluations")
    assert joined.num_rows == 3
    (folder / "summary.json").write_text("{")
    with pytest.raises(ValueError, match=r"b/summary\.json cannot be read"):
        llmrl.load_runs(root)[0].evaluations  # noqa: B018


def test_columns_that_llmrl_does_not_know_have_the_type_of_their_values(root: Path) -> None:
    runs = llmrl.load_runs(root)
    append(runs[0].folder / "metrics.jsonl", {"env_steps": 30, "mine": 3, "eval/success": None})
    append(runs[1].folder / "metrics.jsonl", {"env_steps": 30, "mine": 0.5, "env_steps_left": "none"})
    assert runs[0].metrics["mine"].to_pylist() == [None, None, None, 3]
    assert runs[0].metrics.schema.field("mine").type == pa.int64()
    assert llmrl.join_runs(runs).schema.field("mine").type == pa.float64()
    append(runs[2].folder / "metrics.jsonl", {"env_steps": 30, "mine": "text"})
    runs = llmrl.load_runs(root)
    assert runs[2].metrics["mine"].to_pylist()[-1] == "text"
    with pytest.raises(ValueError, match=r"metrics of these runs cannot be joined: .*mine"):
        llmrl.join_runs(runs)
    append(runs[2].folder / "metrics.jsonl", {"env_steps": 40, "mine": 3})
    with pytest.raises(ValueError, match=r"metrics\.jsonl: mine holds values of different kinds"):
        llmrl.load_runs(root)[2].metrics  # noqa: B018


def test_what_is_damaged_is_named(root: Path) -> None:
    first, second, third = llmrl.load_runs(root)
    (root / "notes").mkdir()  # no run, and nobody's business
    with (first.folder / "metrics.jsonl").open("a") as file:
        file.write('{"env_steps":30,')
    with pytest.raises(ValueError, match=f"{first.name}/metrics.jsonl was cut off, though the run is complete"):
        llmrl.join_runs(llmrl.load_runs(root))
    (second.folder / "metrics.jsonl").unlink()
    with pytest.raises(ValueError, match=r"is complete, and its metrics\.jsonl is missing"):
        second.metrics  # noqa: B018
    (third.folder / "summary.json").write_text("{")
    for asked in (root, third.folder, f"{root}/*"):
        with pytest.warns(UserWarning, match=f"1 runs are left out.*\n  {third.folder}$"):
            found = llmrl.load_runs(asked)
        assert third.name not in [run.name for run in found]
    listed = CliRunner().invoke(app, ["runs", "list", "--runs", str(root)])
    assert f"left out: {third.folder}" in listed.stderr


def test_a_run_that_goes_on_may_end_in_a_torn_line(tmp_path: Path) -> None:
    (info,) = make_runs(tmp_path, LAKE, [0], learnt, 20, 10, status="running")
    with (info.path / "metrics.jsonl").open("a") as file:
        file.write('{"env_steps":30,')
    (run,) = llmrl.load_runs(tmp_path)
    assert (run.state, run.metrics.num_rows) == ("stopped", 3)


def test_what_cannot_be_joined_is_said(root: Path) -> None:
    with pytest.raises(ConfigError, match="there is no run to join"):
        llmrl.join_runs(llmrl.load_runs(root / "none"))
    with pytest.raises(ConfigError, match="'losses': there is no such table of a run; there are metrics, episodes"):
        llmrl.join_runs(llmrl.load_runs(root), "losses")  # type: ignore[arg-type]


def test_without_pandas_the_message_says_what_to_install(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name="pandas")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match="pip install pandas"):
        llmrl.load_runs(root)[0].metrics.to_pandas()


def test_pandas_gets_the_same_values(root: Path) -> None:
    pandas = pytest.importorskip("pandas")
    joined = llmrl.join_runs(llmrl.load_runs(root))
    frame = joined.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == joined.column_names
    assert frame["env_steps"].tolist() == joined["env_steps"].to_pylist()
    assert frame.groupby("learner.lr")["eval/success"].max().tolist() == [1.0, 1.0]


def test_the_script_of_the_page_runs(tmp_path: Path) -> None:
    for learner in ("dqn", "random"):
        make_runs(tmp_path / "runs", [*LAKE, f"learner={learner}"], [0, 1], learnt, 20, 10)
    (script,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["dqn 1.0", "random 1.0"]
