"""`llmrl runs` as a process: listing, removing, and the command that makes a run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from report.runs_on_disk import make_run, make_runs

from llmrl.run.folder import RunFolder

REPOSITORY = Path(__file__).parent.parent.parent
DATA = REPOSITORY / "tests" / "golden" / "tomato.parquet"
TINY = ["evaluation.episodes=2", "evaluation.exact_up_to=0", "rollout.num_envs=4"]
WORLD = """
from llmrl.envs.base import TextEnv, Turn


class Coin(TextEnv):
    def __init__(self, call="heads"):
        super().__init__(("coin",), max_decisions=3)
        self.call = call

    def _reset(self, task_id):
        return self.call, Turn("A coin lies here.", ("heads", "tails"))

    def _step(self, index):
        return Turn("It is over.", (), reward=float(index == 0), terminated=True, success=index == 0)
"""
Llmrl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ, "PYTHONPATH": str(REPOSITORY), "LLMRL_CACHE": str(tmp_path / "kept.sqlite3"), "COLUMNS": "80",
        "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "TERM": "dumb",
    }  # fmt: skip


@pytest.fixture
def llmrl(tmp_path: Path, environ: dict[str, str]) -> Llmrl:
    def run(*arguments: str, code: int = 0, said: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "llmrl", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environ | more, input=said, capture_output=True, text=True)
        assert done.returncode == code, done.stderr + done.stdout
        return done

    return run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    for learner in ("dqn", "dqn_prior"):
        overrides = [f"learner={learner}", "env=overcooked_tomato", "env_steps=1000"]
        make_runs(root, overrides, range(2), lambda seed: lambda step: 0.5 + seed / 10, 1000, 250)
    overrides = ["learner=dqn_prior", "env=overcooked_tomato", "learner.alpha=0.3"]
    make_runs(root, overrides, [0], lambda seed: lambda step: 0.9, 1000, 250, status="running")
    (one,) = root.glob("*-dqn-uniform-s0-*")
    shutil.copytree(one, one.with_name(f"{one.name}.aside-1"))
    return root


def test_the_list_has_what_tells_runs_apart(llmrl: Llmrl, root: Path) -> None:
    head, *rows = [line.split() for line in llmrl("runs", "list").stdout.splitlines()]
    assert head == ["run", "learner", "alpha", "seed", "status", "decisions", "success", "age"]
    assert len({tuple(row[1:4]) for row in rows[:5]}) == 5
    assert ["dqn_prior", "0.3", "0", "stopped", "1,000/4,000", "90%"] in [row[1:7] for row in rows]
    assert rows[5][:2] == ["set", "aside"]
    assert rows[7][0].endswith(".aside-1")
    for columns in (40, 80):
        lines = llmrl("runs", "list", COLUMNS=str(columns)).stdout.splitlines()
        assert max(len(line) for line in lines if not line.startswith("set aside")) <= columns
    sorted_rows = llmrl("runs", "list", "--sort", "-success", "--filter", "alpha=0.3,0.02", code=2).stderr
    assert "did you mean learner.alpha" in sorted_rows


def test_a_list_is_narrowed_sorted_and_read_by_programs(llmrl: Llmrl, root: Path) -> None:
    words = ["runs", "list", "--json", "--sort", "-success"]
    found = json.loads(llmrl(*words, "--filter", "learner=dqn_prior", "--filter", "seed=0,1").stdout)
    assert [row["success"] for row in found] == [0.9, 0.6, 0.5]
    assert [row["settings"]["learner.alpha"] for row in found] == [0.3, 0.02, 0.02]
    assert all((root.parent / row["path"]).is_dir() for row in found)
    aside = [row for row in json.loads(llmrl("runs", "list", "--json").stdout) if row["aside"]]
    assert [row["run"].endswith(".aside-1") for row in aside] == [True]
    ascending = json.loads(llmrl("runs", "list", "--json", "--sort", "learner").stdout)
    assert [row["settings"]["learner.name"] for row in ascending] == ["dqn"] * 3 + ["dqn_prior"] * 3
    assert "did you mean success?" in llmrl("runs", "list", "--sort", "sucess", code=2).stderr


def names(root: Path) -> set[str]:
    return {path.name for path in root.iterdir() if path.is_dir()}


def test_what_is_removed_is_told_first_and_asked_for(llmrl: Llmrl, root: Path) -> None:
    before = names(root)
    asked = llmrl("runs", "rm", "learner=dqn", "seed=0", said="n\n", code=1).stdout
    (one,) = (name for name in before if "-dqn-" in name and name.partition("-s")[2][0] == "0" and "aside" not in name)
    assert asked.startswith(f"runs/{one}  complete, ")
    assert names(root) == before
    llmrl("runs", "rm", "learner=dqn", "seed=0", code=1)  # nobody answers
    assert names(root) == before
    llmrl("runs", "rm", "learner=dqn", "seed=0", said="y\n")
    assert before - names(root) == {one}
    llmrl("runs", "rm", one, "--aside", "--yes")
    assert before - names(root) == {one, f"{one}.aside-1"}


def test_nothing_else_is_removed(llmrl: Llmrl, root: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "elsewhere", ["learner=random"], lambda step: 0.1)
    (root / "linked-random-uniform-s0-00000000").symlink_to(other.path)
    for words in (["elsewhere"], [str(other.path)], ["linked"]):
        assert "is not in runs" in llmrl("runs", "rm", *words, "--yes", code=2).stderr
    assert other.path.is_dir()
    (running,) = root.glob("*-dqn_prior-*-s1-*")
    before = names(root)
    summary = json.loads((running / "summary.json").read_text())
    (running / "summary.json").write_text(json.dumps({**summary, "status": "running"}))
    with RunFolder.open(root, running.name, summary["run_id"]):
        assert "is in use, and nothing was removed" in llmrl("runs", "rm", "dqn_prior", "--yes", code=2).stderr
    assert names(root) == before
    llmrl("runs", "rm", code=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["learner=dqn_prior_paper", "env=overcooked_tomato", "env_steps=16", *TINY],
        ["env=coin", "learner=random", "env.call='it\\'s $HOME, \"heads\" = {x}'", "env_steps=16", *TINY,
         "--config-dir", "my worlds"],
        ["learner=bc_filtered", f"data={DATA}", "env=overcooked_tomato", "learner.gradient_steps=8", "data.size=60",
         *TINY],
    ],
)  # fmt: skip
def test_the_command_that_is_shown_is_the_same_run(
    llmrl: Llmrl, tmp_path: Path, environ: dict[str, str], words: list[str]
) -> None:
    (tmp_path / "coins.py").write_text(WORLD)
    (tmp_path / "my worlds" / "env").mkdir(parents=True)
    (tmp_path / "my worlds" / "env" / "coin.yaml").write_text("_target_: coins.Coin\nname: coin\ncall: heads\n")
    llmrl("train", *words)
    line = llmrl("runs", "show", "s0-", COLUMNS="40").stdout.splitlines()[-1]
    assert line.startswith("llmrl train ")
    assert "_target_" not in line
    script = f'llmrl() {{ {sys.executable} -m llmrl "$@"; }}\n{line}'
    again = subprocess.run(["sh", "-c", script], cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert "nothing to compute" in again.stdout, again.stderr
