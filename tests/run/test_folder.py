from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from llmrl.run import folder as run_folder
from llmrl.run.checkpoint import checkpoint_steps, read_manifest, read_state, read_weights
from llmrl.run.folder import FEATURE_ROWS, RunFolder, RunInUse, in_use
from llmrl.run.load import RunInfo, find_run, load_runs

ID = "0123456789abcdef" * 4
NAME = f"world-learner-prior-s0-{ID[:8]}"

HOLDER = f"""
import sys
from pathlib import Path
from llmrl.run.folder import RunFolder
folder = RunFolder.open(Path(sys.argv[1]), {NAME!r}, {ID!r})
folder.start_at(None, {{}})
folder.append("metrics.jsonl", {{"env_steps": 0}})
print("begun", flush=True)
sys.stdin.read()
"""


def opened(root: Path, name: str = NAME, run_id: str = ID, fresh: bool = False) -> RunFolder:
    return RunFolder.open(root, name, run_id, fresh)


def begun(root: Path, fresh: bool = False) -> RunFolder:
    """With empty logs."""
    folder = opened(root, fresh=fresh)
    folder.start_at(None, {})
    return folder


def complete(root: Path, name: str = NAME, run_id: str = ID) -> None:
    with opened(root, name, run_id) as folder:
        folder.write_summary({"status": "complete", "env_steps": 7})


def test_a_run_writes_its_folder(tmp_path: Path) -> None:
    with opened(tmp_path / "runs") as folder:
        assert folder.path == tmp_path / "runs" / NAME
        assert (folder.finished, folder.note) == (False, None)
        assert folder.summary == {"run_id": ID, "status": "running"}
        folder.start_at(None, {})
        folder.write_config(OmegaConf.create({"seed": 3}))
        folder.write_json("cost.json", {"seconds": 1.5})
        folder.append("metrics.jsonl", {"b": None, "a": 1})
        assert (folder.path / "metrics.jsonl").read_text() == '{"a":1,"b":null}\n'  # there at once, not at the end
        folder.append("metrics.jsonl", {"a": 2})
        folder.log("hello")
        folder.checkpoint(250, {"w": torch.ones(2)}, {"step": 250}, {"score": [0.5]})
        folder.write_summary({"status": "complete"})
    run = RunInfo(folder.path)
    assert (run.status, run.config, run.cost) == ("complete", {"seed": 3}, {"seconds": 1.5})
    assert run.metrics == [{"a": 1, "b": None}, {"a": 2}]
    assert (folder.path / "log.txt").read_text().endswith("Z hello\n")
    assert read_state(folder.path / "checkpoints" / "250") == {"step": 250}


def test_a_complete_run_is_not_run_again(tmp_path: Path) -> None:
    complete(tmp_path)
    with opened(tmp_path) as folder:
        assert folder.finished
        assert folder.note is None
        assert folder.summary["env_steps"] == 7
        with pytest.raises(AssertionError):
            folder.append("metrics.jsonl", {})
    with opened(tmp_path):  # and it was let go
        assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == [NAME]


def test_an_unfinished_run_is_opened_as_it_was_left(tmp_path: Path) -> None:
    with begun(tmp_path) as folder:
        folder.append("metrics.jsonl", {"attempt": 1})
        folder.append_bytes(FEATURE_ROWS, b"1234")
        folder.checkpoint(7, {}, {}, {"score": [0.0]})
        folder.append("metrics.jsonl", {"attempt": 1, "late": True})
        folder.append_bytes(FEATURE_ROWS, b"5678")
    with opened(tmp_path) as folder:
        assert (folder.finished, folder.note) == (False, None)
        assert len(RunInfo(folder.path).metrics) == 2  # nothing is cut off before it is known where the run goes on
        logs = read_manifest(folder.path / "checkpoints" / "7")["logs"]
        assert folder.holds(logs)
        folder.start_at(7, logs)
        folder.append("metrics.jsonl", {"attempt": 2})
        folder.append_bytes(FEATURE_ROWS, b"9")
    assert RunInfo(folder.path).metrics == [{"attempt": 1}, {"attempt": 2}]
    assert (folder.path / FEATURE_ROWS).read_bytes() == b"12349"
    assert [run.name for run in load_runs(tmp_path)] == [NAME]


def test_what_follows_the_beginning_of_a_run_goes(tmp_path: Path) -> None:
    with begun(tmp_path) as folder:
        for step in (8, 16, 24):
            folder.append("metrics.jsonl", {"env_steps": step})
            folder.checkpoint(step, {}, {}, {"score": [0.0]})
        folder.start_at(16, read_manifest(folder.path / "checkpoints" / "16")["logs"])
        assert checkpoint_steps(folder.path) == [16]
        assert [row["env_steps"] for row in RunInfo(folder.path).metrics] == [8, 16]
        folder.start_at(None, {})
        assert checkpoint_steps(folder.path) == []
        assert RunInfo(folder.path).metrics == []


def test_logs_that_are_not_those_of_a_checkpoint(tmp_path: Path) -> None:
    with begun(tmp_path) as folder:
        folder.append("episodes.jsonl", {"episode": 0}, {"episode": 1})
        folder.checkpoint(7, {}, {}, {"score": [0.0]})
        logs = read_manifest(folder.path / "checkpoints" / "7")["logs"]
        log = folder.path / "episodes.jsonl"
        whole = log.read_bytes()
        for other in (whole[:-1], whole.replace(b"0", b"2"), b"", b"x" + whole):
            log.write_bytes(other)
            assert not folder.holds(logs)
        log.unlink()
        assert not folder.holds(logs)
        log.write_bytes(whole + b'{"episode":2}\n')
        assert folder.holds(logs)


def test_the_last_two_checkpoints_stay_and_the_best(tmp_path: Path) -> None:
    kept, scores = [], {10: [0.2, 0], 20: [0.9, 1], 30: [0.1, 9], 40: [0.9, 1], 50: [0.9, 0], 60: [0, 0]}
    with begun(tmp_path) as folder:
        for step, score in scores.items():
            folder.checkpoint(step, {}, {}, {"score": score})
            kept.append(checkpoint_steps(folder.path))
    assert kept == [[10], [10, 20], [20, 30], [30, 40], [40, 50], [40, 50, 60]]


def test_a_checkpoint_that_was_not_evaluated_is_no_best_one(tmp_path: Path) -> None:
    with begun(tmp_path) as folder:
        for step, score in {10: None, 20: [0.1], 30: None, 40: None, 50: None}.items():
            folder.checkpoint(step, {}, {}, {"score": score})
        assert checkpoint_steps(folder.path) == [20, 40, 50]


def test_a_finished_run_keeps_weights_and_no_more_of_its_checkpoints(tmp_path: Path) -> None:
    with begun(tmp_path) as folder:
        folder.append_bytes(FEATURE_ROWS, b"1234")
        folder.checkpoint(7, {"w": torch.ones(2)}, {"rng": 1}, {"score": [0.0]})
        folder.finish({"status": "complete"})
    assert sorted(p.name for p in folder.path.glob("checkpoints/7/*")) == ["manifest.json", "weights.safetensors"]
    assert torch.equal(read_weights(folder.path / "checkpoints" / "7")["w"], torch.ones(2))
    assert not (folder.path / FEATURE_ROWS).parent.exists()


@pytest.mark.parametrize("finished", [False, True])
def test_fresh_begins_anew_and_keeps_what_there_is(finished: bool, tmp_path: Path) -> None:
    for n in (1, 2):
        with begun(tmp_path, fresh=True) as folder:
            assert RunInfo(folder.path).metrics == []
            assert f"{NAME}.aside-{n - 1}" in (folder.note or "") if n > 1 else folder.note is None
            folder.append("metrics.jsonl", {"attempt": n})
            if finished:
                folder.write_summary({"status": "complete"})
    with opened(tmp_path, fresh=True) as folder:
        assert folder.note == f"the old folder is set aside as {tmp_path / NAME}.aside-2"
        assert not folder.finished
    for n in (1, 2):
        assert RunInfo(tmp_path / f"{NAME}.aside-{n}").metrics == [{"attempt": n}]
    assert [run.name for run in load_runs(tmp_path)] == [NAME]


def test_a_folder_torn_before_its_first_summary_is_begun(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir(parents=True)
    (tmp_path / NAME / "summary.json").write_text("{")
    (tmp_path / NAME / ".config.yaml.77.tmp").write_text("half")
    (tmp_path / NAME / "checkpoints" / ".250.77.tmp").mkdir(parents=True)
    with opened(tmp_path) as folder:
        assert not folder.finished
        assert sorted(p.name for p in folder.path.rglob("*")) == [".lock", "checkpoints", "summary.json"]


def test_another_run_with_the_same_beginning_gets_a_longer_name(tmp_path: Path) -> None:
    complete(tmp_path)
    for other in (ID[:8] + "f" * 56, ID[:8] + "ffff" + "e" * 52):
        complete(tmp_path, NAME, other)
    names = [run.name.rpartition("-")[2] for run in load_runs(tmp_path)]
    assert names == [ID[:8], ID[:8] + "ffff", ID[:8] + "ffffeeee"]
    with opened(tmp_path, NAME, ID[:8] + "f" * 56) as folder:
        assert folder.finished


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with begun(tmp_path) as folder:
        assert in_use(folder.path)
        assert RunInfo(folder.path).status == "running"
        with pytest.raises(RunInUse, match=r"in use by this process"):
            opened(tmp_path)
        with pytest.raises(RunInUse, match=r"in use by this process"):
            opened(tmp_path, fresh=True)
        second = subprocess.run([sys.executable, "-c", HOLDER, str(tmp_path)], capture_output=True, text=True)
        assert "RunInUse" in second.stderr
        assert "in use by process" in second.stderr
        folder.append("metrics.jsonl", {"still": "ours"})
    assert not in_use(folder.path)
    assert RunInfo(folder.path).status == "stopped"


def test_a_run_that_is_finished_while_its_lock_is_waited_for_is_only_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path).close()
    locked = run_folder._take_lock

    def late(path: Path) -> object:
        monkeypatch.setattr(run_folder, "_take_lock", locked)
        complete(tmp_path)  # by who held it
        return locked(path)

    monkeypatch.setattr(run_folder, "_take_lock", late)
    monkeypatch.setattr(run_folder, "opening", lambda root: nullcontext())
    with opened(tmp_path) as folder:
        assert folder.finished
    assert not in_use(tmp_path / NAME)
    assert RunInfo(tmp_path / NAME).status == "complete"


def test_a_kill_lets_go_and_keeps_what_was_written(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "begun\n"
        assert in_use(tmp_path / NAME)
        with pytest.raises(RunInUse, match=rf"process {holder.pid} on "):
            opened(tmp_path)
        holder.kill()
    assert RunInfo(tmp_path / NAME).status == "stopped"
    assert RunInfo(tmp_path / NAME).metrics == [{"env_steps": 0}]
    with opened(tmp_path) as folder:
        assert not folder.finished


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
    assert RunInfo(tmp_path / "notes").config == {}
    with pytest.raises(ValueError, match=r"list/config\.yaml cannot be read"):
        _ = RunInfo(tmp_path / "list").config


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
