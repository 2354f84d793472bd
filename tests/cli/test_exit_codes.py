"""What a person types wrongly ends with exit code 2 and a line that says so, whatever the command."""

from __future__ import annotations

from pathlib import Path

import pytest
from report.runs_on_disk import make_run
from typer.testing import CliRunner

from llmrl.cli.main import app


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one run (without checkpoints), an empty folder, and files that are not what they are called."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"LLMRL_CACHE": str(tmp_path / "kept.sqlite3"), "COLUMNS": "80", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    for name in ("ALFWORLD_DATA", "LLMRL_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    make_run(tmp_path / "runs", ["learner=random", "env=overcooked_tomato"], lambda step: 0.5)
    (tmp_path / "empty").mkdir()
    for name in ("rubbish.parquet", "rubbish.jsonl", "rubbish.sqlite3", "rubbish.yaml", "rubbish.pkl", "file"):
        (tmp_path / name).write_bytes(bytes(range(128, 256)))
    return tmp_path


COLLECT = ["size=9", "mix=random"]
SPACE = ["--space", "dqn"]
WRONG: list[list[str]] = [
    [],
    ["trian"],
    ["train", "--fresch"],
    ["train", "learner=DQN"],
    ["train", "env_steps=1.5"],
    ["train", "learner=bc", "data=nowhere.parquet"],
    ["train", "learner=bc", "data=rubbish.parquet"],
    ["train", "learner=bc", "data=empty"],
    ["train", "lm=hf", "lm.model=./nowhere"],
    ["train", "lm=hf", "lm.model=./empty"],
    ["train", "encoder=lm", "encoder.model=./empty", "learner=dqn"],
    ["train", "learner=bc", "learner.weights=nowhere"],
    ["train", "learner=random", "paths.runs=file/runs"],
    ["train", "learner=random", "env_steps=4"],
    ["train", "env=alfworld/pick", "learner=random"],
    ["train", "--jobs", "many"],
    ["train", "--config-dir", "nowhere"],
    ["train", "--config-dir", "file"],
    ["train", "-m", "seed=1,x"],
    ["train", "-m", "env_steps=4,8", "learner=random"],
    ["train", "lm=vllm", "lm.model=tiny-1", "lm.serve=tiny-1", "lm.serve_env=nowhere"],
    ["train", "lm=vllm", "lm.model=tiny-1", "lm.api_key_env=NO_SUCH_VARIABLE_OF_OURS"],
    ["collect"],
    ["collect", "out=a.parquet", "size=1.5", "mix=random"],
    ["collect", "out=a.txt", *COLLECT],
    ["collect", "out=empty", *COLLECT],
    ["collect", "out=file/a.parquet", *COLLECT],
    ["collect", "out=a.parquet", "size=9", "mix=nobody"],
    ["collect", "out=rubbish.parquet", *COLLECT],
    ["collect", "out=a.parquet", "siz=9", *COLLECT],
    ["play", "nosuch", "--auto"],
    ["play", "empty", "--auto"],
    ["play", "file", "--auto"],
    ["play", "random", "learner=dqn", "--auto"],
    ["play", "random", "--auto", "--steps", "0"],
    ["reproduce", "salat"],
    ["reproduce", "--from", "nosuch.zip", "--verify"],
    ["reproduce", "--verify"],
    ["table", "salat"],
    ["table", "salad", "--out", "salad.pdf"],
    ["report", "nosuch"],
    ["report", "random", "--out", "report.pdf"],
    ["reproduce", "salad", "--only", "nobody"],
    ["evaluate"],
    ["evaluate", "nosuch"],
    ["evaluate", "empty"],
    ["evaluate", "random"],
    ["evaluate", "random", "env.nosuch=3"],
    ["evaluate", "random", "--policy", "nobody"],
    ["evaluate", "random", "--runs", "nowhere"],
    ["tune"],
    ["tune", "--space", "nosuch"],
    ["tune", "--space", "nowhere.yaml"],
    ["tune", "--space", "rubbish.yaml"],
    ["tune", *SPACE, "--task", "env=overcooked_salad"],
    ["tune", *SPACE, "learner.nosuch=3"],
    ["tune", *SPACE, "--out", "file/tune"],
    ["plot"],
    ["plot", "nosuch"],
    ["plot", "empty"],
    ["plot", "random", "--metric", "eval/sucess"],
    ["plot", "random", "--out", "curve.doc"],
    ["plot", "random", "--out", "file/curve.png"],
    ["plot", "random", "--out", "empty"],
    ["compare", "random"],
    ["compare", "random", "--against", "nosuch"],
    ["compare", "random", "--against", "random"],
    ["compare", "random", "--against", "empty"],
    ["compare", "random", "--against", "random", "--at", "x"],
    ["compare", "random", "--against", "random", "--out", "a.doc"],
    ["compare", "random", "--against", "random", "--out", "file/a.md"],
    ["runs", "show", "nosuch"],
    ["runs", "show", "empty"],
    ["runs", "lst"],
    ["runs", "rm", "nosuch", "--yes"],
    ["runs", "rm"],
    ["runs", "push"],
    ["runs", "push", "nosuch", "--to", "tensorboard"],
    ["runs", "push", "overcooked_tomato", "--to", "tensorbord"],
    ["cache", "info", "--cache", "nowhere"],
    ["cache", "info", "--cache", "empty"],
    ["cache", "info", "--cache", "rubbish.sqlite3"],
    ["cache", "verify", "--cache", "nowhere"],
    ["cache", "prune", "--cache", "nowhere", "--model", "m"],
    ["cache", "export", "out.sqlite3", "--cache", "nowhere"],
    ["cache", "import", "nowhere"],
    ["cache", "import", "empty"],
    ["data", "info", "nowhere.parquet"],
    ["data", "info", "empty"],
    ["data", "info", "rubbish.parquet"],
    ["data", "head", "rubbish.jsonl"],
    ["data", "head", "file"],
    ["data", "verify", "nowhere.jsonl"],
    ["data", "convert", "rubbish.pkl", "out.parquet"],
    ["data", "convert", "nowhere.pkl", "out.parquet"],
    ["data", "convert", "rubbish.jsonl", "file/out.parquet"],
    ["configs", "nosuch"],
    ["configs", "learner", "DQN"],
    ["configs", "nosuch", "dqn"],
    ["configs", "--config-dir", "nowhere"],
    ["serve", "tiny-1", "--env", "nowhere"],
    ["lm", "score", "lm=hf", "lm.model=./nowhere"],
    ["lm", "score", "lm=none"],
    ["lm", "score", "learner=dqn"],
    ["lm", "sample", "--n", "0"],
    ["lm", "bench", "--states", "x"],
    ["lm", "bench", "env=nosuch"],
    ["models", "list", "more"],
    ["models", "info", "nosuch"],
    ["models", "get", "nosuch"],
    ["worlds", "check", "nosuch"],
    ["worlds", "check", "alfworld"],
    ["worlds", "generate", "alfworld", "out", "--split", "dev"],
    ["worlds", "generate", "alfworld", "file/out"],
    ["doctor", "--nosuch"],
]


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [pytest.param(w, id=" ".join(w) or "nothing") for w in WRONG])
def test_a_mistake_is_told_in_one_message_with_exit_code_2(here: Path, arguments: list[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
    done = CliRunner().invoke(app, arguments)
    said = done.output
    assert done.exit_code == 2, (said, done.exception)
    assert isinstance(done.exception, SystemExit)
    assert "Traceback" not in said
    assert "error: " in said or "Usage: " in said
    made = {path for path in here.rglob("*") if path not in before and "kept.sqlite3" not in path.name}
    assert made == set()


def test_what_was_not_typed_wrongly_but_is_wrong_ends_with_1(here: Path) -> None:
    done = CliRunner().invoke(app, ["data", "verify", "rubbish.parquet"])
    assert (done.exit_code, "Traceback" in done.output) == (1, False)


def test_the_table_has_every_command() -> None:
    import typer

    group = typer.main.get_command(app)
    names = set()
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        names |= {f"{name} {sub}" for sub in inner} if inner else {name}
    tried = {" ".join(w[:2]) for w in WRONG if len(w) > 1} | {w[0] for w in WRONG if w}
    assert names - tried - {"runs list"} == set()
