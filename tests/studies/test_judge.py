"""Studies whose trained agents are judged in other games: what is played, what is paired, and the tables."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from llmrl.core.overrides import ConfigError
from llmrl.evaluate import evaluate_run
from llmrl.studies.judge import Judgement, Shares, pair_seeds
from llmrl.studies.runner import run_cell
from llmrl.studies.study import Study

pytestmark = pytest.mark.slow

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
    "matrix": {"dqn": ["env.index=0"], "random": ["env.index=1"]},
}  # fmt: skip


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("study")
    file, runs = folder / "small.yaml", folder / "runs"
    file.write_text(yaml.safe_dump(SMALL, sort_keys=False))
    for cell in Study.read(file).cells():
        run_cell(cell, runs, own_cache=False)
    return file, runs


def test_every_finished_run_is_judged_once_in_each_way(judged: tuple[Path, Path]) -> None:
    file, runs = judged
    judgement = Judgement(Study.read(file), runs, print)
    orders = list(judgement.orders())
    # Two seeds of one arm and one of the other, in two sets of games; what the other is proposed, in both; the matrix.
    # One word of the matrix says what was so in training, and one run is asked for once.
    assert len(orders) == 3 * 2 + 2 + 3 * 2 - 3
    assert judgement.shares("dqn", ("env.split=valid_unseen", "env.count=3")) is None
    for order in orders:
        evaluate_run(order)
    found = judgement.shares("dqn", ("env.split=valid_unseen", "env.count=3"))
    assert found is not None
    assert (found.seeds, found.share_SG.shape) == ([0, 1], (2, 3))
    trained = [judgement.shares("dqn", words) for words in ((), ("env.index=0",))]
    assert trained[0] is not None
    assert trained[1] is not None
    assert (trained[0].share_SG == trained[1].share_SG).all()


def test_the_tables_of_a_process(judged: tuple[Path, Path], tmp_path: Path) -> None:
    """It plays what is missing, writes the tables, and plays nothing twice."""
    file, runs = judged
    (tmp_path / "runs").mkdir()
    shutil.copytree(runs, tmp_path / "runs" / "small")
    command = [sys.executable, "-m", "llmrl", "reproduce", str(file), "--runs", str(tmp_path / "runs")]
    first = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    lines = (tmp_path / "runs" / "tables" / "small" / "tables.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert rows[0] == "| arm | seeds | known | unseen |"
    assert [row.split("|")[1].strip() for row in rows[2:6]] == [
        "dqn", "minus random", "random", "oracle on the candidates of random",
    ]  # fmt: skip
    assert rows[6] == "| learned with, played with | dqn | random |"
    assert len(rows) == 10
    again = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert "[1/" not in again.stdout
    assert (tmp_path / "runs" / "tables" / "small" / "tables.md").read_text().splitlines() == lines


def test_seeds_are_paired_by_their_number() -> None:
    """A seed that one side lacks shifts nothing."""
    a = Shares([0, 1, 2], np.array([[0.0], [1.0], [2.0]]))
    b = Shares([2, 0], np.array([[2.0], [0.0]]))
    found = pair_seeds(a, b)
    assert found is not None
    assert found[0].tolist() == found[1].tolist() == [[0.0], [2.0]]
    assert pair_seeds(a, Shares([7], np.ones((1, 1)))) is None
    assert pair_seeds(a, None) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"judge": {"dqn": ["prior_onli"]}}, "small has no arm prior_onli; there are dqn, random"),
        ({"judge": {}}, "small names neither the arms to evaluate"),
    ],
)
def test_a_study_that_cannot_be_judged_says_why(changes: dict[str, object], said: str, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL | changes, sort_keys=False))
    with pytest.raises(ConfigError, match=said):
        Judgement(Study.read(tmp_path / "small.yaml"), tmp_path, print)


def test_an_arm_whose_model_is_not_made_yet_is_left_out(
    judged: tuple[Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arms = {**SMALL["arms"], "other": ["learner=dqn_prior", "lm=hf", "lm.model=runs/models/nosuch"]}  # type: ignore[dict-item]
    matrix = {"dqn": ["env.index=0"], "other": ["encoder.seed=1"]}  # what cannot be played with, for another reason
    study = SMALL | {"arms": arms, "ceilings": ["other"], "matrix": matrix}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    judgement = Judgement(Study.read(tmp_path / "small.yaml"), judged[1], print)
    said = capsys.readouterr().out
    assert "other is left out: " in said
    assert "nothing is played with other: " in said
    assert list(judgement.arms) == ["dqn", "random"]
    assert judgement.orders()
    assert judgement.matrix_table("", "").columns == ["learned with, played with", "dqn"]
