"""The command, killed at a chosen point, and the same command once more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from run.manifests import change

from llmrl.run.checkpoint import checkpoint_steps
from llmrl.run.folder import RunFolder, read_object

pytestmark = pytest.mark.slow

THREADS = os.environ.get("OMP_NUM_THREADS", "1")
REPOSITORY = Path(__file__).parent.parent.parent
CONFIGS = {
    "lm/steady": "_target_: foreign.Steady\nname: steady\n",
    "lm/moody": "_target_: foreign.Moody\nname: moody\n",
    "env/restless": "_target_: worlds.Restless\nname: restless\n",
    "env/diary": "_target_: worlds.Diary\nname: diary\n",
}
SMALL = [
    "train", "--config-dir", "mine", "env=overcooked_tomato", "env.max_decisions=12", "rollout.num_envs=4",
    "env_steps=96", "evaluation.every=32", "evaluation.episodes=4", "checkpoint_every=16", "progress=false",
    f"threads={THREADS}",
]  # fmt: skip
LEARNS = ["learner.batch=8", "learner.learning_starts=8", "learner.hidden=[16]", "encoder.dim=16"]
TRAIN = [*SMALL, *LEARNS, "lm=steady"]
QUICK = [*(o for o in SMALL if o != "env_steps=96"), "learner=random", "env_steps=48"]

# The n-th call of a function is the last thing this process does; `late`: when the call is over.
ENDS = """
import importlib, os, signal

module, _, path = {where!r}.partition(":")
owner = importlib.import_module(module)
*parts, name = path.split(".")
for part in parts:
    owner = getattr(owner, part)
real, calls = getattr(owner, name), 0


def counted(*args, **kwargs):
    global calls
    calls += 1
    if calls == {nth} and not {late}:
        os.kill(os.getpid(), signal.{by})
    done = real(*args, **kwargs)
    if calls == {nth}:
        os.kill(os.getpid(), signal.{by})
    return done


setattr(owner, name, counted)
"""
# Half of the n-th piece of a log is written.
HALF = """
import os, signal
from llmrl.run.folder import _Log

real, calls = _Log.append, 0


def half(self, data):
    global calls
    calls += 1
    if calls == {nth}:
        self.file.write(data[: len(data) // 2])
        self.file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    real(self, data)


_Log.append = half
"""


def ends(where: str, nth: int, by: str = "SIGKILL", late: bool = False) -> str:
    return ENDS.format(where=where, nth=nth, by=by, late=late)


class Done(NamedTuple):
    out: str
    err: str


Llmrl = Callable[..., Done]


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[str]]:
    environ = {
        **os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")]),
        "OMP_NUM_THREADS": THREADS, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb",
    }  # fmt: skip
    command = [sys.executable, str(Path(__file__).with_name("prefork.py"))]
    with subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def command(server: subprocess.Popen[str], folder: Path) -> Llmrl:
    for name, text in CONFIGS.items():
        (folder / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "mine" / f"{name}.yaml").write_text(text)

    def run(*arguments: str, code: int = 0, before: str = "") -> Done:
        assert server.stdin is not None
        assert server.stdout is not None
        request = {
            "arguments": arguments, "folder": str(folder), "out": str(folder / "out"), "err": str(folder / "err"),
            "environ": {"LLMRL_CACHE": str(folder / "kept.sqlite3")}, "before": before,
        }  # fmt: skip
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        found = int(server.stdout.readline())
        done = Done((folder / "out").read_text(), (folder / "err").read_text())
        assert found == code, done
        assert "Traceback" not in done.out + done.err
        return done

    return run


@pytest.fixture
def llmrl(server: subprocess.Popen[str], tmp_path: Path) -> Llmrl:
    return command(server, tmp_path)


def the_run(root: Path) -> Path:
    (path,) = (p.parent for p in root.glob("runs/*/.lock") if ".aside-" not in p.parent.name)
    return path


def results(root: Path) -> dict[str, bytes]:
    run = the_run(root)
    files = [run / name for name in ("metrics.jsonl", "episodes.jsonl", "summary.json")]
    return {str(p.relative_to(run)): p.read_bytes() for p in [*files, *run.glob("checkpoints/*/weights.safetensors")]}


def contents(root: Path) -> dict[str, tuple[bytes, int]]:
    """Of the runs, with when each file was last written."""
    files = [p for p in root.glob("runs/**/*") if p.is_file() and p.name != ".lock"]
    return {str(p.relative_to(root)): (p.read_bytes(), p.stat().st_mtime_ns) for p in files}


@pytest.fixture(scope="module")
def whole(server: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run that nobody disturbed leaves."""
    root = tmp_path_factory.mktemp("whole")
    command(server, root)(*TRAIN)
    found = results(root)
    assert b'"loss/td":0.' in found["metrics.jsonl"]
    assert "checkpoints/96/weights.safetensors" in found
    return found


# ---- kill -9 ---------------------------------------------------------------------------------------------------------

POINTS = {
    "its first summary": ends("os:replace", 1),
    "its config": ends("os:replace", 3),
    "a file that was renamed": ends("os:replace", 4, late=True),
    "a file of a checkpoint": ends("os:fsync", 30),
    "a checkpoint written, not published": ends("os:rename", 3),
    "a checkpoint published": ends("os:rename", 3, late=True),
    "a checkpoint too many": ends("llmrl.run.folder:RunFolder._prune", 4),
    "half a line": HALF.format(nth=12),
    "an evaluation": ends("llmrl.rollout.exact:Exact.evaluate", 4),
    "an answer": ends("llmrl.answers.answers:AnswerCache.extend", 20),
    "answers": ends("llmrl.answers.answers:AnswerCache.add", 1, late=True),
    "a world": ends("llmrl.envs.pool:EnvPool.run", 20),
    "a gradient step": ends("llmrl.learners.dqn:DQN._gradient_step", 14),
    "the last summary": ends("llmrl.run.folder:RunFolder.finish", 1),
    "what is no longer needed": ends("pathlib:Path.unlink", 9),
}


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_costs_time_and_nothing_else(point: str, llmrl: Llmrl, tmp_path: Path, whole: dict[str, bytes]) -> None:
    llmrl(*TRAIN, code=-9, before=POINTS[point])
    llmrl(*TRAIN)
    assert results(tmp_path) == whole
    assert not [p for p in tmp_path.glob("runs/**/.*") if p.name != ".lock"]


def test_kill_after_kill_with_a_model_that_never_says_the_same_twice(llmrl: Llmrl, tmp_path: Path) -> None:
    train = [o for o in TRAIN if not o.startswith(("env=", "env.", "lm="))] + ["env=diary", "lm=moody"]
    points = [
        ends("llmrl.answers.answers:AnswerCache.add", 2, late=True),
        ends("llmrl.answers.answers:AnswerCache.extend", 9),  # within a transaction
        HALF.format(nth=1),
        ends("os:rename", 2),
        ends("llmrl.answers.answers:AnswerCache.add", 5),
        ends("llmrl.training.online:OnlineTraining.tick", 7),
    ]
    for point in points:
        llmrl(*train, code=-9, before=point)
    llmrl(*train)
    killed = results(tmp_path)
    assert len(read_object(the_run(tmp_path) / "provenance.json")["resumed"]) >= 2
    (tmp_path / "runs").rename(tmp_path / "killed")
    llmrl(*train)  # which finds every answer
    assert read_object(the_run(tmp_path) / "cost.json")["lm/computed"] == 0
    assert results(tmp_path) == killed


# ---- signals that ask ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("by", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_what_is_asked_to_stop_says_so_and_can_go_on(
    by: str, code: int, llmrl: Llmrl, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    for nth in (9, 4):
        done = llmrl(*TRAIN, code=code, before=ends("llmrl.training.online:OnlineTraining.tick", nth, by))
        assert done.err == "stopped; the same command resumes from the last checkpoint, where there is one\n"
    run = the_run(tmp_path)
    step = checkpoint_steps(run)[-1]
    assert "stopped" in llmrl("runs", "list").out
    assert f"{run.relative_to(tmp_path)} resumes from its checkpoint at {step} decisions" in llmrl(*TRAIN).out
    assert results(tmp_path) == whole


@pytest.mark.parametrize(("by", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
@pytest.mark.parametrize("where", ["typer.main:get_command", "typer.core:TyperGroup.make_context"])
def test_what_is_asked_to_stop_before_it_begins(where: str, by: str, code: int, llmrl: Llmrl, tmp_path: Path) -> None:
    llmrl(*QUICK, code=code, before=ends(where, 1, by))
    assert not (tmp_path / "runs").exists()


# ---- a finished run --------------------------------------------------------------------------------------------------


def test_a_finished_run_is_shown_without_loading_what_computes(llmrl: Llmrl, tmp_path: Path) -> None:
    told = llmrl(*QUICK).out
    before = contents(tmp_path)
    driver = (
        "import sys\nfrom llmrl.__main__ import main\ntry:\n    main()\nfinally:\n"
        "    heavy = {'torch', 'transformers', 'matplotlib', 'llmrl.training.base'}\n"
        "    print('loaded:', *sorted(heavy & set(sys.modules)))"
    )
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), "LLMRL_CACHE": str(tmp_path / "none"), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-c", driver, *QUICK], cwd=tmp_path, env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "loaded:"
    assert "is complete: nothing to compute" in done.stdout
    summary = [line for line in told.splitlines() if "decisions" in line][-1]
    assert summary in done.stdout
    assert contents(tmp_path) == before
    assert not (tmp_path / "none").exists()


def test_fresh_begins_anew(llmrl: Llmrl, tmp_path: Path) -> None:
    llmrl(*QUICK)
    first, old = the_run(tmp_path), results(tmp_path)
    made = first.stat().st_ino
    told = llmrl(*QUICK, "--fresh").out
    aside = first.with_name(f"{first.name}.aside-1")
    assert f"the old folder is set aside as {aside.relative_to(tmp_path)}" in told
    assert aside.stat().st_ino == made
    assert first.stat().st_ino != made
    assert results(tmp_path) == old
    assert read_object(first / "cost.json")["attempts"] == 1


# ---- who may go on ---------------------------------------------------------------------------------------------------


def test_other_conditions_are_named_and_may_be_allowed(llmrl: Llmrl, tmp_path: Path) -> None:
    llmrl(*QUICK, code=143, before=ends("llmrl.training.online:OnlineTraining.tick", 6, "SIGTERM"))
    run = the_run(tmp_path)
    before = change(run / "checkpoints" / "16", **{"machine.torch": "1.0", "settings.numerics": 1})
    kept = contents(tmp_path)
    refused = llmrl(*QUICK, code=1).err
    assert refused.count("\n") == 1
    assert f"torch: 1.0 then, {before['machine.torch']} now; numerics: 1 then" in refused
    assert "--allow-drift" in refused
    assert contents(tmp_path) == kept
    llmrl(*QUICK, "--allow-drift")
    (resumed,) = read_object(run / "provenance.json")["resumed"]
    assert resumed["drift"].keys() == {"torch", "numerics"}


def test_a_run_that_another_process_works_on(llmrl: Llmrl, tmp_path: Path) -> None:
    llmrl(*QUICK, code=130, before=ends("llmrl.training.online:OnlineTraining.tick", 6, "SIGINT"))
    run = the_run(tmp_path)
    run_id = read_object(run / "summary.json")["run_id"]
    with RunFolder.open(tmp_path / "runs", run.name, run_id):
        kept = contents(tmp_path)
        for flags in ((), ("--fresh",), ("--allow-drift",)):
            refused = llmrl(*QUICK, *flags, code=1).err
            assert f"error: {run.relative_to(tmp_path)} is in use by process {os.getpid()} on " in refused
        assert contents(tmp_path) == kept
    assert "resumes from its checkpoint at 16 decisions" in llmrl(*QUICK).out


def test_a_world_that_does_not_replay_is_named(llmrl: Llmrl, tmp_path: Path) -> None:
    restless = [o for o in QUICK if not o.startswith("env")] + ["env=restless", "env_steps=48"]
    llmrl(*restless, code=-9, before=ends("llmrl.training.online:OnlineTraining.tick", 8))
    told = llmrl(*restless).out
    assert "world restless does not replay" in told
    (resumed,) = read_object(the_run(tmp_path) / "provenance.json")["resumed"]
    assert f"in {resumed['lost_episodes']} of 4 environments" in told


# ---- sweeps ----------------------------------------------------------------------------------------------------------


def test_a_killed_sweep_runs_only_what_is_missing(llmrl: Llmrl, tmp_path: Path) -> None:
    sweep = [*(o for o in QUICK if o not in ("--config-dir", "mine")), "-m", "seed=0,1,2"]
    one = [*(o for o in QUICK if o not in ("--config-dir", "mine")), "seed=1"]
    llmrl(
        *one, code=143, before=ends("llmrl.training.online:OnlineTraining.tick", 6, "SIGTERM")
    )  # one that is half done
    llmrl(*(o for o in one if o != "seed=1"), "seed=2")  # and one that is complete
    llmrl(*sweep, code=-9, before=ends("subprocess:Popen.__exit__", 1, late=True))  # after its first cell
    kept = contents(tmp_path)
    done = llmrl(*sweep)
    assert "2 of 3 runs are complete already" in done.out
    assert {line[:5] for line in done.out.splitlines() if line.startswith("[")} == {"[2/3]"}
    now = contents(tmp_path)
    assert {name for name in kept if kept[name] != now.get(name)} <= {name for name in kept if "-s1-" in name}
    (half,) = tmp_path.glob("runs/*-s1-*")
    assert read_object(half / "provenance.json")["resumed"][0]["env_steps"] == 16
    again = llmrl(*sweep)
    assert "3 of 3 runs are complete already" in again.out
    assert contents(tmp_path) == now
    assert again.out.count("complete") == 4
