"""wandb and Trackio themselves, on this machine, and what they kept. `make test-loggers` runs this."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report.runs_on_disk import make_runs

from llmrl.core.files import flatten
from llmrl.loggers.live import push, sent_live
from llmrl.loggers.logger import LoggerError
from llmrl.run.load import RunInfo

pytestmark = pytest.mark.skipif("LLMRL_LOGGERS" not in os.environ, reason="needs wandb and trackio: make test-loggers")

STEPS = [0, 250, 500, 750, 1000]


def made(folder: Path, status: str = "complete") -> RunInfo:
    (run,) = make_runs(folder / "runs", ["learner=dqn"], [0], lambda s: lambda t: t / 1000, 1000, 250, status=status)
    return run


def cut(run: RunInfo, rows: int) -> bytes:
    """All rows, of which the file has the first ones now."""
    file = run.path / "metrics.jsonl"
    whole = file.read_bytes()
    file.write_bytes(b"".join(whole.splitlines(keepends=True)[:rows]))
    return whole


# ---- wandb, offline ------------------------------------------------------------------------------------------------


def offline(folder: Path) -> dict[str, Any]:
    return {"project": "p", "entity": None, "mode": "offline", "dir": str(folder)}


def records(file: Path) -> Iterator[Any]:
    """Of a .wandb file: a log as LevelDB has it, of protocol buffers, after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, parts = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:  # the end of a block is left empty
            at += left
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        parts += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def kept(folder: Path) -> tuple[dict[str, Any], dict[str, Any], list[tuple[int, dict[str, Any]]], dict[str, Any]]:
    """Of the newest offline run: what it is, its config, its rows by step, its summary."""
    newest = max(folder.glob("wandb/offline-run-*/run-*.wandb"), key=lambda file: file.stat().st_mtime_ns)
    about: dict[str, Any] = {}
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    rows = []
    for record in records(newest):
        which = record.WhichOneof("record_type")
        if which == "run":
            about = {"id": record.run.run_id, "name": record.run.display_name, "project": record.run.project}
            config = {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif which == "history":
            named = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
            rows.append((named["_step"], {key: value for key, value in named.items() if not key.startswith("_")}))
        elif which == "summary":
            summary |= {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.summary.update}
    return about, config, rows, summary


def test_wandb_keeps_the_run_offline(tmp_path: Path) -> None:
    run = made(tmp_path)
    done = push(run.path, "wandb", offline(tmp_path / "w"))
    assert done["new"] == 5
    assert "wandb sync" in done["where"]
    about, config, rows, summary = kept(tmp_path / "w")
    assert about == {"id": run.summary["run_id"][:16], "name": run.name, "project": "p"}
    assert config["learner"] == run.config["learner"]
    expected = [(row["env_steps"], row | {"eval/exact": 1.0}) for row in run.metrics]
    assert rows == expected
    assert (summary["eval/success"], summary["cost/seconds"]) == (1.0, 61.5)
    assert push(run.path, "wandb", offline(tmp_path / "w"))["new"] == 0


def test_an_offline_folder_of_wandb_holds_the_whole_run(tmp_path: Path) -> None:
    """Also where an earlier one holds its beginning: the later one takes its place when both are synced."""
    run = made(tmp_path, "running")
    whole = cut(run, 2)
    assert push(run.path, "wandb", offline(tmp_path / "w"))["new"] == 2
    (run.path / "metrics.jsonl").write_bytes(whole)
    assert push(run.path, "wandb", offline(tmp_path / "w"))["new"] == 5
    assert [step for step, _ in kept(tmp_path / "w")[2]] == STEPS


def test_wandb_without_a_key_or_a_network_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made(tmp_path)
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # where `wandb login` keeps a key
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(LoggerError, match="No API key configured"):
        push(run.path, "wandb", offline(tmp_path / "w") | {"mode": "online"})


def test_wandb_is_told_of_a_run_that_grows(tmp_path: Path) -> None:
    run = made(tmp_path, "running")
    whole = cut(run, 2)
    notes: list[str] = []
    loggers = {"wandb": offline(tmp_path / "w")}
    with sent_live(loggers, run.path, notes.append, lambda *given: None):
        (run.path / "metrics.jsonl").write_bytes(whole)
    assert [step for step, _ in kept(tmp_path / "w")[2]] == STEPS
    assert notes[0].startswith("wandb has all 5 rows: ")


# ---- Trackio, on this machine --------------------------------------------------------------------------------------


def logs(run: RunInfo) -> list[tuple[int, dict[str, Any]]]:
    """What Trackio has of it, read by Trackio, which reads $TRACKIO_DIR when it is imported."""
    code = """
import json, sys
from trackio.sqlite_storage import SQLiteStorage as storage

print(json.dumps([storage.get_logs("p", sys.argv[1]), storage.get_run_config("p", sys.argv[1])]))
"""
    done = subprocess.run([sys.executable, "-c", code, run.name], capture_output=True, text=True, check=True)
    rows, config = json.loads(done.stdout.splitlines()[-1])
    assert {key: value for key, value in config.items() if not key.startswith("_")} == {
        key: value for key, value in flatten(run.config).items() if key.partition(".")[0] not in ("logger", "paths")
    }
    return [(row.pop("step"), {key: value for key, value in row.items() if key != "timestamp"}) for row in rows]


def test_trackio_keeps_each_row_once_and_then_the_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    run = made(tmp_path, "running")
    settings = {"project": "p", "space_id": None}
    whole = cut(run, 2)
    assert push(run.path, "trackio", settings)["new"] == 2
    (run.path / "metrics.jsonl").write_bytes(whole)
    summary = json.loads((run.path / "summary.json").read_text())
    (run.path / "summary.json").write_text(json.dumps(summary | {"status": "complete"}))
    assert push(run.path, "trackio", settings)["new"] == 3
    (run.path / "sent" / "trackio.json").unlink()
    assert push(run.path, "trackio", settings)["new"] == 0
    *rows, (after, last) = logs(run)
    assert rows == [(row["env_steps"], row | {"eval/exact": 1.0}) for row in run.metrics]
    assert (after, last["summary/eval/success"], last["summary/cost/seconds"]) == (1001, 1.0, 61.5)


def test_trackio_that_cannot_write_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made(tmp_path)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "file" / "trackio"))
    with pytest.raises(LoggerError, match="failed to flush metric logs"):
        push(run.path, "trackio", {"project": "p", "space_id": None})
