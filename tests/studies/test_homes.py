"""Studies whose trained agents are judged in other games: what is played, what is paired, and the tables."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from scripts import study as studies
from scripts.homes import Judgement, evaluated
from scripts.study import Study

REPOSITORY = Path(__file__).parent.parent.parent
SMALL = {
    "seeds": 2,
    "common": [
        "env=household/pick", "env.split=train", "env.count=2", "env.max_decisions=6", "env_steps=24",
        "evaluation.every=24", "evaluation.episodes=1",
    ],
    "arms": {"dqn": ["learner=dqn", "encoder.history_turns=0"], "random": {"seeds": 1, "set": ["learner=random"]}},
    "episodes": 1,
    "evaluate": {"known": [], "unseen": ["env.split=valid_unseen", "env.count=3"]},
    "judge": {"dqn": ["random"], "random": []},
    "ceilings": ["random"],
    "matrix": {"dqn": [], "random": ["env.index=1"]},
}  # fmt: skip


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("study")
    file, runs = folder / "small.yaml", folder / "runs"
    file.write_text(yaml.safe_dump(SMALL, sort_keys=False))
    for cell in Study.read(file).cells():
        assert studies.run(cell, runs, own_cache=False) == ""
    return file, runs


def test_every_finished_run_is_judged_once_in_each_way(judged: tuple[Path, Path]) -> None:
    file, runs = judged
    judgement = Judgement(Study.read(file), runs)
    orders = list(judgement.orders())
    # Two seeds of one arm and one of the other, in two sets of games; what the other is proposed, in both; the matrix.
    assert len(orders) == 3 * 2 + 2 + 3 * 2
    assert judgement.shares("dqn", ("env.split=valid_unseen", "env.count=3")) is None
    assert [evaluated(order, judgement.episodes) for order in orders] == [""] * len(orders)
    found = judgement.shares("dqn", ("env.split=valid_unseen", "env.count=3"))
    assert found is not None
    assert found.shape == (2, 3)
    assert judgement.shares("dqn", ()).shape == (2, 2)  # type: ignore[union-attr]


def test_the_tables_of_a_process(judged: tuple[Path, Path]) -> None:
    """It plays what is missing, prints, and plays nothing twice."""
    file, runs = judged
    command = [sys.executable, "-m", "scripts.homes", str(file), "--runs", str(runs)]
    first = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    rows = [line for line in first.stdout.splitlines() if line.startswith("|")]
    assert rows[0] == "| arm | seeds | known | unseen |"
    assert [row.split("|")[1].strip() for row in rows[2:6]] == [
        "dqn", "&nbsp; minus random", "random", "who knows the way, with what random is proposed",
    ]  # fmt: skip
    assert rows[6] == "| learned with, played with | dqn | random |"
    assert len(rows) == 10
    again = subprocess.run([*command, "--table"], cwd=REPOSITORY, capture_output=True, text=True)
    assert [line for line in again.stdout.splitlines() if line.startswith("|")] == rows


def test_what_has_fewer_seeds_is_paired_with_those_it_has(judged: tuple[Path, Path]) -> None:
    from scripts.homes import _paired

    a, b = _paired(np.ones((3, 2)), np.zeros((1, 2)))
    assert (a.shape, b.shape) == ((1, 2), (1, 2))
