"""SmolLM2 itself, got from the package index: recorded scores, and a run that asks it. `make test-models` runs this."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import llmrl
from llmrl.config.compose import config_folder
from llmrl.core.overrides import ConfigFolders
from llmrl.lm.transformers_lm import TransformersLM
from llmrl.models.entry import read_entry
from llmrl.models.get import get

pytestmark = pytest.mark.skipif("LLMRL_REAL_MODELS" not in os.environ, reason="downloads real models: make test-models")

PROMPT = (
    "Task: Cook and serve: tomato salad.\nNow: You hold nothing. You see a tomato and a knife.\n"
    "Choose one of: fetch the tomato; go to the knife; take the bowl.\nNext:"
)
# Recorded in float32 on an x86 CPU with torch 2.13 and transformers 5.19.
SCORES = {" fetch the tomato\n": -12.3477, " go to the knife\n": -12.6455, " take the bowl\n": -12.7460}
README = Path(__file__).parent.parent.parent / "README.md"
PARIS = {" Paris": -0.2581, " London": -4.3844}
TOLERANCE = 1e-2  # nats


@pytest.fixture(scope="module")
def folder() -> Path:
    return get(read_entry("smollm2", ConfigFolders(config_folder())), False, print)


@pytest.mark.parametrize(("prompt", "scores"), [(PROMPT, SCORES), ("The capital of France is", PARIS)])
def test_its_scores_are_the_recorded_ones(folder: Path, prompt: str, scores: dict[str, float]) -> None:
    (found,) = TransformersLM("smollm2", device="cpu").score([prompt], [list(scores)])
    assert [score.logprob for score in found] == pytest.approx(list(scores.values()), abs=TOLERANCE)


def test_a_short_run_asks_it(folder: Path, tmp_path: Path) -> None:
    paths = [f"paths.runs={tmp_path}", f"paths.cache={tmp_path / 'answers.sqlite3'}"]
    short = ["env=overcooked_tomato", "env_steps=32", "evaluation.every=32", "evaluation.episodes=2"]
    summary = llmrl.train(llmrl.compose(["lm=smollm2", *short, "evaluation.exact_up_to=0", *paths]))
    assert summary["lm"]["queries"] > 0
    (run,) = llmrl.load_runs(tmp_path)
    assert (run.config["prior"]["normalise"], run.config["prior"]["calibrate"]) == ("none", "none")
    assert (run.config["prompt"]["id"], run.config["prompt"]["select"]) == ("shots-1", "similar")


def test_the_lines_of_the_readme(folder: Path, tmp_path: Path) -> None:
    lines = [line for line in README.read_text().splitlines() if re.match(r"llmrl .*(models get|lm=smollm2)", line)]
    assert len(lines) == 2
    environ = {**os.environ, "LLMRL_CACHE": str(tmp_path / "answers.sqlite3"), "PYTHONPATH": str(README.parent)}
    for line in lines:
        words = shlex.split(line.replace("env_steps=1000", "env_steps=64"), comments=True)[1:]
        subprocess.run([sys.executable, "-m", "llmrl", *words], cwd=tmp_path, env=environ, check=True)
    (run,) = llmrl.load_runs(tmp_path / "runs")
    assert run.summary["eval"]["success"] > 0.9
