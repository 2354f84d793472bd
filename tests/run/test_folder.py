from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from llmrl.run.folder import RunFolder, RunInUse, in_use
from llmrl.run.load import RunInfo, find_run, load_runs

ID = "0123456789abcdef" * 4
NAME = f"world-learner-prior-s0-{ID[:8]}"

HOLDER = f"""
import sys
from pathlib import Path
from llmrl.run.folder import RunFolder
folder = RunFolder.open(Path(sys.argv[1]), {NAME!r}, {ID!r})
folder.append("metrics", {{"env_steps": 0}})
print(folder.note or "new", flush=True)
sys.stdin.read()
"""


def opened(root: Path, name: str = NAME, run_id: str = ID) -> RunFolder:
    return RunFolder.open(root, name, run_id)


def complete(root: Path, name: str = NAME, run_id: str = ID) -> None:
    with opened(root, name, run_id) as folder:
        folder.write_summary({"status": "complete", "env_steps": 7})


def test_a_run_writes_its_folder(tmp_path: Path) -> None:
    with opened(tmp_path / "runs") as folder:
        assert folder.path == tmp_path / "runs" / NAME
        assert (folder.finished, folder.note) == (False, None)
        assert folder.summary == {"run_id": ID, "status": "running"}
        folder.write_config(OmegaConf.create({"seed": 3}))
        folder.write_json("cost.json", {"seconds": 1.5})
        folder.append("metrics", {"b": None, "a": 1})
        assert (folder.path / "metrics.jsonl").read_text() == '{"a":1,"b":null}\n'  # there at once, not at the end
        folder.append("metrics", {"a": 2})
        folder.log("hello")
        folder.checkpoint(250, {"state.json": {"step": 250}})
        folder.write_summary({"status": "complete"})
    run = RunInfo(folder.path)
    assert (run.status, run.config, run.cost) == ("complete", {"seed": 3}, {"seconds": 1.5})
    assert run.metrics == [{"a": 1, "b": None}, {"a": 2}]
    assert (folder.path / "log.txt").read_text().endswith("Z hello\n")
    assert json.loads((folder.path / "checkpoints" / "250" / "state.json").read_text()) == {"step": 250}


def test_a_complete_run_is_not_run_again(tmp_path: Path) -> None:
    complete(tmp_path)
    with opened(tmp_path) as folder:
        assert folder.finished
        assert "complete" in (folder.note or "")
        assert folder.summary["env_steps"] == 7
        with pytest.raises(AssertionError):
            folder.append("metrics", {})
    with opened(tmp_path):  # and it was let go
        assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == [NAME]


def test_an_unfinished_run_is_set_aside(tmp_path: Path) -> None:
    for n in (1, 2):
        with opened(tmp_path) as folder:
            folder.append("metrics", {"attempt": n})
    with opened(tmp_path) as folder:
        assert f"{NAME}.unfinished-2" in (folder.note or "")
        assert RunInfo(folder.path).metrics == []
    assert RunInfo(tmp_path / f"{NAME}.unfinished-1").metrics == [{"attempt": 1}]
    assert RunInfo(tmp_path / f"{NAME}.unfinished-2").metrics == [{"attempt": 2}]
    assert [run.name for run in load_runs(tmp_path)] == [NAME]


def test_a_folder_torn_before_its_first_summary_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir(parents=True)
    (tmp_path / NAME / "summary.json").write_text("{")
    with opened(tmp_path) as folder:
        assert "set aside" in (folder.note or "")
        assert not folder.finished


def test_another_run_with_the_same_beginning_gets_a_longer_name(tmp_path: Path) -> None:
    complete(tmp_path)
    for other in (ID[:8] + "f" * 56, ID[:8] + "ffff" + "e" * 52):
        complete(tmp_path, NAME, other)
    names = [run.name.rpartition("-")[2] for run in load_runs(tmp_path)]
    assert names == [ID[:8], ID[:8] + "ffff", ID[:8] + "ffffeeee"]
    with opened(tmp_path, NAME, ID[:8] + "f" * 56) as folder:
        assert folder.finished


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with opened(tmp_path) as folder:
        assert in_use(folder.path)
        assert RunInfo(folder.path).status == "running"
        with pytest.raises(RunInUse, match=r"in use by this process"):
            opened(tmp_path)
        second = subprocess.run([sys.executable, "-c", HOLDER, str(tmp_path)], capture_output=True, text=True)
        assert "RunInUse" in second.stderr
        assert "in use by process" in second.stderr
        folder.append("metrics", {"still": "ours"})
    assert not in_use(folder.path)
    assert RunInfo(folder.path).status == "stopped"


def test_a_kill_lets_go_and_keeps_what_was_written(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "new\n"
        assert in_use(tmp_path / NAME)
        with pytest.raises(RunInUse, match=rf"process {holder.pid} on "):
            opened(tmp_path)
        holder.kill()
    assert RunInfo(tmp_path / NAME).status == "stopped"
    assert RunInfo(tmp_path / NAME).metrics == [{"env_steps": 0}]
    with opened(tmp_path) as folder:
        assert "set aside" in (folder.note or "")


def test_an_error_is_logged_and_the_run_has_failed(tmp_path: Path) -> None:
    def work(folder: RunFolder) -> None:
        with folder:
            folder.write_summary({"status": "running", "env_steps": 3})
            raise RuntimeError("boom")

    folder = opened(tmp_path)
    with pytest.raises(RuntimeError, match="boom") as caught:
        work(folder)
    assert caught.value.__notes__ == [f"the traceback is in {folder.path / 'log.txt'}"]
    assert "RuntimeError: boom" in (folder.path / "log.txt").read_text()
    assert RunInfo(folder.path).status == "failed"
    assert folder.summary["env_steps"] == 3
    with opened(tmp_path) as again:
        assert not again.finished


def test_ctrl_c_is_no_failure(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), opened(tmp_path) as folder:
        raise KeyboardInterrupt
    assert RunInfo(folder.path).status == "stopped"


def test_a_place_that_cannot_hold_runs_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"paths.runs=FOLDER"):
        opened(tmp_path / "file" / "runs")


# ---- reading back ------------------------------------------------------------------------------------------------


def test_foreign_folders_are_no_runs(tmp_path: Path) -> None:
    complete(tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "summary.json").write_text('{"text": 1}')
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "summary.json").write_text("[]")
    (tmp_path / "list" / "config.yaml").write_text("a: [")
    assert [run.name for run in load_runs(tmp_path)] == [NAME]
    assert load_runs(tmp_path / "nowhere") == []
    assert RunInfo(tmp_path / "list").config == {}


def test_a_run_is_found_by_a_part_of_its_name_or_its_folder(tmp_path: Path) -> None:
    other = "world-dqn-prior-s0-ffffffff"
    complete(tmp_path)
    complete(tmp_path, other, "f" * 64)
    assert find_run("dqn", tmp_path).name == other
    assert find_run(NAME, tmp_path).name == NAME
    assert find_run(str(tmp_path / other), tmp_path / "nowhere").name == other
    with pytest.raises(ValueError, match=rf"(?s)2 runs have this.*{other}.*{NAME}"):
        find_run("world", tmp_path)
    with pytest.raises(ValueError, match=rf"(?s)no such run.*{other}"):
        find_run("wrld-dqn-prior-s0-fffffffe", tmp_path)
    with pytest.raises(ValueError, match="`llmrl train` makes one"):
        find_run("x", tmp_path / "nowhere")
