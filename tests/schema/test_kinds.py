"""Parts are named by kind: wherever their code lies, and however old the config is, a run keeps its name."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from llmrl.build import build, build_env
from llmrl.config.compose import ConfigError, check, compose, config_folder
from llmrl.core.overrides import ConfigFolders
from llmrl.learners.dqn import DQN
from llmrl.report.groups import group_runs
from llmrl.run.identity import identify_run
from llmrl.run.load import RunInfo, load_runs
from llmrl.schema.kinds import KINDS, OLD_TARGETS, PARTS, Kind, kind_of
from llmrl.schema.learners import DQNConfig
from llmrl.tune.plan import _explain_reported

GOLDEN = Path(__file__).parent.parent / "golden"
SMALL = ["env=frozen_lake", "learner=dqn", "learner.hidden=[4]", "encoder.dim=8"]
ALL = [(part, kind) for part in PARTS for kind in KINDS[part]]
DATA = f"data={GOLDEN / 'tomato.parquet'}"
NEEDED = {  # by part or kind
    "env": ["learner=random"], "lm": ["lm.model=a/model", "lm.revision=1"], "encoder": ["learner=dqn"],
    "bc": [DATA], "cql": [DATA], "iql": [DATA],
}  # fmt: skip


def plain(cfg: DictConfig) -> dict[str, Any]:
    settings: Any = OmegaConf.to_container(cfg)
    return dict(settings)


def aged(cfg: DictConfig) -> dict[str, Any]:
    """A config as it was saved before there were kinds."""
    config = plain(cfg)
    for part in PARTS:
        if config[part] is not None:
            old = {kind: target for target, kind in OLD_TARGETS[part].items()}
            config[part]["_target_"] = old[config[part].pop("kind")]
    return config


def with_kind(part: str, kind: str) -> DictConfig:
    folders = ConfigFolders(config_folder())
    options = (o for o in folders.groups[part] if kind_of(part, folders.read(part, o).settings[part]) == kind)
    return compose([f"{part}={next(options)}", *NEEDED.get(part, []), *NEEDED.get(kind, [])])


@pytest.mark.parametrize(("part", "kind"), ALL)
def test_a_config_with_an_old_target_is_the_same_run(part: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmrl.run.identity.model_identity", lambda *_: None)  # no model is here
    cfg = with_kind(part, kind)
    old = check(OmegaConf.create(aged(cfg)))
    assert cfg[part].kind == kind
    assert plain(old) == plain(cfg)
    named = identify_run(cfg).settings[part]
    assert identify_run(old).id == identify_run(cfg).id
    assert (OLD_TARGETS[part][named["_target_"]], "kind" in named) == (kind, False)


def test_a_recorded_run_is_the_same_run() -> None:
    (run,) = load_runs(GOLDEN / "run")
    config = run.config | {"lm": run.config["lm"] | {"model": str(GOLDEN / "lm")}}
    assert all("_target_" in config[part] for part in PARTS)
    assert identify_run(check(OmegaConf.create(config))).id == run.summary["run_id"]


def test_what_names_old_runs_never_changes() -> None:
    digest = hashlib.sha256(json.dumps(OLD_TARGETS, sort_keys=True).encode()).hexdigest()
    assert digest == "3256e4348b4ee6e81b41a6eb5090307173afa78dc49b93ed39bf5edf0cdc8105"
    for part, old in OLD_TARGETS.items():
        assert len(set(old.values())) == len(old)
        assert set(old.values()) <= set(KINDS[part])


@pytest.mark.parametrize(("part", "kind"), ALL)
def test_a_kind_lies_where_the_table_says(part: str, kind: str) -> None:
    assert callable(resolve_name(KINDS[part][kind].target))


def test_a_class_that_moved_keeps_the_name_of_its_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    before = identify_run(compose(SMALL))

    class Moved(DQN):
        pass

    module = ModuleType("another_place")
    module.Moved = Moved  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "another_place", module)
    monkeypatch.setitem(KINDS["learner"], "dqn", KINDS["learner"]["dqn"]._replace(target="another_place:Moved"))
    assert identify_run(compose(SMALL)) == before
    old = check(OmegaConf.create(aged(compose(SMALL))))
    assert identify_run(old) == before
    assert type(build(old).learner) is Moved


def test_a_younger_kind_stands_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS["learner"], "young", Kind(DQNConfig, "llmrl.learners.dqn:DQN"))
    config = plain(compose(SMALL))
    config["learner"]["kind"] = "young"
    run = identify_run(check(OmegaConf.create(config)))
    assert run.settings["learner"]["kind"] == "young"
    assert "_target_" not in run.settings["learner"]
    assert run.id != identify_run(compose(SMALL)).id


def test_old_and_new_runs_are_one_group(tmp_path: Path) -> None:
    cfg = compose(SMALL)
    for name, config in (("old", aged(cfg) | {"seed": 1}), ("new", plain(cfg))):
        (tmp_path / name).mkdir()
        OmegaConf.save(OmegaConf.create(config), tmp_path / name / "config.yaml")
    (group,) = group_runs([RunInfo(tmp_path / "old"), RunInfo(tmp_path / "new")]).values()
    assert len(group) == 2


@pytest.mark.parametrize("option", ["overcooked_salad", "frozen_lake", "household/pick"])
def test_the_world_of_data_is_known_by_its_old_target(option: str) -> None:
    cfg = compose([f"env={option}", "learner=random"])
    env = identify_run(cfg).settings["env"]
    assert env["_target_"].startswith("llmrl.envs.")
    assert _explain_reported(env) == _explain_reported(cfg.env)
    assert (_explain_reported(env) is None) == (option == "household/pick")  # its split is dev


# ---- a folder of one's own -------------------------------------------------------------------------------------------


MODULE = """
from llmrl.envs.lake.env import frozen_lake

def world(kind="dry", **settings):
    made = frozen_lake(**settings)
    made.kind = kind
    return made
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "of_mine.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "learner").mkdir()
    (tmp_path / "env").mkdir()
    return tmp_path


def test_a_preset_with_an_old_target_is_of_the_kind(mine: Path) -> None:
    text = (config_folder() / "learner" / "dqn.yaml").read_text()
    (mine / "learner" / "older.yaml").write_text(text.replace("kind: dqn", "_target_: llmrl.learners.dqn.DQN"))
    assert identify_run(compose(["learner=older", *SMALL[2:]], mine)) == identify_run(compose(SMALL[1:]))
    with pytest.raises(ConfigError, match=r"learner.lr=0.0: it must be above 0"):
        compose(["learner=older", "learner.lr=0"], mine)


@pytest.mark.parametrize(
    ("says", "said"),
    [
        ("kind: dqnn", "learner.kind=dqnn: did you mean learner.kind=dqn? choose one of dqn, drrn"),
        ("kind: household", "learner.kind=household: choose one of dqn, drrn"),
        ("kind: [dqn]", 'learner.kind=["dqn"]: '),
        ("kind: null", "learner.kind=null: choose one of dqn, drrn"),
        ("rate: 1", "learner.kind=null: choose one of dqn, drrn"),
        ("kind: dqn\n  _target_: my.DQN", "learner.kind=dqn and learner._target_=my.DQN: both choose learner"),
        (
            "kind: dqn\n  _target_: llmrl.learners.dqn.DQN",
            "learner.kind=dqn and learner._target_=llmrl.learners.dqn.DQN: both choose learner",
        ),
        ("kind: mine\n  _target_: llmrl.learners.dqn.DQN", "both choose learner"),
    ],
)
def test_what_a_part_is_has_to_be_said_once(mine: Path, says: str, said: str) -> None:
    (mine / "learner" / "odd.yaml").write_text(f"# @package _global_\nlearner:\n  {says}\n  name: odd\n")
    with pytest.raises(ConfigError) as refused:
        compose(["learner=odd"], mine)
    assert said in str(refused.value)


def test_a_kind_may_be_a_setting_of_somebody_elses(mine: Path) -> None:
    (mine / "env" / "wet.yaml").write_text("_target_: of_mine.world\nname: wet\nkind: wet\n")
    cfg = compose(["env=wet", "learner=random"], mine)
    assert identify_run(cfg).settings["env"] == {"_target_": "of_mine.world", "name": "wet", "kind": "wet"}
    assert build_env(cfg).kind == "wet"  # type: ignore[attr-defined]


def test_ones_own_class_inherits_the_settings_of_a_kind(mine: Path) -> None:
    (mine / "env" / "own.yaml").write_text(
        "defaults:\n  - frozen_lake\n  - _self_\nkind: null\n_target_: of_mine.world\nname: own\nsize: 8\n"
    )
    cfg = compose(["env=own", "learner=random"], mine)
    assert "kind" not in cfg.env
    made: Any = build_env(cfg)
    assert (made.kind, cfg.env.size) == (inspect.signature(resolve_name("of_mine:world")).parameters["kind"].default, 8)
