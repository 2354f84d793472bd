"""Which rows of a folder are sent, and when they are sent again; the dashboard is a list."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from report.runs_on_disk import make_runs

from llmrl.core.locks import holding
from llmrl.loggers import send as sending
from llmrl.loggers.logger import LoggerError, Sent
from llmrl.loggers.send import send
from llmrl.run.load import RunInfo

SETTINGS = {"project": "a"}
STEPS = [0, 250, 500, 750, 1000]


class Board:
    """Keeps what it is sent, also for the next of its kind."""

    kept: list[tuple[int, Mapping[str, float]]]
    finished: list[tuple[Mapping[str, Any], int, bool]]
    runs: list[Sent]

    def __init__(self, settings: Mapping[str, Any], run: Sent) -> None:
        self.where = "a list"
        self.runs.append(run)
        self.first = self.kept[-1][0] + 1 if self.kept else 0

    @staticmethod
    def has(settings: Mapping[str, Any], run: Sent) -> bool:
        return bool(Board.kept)

    def write(self, step: int, row: Mapping[str, float]) -> None:
        self.kept.append((step, row))

    def finish(self, summary: Mapping[str, Any], last: int, complete: bool) -> None:
        self.finished.append((summary, last, complete))


@pytest.fixture(autouse=True)
def board(monkeypatch: pytest.MonkeyPatch) -> type[Board]:
    Board.kept, Board.finished, Board.runs = [], [], []
    monkeypatch.setattr(sending, "logger_class", lambda name: Board)
    return Board


def made(folder: Path, status: str = "complete") -> Path:
    (run,) = make_runs(folder / "runs", ["learner=random"], [3], lambda s: lambda t: t / 1000, 1000, 250, status=status)
    return run.path


def pushed(folder: Path, settings: Mapping[str, Any] = SETTINGS) -> dict[str, Any]:
    return send(folder, "wandb", settings, lambda: False, may_wait=False)


def steps() -> list[int]:
    return [step for step, _ in Board.kept]


def test_all_rows_the_config_and_the_summary_are_sent_once(tmp_path: Path) -> None:
    folder = made(tmp_path)
    assert pushed(folder) == {"rows": 5, "new": 5, "where": "a list"}
    assert steps() == STEPS
    row = RunInfo(folder).metrics[2]
    assert row["eval/exact"] is True
    assert Board.kept[2][1] == row | {"eval/exact": 1.0}
    (run,) = Board.runs
    assert (run.name, run.id) == (folder.name, RunInfo(folder).summary["run_id"][:16])
    assert run.config["learner"]["name"] == "random"
    assert not {"logger", "paths"} & set(run.config)
    ((summary, last, complete),) = Board.finished
    assert (summary["eval/success"], summary["cost/seconds"], summary["status"]) == (1.0, 61.5, "complete")
    assert (last, complete) == (1000, True)


def test_what_a_dashboard_cannot_plot_is_left_out(tmp_path: Path) -> None:
    folder = made(tmp_path)
    (folder / "metrics.jsonl").write_text('{"env_steps":7,"a":null,"b":"text","c":[1],"d":false,"e":2}\n')
    pushed(folder)
    assert Board.kept == [(7, {"env_steps": 7, "d": 0.0, "e": 2})]


def test_a_run_that_learns_from_data_counts_gradient_steps(tmp_path: Path) -> None:
    folder = made(tmp_path)
    rows = [{"env_steps": 0, "gradient_steps": step} for step in (0, 100)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pushed(folder)
    assert steps() == [0, 100]


def test_nothing_is_sent_twice(tmp_path: Path) -> None:
    folder = made(tmp_path)
    pushed(folder)
    assert pushed(folder) == {"rows": 5, "new": 0, "where": "a list"}
    assert len(Board.runs) == 1  # the dashboard was not even asked
    shutil.rmtree(folder / "sent")
    assert pushed(folder)["new"] == 0
    assert len(Board.runs) == 2
    assert steps() == STEPS


def test_an_unfinished_run_is_sent_as_far_as_it_is_and_the_rest_later(tmp_path: Path) -> None:
    folder = made(tmp_path, "running")
    file = folder / "metrics.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-9])  # amid its last line
    assert pushed(folder)["new"] == 4
    file.write_bytes(whole)
    assert pushed(folder)["new"] == 1
    assert steps() == STEPS
    assert [complete for _, _, complete in Board.finished] == [False, False]
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"status": "complete"}))
    assert pushed(folder)["new"] == 0
    assert Board.finished[-1][2]


def test_a_resumed_run_that_writes_rows_again_has_each_once(tmp_path: Path) -> None:
    folder = made(tmp_path, "running")
    file = folder / "metrics.jsonl"
    whole = file.read_bytes()
    pushed(folder)
    file.write_bytes(b"".join(whole.splitlines(keepends=True)[:3]))  # cut back to a checkpoint
    assert send(folder, "wandb", SETTINGS, growing(file, [whole, None]), may_wait=True)["new"] == 0
    assert steps() == STEPS


def growing(file: Path, contents: list[bytes | None]) -> Callable[[], bool]:
    """A run that writes each of these between two looks; None: it ends."""
    left: Iterator[bytes | None] = iter(contents)

    def grows() -> bool:
        now = next(left, None)
        if now is not None:
            file.write_bytes(now)
        return now is not None

    return grows


def test_rows_are_sent_as_they_come_and_those_at_the_very_end_too(tmp_path: Path) -> None:
    folder = made(tmp_path)
    file = folder / "metrics.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.unlink()
    seen: list[int] = []

    def grows() -> bool:
        seen.append(len(Board.kept))
        done = len(seen)
        file.write_bytes(b"".join(lines[:done]))
        return done < len(lines)

    assert send(folder, "wandb", SETTINGS, grows, may_wait=True)["new"] == 5
    assert seen == [0, 1, 2, 3, 4]
    assert steps() == STEPS


def test_another_project_is_sent_all(tmp_path: Path) -> None:
    folder = made(tmp_path)
    pushed(folder)
    Board.kept = []
    assert pushed(folder, {"project": "b"})["new"] == 5


def test_what_was_lost_there_is_sent_again(tmp_path: Path) -> None:
    folder = made(tmp_path)
    pushed(folder)
    Board.kept = []
    assert pushed(folder)["new"] == 5


def test_a_failure_is_not_taken_for_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made(tmp_path)

    def finish(*given: object) -> None:
        raise OSError("no connection")

    with monkeypatch.context() as patch:
        patch.setattr(Board, "finish", finish)
        with pytest.raises(OSError, match="no connection"):
            pushed(folder)
    pushed(folder)
    assert len(Board.finished) == 1
    assert steps() == STEPS


def test_what_was_set_aside_is_another_run_there(tmp_path: Path) -> None:
    folder = made(tmp_path)
    aside = folder.with_name(f"{folder.name}.aside-1")
    shutil.copytree(folder, aside)
    pushed(folder)
    pushed(aside)
    assert Board.runs[1].id == f"{Board.runs[0].id}-aside-1"


def test_two_processes_do_not_send_a_run_at_the_same_time(tmp_path: Path) -> None:
    folder = made(tmp_path)
    (folder / "sent").mkdir()
    with (
        holding(folder / "sent" / "wandb.lock"),
        pytest.raises(LoggerError, match=f"another process sends {folder.name} to wandb now"),
    ):
        pushed(folder)
    assert Board.kept == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    folder = made(tmp_path)
    (folder / "sent").write_text("in the way")
    with pytest.raises(LoggerError, match=r"sent cannot be written \(File exists\)"):
        pushed(folder)
