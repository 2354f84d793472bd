"""What is missing is told before anything of a run is made."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import llmrl
from llmrl.config.compose import ConfigError, compose, unread_overrides
from llmrl.envs.alfworld import packages
from llmrl.sweep import plan, refuse_unready_cells
from llmrl.training.preflight import refuse_output, refuse_unready

DATA = Path(__file__).parent.parent / "golden" / "tomato.parquet"
MODULE = """
class World:
    def __init__(self, size, kind="dry"):
        raise AssertionError("nothing is made")

number = 3
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    (tmp_path / "needs_more.py").write_text("import no_such_package_at_all\n")
    (tmp_path / "own_worlds.py").write_text(MODULE)
    (tmp_path / "mine" / "env").mkdir(parents=True)
    (tmp_path / "mine" / "env" / "own.yaml").write_text("_target_: own_worlds.World\nname: own\nsize: 3\n")
    return tmp_path


def refusal(root: Path, *overrides: str) -> str:
    """The complaint, after which nothing is there."""
    runs = root / "runs"
    where = [] if any(o.startswith("paths.runs") for o in overrides) else [f"paths.runs={runs}"]
    cfg = compose([*overrides, *where], root / "mine" if (root / "mine").exists() else None)
    with pytest.raises(ConfigError) as caught:
        llmrl.train(cfg)
    assert not runs.exists()
    return str(caught.value)


RANDOM = ("learner=random", "env=own")
MORE = {"learner": "priors: [uniform, sampled]\n", "prior": "source: own\n"}


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("own_worlds.Wrld", "env._target_=own_worlds.Wrld cannot be imported"),
        ("nowhere.World", "No module named 'nowhere'"),
        ("needs_more.World", "No module named 'no_such_package_at_all'"),
        ("own_worlds.number", "env._target_=own_worlds.number is of type int, and cannot be called"),
        ("llmrl.envs.lake.env.frozen_lak", "did you mean llmrl.envs.lake.env.frozen_lake?"),
    ],
)
def test_somebody_elses_world_that_cannot_be_had(mine: Path, target: str, said: str) -> None:
    assert said in refusal(mine, *RANDOM, f"env._target_={target}")


def test_settings_that_somebody_elses_world_does_not_take(mine: Path) -> None:
    assert "got an unexpected keyword argument 'sice'" in refusal(mine, *RANDOM, "+env.sice=4")


@pytest.mark.parametrize("part", ["learner", "encoder", "lm", "prior"])
def test_any_other_part_that_cannot_be_had(mine: Path, part: str) -> None:
    (mine / "mine" / part).mkdir()
    text = "_target_: nowhere.Thing\nname: thing\n" + MORE.get(part, "")
    (mine / "mine" / part / "own.yaml").write_text(text)
    choices = [f"{part}=own", *(["learner=prior_only", "learner.priors=[thing]"] if part == "prior" else [])]
    assert f"{part}._target_=nowhere.Thing cannot be imported" in refusal(mine, *choices)


def test_more_data_than_there_are(tmp_path: Path) -> None:
    said = refusal(tmp_path, "learner=bc", f"data={DATA}", "data.size=1e6")
    assert said.startswith(f"data.size=1000000: {DATA} holds ")
    assert said.endswith("transitions; leave data.size out for all")


def test_more_environments_than_decisions(tmp_path: Path) -> None:
    assert "use rollout.num_envs=4 or fewer" in refusal(tmp_path, "learner=random", "env_steps=4")
    refuse_unready(compose(["learner=random", "env_steps=8", f"paths.runs={tmp_path}"]))


def test_an_extra_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "versions", dict)
    assert "pip install 'llmrl[alfworld]'" in refusal(tmp_path, "env=alfworld/pick", "learner=random")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    said = refusal(tmp_path, "learner=random", f"paths.runs={tmp_path}/file/runs")
    assert f"{tmp_path}/file cannot be written to (Not a directory); choose another place with paths.runs=" in said
    said = refusal(tmp_path, f"paths.cache={tmp_path}/file/kept.sqlite3")
    assert said.endswith("choose another place with paths.cache=FILE")
    assert "this is a folder" in refusal(tmp_path, f"paths.cache={tmp_path}/folder")
    refuse_unready(compose(["learner=random", f"paths.cache={tmp_path}/file/kept", f"paths.runs={tmp_path}/runs"]))


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refuse_output("--out", tmp_path / "new" / "curve.png")
    for wrong, said in (("file/curve.png", "Not a directory"), ("", "this is a folder")):
        with pytest.raises(ConfigError, match=f"^--out .*{said}"):
            refuse_output("--out", tmp_path / wrong)


def test_every_cell_of_a_sweep_is_looked_at_before_the_first(tmp_path: Path) -> None:
    sweep = ["learner=random", "env_steps=2,8,4", f"paths.runs={tmp_path / 'runs'}"]
    with pytest.raises(ConfigError) as caught:
        refuse_unready_cells(plan(sweep))
    assert str(caught.value).count("of them; use rollout.num_envs=") == 2
    assert "env_steps=8" not in str(caught.value)


# ---- parts that nothing will ask -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "noted"),
    [
        (["learner=dqn", "lm=hf"], ["lm=hf changes nothing: learner=dqn asks no model"]),
        (["learner=dqn", "prompt=cot"], ["prompt=cot changes nothing: learner=dqn asks no model"]),
        (["learner=dqn", "lm.dtype=float16"], ["lm.dtype=float16 changes nothing: learner=dqn asks no model"]),
        (["prior=oracle", "lm=hf"], ["lm=hf changes nothing: prior=oracle asks no model"]),
        (["learner=random", "encoder=lm"], ["encoder=lm changes nothing: learner=random learns nothing"]),
        (["learner=drrn", "encoder=hash"], ["encoder=hash changes nothing: learner=drrn reads texts itself"]),
        (["learner=dqn", "lm=none", "prior=uniform"], []),
        (["lm=tiny", "encoder=hash", "prompt=plain"], []),
    ],
)
def test_a_part_that_nothing_asks_is_noted(typed: list[str], noted: list[str]) -> None:
    assert unread_overrides(typed, compose(typed)) == noted
