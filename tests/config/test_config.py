"""Composition, checks, errors as people see them, and sweeps."""

from __future__ import annotations

import contextlib
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ReadonlyConfigError

from llmrl.config.compose import ConfigError, check, compose, config_folder, expand_sweep
from llmrl.config.settings import Catalogue
from llmrl.core.files import flatten
from llmrl.core.overrides import ConfigFolders
from llmrl.loggers.logger import LOGGERS
from llmrl.run.identity import identify_run
from llmrl.schema.envs import KitchenConfig
from llmrl.schema.fields import read_allowed
from llmrl.schema.kinds import PARTS, schema_of
from llmrl.schema.learners import DQNConfig
from llmrl.schema.priors import PriorConfig, PromptConfig
from llmrl.schema.run import DataConfig, TrainConfig
from llmrl.sweep import plan
from tests.schemas import schemas

OWN = config_folder()
ENVS = [p.relative_to(OWN / "env").with_suffix("").as_posix() for p in sorted((OWN / "env").rglob("*.yaml"))]
FOLDERS = ConfigFolders(OWN)
LEARNERS: dict[str, Any] = {
    name: OmegaConf.to_container(FOLDERS.read("learner", name).settings.learner) for name in FOLDERS.groups["learner"]
}
PRIOR_OF = {name: learner["priors"] for name, learner in LEARNERS.items()}
DATA = f"data={Path(__file__).parents[1] / 'golden' / 'tomato.parquet'}"
FILES = {name: ["learner.weights=a.file"] for name, node in LEARNERS.items() if node.get("weights") == "???"} | {
    name: [DATA] for name, node in LEARNERS.items() if "gradient_steps" in node and node.get("weights") != "???"
}


# ---- composition -------------------------------------------------------------------------------------------------


def test_the_default_is_typed_resolved_and_read_only() -> None:
    cfg = compose()
    assert OmegaConf.get_type(cfg) is TrainConfig
    assert OmegaConf.get_type(cfg.env) is KitchenConfig
    assert OmegaConf.get_type(cfg.learner) is DQNConfig
    assert (cfg.learner.name, cfg.prior.name, cfg.lm.name) == ("dqn_prior", "sampled", "tiny")
    with pytest.raises(ReadonlyConfigError):
        cfg.seed = 3


@pytest.mark.parametrize(("learner", "prior"), [(name, p) for name, priors in PRIOR_OF.items() for p in priors])
def test_every_learner_composes_with_every_prior_it_names(learner: str, prior: str) -> None:
    cfg = compose([f"learner={learner}", f"prior={prior}", *FILES.get(learner, [])])
    asks = cfg.prior.source in ("scored", "generated")
    assert (cfg.prior.name, cfg.lm is not None, cfg.prompt is not None) == (prior, asks, asks)


def test_numbers_become_what_the_schema_says() -> None:
    cfg = compose(["learner.alpha=1", "learner.hidden=[64]", "env_steps=1000"])
    assert isinstance(cfg.learner.alpha, float)
    assert cfg.learner.hidden == [64]


def test_a_checked_config_checks_again_to_itself() -> None:
    cfg = compose(["learner=dqn"])
    assert check(cfg) == cfg


def test_a_saved_config_read_back_is_the_same_run() -> None:
    cfg = compose(["seed=2"])
    saved = OmegaConf.create(OmegaConf.to_yaml(cfg))
    assert isinstance(saved, DictConfig)
    assert check(saved) == cfg
    assert identify_run(saved).id == identify_run(cfg).id


def test_what_nothing_asks_is_not_in_the_config() -> None:
    plain = compose(["learner=dqn"])
    assert plain.lm is None
    assert plain.prompt is None
    assert (
        identify_run(plain)
        == identify_run(compose(["learner=dqn", "lm=hf"]))
        == identify_run(compose(["learner=dqn", "lm=none"]))
    )
    for learner in ("random", "drrn"):
        assert compose([f"learner={learner}", "encoder=hash"]).encoder is None


def test_a_use_that_knows_no_prior_reads_no_support() -> None:
    blind = ["prior.target.uniform=true"]
    cfg = compose(blind)
    other = compose([*blind, "prior.target.k=3", "prior.target.redraw=never"])
    assert identify_run(other).id == identify_run(cfg).id != identify_run(compose()).id
    nowhere = compose([f"prior.{use}.uniform=true" for use in ("behaviour", "target", "evaluation")])
    assert (nowhere.lm, nowhere.prompt, nowhere.prior.name) == (None, None, "sampled")


def test_a_setting_may_follow_another() -> None:
    sweep = ["prior.behaviour.uniform=true,false", "prior.evaluation.uniform=${prior.behaviour.uniform}"]
    for cell in expand_sweep(sweep):
        cfg = compose(cell)
        assert cfg.prior.evaluation.uniform == cfg.prior.behaviour.uniform


# ---- no key that does nothing ------------------------------------------------------------------------------------


def _yaml_parts() -> list[tuple[str, DictConfig, type]]:
    """(where, what the option sets, its schema), for every option that has one."""
    parts = []
    for group, options in FOLDERS.groups.items():
        for option in options:
            node = FOLDERS.read(group, option).settings[group]
            if group == "logger":  # several may be chosen, and each option has a section of its own
                sections = ((name, section) for name, section in node.items() if section is not None)
                parts += [(f"{group}/{option}", section, LOGGERS[name][0]) for name, section in sections]
                continue
            schema = schema_of(group, node) if group in PARTS else {"prior": PriorConfig, "prompt": PromptConfig}[group]
            if schema is not None:
                parts.append((f"{group}/{option}", node, schema))
    return parts


@pytest.mark.parametrize(("where", "node", "schema"), [pytest.param(*part, id=part[0]) for part in _yaml_parts()])
def test_an_option_has_exactly_the_keys_of_its_schema(where: str, node: DictConfig, schema: type) -> None:
    assert set(node) == {f.name for f in fields(schema)}


def test_an_option_says_what_differs_from_what_it_inherits() -> None:
    for group, options in FOLDERS.groups.items():
        for option, file in options.items():
            lines = yaml.safe_load(file.read_text()) or {}
            for base in (line for line in lines.get("defaults", ()) if isinstance(line, str) and line != "_self_"):
                inherited = flatten(OmegaConf.to_container(FOLDERS.read(group, base.partition("@")[0]).settings))
                own = {key: value for key, value in lines.items() if key != "defaults"}
                own = own if "_global_" in file.read_text().partition("\n")[0] else {group: own}
                said = {key: value for key, value in flatten(own).items() if key.partition(".")[0] == group}
                assert not [key for key, value in said.items() if inherited.get(key, "nothing") == value], option


@pytest.mark.parametrize("case", ["learner", "prior", "env", "below a folder"])
def test_a_preset_of_ones_own_inherits(case: str, tmp_path: Path) -> None:
    group, option, text, key, value = {
        "learner": ("learner", "mine", "learner: { name: mine, alpha: 0.5 }", "learner.alpha", 0.5),
        "prior": ("prior", "wide", "name: wide\nbehaviour: { k: 9 }", "prior.behaviour.k", 9),
        "env": ("env", "mine", "max_decisions: 7", "env.max_decisions", 7),
        "below a folder": ("env", "mine/far", "max_decisions: 8", "env.max_decisions", 8),
    }[case]
    base = {"learner": "dqn_prior_paper", "prior": "sampled"}.get(group, "household/pick@_here_")
    head = "# @package _global_\n" if group == "learner" else ""
    file = tmp_path / group / f"{option}.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(f"{head}defaults: [{base}, _self_]\n{text}\n")
    more = ["learner.priors=[wide]"] if group == "prior" else []
    cfg = compose([f"{group}={option}", *more], tmp_path)
    bare = compose([f"{group}={base.partition('@')[0]}"])
    assert OmegaConf.select(cfg, key) == value
    changed = {key, f"{group}.name", "learner.priors", "paths.config_dir"}
    mine, theirs = (
        {k: v for k, v in flatten(OmegaConf.to_container(c)).items() if k not in changed} for c in (cfg, bare)
    )
    assert mine == theirs
    settings = {s.key: s.value for s in Catalogue(tmp_path).of(group, option)}
    assert settings[key] == value
    assert set(settings) == {s.key for s in Catalogue(tmp_path).of(group, base.partition("@")[0])}


def test_presets_that_inherit_are_named_where_another_is_needed(tmp_path: Path) -> None:
    (tmp_path / "learner").mkdir()
    file = tmp_path / "learner" / "cql_mine.yaml"
    file.write_text("# @package _global_\ndefaults: [cql_prior, _self_]\nlearner: { name: cql_mine }\n")
    with pytest.raises(ConfigError, match=r"use learner=.*\bcql_mine\b"):
        compose(["learner=dqn", DATA], tmp_path)
    with pytest.raises(ConfigError, match=r"random takes prior=uniform; .*\bcql_mine\b"):
        compose(["learner=random", "prior=marginal"], tmp_path)


def test_a_preset_that_inherits_from_itself_is_told(tmp_path: Path) -> None:
    (tmp_path / "learner").mkdir()
    for name, base in (("one", "two"), ("two", "one")):
        text = f"# @package _global_\ndefaults: [{base}, _self_]\nlearner: {{ name: {name} }}\n"
        (tmp_path / "learner" / f"{name}.yaml").write_text(text)
    for look in (lambda: compose(["learner=one"], tmp_path), lambda: Catalogue(tmp_path).of("learner", "one")):
        with pytest.raises(ConfigError, match=r"one\.yaml inherits from itself: one from two from one"):
            look()


def test_the_main_file_has_every_other_setting() -> None:
    main = yaml.safe_load((OWN / "train.yaml").read_text())
    groups = {next(iter(line)).removeprefix("override /") for line in main.pop("defaults") if isinstance(line, dict)}
    assert set(main) | groups == {f.name for f in fields(TrainConfig)}
    for key, value in main.items():
        schema = None
        if isinstance(value, dict):
            schema = DataConfig if key == "data" else OmegaConf.get_type(compose()[key])
        assert not isinstance(value, dict) or set(value) == {f.name for f in fields(schema)}


def test_every_component_file_has_a_schema() -> None:
    parted = {where for where, _, _ in _yaml_parts()}
    names = {f.relative_to(OWN).with_suffix("").as_posix() for group in OWN.glob("*/") for f in group.rglob("*.yaml")}
    # Search spaces: tests/tune/test_tune.py; models that can be had: tests/models/test_entry.py; studies: tests/studies
    names = {name for name in names if not name.startswith(("tune/", "models/", "study/", "paper/"))}
    assert names - parted == {"lm/none", "encoder/none", "logger/none"}


@pytest.mark.parametrize("schema", sorted(schemas(), key=str))
def test_every_number_has_a_range_and_every_default_is_allowed(schema: type) -> None:
    hints, default = get_type_hints(schema), OmegaConf.to_container(OmegaConf.structured(schema))
    for name, allows in read_allowed(schema).items():
        kinds = {hints[name], *get_args(hints[name])}
        assert allows.range or not kinds & {int, float} or name == "numerics", f"{schema.__name__}.{name}"
        numbers = default[name] if isinstance(default[name], list) else [default[name]]
        assert all(n in allows.range for n in numbers if allows.range and n is not None and n != allows.word)
        assert not allows.choices or default[name] is None or default[name] in allows.choices
        assert all(n in allows.range for n in allows.names.values())


# ---- numbers with names ------------------------------------------------------------------------------------------

CAPPED = ("household/mixed", "alfworld/pick")


@pytest.mark.parametrize("env", CAPPED)
def test_caps_have_names_which_are_the_same_run_as_their_numbers(env: str) -> None:
    for name, number in {"field": 50, "paper": 61, "paper_env": 100}.items():
        named, numbered = (compose([f"env={env}", f"env.max_decisions={value}"]) for value in (name, number))
        assert named.env.max_decisions == number
        assert named == numbered
        assert identify_run(named).id == identify_run(numbered).id


@pytest.mark.parametrize("value", ["papr", "FIELD", "'50.5'", "1.5", "null", "[field]", "true"])
@pytest.mark.parametrize("env", CAPPED)
def test_what_is_no_cap_is_told_their_names(env: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose([f"env={env}", f"env.max_decisions={value}"])
    assert str(caught.value).endswith("expected a whole number, or field (50), or paper (61), or paper_env (100)")
    assert str(caught.value).startswith(f"env.max_decisions={value.strip(chr(39))}: ".replace("[field]", '["field"]'))


def test_a_cap_of_ones_own_still_has_to_be_in_range() -> None:
    assert compose(["env=household/pick", "env.max_decisions=7"]).env.max_decisions == 7
    with pytest.raises(ConfigError, match="it must be at least 1"):
        compose(["env=household/pick", "env.max_decisions=0"])


@pytest.mark.parametrize("env", [env for env in ENVS if "/" not in env])
def test_other_worlds_know_no_names(env: str) -> None:
    with pytest.raises(ConfigError, match=r"env\.max_decisions=field: expected a whole number$"):
        compose([f"env={env}", "env.max_decisions=field"])


def test_a_name_in_a_file_of_ones_own_and_in_a_sweep(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    own = (OWN / "env" / "household" / "pick.yaml").read_text()
    (tmp_path / "env" / "long.yaml").write_text(own.replace("max_decisions: 50", "max_decisions: paper_env"))
    assert compose(["env=long"], tmp_path).env.max_decisions == 100
    sweep = plan(["env=household/pick", "learner=random", "env.max_decisions=field,paper,61,paper_env"])
    assert [cell.cfg.env.max_decisions for cell in sweep] == [50, 61, 100]
    with pytest.raises(ConfigError, match=r"nothing was launched(.|\n)*env\.max_decisions=papper"):
        plan(["env=household/pick", "learner=random", "env.max_decisions=field,papper"])


# ---- errors, as people see them ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            "learner=dqn_prio",
            ["did you mean learner=dqn_prior?", "dqn_prior, dqn_prior_paper, dqn_prior_paper_salad, drrn, iql"],
        ),
        ("env=atari", [f"env=atari: choose one of {', '.join(ENVS)}"]),
        ("lrner=dqn", ["lrner: there is no such setting; did you mean learner=dqn?"]),
        ("learner.aplha=0.3", ["learner.aplha: there is no such setting; did you mean learner.alpha=0.3?"]),
        ("alpha=0.3", ["did you mean learner.alpha=0.3?"]),
        ("evaluation={evry:9}", ["evaluation.evry", "did you mean evaluation.every=9?"]),
        ("+learner.foo=1", ["learner.foo: there is no such setting; learner has", "n_step"]),
        ("+learner=dqn", ["leave out the +"]),
        ("~learner.alpha", ["cannot be removed"]),
        ("env=null", ["env=null: choose one of"]),
        ("dqn", ["dqn: write key=value; did you mean learner=dqn?"]),
        ("seed", ["seed: write key=value"]),
        ("seed=[1", ["seed=[1: this does not parse"]),
        ("seed=1,2", ["seed=1,2 names several values: add -m"]),
        ("seed=1 seed=2", ["seed is given twice: seed=1 and seed=2"]),
        ("learner={alpha:1} learner.alpha=2", ["learner.alpha is given twice"]),
        ("hydra.run.dir=x", ["paths.runs=FOLDER"]),
        ("env_steps=many", ["env_steps=many: expected a whole number"]),
        ("env_steps=1.5", ["env_steps=1.5: expected a whole number"]),
        ("env_steps=null", ["env_steps=null: expected a whole number"]),
        ("env.max_decisions=paper", ["env.max_decisions=paper: expected a whole number"]),
        ("learner.alpha=hot", ["learner.alpha=hot: expected a number"]),
        ("learner.alpha_eval=hot", ["learner.alpha_eval=hot: expected a number, or null"]),
        ("learner.hidden=[1,a]", ["expected a list like [1,2]"]),
        ("progress=perhaps", ["progress=perhaps: expected true or false"]),
        ("evaluation=3", ["evaluation.KEY=VALUE"]),
        ("learner.alpha=-1", ["learner.alpha=-1.0: it must be at least 0"]),
        ("learner.alpha=nan", ["learner.alpha=nan"]),
        ("learner.alpha=inf", ["learner.alpha=inf"]),
        ("learner.hidden=[64,0]", ["learner.hidden=0: it must be at least 1"]),
        ("prior.mix=1.5", ["prior.mix=1.5: it must be at least 0 and at most 1, or auto"]),
        ("prior.mix=atuo", ["prior.mix=atuo: it must be at least 0 and at most 1, or auto"]),
        ("prior.mix=null", ["prior.mix=null: expected a number, or auto"]),
        (
            "prior.mix=auto prior.behaviour.uniform=true",
            ["prior.mix=auto: with prior.behaviour.uniform=true no episode"],
        ),
        ("prior.mix=auto prior.uniform_after=9", ["prior.mix=auto: with prior.uniform_after later episodes"]),
        ("prior.top_p=0", ["prior.top_p=0.0: it must be above 0 and at most 1"]),
        ("rollout.num_envs=0", ["rollout.num_envs=0: it must be at least 1"]),
        ("env=overcooked_random env.ingredients=4", ["env.ingredients=4: it must be at least 1 and at most 3"]),
        ("env.reward=onec", ["did you mean env.reward=once?", "choose one of once, original"]),
        ("prior.behaviour.redraw=always", ["prior.behaviour.redraw=always", "visit, never, union"]),
        (
            "learner=dqn prior=sampled",
            ["dqn takes prior=uniform or uniform_k; for prior=sampled use learner=dqn_prior"],
        ),
        ("learner=prior_only prior=uniform", ["for prior=uniform use learner=", "random"]),
        (
            "learner=dqn prior.source=scored",
            ["prior=uniform is made from uniform; for scored use prior=calibrated or sampled or scored"],
        ),
        ("lm=none", ["prior=sampled asks a language model and there is none: add lm=tiny"]),
        ("lm=hf", ["lm.model=FOLDER_OR_HUB_ID"]),
        (
            "lm=none lm.dtype=float16",
            ["lm.dtype: this run has no lm; choose one with lm=gemma3-270m or hf or openai or smollm2"],
        ),
        ("~encoder", ["there is no encoder: add encoder=hash"]),
        ("prior.top_p=0.5", ["prior=sampled does not read this", "prior=generated does"]),
        (
            "learner=dqn prior.temperature=0.5",
            ["prior=uniform does not read this", "scored, sampled or generated does"],
        ),
        ("prior=generated prior.normalise=word", ["prior=generated does not read this"]),
        ("prior=scored prior.target.redraw=never", ["nothing is drawn", "prior.target.k=5"]),
        ("prior.error=0.2", ["prior.error=0.2: prior=sampled does not read this; prior=oracle does"]),
        ("prior=oracle prior.error=2", ["prior.error=2.0: it must be at least 0 and at most 1"]),
        ("prior=oracle prior.normalise=word", ["prior=oracle does not read this"]),
        ("prior.control=shuffled", ["prior=sampled is made from scored; for shuffled scored use prior=shuffled"]),
        ("prior=shuffled prior.control=null", ["for scored use prior=calibrated or sampled or scored"]),
        ("prior.control=scrambled", ["choose one of shuffled, marginal"]),
        ("prior=generated prior.control=marginal", ["does not read this; prior=shuffled or marginal does"]),
        ("prior.evaluation.k=100001", ["at least 1 and at most 100000; null takes all, to which more draws tend"]),
        ("learner=dqn prior.target.uniform=true", ["prior=uniform is uniform anyway", "prior.target.k=null"]),
        ("learner=dqn prior.uniform_after=9", ["knows no prior from the start", "leave prior.uniform_after out"]),
        (
            "prior.uniform_after=9 prior.behaviour.uniform=true",
            ["with prior.behaviour.uniform=true the behaviour knows"],
        ),
        (
            "prior=generated prior.behaviour.uniform=true prior.target.k=null prior.evaluation.k=null",
            ["say how many, as in prior.target.k=5"],
        ),
        ("learner=dqn prior=oracle", ["for prior=oracle use learner=dqn_prior"]),
        ("learner=prior_only prior=uniform_k", ["prior_only takes", "for prior=uniform_k use learner="]),
        (
            "prior=generated prior.behaviour.k=null prior.target.k=null prior.evaluation.k=null",
            ["say how many, as in prior.behaviour.k=5"],
        ),
        ("learner.alpha=1e-9", ["learner.alpha=1e-09", "at least 1e-06"]),
        ("learner.epsilon_final=0.1", ["go together"]),
        ("learner.batch=64 learner.buffer=32", ["never holds that many"]),
        ("learner=drrn learner.buffer=32", ["never holds that many"]),
        ("learner=drrn prior=scored", ["drrn takes prior=uniform or uniform_k"]),
        ("learner=drrn encoder.dim=64", ["this run has no encoder"]),
        ("learner=bc", ["learner=bc", "add learner.weights=FILE"]),
        ("learner=bc learner.weights=a.file encoder=none", ["no encoder: add encoder=hash"]),
        ("learner=saycan learner.alpha=0", ["combine=product", "above 0"]),
        ("learner=saycan learner.alpha_eval=0", ["combine=product", "above 0"]),
        ("learner.importance=0.7", ["learner.importance=0.7", "does not read", "learner.priority=0.6"]),
        ("learner=dqn_pretrained", ["learner=dqn_pretrained", "add learner.weights=FILE"]),
        ("lm.device=gpu", ["lm.device=gpu", "auto, cpu, cuda"]),
        ("prompt.template='{{goal}}'", ["names goal", "a template may use task, observation, actions, history"]),
        ("~env", ["env is missing: add env="]),
        ("~prompt", ["there is no prompt: add prompt=plain"]),
        ("learner.name=a/b", ["learner.name=a/b", "folder's name"]),
        ("numerics=1", ["numerics=1", "is not chosen"]),
        ("learner.n_step=${sed}", ["learner.n_step", "sed"]),
        ("learner.hidden.x=3", ["learner.hidden.x: there is no such setting"]),
    ],
)
def test_errors(overrides: str, said: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(overrides.split(" "))
    for part in said:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "override",
    ["lm.api_key=sk-123", "+lm.hf_token=sk-123", "+lm={apikey:sk-123}", "password=sk-123", "LM_SECRET=[sk-123"],
)
def test_a_secret_is_refused_and_never_shown(override: str) -> None:
    with pytest.raises(ConfigError, match="environment variables") as caught:
        compose([override])
    assert "sk-123" not in str(caught.value)


def test_a_setting_about_tokens_is_no_secret() -> None:
    assert compose(["prior=generated", "prior.max_tokens=3"]).prior.max_tokens == 3


def test_a_model_that_cannot_be_found_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        identify_run(compose(["lm=hf", "lm.model=absent"]))


@given(st.sampled_from(["", "seed=", "lm=", "learner.alpha=", "+env."]), st.text(max_size=12))
@settings(deadline=None, max_examples=60)
def test_whatever_is_typed_composes_or_is_explained(start: str, text: str) -> None:
    with contextlib.suppress(ConfigError):
        compose([start + text])


# ---- somebody else's parts ---------------------------------------------------------------------------------------


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    files = {
        "env/maze.yaml": "_target_: my.worlds.Maze\nname: maze\nsize: 3\n",
        "prior/wild.yaml": "name: wild\nsource: uniform\n",
        "learner/guess.yaml": "_target_: my.learners.Guess\nname: guess\npriors: [wild]\nrate: 0.5\n",
        "prompt/short.yaml": 'id: short-1\ntemplate: "{{ observation }}"\n',
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_parts_of_ones_own_need_no_schema(mine: Path) -> None:
    cfg = compose(["env=maze", "learner=guess", "prior=wild", "env.size=5"], mine)
    assert (cfg.env.size, cfg.learner.rate, cfg.prior.mix) == (5, 0.5, PriorConfig.mix)
    assert identify_run(cfg).name.startswith("maze-guess-wild-s0-")
    assert identify_run(cfg).id != identify_run(compose(["env=maze", "learner=guess", "prior=wild"], mine)).id
    assert compose(["prompt=short"], mine).prompt.id == "short-1"


def test_parts_of_ones_own_are_checked_where_they_meet_ours(mine: Path) -> None:
    with pytest.raises(ConfigError, match="guess takes prior=wild"):
        compose(["env=maze", "learner=guess", "prior=uniform"], mine)
    with pytest.raises(ConfigError, match=r"for prior=wild use learner=guess"):
        compose(["learner=dqn", "prior=wild"], mine)
    with pytest.raises(ConfigError, match="maze"):
        compose(["env=maize"], mine)
    assert [cell[0] for cell in expand_sweep(["env=glob(m*)", "seed=1"], mine)] == ["env=maze"]


def test_a_file_of_ones_own_cannot_hide_one_of_ours(mine: Path) -> None:
    (mine / "env" / "overcooked_salad.yaml").write_text("name: mine\n")
    with pytest.raises(ConfigError, match="rename it"):
        compose([], mine)
    with pytest.raises(ConfigError, match="there is no such folder"):
        compose([], mine / "nowhere")


# ---- sweeps ------------------------------------------------------------------------------------------------------


def test_cells_are_hydras_product_in_hydras_order() -> None:
    assert expand_sweep(["learner=dqn,dqn_prior", "env_steps=100", "seed=range(0,2)"]) == [
        ["learner=dqn", "env_steps=100", "seed=0"],
        ["learner=dqn", "env_steps=100", "seed=1"],
        ["learner=dqn_prior", "env_steps=100", "seed=0"],
        ["learner=dqn_prior", "env_steps=100", "seed=1"],
    ]
    assert expand_sweep(["learner.alpha=choice(0.1,0.2)"]) == [["learner.alpha=0.1"], ["learner.alpha=0.2"]]
    assert {cell[0] for cell in expand_sweep(["env=glob(*)"])} == {f"env={env}" for env in ENVS}
    assert expand_sweep([]) == [[]]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("learner=dqn,dnq", "learner=dnq"),
        ("env=glob(x*)", "matches nothing"),
        ("seed=interval(0,1)", "cannot be listed"),
    ],
)
def test_sweeps_that_cannot_run(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        expand_sweep([override])


def test_an_option_may_lie_in_a_folder_of_its_group(tmp_path: Path) -> None:
    assert compose(["env=household/heat", "learner=random"]).env.task == "heat"
    with pytest.raises(ConfigError, match=r"env=household/heet: did you mean env=household/heat\?"):
        compose(["env=household/heet"])
    (tmp_path / "env" / "mine").mkdir(parents=True)
    (tmp_path / "env" / "mine" / "short.yaml").write_text((OWN / "env" / "household" / "pick.yaml").read_text())
    assert compose(["env=mine/short", "learner=random"], tmp_path).env.name == "household_pick"


def test_a_choice_may_depend_on_the_world() -> None:
    with pytest.raises(ConfigError, match="choose one of train, dev, valid_seen, valid_unseen, corpus"):
        compose(["env=household/pick", "env.split=test"])
    with pytest.raises(ConfigError, match=r"choose one of train, dev, test$"):
        compose(["env=overcooked_random", "env.split=valid_seen"])
