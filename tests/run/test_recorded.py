"""A run that an earlier version recorded, stopped at 320 of 480 decisions, and its cache of answers: both go on today.

Its folder was written before modules moved into folders of their own. It asks no model: all answers are in its cache.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from omegaconf import DictConfig

import llmrl
from llmrl.config.compose import compose
from llmrl.run.identity import identify_run
from llmrl.run.load import load_runs
from tests.rounding import differences

GOLDEN = Path(__file__).parent.parent / "golden"
RECORDED = GOLDEN / "run"
SETTINGS = [
    "learner=dqn_prior", "prior=scored", "lm=hf", f"lm.model={GOLDEN / 'lm'}", "lm.device=cpu", "prompt=plain",
    "env=overcooked_tomato", "env_steps=480", "evaluation.every=160", "evaluation.episodes=4", "encoder.dim=16",
    "learner.hidden=[8]", "learner.learning_starts=40", "learner.update_every=8", "learner.batch=16",
    "learner.buffer=200", "checkpoint_every=160", "cached_only=true",
]  # fmt: skip


@pytest.fixture
def cfg(tmp_path: Path) -> DictConfig:
    shutil.copytree(RECORDED, tmp_path / "runs")
    paths = [f"paths.runs={tmp_path / 'runs'}", f"paths.cache={tmp_path / 'runs' / 'answers.sqlite3'}"]
    return compose([*SETTINGS, *paths])


def test_it_has_the_name_that_its_settings_have_today(cfg: DictConfig) -> None:
    (run,) = load_runs(Path(cfg.paths.runs))
    assert run.path.name == identify_run(cfg).name
    assert run.summary["run_id"] == identify_run(cfg).id


def test_it_goes_on_and_ends_as_the_whole_run_did(cfg: DictConfig) -> None:
    (run,) = load_runs(Path(cfg.paths.runs))
    before = (run.path / "metrics.jsonl").read_bytes()
    summary = llmrl.train(cfg, allow_drift=True)  # another machine may round otherwise
    assert summary["status"] == "complete"
    (resumed,) = json.loads((run.path / "provenance.json").read_text())["resumed"]
    assert (resumed["env_steps"], resumed["lost_episodes"]) == (320, 0)
    assert (run.path / "metrics.jsonl").read_bytes().startswith(before)
    whole, now = (
        [json.loads(line) for line in file.read_text().splitlines()]
        for file in (RECORDED / "metrics.jsonl", run.path / "metrics.jsonl")
    )
    assert differences(now, whole) == []
