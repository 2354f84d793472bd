"""What goes wrong, and what is left of it: the command, a fault, and the same command once more without it."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import save_file

from llmrl.core.files import read_lines
from llmrl.learners.weights import network
from llmrl.run.checkpoint import read_about, read_state, read_weights, write_checkpoint

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parent.parent.parent

# A world and a model of a person's own, which break where $FAULT says, when they have done so much.
MINE = """
import os, signal, sys, zlib

from llmrl.envs.base import TextEnv, Turn
from llmrl.lm.language_model import ModelIdentity, Score

done = {}


def due(what, after):
    fault = os.environ.get("FAULT", "").partition(" ")
    done[what] = done.get(what, 0) + 1
    return fault[2] if fault[0] == what and done[what] >= after else None


class Corridor(TextEnv):
    def __init__(self):
        if due("make", 1):
            raise RuntimeError("the map is lost")
        super().__init__(("walk",), max_decisions=6)

    def _reset(self, task_id):
        self.at = 0
        return "Walk three rooms east." + " Mind the gap." * 300, self._turn()

    def _step(self, index):
        self.at = max(0, self.at + (1, -1, 0)[index])
        fault = due("step", 50)
        if fault == "raise":
            raise ZeroDivisionError("the door is " + os.environ.get("DOOR", "stuck"))
        if fault == "exit":
            sys.exit(0)
        if fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return self._turn(float(fault or self.at == 3))

    def _turn(self, reward=0.0):
        there = self.at == 3
        return Turn(f"Room {self.at}.", ("go east", "go west", "wait"), reward, terminated=there, success=there)

    def close(self):
        if due("close", 1):
            raise OSError("the door was locked already")


class Words:
    engine = "words"
    provenance = {}
    identity = ModelIdentity("words", "1", "float32", "none")

    def score(self, prompts, continuations):
        nan = float(due("score", 2) or 0.0)
        return [[Score(-(zlib.crc32((p + c).encode()) % 7) + nan, 1) for c in cs]
                for p, cs in zip(prompts, continuations)]
"""
CONFIGS = {
    "env/corridor.yaml": "_target_: mine.Corridor\nname: corridor\n",
    "lm/words.yaml": "_target_: mine.Words\nname: words\n",
}
SMALL = [
    "--config-dir", "mine", "env=corridor", "env_steps=64", "rollout.num_envs=4", "evaluation.every=16",
    "evaluation.episodes=4", "checkpoint_every=16",
]  # fmt: skip
LEARNS = [*SMALL, "learner.batch=8", "learner.learning_starts=8"]
TRAIN = ["train", *LEARNS, "lm=words", "learner.hidden=[16]", "encoder.dim=16"]

# The n-th write to a file whose path fits is cut short; `at_open`: the n-th opening of it to write.
DISK = """
import errno, os, pathlib, re, signal

real, seen = pathlib.Path.open, 0


def broken(path):
    global seen
    seen += bool(re.search({pattern!r}, str(path)))
    return seen == {nth} and re.search({pattern!r}, str(path))


class File:
    def __init__(self, file, path):
        self.file, self.path = file, path

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, data):
        if not broken(self.path):
            return self.file.write(data)
        self.file.write(data[:len(data) // 2])
        self.file.flush()
        {fault}


def open(path, mode="r", *rest, **more):
    if mode[0] == "r":
        return real(path, mode, *rest, **more)
    if {at_open} and broken(path):
        {fault}
    file = real(path, mode, *rest, **more)
    return file if {at_open} else File(file, path)


pathlib.Path.open = open
"""


class Done(NamedTuple):
    out: str
    err: str


Llmrl = Callable[..., Done]


def disk(pattern: str, nth: int = 1, error: str = "ENOSPC", at_open: bool = False) -> str:
    fault = f"raise OSError(errno.{error}, os.strerror(errno.{error}), str(path if {at_open} else self.path))"
    return DISK.format(pattern=pattern, nth=nth, at_open=at_open, fault=fault)


def stopped(pattern: str, nth: int, by: str = "SIGINT") -> str:
    return DISK.format(pattern=pattern, nth=nth, at_open=True, fault=f"os.kill(os.getpid(), signal.{by})")


HALF_WAY = stopped(r"episodes|checkpoints/\.48", 2)  # its third checkpoint is being written


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[str]]:
    environ = {
        **os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "COLUMNS": "80", "NO_COLOR": "1",
        "TERM": "dumb",
    }  # fmt: skip
    command = [sys.executable, str(Path(__file__).with_name("prefork.py"))]
    with subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def command(server: subprocess.Popen[str], folder: Path) -> Llmrl:
    for name, text in CONFIGS.items():
        (folder / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "mine" / name).write_text(text)
    (folder / "mine.py").write_text(MINE)

    def run(*arguments: str, code: int = 0, before: str = "", **environ: str) -> Done:
        assert server.stdin is not None
        assert server.stdout is not None
        request = {
            "arguments": arguments, "folder": str(folder), "out": str(folder / "out"), "err": str(folder / "err"),
            "environ": {"LLMRL_CACHE": str(folder / "kept.sqlite3"), "FAULT": "", **environ}, "before": before,
        }  # fmt: skip
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        found = int(server.stdout.readline())
        done = Done((folder / "out").read_text(), (folder / "err").read_text())
        assert found == code, done
        assert "Traceback" not in done.out + done.err
        if code in (1, 2):
            assert done.err.startswith("error: ")
            assert done.err.count("\n") == 1
        return done

    return run


@pytest.fixture
def llmrl(server: subprocess.Popen[str], tmp_path: Path) -> Llmrl:
    return command(server, tmp_path)


def the_run(root: Path) -> Path:
    (path,) = (p.parent for p in root.glob("runs/*/.lock"))
    return path


def results(root: Path) -> dict[str, bytes]:
    run = the_run(root)
    files = [run / name for name in ("metrics.jsonl", "episodes.jsonl", "summary.json")]
    return {str(p.relative_to(run)): p.read_bytes() for p in [*files, *run.glob("checkpoints/*/weights.safetensors")]}


def status(root: Path) -> str:
    return str(json.loads((the_run(root) / "summary.json").read_text())["status"])


@pytest.fixture(scope="module")
def whole(server: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run that never met a fault leaves."""
    root = tmp_path_factory.mktemp("whole")
    command(server, root)(*TRAIN)
    assert status(root) == "complete"
    found = results(root)
    assert {name for name in found if "weights" in name} >= {"checkpoints/64/weights.safetensors"}
    assert b'"loss/td":0.' in found["metrics.jsonl"]
    return found


# ---- the disk --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "nth"),
    [
        ("config.yaml", 1),
        ("summary.json", 2),
        ("cost.json", 1),
        ("episodes.jsonl", 7),
        ("metrics.jsonl", 3),
        ("rows.f32", 1),
        (r"checkpoints/.*weights", 1),
        (r"checkpoints/.*arrays", 3),
        (r"checkpoints/.*manifest", 2),
    ],
)
def test_a_full_disk_costs_time_and_nothing_else(
    pattern: str, nth: int, llmrl: Llmrl, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    done = llmrl(*TRAIN, code=1, before=disk(pattern, nth))
    assert "No space left on device" in done.err
    assert "free some space, then type the same command again" in done.err
    assert status(tmp_path) != "complete" if (the_run(tmp_path) / "summary.json").exists() else nth == 1
    llmrl(*TRAIN)
    assert results(tmp_path) == whole
    assert not list(tmp_path.glob("runs/**/.*.tmp"))


LIMIT = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, resource.RLIM_INFINITY))"
NO_PAGE_MORE = """
import sqlite3

real = sqlite3.connect


def connect(path, *rest, **more):
    db = real(path, *rest, **more)
    if "/." not in str(path):  # the cache itself, not the empty one that is made first
        db.execute("PRAGMA max_page_count = 1")
    return db


sqlite3.connect = connect
"""


@pytest.mark.parametrize("before", [LIMIT.format(30_000), NO_PAGE_MORE], ids=["when it is made", "later"])
def test_answers_that_cannot_be_kept(before: str, llmrl: Llmrl, tmp_path: Path, whole: dict[str, bytes]) -> None:
    said = llmrl(*TRAIN, code=1, before=before).err
    assert str(tmp_path / "kept.sqlite3") in said
    assert "type the same command again" in said or "choose another file" in said
    assert status(tmp_path) == "failed"
    llmrl(*TRAIN)
    assert results(tmp_path) == whole


def test_a_limit_of_the_system_on_the_size_of_files(llmrl: Llmrl, tmp_path: Path) -> None:
    """In a run without answers: SQLite needs files beyond the limit for its own."""
    command = ["train", *LEARNS, "learner=dqn"]
    said = llmrl(*command, code=1, before=LIMIT.format(2_000)).err
    assert f"{the_run(tmp_path).relative_to(tmp_path)} cannot be written (File too large): free some space" in said
    llmrl(*command)
    found = results(tmp_path)
    (tmp_path / "runs").rename(tmp_path / "met")
    llmrl(*command)
    assert results(tmp_path) == found


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("EROFS", "make it writable"),
        ("EACCES", "make it writable"),
        ("EDQUOT", "free some space"),
        ("EIO", "check the"),
    ],
)
def test_a_disk_that_refuses(error: str, said: str, llmrl: Llmrl, tmp_path: Path, whole: dict[str, bytes]) -> None:
    done = llmrl(*TRAIN, code=1, before=disk("manifest", 2, error, at_open=True))
    assert os.strerror(getattr(errno, error)) in done.err
    assert said in done.err
    llmrl(*TRAIN)
    assert results(tmp_path) == whole


def test_a_folder_that_can_only_be_read(llmrl: Llmrl, tmp_path: Path) -> None:
    read_only = disk("runs/", 1, "EROFS", at_open=True).replace("seen == 1", "seen")
    assert "choose another place with paths.runs=FOLDER" in llmrl(*TRAIN, code=2, before=read_only).err
    llmrl(*TRAIN)
    for arguments in (TRAIN, ["runs", "list"], ["runs", "show", "corridor"]):  # what is finished is shown from there
        assert "Read-only" not in llmrl(*arguments, before=read_only).out
    assert "curve.png" in llmrl("plot", "corridor", "--out", "runs/curve.png", code=2, before=read_only).err


def test_a_picture_that_cannot_be_drawn_loses_no_run(llmrl: Llmrl, tmp_path: Path, whole: dict[str, bytes]) -> None:
    done = llmrl(*TRAIN, before=disk("curve.png"))
    assert "curve.png could not be drawn (OSError: [Errno 28] No space left on device" in done.out
    assert results(tmp_path) == whole
    run = the_run(tmp_path)
    assert not (run / "curve.png").exists()
    assert f"llmrl plot {run.name}" in (run / "log.txt").read_text()
    llmrl("plot", run.name, "--out", "again.png")
    assert (tmp_path / "again.png").stat().st_size > 5000


def test_a_log_that_cannot_be_written_hides_no_cause(llmrl: Llmrl, tmp_path: Path, whole: dict[str, bytes]) -> None:
    done = llmrl(*TRAIN, code=1, before=disk("log.txt|cost.json", 2), FAULT="step raise")
    assert "raised ZeroDivisionError: the door is stuck" in done.err
    assert status(tmp_path) == "failed"
    llmrl(*TRAIN, code=130, before=HALF_WAY)
    full = disk("log.txt").replace("seen == 1", "seen")
    assert (
        "log.txt" not in llmrl(*TRAIN, code=1, before=full).err
    )  # that it goes on cannot be said, nor why it does not
    llmrl(*TRAIN)
    assert results(tmp_path) == whole


# ---- Ctrl-C ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pattern", "nth"), [("provenance", 1), ("state.json", 2), ("summary", 2)])
def test_ctrl_c_wherever_it_comes(
    pattern: str, nth: int, llmrl: Llmrl, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    done = llmrl(*TRAIN, code=130, before=stopped(pattern, nth))
    assert done.err == "stopped; the same command resumes from the last checkpoint, where there is one\n"
    assert status(tmp_path) == "running"
    assert "stopped" in llmrl("runs", "list").out
    llmrl(*TRAIN)
    assert results(tmp_path) == whole


# ---- worlds and models -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("make 1", "the world, when it was made, raised RuntimeError: the map is lost"),
        ("step raise", "raised ZeroDivisionError: the door is stuck"),
        ("step exit", "raised SystemExit: 0"),
        ("step nan", "raised ValueError: the reward of 'go east' is nan; it must be a finite number"),
        ("step inf", "raised ValueError: the reward of 'go east' is inf; it must be a finite number"),
        ("score nan", "words gave a log-probability that is not a number"),
    ],
)
def test_a_world_or_a_model_that_fails(
    fault: str, said: str, llmrl: Llmrl, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    done = llmrl(*TRAIN, code=1, FAULT=fault)
    run = the_run(tmp_path)
    assert said.replace("go east", "") in done.err.replace("go west", "").replace("go east", "").replace("wait", "")
    assert f"the traceback is in {run.relative_to(tmp_path) / 'log.txt'}" in done.err
    assert "Traceback" in (run / "log.txt").read_text()
    assert status(tmp_path) == "failed"
    assert "failed" in llmrl("runs", "list").out
    for name in ("metrics.jsonl", "episodes.jsonl"):  # what there is of them is right
        assert not (run / name).exists() or whole[name].startswith((run / name).read_bytes())
    llmrl(*TRAIN)
    assert results(tmp_path) == whole


@pytest.mark.parametrize(
    ("fault", "said"), [("step raise", "the door is stuck"), ("step die", "ended without an answer (exit code -9)")]
)
def test_a_world_that_fails_in_a_worker(
    fault: str, said: str, llmrl: Llmrl, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    assert said in llmrl(*TRAIN, "rollout.workers=1", code=1, FAULT=fault).err
    assert status(tmp_path) == "failed"
    llmrl(*TRAIN)
    assert results(tmp_path) == whole


def test_a_world_that_cannot_be_closed_loses_no_run(llmrl: Llmrl, tmp_path: Path, whole: dict[str, bytes]) -> None:
    llmrl(*TRAIN, FAULT="close 1")
    assert results(tmp_path) == whole


# ---- numbers that are none -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("learner", ["dqn", "drrn"])
def test_learning_that_diverges_writes_no_wrong_number(learner: str, llmrl: Llmrl, tmp_path: Path) -> None:
    done = llmrl("train", *LEARNS, f"learner={learner}", "learner.lr=1e30", code=1)
    assert "learning diverged: Q is not a finite number" in done.err
    assert "lower learner.lr (now 1e+30)" in done.err
    assert status(tmp_path) == "failed"
    rows = list(read_lines(the_run(tmp_path) / "metrics.jsonl"))
    assert rows
    assert not any("loss/td" in row for row in rows)  # nothing that an absurd Q did was counted
    assert all(math.isfinite(value) for row in rows for value in row.values() if isinstance(value, float))


# ---- weights ---------------------------------------------------------------------------------------------------------


def test_weights_that_do_not_fit(llmrl: Llmrl, tmp_path: Path) -> None:
    command = ["train", *SMALL, "learner=bc", "learner.hidden=[16]", "encoder.dim=16", "learner.weights=net"]
    assert "learner.weights=net: there is no such file" in llmrl(*command, code=2).err
    (tmp_path / "net").write_bytes(b"rubbish" * 99)
    assert "net cannot be read as weights" in llmrl(*command, code=2).err
    tensors = network(16, [16]).state_dict()
    encoder = {"class": "HashEncoder", "dim": 16, "history_turns": 0, "ngrams": 3, "seed": 0}
    for what, hidden, damage, said in (
        ("q", [16], 0.0, "holds a cloned q and a policy is needed"),
        ("policy", [8], 0.0, "type learner.hidden=[8]"),
        ("policy", [16], math.nan, "holds numbers that are not finite"),
        ("policy", [16], 0.0, ""),
    ):
        about = {"what": json.dumps(what), "hidden": json.dumps(hidden), "encoder": json.dumps(encoder)}
        save_file({name: t + damage for name, t in tensors.items()}, tmp_path / "net", about)
        assert said in llmrl(*command, code=2 if said else 0).err
        assert (tmp_path / "runs").exists() == (not said)  # nothing of a run is made before


def test_a_checkpoint_of_another_shape(llmrl: Llmrl, tmp_path: Path, whole: dict[str, bytes]) -> None:
    llmrl(*TRAIN, code=130, before=HALF_WAY)
    run = the_run(tmp_path)
    newest = max(run.glob("checkpoints/*"), key=lambda p: int(p.name))
    about = {key: value for key, value in read_about(newest).items() if key != "files"}
    other = {name: torch.zeros(3, *t.shape) for name, t in read_weights(newest).items()}
    write_checkpoint(newest, other, read_state(newest), about)
    done = llmrl(*TRAIN, code=1)
    assert f"{newest.relative_to(tmp_path)} does not fit this run (RuntimeError: Error(s) in loading" in done.err
    assert "move it away to go on from an earlier one" in done.err
    newest.rename(tmp_path / "away")
    assert "resumes from its checkpoint at 16 decisions" in llmrl(*TRAIN).out
    assert results(tmp_path) == whole


# ---- a sweep that is gone --------------------------------------------------------------------------------------------


def test_a_cell_whose_sweep_was_killed_before_it_began_does_nothing(llmrl: Llmrl, tmp_path: Path) -> None:
    llmrl(*TRAIN, code=143, LLMRL_SWEEP="1")
    assert not (tmp_path / "runs").exists()


# ---- configs that cannot be read -------------------------------------------------------------------------------------


def test_a_runs_config_that_cannot_be_read(llmrl: Llmrl, tmp_path: Path, whole: dict[str, bytes]) -> None:
    llmrl(*TRAIN, code=130, before=HALF_WAY)
    run = the_run(tmp_path)
    for rubbish in (bytes(range(128, 256)), b"a: [1\nb: {", b"- 1\n", b""):
        (run / "config.yaml").write_bytes(rubbish)
        assert run.name.rpartition("-")[2] in llmrl("runs", "list").out
        assert "cannot be read" in " ".join(llmrl("runs", "show", run.name).out.split())
        for arguments in (
            ["play", run.name, "--auto"],
            ["plot", run.name],
            ["compare", "seed=0", "--against", "seed=1"],
        ):
            said = llmrl(*arguments, code=2).err
            assert f"{run.relative_to(tmp_path) / 'config.yaml'} cannot be read" in said
    (run / "config.yaml").unlink()
    for arguments in (["play", run.name, "--auto"], ["plot", run.name]):
        assert "config.yaml" in llmrl(*arguments, code=2).err
    llmrl(*TRAIN)
    assert results(tmp_path) == whole
    assert "seed: 0" in (run / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"a: [1, 2\nb: {c\n", "mine/learner/broken.yaml, line 2: this is no YAML"),
        (bytes(range(128, 256)), "mine/learner/broken.yaml cannot be read as YAML"),
        (b"- 1\n", "mine/learner/broken.yaml has to hold settings"),
    ],
)
def test_a_persons_config_that_cannot_be_read(text: bytes, said: str, llmrl: Llmrl, tmp_path: Path) -> None:
    (tmp_path / "mine" / "learner").mkdir(parents=True, exist_ok=True)
    (tmp_path / "mine" / "learner" / "broken.yaml").write_bytes(text)
    assert said in llmrl(*TRAIN, code=2).err


# ---- secrets ---------------------------------------------------------------------------------------------------------


def test_a_secret_in_the_environment_is_written_and_printed_nowhere(llmrl: Llmrl, tmp_path: Path) -> None:
    value = "not-for-other-eyes"
    secrets = {"HF_TOKEN": value, "OPENAI_API_KEY": f"{value}-2"}
    done = llmrl(*TRAIN, code=1, FAULT="step raise", DOOR=f"{value}-2", **secrets)
    assert "the door is $OPENAI_API_KEY" in done.err
    outputs = [done, llmrl(*TRAIN, **secrets)]
    for arguments in (["doctor"], ["runs", "show", "corridor"], [*TRAIN, "--cfg", "job"]):
        outputs.append(llmrl(*arguments, **secrets))
    refused = llmrl(*TRAIN, f"+lm.note={value}", code=2, **secrets)
    assert "lm.note holds the value of $HF_TOKEN" in refused.err
    assert value not in "".join(text for done in [*outputs, refused] for text in done)
    assert [p for p in tmp_path.rglob("*") if p.is_file() and value.encode() in p.read_bytes()] == []


def test_a_persons_config_with_a_secret(llmrl: Llmrl, tmp_path: Path) -> None:
    for setting, said in (
        ("api_key: x9x9", "lm.api_key looks like a secret"),
        ("options: [{authToken: x9x9}]", "lm.options[0].authToken looks like a secret"),
        ("options: '${oc.env:HF_TOKEN}'", "lm.options holds the value of $HF_TOKEN"),
        ("url: http://me:x9x9@host/v1", "lm.url holds a URL with a name and a password"),
    ):
        (tmp_path / "mine" / "lm" / "words.yaml").write_text(f"{CONFIGS['lm/words.yaml']}{setting}\n")
        done = llmrl(*TRAIN, code=2, HF_TOKEN="x9x9x9x9")
        assert said in done.err
        assert "x9x9" not in done.err
    assert not (tmp_path / "runs").exists()
