"""Runs beside which rows are sent, by processes with a fake `wandb`: it records, fails, hangs, prints, draws."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from loggers.fakes import Fake, fake
from report.runs_on_disk import make_runs

import llmrl
from llmrl.config.compose import ConfigError, compose
from llmrl.loggers import live, logger
from llmrl.loggers.live import push, sent_live
from llmrl.loggers.logger import LoggerError
from llmrl.report.progress import Silent
from llmrl.run.load import RunInfo

__all__ = ["fake"]

SMALL = [
    "env=overcooked_tomato", "learner=dqn", "env_steps=96", "evaluation.every=48", "evaluation.episodes=2",
    "rollout.num_envs=4", "env.max_decisions=12", "evaluation.exact_up_to=0", "learner.learning_starts=20",
    "learner.batch=8", "learner.hidden=[16]", "encoder.dim=16",
]  # fmt: skip
SETTINGS = {"project": "p", "entity": None, "mode": None, "dir": None}
LATER = "The run is not touched by this; `llmrl runs push {} --to wandb` sends them later"


class Heard(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def trained(folder: Path, *more: str) -> tuple[RunInfo, list[str]]:
    heard = Heard()
    done = llmrl.train(compose([*SMALL, f"paths.runs={folder}", *more]), heard)
    return RunInfo(Path(done["folder"])), heard.notes


def results(run: RunInfo) -> dict[str, bytes]:
    names = ["metrics.jsonl", "episodes.jsonl", "summary.json", "checkpoints/96/weights.safetensors"]
    return {name: (run.path / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> RunInfo:
    return trained(tmp_path_factory.mktemp("alone"))[0]


def test_a_run_is_sent_while_it_trains_and_is_the_same_run(
    fake: Fake, tmp_path: Path, alone: RunInfo, capfd: pytest.CaptureFixture[str]
) -> None:
    run, notes = trained(tmp_path / "runs", "logger=wandb", "logger.wandb.project=mine")
    assert run.name == alone.name
    assert results(run) == results(alone)
    assert fake.told("step") == [0, 48, 96]
    assert [row["eval/success"] for row in fake.told("row")] == [row["eval/success"] for row in run.metrics]
    (asked,) = fake.told("init")
    assert (asked["project"], asked["name"], asked["resume"]) == ("mine", run.name, "allow")
    assert asked["id"] == run.summary["run_id"][:16]
    assert asked["config"]["learner"]["name"] == "dqn"
    assert fake.told("exit_code") == [0]
    assert fake.told("summary")[0]["eval/success"] == run.summary["eval"]["success"]
    assert notes[-1] == "wandb has all 3 rows: https://example.org/run"
    assert "chatter" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("import", "ImportError: half installed"),
        ("init", "RuntimeError: no key $WANDB_API_KEY"),
        ("log", r"OSError: [Errno 28] no space left"),
        ("crash", f"its process ended with exit code -{signal.SIGSEGV:d}"),
    ],
)
def test_a_failure_is_one_line_and_touches_no_run(
    where: str, reason: str, fake: Fake, tmp_path: Path, alone: RunInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    fake.fails(where)
    run, notes = trained(tmp_path / "runs", "logger=wandb")
    assert results(run) == results(alone)
    told = f"wandb does not have all rows ({reason}). {LATER.format(run.name)}"
    assert [note for note in notes if "wandb" in note] == [told]
    assert told in (run.path / "log.txt").read_text()


def test_what_failed_is_pushed_later(fake: Fake, tmp_path: Path) -> None:
    fake.fails("log")
    run, _ = trained(tmp_path / "runs", "logger=wandb")
    assert fake.told("step") == [0]
    fake.fails("")
    fake.has_steps_before(1)
    assert push(run.path, "wandb", SETTINGS) == {"rows": 3, "new": 2, "where": "https://example.org/run"}
    assert fake.told("step") == [0, 48, 96]


def test_a_dashboard_that_hangs_has_its_seconds_and_no_more(
    fake: Fake, tmp_path: Path, alone: RunInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "WAIT", 1)
    fake.fails("hang")
    run, notes = trained(tmp_path / "runs", "logger=wandb")
    assert results(run) == results(alone)
    assert notes[-1] == f"wandb does not have all rows (it took too long). {LATER.format(run.name)}"
    for process in fake.told("hangs"):
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_one_that_fails_keeps_no_other_from_its_rows(fake: Fake, tmp_path: Path) -> None:
    fake.fails("init")
    events = tmp_path / "events"
    run, notes = trained(tmp_path / "runs", "logger=[tensorboard,wandb]", f"logger.tensorboard.folder={events}")
    assert f"tensorboard has all 3 rows: {events / run.name}" in notes
    assert sum(note.startswith("wandb does not have all rows") for note in notes) == 1


@pytest.mark.parametrize("where", ["", "hang"])
def test_a_run_that_is_stopped_does_not_wait_and_what_it_wrote_is_sent(
    where: str, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched: list[live._Watched] = []
    made = live._Watched.__init__

    def keep(self: live._Watched, *given: object) -> None:
        watched.append(self)
        made(self, *given)  # type: ignore[arg-type]

    def wait(self: live._Watched, until: float) -> None:
        pytest.fail("it waits")

    monkeypatch.setattr(live._Watched, "__init__", keep)
    monkeypatch.setattr(live._Watched, "wait", wait)
    if where:
        monkeypatch.setattr(live, "WAIT", 1)
        fake.fails(where)
    (run,) = make_runs(tmp_path, ["learner=dqn"], [0], lambda s: lambda t: 0.5, 500, 250, status="running")
    notes: list[str] = []
    with pytest.raises(KeyboardInterrupt), sent_live({"wandb": SETTINGS}, run.path, notes.append, lambda *given: None):
        raise KeyboardInterrupt
    watched[0]._thread.join()  # the process ends by itself
    if not where:
        assert fake.told("step") == [0, 250, 500]
        assert fake.told("exit_code") == [1]  # it is not over
    assert notes == []


def test_a_process_that_cannot_be_started_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run,) = make_runs(tmp_path, ["learner=dqn"], [0], lambda s: lambda t: 0.5, 500, 250)
    monkeypatch.setattr(live.sys, "executable", str(tmp_path / "nothing"))
    notes: list[str] = []
    with sent_live({"wandb": SETTINGS}, run.path, notes.append, lambda *given: None):
        pass
    (note,) = notes
    assert note.startswith("wandb does not have all rows ([Errno 2] No such file or directory")


def test_a_dashboard_that_is_disabled_is_an_error(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run,) = make_runs(tmp_path, ["learner=dqn"], [0], lambda s: lambda t: 0.5, 500, 250)
    fake.fails("disabled")
    with pytest.raises(LoggerError, match=r"wandb is disabled by \$WANDB_MODE"):
        push(run.path, "wandb", SETTINGS)


def test_a_missing_package_is_refused_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logger, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"logger=trackio needs the package trackio.*pip install 'llmrl\[trackio\]'"):
        trained(tmp_path / "runs", "logger=trackio")
    assert not (tmp_path / "runs").exists()


def test_a_folder_of_that_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nothing_of_this_name").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="needs the package nothing_of_this_name"):
        logger.refuse_missing_package("nothing_of_this_name", "--to nothing_of_this_name")


def test_a_finished_run_says_how_it_is_sent(fake: Fake, alone: RunInfo) -> None:
    _, notes = trained(alone.path.parent, "logger=wandb")
    assert f"`llmrl runs push {alone.name} --to wandb` sends a finished run" in notes[-1]
    assert fake.told("init") == []
