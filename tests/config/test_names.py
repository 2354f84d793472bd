"""Names against bytes: two runs that differ in one setting have one name exactly if they leave the same bytes.

Bases are the presets, with a prior of each source that they take, and what no preset is. Each is a tiny run, of which
one setting after the other is changed. By default every setting of every schema is changed in one base that reads it,
and in one base for each rule of `llmrl/config/unread.py` that leaves it out; `make test-names` changes all in all.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import cache
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

import llmrl
from llmrl.config.checks import plain_settings
from llmrl.config.compose import ConfigError, check, compose, config_folder
from llmrl.config.unread import UNREAD, USES, find_unread
from llmrl.core.files import flatten
from llmrl.core.overrides import ConfigFolders
from llmrl.encoders.hash import HashEncoder
from llmrl.learners.weights import network, write_weights
from llmrl.report import plots
from llmrl.run.identity import free_settings, identify_run
from llmrl.run.load import load_runs
from llmrl.schema.encoders import EncoderConfig
from llmrl.schema.fields import read_allowed
from llmrl.schema.kinds import PARTS

ALL = "LLMRL_ALL_NAMES" in os.environ
pytestmark = [pytest.mark.timeout(0)] if ALL else []  # all settings of one base may take many minutes
GOLDEN = Path(__file__).parents[1] / "golden"
TINY = {
    "env": "overcooked_tomato", "env.max_decisions": 6, "env_steps": 32, "rollout.num_envs": 4, "evaluation.every": 16,
    "evaluation.episodes": 2, "evaluation.exact_up_to": 0, "progress": "false",
}  # fmt: skip
BY_SOURCE = {
    "scored": {"lm": "hf", "lm.model": "CHAT", "lm.device": "cpu"},
    "generated": {"lm": "tiny"},  # its answers name actions
    "oracle": {"prior.error": 0.5},  # else every draw is alike
    "learned": {"prior.labels": 20},
}
NET = {"learner.hidden": "[4]", "encoder.dim": 8}
REPLAY = {"learner.learning_starts": 4, "learner.update_every": 2, "learner.batch": 4, "learner.buffer": 8}
DATA = {
    "data": GOLDEN / "tomato.parquet", "data.size": 60, "learner.gradient_steps": 8, "learner.batch": 8,
    "evaluation.every": 2, "evaluation.per_doubling": 1,
}  # fmt: skip
KINDS = {
    "dqn": NET | REPLAY | {"learner.lr": 0.1, "learner.alpha": 0.5},
    "drrn": REPLAY | {"learner.hidden": 4, "learner.embedding": 4},
    "cql": NET | DATA | {"learner.lr": 0.3},  # so that some errors are above 1
    "iql": NET | DATA,
    "bc": NET | DATA,
}
FOLDERS = ConfigFolders(config_folder())


def presets() -> dict[str, dict[str, Any]]:
    """Every learner with a prior of each source that it takes; its own goes first."""
    found = {}
    for learner in FOLDERS.groups["learner"]:
        preset = FOLDERS.read("learner", learner)
        node: Any = OmegaConf.to_container(preset.settings.learner)
        priors = [preset.choices["prior"], *node["priors"]]
        by_source = {FOLDERS.read("prior", name).settings.prior.source: name for name in reversed(priors)}
        settings = TINY | KINDS.get(node["kind"], {})
        if node.get("weights") == "???":
            settings = TINY | (KINDS["dqn"] if "buffer" in node else NET)
            settings |= {"learner.weights": "Q" if "buffer" in node else "POLICY"}
        if node.get("alpha_eval") == 0:  # else no episode differs from another
            settings |= {"learner.alpha_eval": 0.5}
        if node.get("prefill"):
            settings |= {"learner.prefill": 12, "prior.uniform_after": 12}
        for source, prior in by_source.items():
            varied = node.get("combine") == "product" and source == "generated"  # else episodes of a mode are all alike
            more = {"prior.temperature": 2.0, "env.max_decisions": 20} if varied else {}
            found[f"{learner} {source}"] = (
                settings | BY_SOURCE.get(source, {}) | more | {"learner": learner, "prior": prior}
            )
    return found


PRESETS = presets()
BLIND = {f"prior.{use}.uniform": "true" for use in USES}
MORE = {  # name -> a preset, and what is other than there
    "soft backup": ("dqn uniform", {"learner.backup": "soft"}),
    "decaying": ("dqn uniform", {"learner.epsilon_final": 0.9, "learner.epsilon_decay": 10}),
    "not decaying": (
        "dqn uniform",
        {"learner.epsilon": 0.5, "learner.epsilon_final": 0.5, "learner.epsilon_decay": 10},
    ),
    "prioritised": ("dqn uniform", {"learner.priority": 0.6}),
    "never full": ("dqn uniform", {"learner.buffer": 32}),
    "never full, drrn": ("drrn uniform", {"learner.buffer": 50}),
    "no discount": ("dqn uniform", {"learner.gamma": 1}),
    "no discount, data": ("cql uniform", {"learner.gamma": 1, "learner.n_step": 2}),
    "lake": ("dqn uniform", {"env": "frozen_lake", "env.layout": "random", "env.map": "full"}),
    "log grid": ("dqn uniform", {"evaluation.grid": "log", "evaluation.every": 4}),
    "no grid": ("dqn uniform", {"evaluation.grid": "log", "evaluation.every": 32}),
    "no grid, data": ("cql uniform", {"evaluation.every": 8}),
    "blind": ("dqn_prior scored", BLIND | {"prior.calibrate": "pmi"}),
    "blind, generated": ("dqn_prior generated", BLIND),
    "blind, oracle": ("dqn_prior oracle", BLIND),
    "blind, copier": ("dqn_prior copied", BLIND),
    "blind target": ("dqn_prior generated", {"prior.target.uniform": "true"}),
    "blind evaluation": ("cql_prior generated", {"prior.evaluation.uniform": "true"}),
    "counts of all": ("dqn_prior generated", {"prior.target.k": "null"}),
    "own evaluation": ("cql uniform", {"learner.alpha_eval": 0.5}),
    "all, weighted": ("cql_prior_soft scored", {"learner.regulariser": "prior"}),
    "expected": ("cql_prior scored", {"learner.backup": "expected"}),
    "product of nothing": ("bc_filtered uniform", {"learner.alpha": 0.5}),
    "weighted product": ("bc_prior scored", {"learner.learned_weight": 0.5}),
    "no history": ("prior_only scored", {"prompt.template": "'{{observation}} Next:'"}),
    "marginal": ("prior_only scored", {"prior": "marginal"}),
    "calibrated": ("prior_only scored", {"prior.calibrate": "pmi"}),
    "examples": ("prior_only scored", {"prompt.template": "'{{observation}} Next:'", "prompt.shots": 2}),
    "examples for answers": ("prior_only generated", {"prompt.template": "'{{observation}} Next:'", "prompt.shots": 2}),
    "examples, stops elsewhere": (
        "prior_only generated",
        {"prompt.template": "'{{observation}} Next:'", "prompt.shots": 2, "prior.stop": "['\n', nothing]"},
    ),
    "thought": ("prior_only scored", {"prompt.think": "shared", "prompt.think_tokens": 4}),
    "stops as the prompt does": ("dqn_prior generated", {"prior.stop": "['\n']"}),
    "stops elsewhere": ("dqn_prior generated", {"prior.stop": "['\n', nothing]"}),
    "trusts": ("dqn_prior scored", {"prior.mix": "auto"}),
    "fitted": ("dqn_prior scored", {"prior.labels": 8, "prior.head": "hash"}),
    "never uniform": ("dqn_prefilled scored", {"prior.uniform_after": 40}),
    "episodes to spare": ("dqn uniform", {"episodes": 32}),
    "decisions to spare": ("dqn uniform", {"episodes": 2, "rollout.num_envs": 1}),
    "chat": ("prior_only scored", {"prompt": "chat", "prior.temperature": 0.05}),
    "model encoder": (
        "dqn uniform",
        {"encoder": "lm", "encoder.model": GOLDEN / "lm", "encoder.device": "cpu", "encoder.dim": None},
    ),
    "rewarded": ("drrn uniform", {"env": "corridor", "env.max_decisions": None}),
    "kitchens": ("random uniform", {"env": "overcooked_random"}),
    "homes": (
        "dqn_prior oracle",
        {"env": "household/pick", "env.index": 20, "env.count": 4, "env.max_decisions": 12, "env_steps": 64},
    ),
}
BASES = PRESETS | {name: PRESETS[preset] | settings for name, (preset, settings) in MORE.items()}

OTHER: dict[str, list[Any]] = {  # where a little more would be refused, or would not show on a tiny run
    "prompt.shot_steps": [3],
    "prior.mix": [0.9, "auto"], "prior.error": [0.9], "prior.uniform_after": [8], "prior.top_p": [0.3],
    "prior.limit": [0], "prior.labels": [9],
    "prior.max_tokens": [2], "prior.temperature": [5.0], "learner.prefill": [16], "learner.positive_share": [0.0],
    "learner.n_step": [1, 2], "learner.gamma": [0.5], "learner.c": [5.0], "learner.alpha": [0.0, 50.0],
    "learner.alpha_eval": [50.0, 1e-3], "learner.grad_clip": [1e-3], "learner.epsilon": [0.9],
    "learner.update_every": [5], "learner.learning_starts": [28],
    "prompt.system": [""], "evaluation.per_doubling": [1], "encoder.pooling": ["last"],
    "learner.epsilon_decay": [30], "learner.epsilon_final": [0.2], "learner.learned_weight": [3.0],
    "prompt.template": ["{{ observation }}\nNext:"], "evaluation.exact_up_to": [20_000], "env.max_decisions": [4],
    "env.max_primitive_steps": [5], "env.size": [8, 5], "prior.stop": [None, ["e"]],
}  # fmt: skip
TOGETHER = {
    "learner.epsilon_final": ("learner.epsilon_decay", 10),
    "learner.epsilon_decay": ("learner.epsilon_final", 0.9),
    "prompt.think": ("prompt.think_tokens", 4),  # the model of these tests reads 256 tokens
}
CALLED = "is what the folder's name shows"
MEANT = "is named by what it stands for: tests/run/test_run_id.py"
SKIPPED = {
    "numerics": "is not chosen", "prior.settings": "are somebody's own", "encoder.batch_size": "is read on a GPU alone",
    "prior.source": "goes with the prior's name", "prior._target_": "goes with the prior's name",
    "prior.control": "goes with the prior's name",
    **dict.fromkeys(("env.name", "learner.name", "prior.name"), CALLED),
    **dict.fromkeys((f"{part}.kind" for part in PARTS), "decides which settings there are"),
    **dict.fromkeys((f"{part}.{name}" for part in ("lm", "encoder") for name in ("model", "revision", "dtype")), MEANT),
    **dict.fromkeys(("learner.weights", "data.file"), MEANT),
}  # fmt: skip
ALIKE: dict[str, tuple[str, set[str]]] = {  # why a tiny run leaves the same bytes, and a longer one does not; but in
    "learner.positive_share": ("it earns nothing", {"rewarded"}),
    "env.reward": ("nobody chops what is chopped", set()),
    "prior.target.uniform": (
        "the largest Q of all actions is the target either way, and each state of a target is acted in",
        {*BASES} - {"saycan scored"},
    ),
    "evaluation.exact_up_to": (
        "somebody's own world may have no model, and five turns of history make too many states",
        {*BASES} - {"rewarded", "dqn_prior_paper_salad scored"},
    ),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for runs that are not drawn, and not made safe from power cuts; and what some of them start from."""
    root = tmp_path_factory.mktemp("names")
    encoder = HashEncoder(EncoderConfig("hash", "hash", dim=8))
    for name, what in (("Q", "q"), ("POLICY", "policy")):
        write_weights(root / name, network(8, [4]), what, encoder, [4], {})  # type: ignore[arg-type]
    shutil.copytree(GOLDEN / "lm", root / "CHAT")
    config = root / "CHAT" / "config.json"  # examples are longer than what it reads
    config.write_text(json.dumps(json.loads(config.read_text()) | {"max_position_embeddings": 2048}))
    file = root / "CHAT" / "tokenizer_config.json"
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": template}))
    (root / "own" / "env").mkdir(parents=True)
    (root / "own" / "env" / "corridor.yaml").write_text("_target_: worlds.Corridor\nname: corridor\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "run_curve", lambda path: None)
        patch.setattr(import_module("llmrl.training.offline"), "STEPS_AT_ONCE", 2)  # evaluations are between ticks
        patch.setattr(os, "fsync", lambda handle: None)
        yield root


@cache
def base(name: str, root: Path) -> DictConfig:
    given = BASES[name] | {"paths.runs": root / "runs", "paths.cache": root / "kept.sqlite3"}
    given = {key: root / value if value in ("Q", "POLICY", "CHAT") else value for key, value in given.items()}
    return compose([f"{key}={value}" for key, value in given.items() if value is not None], root / "own")


def settings_of(cfg: DictConfig) -> list[str]:
    """What may change a result, one by one; but what only its default may be."""
    plain = plain_settings(cfg)
    refused = {key for key, rule in find_unread(plain).items() if rule.refused}
    absent = {"lm", "prompt", "encoder", "data"}
    left_out = free_settings(plain) | refused | absent | set(SKIPPED)
    with_a_file = ("learner.hidden", "encoder.") if cfg.learner.get("weights") else ()
    return [
        key
        for key in flatten(plain)
        if key not in left_out and not key.endswith("_target_") and not key.startswith(with_a_file)
    ]


def others(key: str, cfg: DictConfig) -> Iterator[Any]:
    """Other values of a setting, legal or not, from the one that is likeliest to show."""
    value = OmegaConf.select(cfg, key)
    yield from OTHER.get(key, [])
    part, _, name = key.rpartition(".")
    schema = OmegaConf.get_type(OmegaConf.select(cfg, part) if part else cfg)
    yield from read_allowed(schema)[name].choices if schema is not None and is_dataclass(schema) else ()
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, value - 1)
    elif isinstance(value, float):
        yield from (value / 2, value + 0.5)
    elif isinstance(value, str):
        yield f"{value}x"
    else:
        yield from (1, 0.5) if value is None else ([*value, 5],)


def changed(name: str, key: str, root: Path) -> Iterator[DictConfig]:
    """The configs of a base with up to three other values of one setting; none where all are refused."""
    if (name, key) not in _CHANGED:
        _CHANGED[name, key] = [], islice(_legal(name, key, root), 3)
    known, more = _CHANGED[name, key]
    yield from known
    for cfg in more:  # made when it is asked for: a config takes a third of a second
        known.append(cfg)
        yield cfg


_CHANGED: dict[tuple[str, str], tuple[list[DictConfig], Iterator[DictConfig]]] = {}


def _legal(name: str, key: str, root: Path) -> Iterator[DictConfig]:
    cfg = base(name, root)
    for value in others(key, cfg):
        other = OmegaConf.create(plain_settings(cfg))
        assert isinstance(other, DictConfig)
        if key in TOGETHER and not OmegaConf.select(cfg, key):
            OmegaConf.update(other, *TOGETHER[key])
        OmegaConf.update(other, key, value)
        try:
            checked = check(other)
            if key.startswith("prompt."):
                identify_run(checked)  # a model without a chat template is refused here
        except ConfigError:
            continue
        if OmegaConf.select(checked, key) != OmegaConf.select(cfg, key):
            yield checked


def longer(cfg: DictConfig) -> DictConfig:
    """Where a tiny run does not show what a setting changes, this one may."""
    given = OmegaConf.create(plain_settings(cfg))
    assert isinstance(given, DictConfig)
    OmegaConf.update(given, "evaluation.episodes", 3 * cfg.evaluation.episodes)
    if cfg.data is None:
        OmegaConf.update(given, "env_steps", 6 * cfg.env_steps)
    else:
        OmegaConf.update(given, "learner.gradient_steps", 6 * cfg.learner.gradient_steps)
    return check(given)


def is_alike(key: str, name: str) -> bool:
    return key in ALIKE and name not in ALIKE[key][1]


def left(cfg: DictConfig, root: Path) -> dict[str, Any]:
    """What a run leaves that is a function of its settings: its logs, its summary but for its name, its weights."""
    shutil.rmtree(root / "runs", ignore_errors=True)
    llmrl.train(cfg)
    (run,) = load_runs(root / "runs")
    last = max((run.path / "checkpoints").iterdir(), key=lambda path: int(path.name))
    files = [run.path / "metrics.jsonl", run.path / "episodes.jsonl", last / "weights.safetensors"]
    return {path.name: path.read_bytes() for path in files} | {"summary.json": run.summary | {"run_id": None}}


@pytest.fixture(scope="module")
def chosen(root: Path) -> dict[str, list[str]]:
    """Base -> what is changed there, in turn: all, or what is of a kind that no earlier base has."""
    kinds: set[tuple[Any, ...]] = set()
    found: dict[str, list[str]] = {}
    for name in BASES:
        cfg = base(name, root)
        rules = find_unread(plain_settings(cfg))
        found[name] = []
        for key in settings_of(cfg):
            schema = OmegaConf.get_type(OmegaConf.select(cfg, key.rpartition(".")[0]) if "." in key else cfg)
            kind = schema, key, rules[key].when if key in rules else None
            new = kind not in kinds and not is_alike(key, name)
            if ALL or (new and any(changed(name, key, root))):
                kinds.add(kind)
                found[name].append(key)
    return found


def wrongly_named(name: str, root: Path, keys: list[str]) -> list[str]:
    """Of one base: the settings whose names and bytes do not agree, and how."""
    cfg, wrong = base(name, root), []
    mine = left(cfg, root) if keys else {}
    more: dict[str, Any] = {}
    for key in keys:
        first = next(changed(name, key, root), None)
        if first is None:
            continue
        if identify_run(first).id == identify_run(cfg).id:
            if left(first, root) != mine:
                wrong.append(f"{name}: {key}={OmegaConf.select(first, key)}: one name for other bytes")
            continue
        if is_alike(key, name) or any(left(other, root) != mine for other in changed(name, key, root)):
            continue
        more = more or left(longer(cfg), root)
        if all(left(longer(other), root) == more for other in changed(name, key, root)):
            wrong.append(f"{name}: {key}={OmegaConf.select(first, key)}, or others: another name for the same bytes")
    return wrong


def unheld(root: Path, chosen: dict[str, list[str]]) -> set[str]:
    """The settings of rules that no run was held against; but for one that is refused, and what goes with a name."""
    held = set()
    for name, keys in chosen.items():
        found = find_unread(plain_settings(base(name, root)))
        held |= {(key, found[key].when) for key in keys if key in found and any(changed(name, key, root))}
    rules = {(key, rule.when) for rule in UNREAD if not rule.refused for key in rule.keys if key not in SKIPPED}
    return {key for key, _ in rules - held}


# In one test where a part is changed, so that one worker alone makes the bases, which takes half a minute.
@pytest.mark.slow
@pytest.mark.parametrize("names", [[name] for name in BASES] if ALL else [[*BASES]], ids=lambda names: names[0])
def test_names_are_equal_where_bytes_are(names: list[str], root: Path, chosen: dict[str, list[str]]) -> None:
    wrong = [told for name in names for told in wrongly_named(name, root, chosen[name])]
    assert not wrong, "\n".join(wrong)
    if names[-1] == [*BASES][-1]:
        assert not unheld(root, chosen)
