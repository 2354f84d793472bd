"""The real command, in a process of its own: what it prints, writes and exits with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from report.runs_on_disk import make_run

Llmrl = Callable[..., subprocess.CompletedProcess[str]]

REPOSITORY = Path(__file__).parent.parent.parent
QUICK = [
    "env=overcooked_tomato",
    "env.max_decisions=6",
    "rollout.num_envs=4",
    "evaluation.every=32",
    "evaluation.episodes=2",
]
RANDOM = ["learner=random", *QUICK, "env_steps=64"]
NO_WORLD = [o for o in RANDOM if not o.startswith(("env=", "env."))]

WORLD = """
from llmrl.envs.base import TextEnv, Turn


class Coin(TextEnv):
    def __init__(self, pay=1.0):
        super().__init__(("coin",), max_decisions=3)
        self.pay = pay

    def _reset(self, task_id):
        return "Call heads.", Turn("A coin lies here.", ("heads", "tails"))

    def _step(self, index):
        return Turn("It is over.", (), reward=self.pay * (index == 0), terminated=True, success=index == 0)
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    path = os.pathsep.join([str(REPOSITORY), str(tmp_path)])
    return {
        **os.environ, "PYTHONPATH": path, "LLMRL_CACHE": str(tmp_path / "kept.sqlite3"), "OMP_NUM_THREADS": "1",
        "COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb",
    }  # fmt: skip


@pytest.fixture
def llmrl(tmp_path: Path, environ: dict[str, str]) -> Llmrl:
    def run(*arguments: str, code: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "llmrl", *arguments],
            cwd=tmp_path,
            env=environ | more,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stderr + done.stdout
        assert "Traceback" not in done.stderr or "LLMRL_DEBUG" in more
        return done

    return run


def folders(root: Path) -> list[Path]:
    return sorted(p for p in (root / "runs").iterdir() if p.is_dir())


# ---- running -----------------------------------------------------------------------------------------------------


def test_the_default_agent_trains_and_is_not_trained_twice(llmrl: Llmrl, tmp_path: Path) -> None:
    command = ["train", "env_steps=64", *QUICK]
    first = llmrl(*command)
    (folder,) = folders(tmp_path)
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["status"], summary["env_steps"]) == ("complete", 64)
    assert summary["run_id"].startswith(folder.name.rpartition("-")[2])
    assert folder.name.startswith("overcooked_tomato-dqn_prior-sampled-s0-")
    written = {p.name for p in folder.iterdir()}
    assert written >= {
        "config.yaml", "provenance.json", "metrics.jsonl", "episodes.jsonl", "timing.jsonl", "cost.json", "curve.png",
        "checkpoints",
    }  # fmt: skip
    assert first.stdout.startswith(f"{folder.name}: 64 decisions\n")
    assert f"runs/{folder.name}/curve.png" in first.stdout
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    again = llmrl("train", *reversed(command[1:]))
    assert "nothing to compute" in again.stdout
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()} == before
    assert folders(tmp_path) == [folder]


@pytest.mark.slow
def test_the_same_command_writes_the_same_bytes(llmrl: Llmrl, tmp_path: Path) -> None:
    for place in ("one", "two"):
        llmrl(
            "train",
            "learner=dqn",
            "env_steps=48",
            "learner.learning_starts=16",
            "learner.batch=8",
            *QUICK,
            f"paths.runs={place}",
        )
    (one,), (two,) = (sorted(p for p in (tmp_path / place).iterdir() if p.is_dir()) for place in ("one", "two"))
    assert one.name == two.name
    for name in ("metrics.jsonl", "episodes.jsonl", "summary.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


@pytest.mark.parametrize("jobs", [pytest.param("1", marks=pytest.mark.slow), "2"])
def test_a_sweep_runs_every_cell_and_reports_those_that_fail(llmrl: Llmrl, tmp_path: Path, jobs: str) -> None:
    (tmp_path / "worlds" / "env").mkdir(parents=True)
    (tmp_path / "worlds" / "env" / "broken.yaml").write_text("_target_: json.loads\nname: broken\ns: '1'\n")
    sweep = ["train", "-m", "env=broken,overcooked_tomato", *NO_WORLD, "--config-dir", "worlds"]
    done = llmrl(*sweep, "--jobs", jobs, code=1)
    table = [line.split()[:2] for line in done.stdout.splitlines() if line.startswith("env=") and ":" not in line]
    assert table == [["env=broken", "failed"], ["env=overcooked_tomato", "complete"]]
    assert "log.txt" in done.stdout + done.stderr
    assert "[2/2] 64 decisions  success" in done.stdout
    kept = {file: file.read_bytes() for file in (tmp_path / "runs" / "sweeps").iterdir()}
    assert {file.suffix for file in kept} == {".md", ".json"}
    assert all(str(file.relative_to(tmp_path)) in done.stdout for file in kept)
    (markdown,) = (text.decode() for file, text in kept.items() if file.suffix == ".md")
    assert "| random | 1 | " in markdown
    assert "(failed)" in markdown
    llmrl(*sweep, "--jobs", jobs, code=1)
    assert {file: file.read_bytes() for file in (tmp_path / "runs" / "sweeps").iterdir()} == kept


def test_a_sweep_with_one_bad_cell_launches_nothing(llmrl: Llmrl, tmp_path: Path) -> None:
    done = llmrl("train", "-m", "learner=random,dqn", "prior=uniform,sampled", "env_steps=8", code=2)
    assert "nothing was launched" in done.stderr
    assert "learner=dqn prior=sampled env_steps=8" in done.stderr
    assert "use learner=dqn_prior" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_ctrl_c_stops_with_130_and_the_same_command_runs_again(
    llmrl: Llmrl, tmp_path: Path, environ: dict[str, str]
) -> None:
    command = ["train", "learner=random", "env_steps=3000000", *QUICK]
    with subprocess.Popen(
        [sys.executable, "-m", "llmrl", *command],
        cwd=tmp_path,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert any("32 decisions" in line for line in process.stdout)  # it trains
        in_use = llmrl(*command, code=1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert f"in use by process {process.pid}" in in_use.stderr
    assert process.returncode == 130
    assert "the same command" in errors
    assert "Traceback" not in errors
    assert "stopped" in llmrl("runs", "list").stdout


def test_a_world_of_ones_own_needs_no_change_of_ours(llmrl: Llmrl, tmp_path: Path) -> None:
    (tmp_path / "coins.py").write_text(WORLD)
    (tmp_path / "mine" / "env").mkdir(parents=True)
    (tmp_path / "mine" / "env" / "coin.yaml").write_text("_target_: coins.Coin\nname: coin\npay: 2.0\n")
    llmrl("train", "env=coin", "env.pay=3.0", *NO_WORLD, "--config-dir", "mine")
    (folder,) = folders(tmp_path)
    assert folder.name.startswith("coin-random-uniform-s0-")
    assert json.loads((folder / "summary.json").read_text())["eval"]["length"] == 1


# ---- errors and exits --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["train", "learner=dqn", "prior=sampled"], 2, "error: dqn takes prior=uniform or uniform_k"),
        (["train", "learner.aplha=1"], 2, "did you mean learner.alpha=1?"),
        (["train", "lm.api_key=sk-1"], 2, "environment variables"),
        (["train", "seed=1,2"], 2, "add -m"),
        (["train", "lm=hf", "lm.model=./nowhere"], 2, "./nowhere"),
        (["train", "--cfg", "all"], 2, "job"),
        (["trian"], 2, "train"),
        (["runs", "show", "x"], 2, "no such run"),
        (["plot", "x"], 2, "there is no run in runs/"),
        (["plot", "x", "--out", "c.txt"], 2, "the name has to end with .png, .svg or .pdf"),
        (["compare", "x", "--against", "y", "--out", "c.txt"], 2, ".md, .json, .csv, .tex, .png, .svg or .pdf"),
    ],
)
def test_what_a_person_can_get_wrong(llmrl: Llmrl, arguments: list[str], code: int, said: str) -> None:
    done = llmrl(*arguments, code=code)
    assert said in done.stderr
    assert "sk-1" not in done.stderr


def test_the_traceback_is_shown_to_who_asks_for_it(llmrl: Llmrl) -> None:
    assert "Traceback" in llmrl("train", "learner.aplha=1", code=1, LLMRL_DEBUG="1").stderr


def test_a_failing_run_says_where_its_traceback_is(llmrl: Llmrl, tmp_path: Path) -> None:
    (tmp_path / "mine" / "env").mkdir(parents=True)
    (tmp_path / "mine" / "env" / "bad.yaml").write_text("_target_: json.loads\nname: bad\ns: '1'\n")
    command = ["train", "env=bad", *NO_WORLD, "--config-dir", "mine"]
    done = llmrl(*command, code=1)
    (folder,) = folders(tmp_path)
    assert len(done.stderr.strip().splitlines()) == 1
    assert str(Path("runs") / folder.name / "log.txt") in done.stderr
    assert "Traceback" in (folder / "log.txt").read_text()
    assert json.loads((folder / "summary.json").read_text())["status"] == "failed"


# ---- looking -----------------------------------------------------------------------------------------------------


def test_the_config_is_printed_and_nothing_is_done(llmrl: Llmrl, tmp_path: Path) -> None:
    shown = llmrl("train", "learner=dqn", "seed=7", "--cfg", "job").stdout
    assert "seed: 7\n" in shown
    assert "lm: null\n" in shown
    many = llmrl("train", "-m", "seed=1,2", "learner=dqn", "--cfg", "job").stdout
    assert [line for line in many.splitlines() if line.startswith("---")] == [
        "--- # seed=1 learner=dqn",
        "--- # seed=2 learner=dqn",
    ]
    assert list(tmp_path.iterdir()) == []


def test_runs_are_listed_shown_and_plotted(llmrl: Llmrl, tmp_path: Path) -> None:
    assert "no runs in runs/" in llmrl("runs", "list").stdout
    for seed in (0, 1):
        make_run(tmp_path / "runs", ["learner=random", "env=overcooked_tomato", f"seed={seed}"], lambda step: 0.5)
    first, second = folders(tmp_path)
    listed = llmrl("runs", "list").stdout
    assert all(folder.name.rpartition("-")[2] in listed for folder in (first, second))
    assert "llmrl train learner=random env=overcooked_tomato" in llmrl("runs", "show", "s1").stdout
    for words in (["s0-", str(second)], ["random"], ["runs"], ["runs/*-s*"], ["env=overcooked_tomato", "seed=0,1"]):
        assert llmrl("plot", *words, "--out", "p.png").stdout == "p.png\n"
    assert (tmp_path / "p.png").stat().st_size > 5000
    assert "2 runs have this" in llmrl("runs", "show", "random", code=2).stderr


def test_help_and_doctor(llmrl: Llmrl) -> None:
    for command in ("train", "runs", "plot", "doctor"):
        assert command in llmrl("--help").stdout
    assert llmrl("train", "-h").stdout == llmrl("train", "--help").stdout
    found = llmrl("doctor").stdout
    assert "answer cache" in found
    assert "broken" not in found
