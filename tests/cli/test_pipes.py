"""Output that nobody reads any more is dropped, and work goes on: `| head -1`, and a closed descriptor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from report.runs_on_disk import make_runs

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parent.parent.parent
SHORT = ["env=frozen_lake", "learner=random", "env_steps=400", "evaluation.every=8", "evaluation.episodes=1"]


def unread(folder: Path, *arguments: str, stderr: bool = False) -> None:
    """The command, into a pipe whose reader is gone before a word is said."""
    reads, writes = os.pipe()
    os.close(reads)
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), "LLMRL_CACHE": str(folder / "kept"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "llmrl", *arguments]
    try:
        done = subprocess.run(
            command, cwd=folder, env=environ, stdout=writes, stderr=writes if stderr else subprocess.PIPE, text=True
        )
    finally:
        os.close(writes)
    assert done.returncode == 0, done.stderr
    assert not done.stderr


@pytest.mark.parametrize("stderr", [False, True])
def test_every_file_of_a_comparison_is_written(tmp_path: Path, stderr: bool) -> None:
    for learner in ("dqn", "random"):
        overrides = [f"learner={learner}", "env=overcooked_tomato"]
        make_runs(tmp_path / "runs", overrides, range(2), lambda seed: lambda step: 0.5, 1000, 250)
    unread(tmp_path, "compare", "random", "--against", "dqn", "--out", "a.md", "--out", "b.json", stderr=stderr)
    assert (tmp_path / "a.md").stat().st_size
    assert (tmp_path / "b.json").stat().st_size
    unread(tmp_path, "plot", "random", "--out", "c.png", stderr=stderr)
    assert (tmp_path / "c.png").stat().st_size
    for words in (["runs", "list"], ["runs", "show", "dqn-uniform-s0"], ["--help"], ["train", "--cfg", "job"]):
        unread(tmp_path, *words, stderr=stderr)


@pytest.mark.parametrize("sweep", [[], ["-m", "seed=1,2"], ["-m", "seed=1,2", "--jobs", "2"]])
def test_training_goes_on_to_its_end(tmp_path: Path, sweep: list[str]) -> None:
    unread(tmp_path, "train", *SHORT, *sweep)
    summaries = [json.loads(file.read_text()) for file in tmp_path.glob("runs/*/summary.json")]
    assert [summary["status"] for summary in summaries] == ["complete"] * (2 if sweep else 1)


def test_a_reader_that_goes_away_in_the_middle(tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "SAID": str(tmp_path / "said")}
    line = f'{{ {sys.executable} -m llmrl train {" ".join(SHORT)} 2> "$SAID"; echo $? >> "$SAID"; }} | head -1'
    head = subprocess.run(["sh", "-c", line], cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)
    assert head.stdout.endswith("400 decisions\n")
    assert (tmp_path / "said").read_text() == "0\n"
    (summary,) = tmp_path.glob("runs/*/summary.json")
    assert json.loads(summary.read_text())["status"] == "complete"


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_closed_descriptor(tmp_path: Path, closed: str) -> None:
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    line = f"{sys.executable} -m llmrl train {' '.join(SHORT)} {closed}"
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    (summary,) = tmp_path.glob("runs/*/summary.json")
    assert json.loads(summary.read_text())["status"] == "complete"
