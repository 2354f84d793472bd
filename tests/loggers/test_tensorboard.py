"""Event files, read back by TensorBoard's own reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from report.runs_on_disk import make_runs
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata as hparams
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from llmrl.core.files import flatten
from llmrl.loggers.send import send
from llmrl.run.load import RunInfo


def made(folder: Path, status: str = "complete") -> RunInfo:
    overrides = ["learner=dqn", "env=overcooked_tomato"]
    (run,) = make_runs(folder / "runs", overrides, [0], lambda s: lambda t: t / 1000, 1000, 250, status=status)
    return run


def pushed(run: RunInfo, folder: Path) -> dict[str, Any]:
    return send(run.path, "tensorboard", {"folder": str(folder)}, lambda: False, may_wait=False)


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def curve(events: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_each_row_is_a_point_of_each_curve(tmp_path: Path) -> None:
    run = made(tmp_path)
    done = pushed(run, tmp_path / "events")
    assert done == {"rows": 5, "new": 5, "where": str(tmp_path / "events" / run.name)}
    events = read(tmp_path / "events" / run.name)
    tags = {tag for row in run.metrics for tag in row}
    assert set(events.Tags()["scalars"]) == tags
    for tag in tags:
        assert curve(events, tag) == [(row["env_steps"], pytest.approx(float(row[tag]))) for row in run.metrics]


def test_the_config_is_there_as_text_and_as_hyperparameters_and_the_summary_as_text(tmp_path: Path) -> None:
    run = made(tmp_path)
    pushed(run, tmp_path / "events")
    events = read(tmp_path / "events" / run.name)
    (config,), (summary,) = events.Tensors("config"), events.Tensors("summary")
    assert "| learner.name | dqn |" in config.tensor_proto.string_val[0].decode().splitlines()
    assert "| eval/success | 1.0 |" in summary.tensor_proto.string_val[0].decode().splitlines()
    content = events.SummaryMetadata(hparams.SESSION_START_INFO_TAG).plugin_data.content
    found = HParamsPluginData.FromString(content).session_start_info.hparams
    flat = flatten(run.config)
    assert found["learner.alpha"].number_value == flat["learner.alpha"]
    assert found["prior.target.uniform"].HasField("bool_value")
    assert found["learner.name"].string_value == "dqn"


def test_a_run_that_goes_on_has_each_step_once(tmp_path: Path) -> None:
    run = made(tmp_path, "running")
    file = run.path / "metrics.jsonl"
    whole = file.read_bytes()
    file.write_bytes(b"".join(whole.splitlines(keepends=True)[:3]))
    pushed(run, tmp_path / "events")
    folder = tmp_path / "events" / run.name
    live = read(folder)
    assert [step for step, _ in curve(live, "eval/success")] == [0, 250, 500]
    file.write_bytes(whole)
    pushed(run, tmp_path / "events")
    expected = [(t, pytest.approx(t / 1000)) for t in (0, 250, 500, 750, 1000)]
    assert curve(read(folder), "eval/success") == expected
    live.Reload()  # as a server that was running does
    assert curve(live, "eval/success") == expected


def test_events_that_were_removed_are_written_again(tmp_path: Path) -> None:
    run = made(tmp_path)
    pushed(run, tmp_path / "events")
    (events,) = (tmp_path / "events" / run.name).iterdir()
    assert pushed(run, tmp_path / "events")["new"] == 0
    events.unlink()
    assert pushed(run, tmp_path / "events")["new"] == 5


def test_other_files_of_the_folder_stay(tmp_path: Path) -> None:
    run = made(tmp_path)
    other = tmp_path / "events" / run.name / "note.txt"
    other.parent.mkdir(parents=True)
    other.write_text("mine")
    pushed(run, tmp_path / "events")
    assert other.read_text() == "mine"
    assert json.loads((run.path / "sent" / "tensorboard.json").read_text())["rows"] == 5
