"""`llmrl cache ...`, as the real command: a run is exported, and repeated where nothing is computed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Llmrl = Callable[..., subprocess.CompletedProcess[str]]

REPOSITORY = Path(__file__).parent.parent.parent
RUN = [
    "env=overcooked_tomato", "env.max_decisions=6", "env_steps=16", "rollout.num_envs=4", "evaluation.every=16",
    "evaluation.episodes=2", "evaluation.exact_up_to=0", "encoder=lm", "progress=false",
    "lm=hf", "lm.model=small", "encoder.model=small",
]  # fmt: skip


@pytest.fixture
def llmrl(tmp_path: Path) -> Llmrl:
    environ = {
        **os.environ, "PYTHONPATH": str(REPOSITORY), "LLMRL_CACHE": str(tmp_path / "kept.sqlite3"),
        "OMP_NUM_THREADS": "1", "COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb",
    }  # fmt: skip

    def run(*arguments: str, code: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "llmrl", *arguments],
            cwd=tmp_path,
            env=environ | more,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stderr + done.stdout
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.mark.slow
def test_a_run_is_exported_and_repeated_without_a_model(llmrl: Llmrl, tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "tests" / "golden" / "lm", tmp_path / "small")
    llmrl("train", *RUN)
    shown = llmrl("cache", "info").stdout
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert "score" in shown
    assert "feature rows of" in shown
    assert "all is as it should be" in llmrl("cache", "verify").stdout

    out = tmp_path / "published.sqlite3"
    assert "feature rows" in llmrl("cache", "export", str(out), "--run", "overcooked_tomato").stdout
    assert "exists and is left as it is" in llmrl("cache", "export", str(out), code=2).stderr

    # A model that stops elsewhere is another; what the first one said is read under its own name.
    (tmp_path / "small" / "generation_config.json").write_text('{"eos_token_id": 7}')
    cached = [*RUN, "cached_only=true", "paths.runs=then"]
    assert "of small, revision" in llmrl("train", *cached, code=1).stderr
    (first,) = (tmp_path / "runs").glob("overcooked_*")
    revision = json.loads((first / "provenance.json").read_text())["model"]["revision"]
    llmrl("train", *cached, f"lm.revision={revision}", f"encoder.revision={revision}")
    assert (tmp_path / "then" / first.name / "metrics.jsonl").read_bytes() == (first / "metrics.jsonl").read_bytes()

    shutil.rmtree(tmp_path / "small")  # and whoever repeats the run never had it
    theirs = {"LLMRL_CACHE": str(tmp_path / "theirs.sqlite3")}
    again = [*RUN, "cached_only=true", "paths.runs=theirs"]
    assert "there is no such folder" in llmrl("train", *RUN, "paths.runs=theirs", code=2, **theirs).stderr
    refused = llmrl("train", *again, code=2, **theirs).stderr
    assert "there is no such folder" in refused
    assert "nothing is kept" in refused
    assert "are new in" in llmrl("cache", "import", str(out), **theirs).stdout
    llmrl("train", *again, **theirs)
    mine, other = (next(p for p in (tmp_path / root).iterdir() if p.is_dir()) for root in ("runs", "theirs"))
    for name in ("metrics.jsonl", "episodes.jsonl", "summary.json"):
        assert (mine / name).read_bytes() == (other / name).read_bytes()

    unknown = llmrl("train", "env=overcooked_salad", *again[1:], code=1, **theirs).stderr
    assert "of small" in unknown
    assert "are not kept in" in unknown


def test_prune_asks_for_yes_and_for_something_to_remove(llmrl: Llmrl, tmp_path: Path) -> None:
    from llmrl.answers.answers import AnswerCache

    cache = AnswerCache(tmp_path / "kept.sqlite3")
    cache.add_rows('{"model":"m","revision":"r","dtype":"float32","pooling":"cls"}', {"t": b"1234"}, {})
    cache.close()
    assert "name the entries to remove" in llmrl("cache", "prune", code=2).stderr
    assert (
        "would remove 0 answers (all of 0 prompts) and 1 feature rows; add --yes"
        in llmrl("cache", "prune", "--model", "m").stdout
    )
    assert "removed 0 answers" in llmrl("cache", "prune", "--model", "m", "--yes").stdout
    assert "nothing to remove" in llmrl("cache", "prune", "--model", "m").stdout
    assert "nothing is kept yet" in llmrl("cache", "info").stdout


def test_a_damaged_cache_is_verified_set_aside_and_brought_back(llmrl: Llmrl, tmp_path: Path) -> None:
    from llmrl.answers.answers import AnswerCache

    path = tmp_path / "kept.sqlite3"
    cache = AnswerCache(path)
    cache.add_rows('{"model":"m"}', {f"t{i}": bytes(400) for i in range(300)}, {})
    cache.close()
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 4096 * 10)
        file.write(b"\xff" * 4096)
    whole = path.read_bytes()
    wrong = llmrl("cache", "verify", code=1).stdout
    assert "SQLite: " in wrong
    assert path.read_bytes() == whole

    path.write_bytes(b"\xff" * 200 + whole[200:])
    (tmp_path / "export").write_bytes(whole)
    done = llmrl("cache", "import", "export")
    assert f"was no answer cache: set aside as {path}.set-aside-1" in done.stderr
    assert "left out: " in done.stdout
    assert (tmp_path / "kept.sqlite3.set-aside-1").read_bytes()[:200] == b"\xff" * 200


def test_no_command_of_the_cache_loads_what_is_heavy(tmp_path: Path) -> None:
    code = "import llmrl.report.cache_tables, llmrl.run.load, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert not {"torch", "transformers", "numpy", "hydra", "gymnasium"} & set(done.stdout.split())
