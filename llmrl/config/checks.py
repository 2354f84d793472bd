"""Checks of a typed config: values out of range, parts that do not fit together, settings that nothing reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from llmrl.config.unread import Settings, asks_a_model, find_informed_uses, find_unread
from llmrl.core.overrides import ConfigError, ConfigFolders, closest_first, format_value, one_of
from llmrl.lm.http.address import check_url, read_key
from llmrl.schema.fields import Allowed, Schema, read_allowed
from llmrl.schema.kinds import has_schema, schema_of
from llmrl.schema.learners import LearnerConfig
from llmrl.schema.lm import OpenAILMConfig, TransformersLMConfig
from llmrl.schema.run import TrainConfig


def refuse_invalid(cfg: DictConfig, folders: ConfigFolders) -> None:
    """Raises ConfigError where `cfg`, typed and resolved, cannot run as it was meant."""
    _refuse_missing(cfg, folders)
    _refuse_values(cfg)
    _refuse_combinations(cfg, folders)


def plain_settings(cfg: DictConfig) -> dict[str, Any]:
    """A typed config as plain data."""
    plain: Any = OmegaConf.to_container(cfg)
    return dict(plain)


def refuse_keyless(cfg: DictConfig) -> None:
    """Raises ConfigError where a run may ask a server and has no key for it. A finished run needs none."""
    if has_schema("lm", cfg.lm, OpenAILMConfig) and not cfg.cached_only:
        _raise_as_config_error(lambda: read_key(cfg.lm.api_key_env))


def _raise_as_config_error(look: Callable[[], object]) -> None:
    """Raises the faults that a part of llmrl finds in its settings as ConfigErrors."""
    try:
        look()
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _refuse_missing(cfg: DictConfig, folders: ConfigFolders) -> None:
    missing = sorted(OmegaConf.missing_keys(cfg))
    if "lm.model" in missing:
        raise ConfigError(f"lm={cfg.lm.name} needs a model: add lm.model=FOLDER_OR_HUB_ID")
    if "learner.weights" in missing:
        raise ConfigError(
            f"learner={cfg.learner.name} needs a trained network: add learner.weights=FILE, or data=FILE to learn from"
        )
    for part in ("env", "learner"):
        if part in missing or cfg[part] is None:
            raise ConfigError(f"{part} is missing: add {part}={_an_option(folders, part)}")
    if missing:
        raise ConfigError(f"no value for {', '.join(missing)}: add {missing[0]}=VALUE")


def _an_option(folders: ConfigFolders, group: str) -> str:
    return "|".join(folders.groups[group])


def _refuse_values(cfg: DictConfig) -> None:
    for key, value, allows in _values(cfg):
        if value is not None and allows.choices and value not in allows.choices:
            raise ConfigError(one_of(key, value, allows.choices))
        for number in value if isinstance(value, ListConfig) else [value]:
            if number is None or allows.range is None or number == allows.word:
                continue
            if number not in allows.range:
                word = f", or {allows.word}" if allows.word else ""
                raise ConfigError(f"{key}={format_value(number)}: it must be {allows.range}{word}")
    if cfg.numerics != TrainConfig.numerics:
        raise ConfigError(
            f"numerics={cfg.numerics}: this llmrl computes with numerics {TrainConfig.numerics}; "
            "it names the version of the arithmetic and is not chosen"
        )
    for part in ("env", "learner", "prior"):
        name = cfg[part].get("name")
        if not isinstance(name, str) or not re.fullmatch(r"[\w.+]+(-[\w.+]+)*", name):
            raise ConfigError(
                f"{part}.name={name}: it becomes part of a folder's name; use letters, digits, _ . + and -"
            )


def _values(node: DictConfig, path: str = "") -> Iterator[tuple[str, Any, Allowed]]:
    """Dotted key, value and what is allowed, of every setting that has a schema of ours."""
    schema = OmegaConf.get_type(node)
    for name, allows in read_allowed(schema).items() if schema is not None and is_dataclass(schema) else ():
        if isinstance(node[name], DictConfig):
            yield from _values(node[name], f"{path}{name}.")
        else:
            yield f"{path}{name}", node[name], allows


def _refuse_combinations(cfg: DictConfig, folders: ConfigFolders) -> None:
    learner, prior = cfg.learner, cfg.prior
    takes = learner.get("priors")
    if takes is not None and prior.name not in takes:
        others = closest_first(
            learner.name,
            (name for name, node in _learners(folders).items() if prior.name in (node.get("priors") or ())),
        )
        instead = (
            f"use learner={' or '.join(others)}" if others else f"say learner.priors=[{','.join([*takes, prior.name])}]"
        )
        raise ConfigError(f"{learner.name} takes prior={' or '.join(takes)}; for prior={prior.name} {instead}")
    for problem in _problems(OmegaConf.to_object(cfg), has_data=cfg.data is not None):
        raise ConfigError(problem)
    settings = Settings.of(plain_settings(cfg))
    informed_uses = find_informed_uses(settings)
    _refuse_supports(prior, informed_uses)
    _refuse_trust(cfg, informed_uses)
    _refuse_labels(cfg, informed_uses)
    asks = asks_a_model(settings)
    if asks and cfg.lm is None:
        raise ConfigError(
            f"prior={prior.name} asks a language model and there is none: add lm=tiny, "
            "or lm=hf lm.model=FOLDER_OR_HUB_ID"
        )
    if asks and cfg.prompt is None:
        raise ConfigError(f"prior={prior.name} asks a language model and there is no prompt: add prompt=plain")
    if has_schema("lm", cfg.lm, OpenAILMConfig) and cfg.lm.serve is None:
        _raise_as_config_error(lambda: check_url(cfg.lm.url, cfg.lm.allow_http))
    if cfg.prompt is not None:
        if cfg.prompt.think == "each" and prior.source != "generated":
            raise ConfigError(
                f"prompt.think=each: prior={prior.name} scores actions after one thought; use prompt.think=shared, or "
                "prior=generated"
            )
        from llmrl.prompts.prompt import Prompt

        _raise_as_config_error(lambda: Prompt(cfg.prompt))
        _refuse_nothing_left(cfg)
    if cfg.data is not None:
        _refuse_data(cfg, folders)
    _refuse_unread(cfg, settings)
    _refuse_misnamed(prior, folders)
    if getattr(OmegaConf.get_type(learner), "reads_vectors", False) and cfg.encoder is None:
        raise ConfigError(f"learner={learner.name} reads encoded texts and there is no encoder: add encoder=hash")


def _problems(settings: object, has_data: bool) -> Iterator[str]:
    """The problems of each schema in the config, from the innermost out. A part from another package has no schema."""
    if isinstance(settings, Schema) and is_dataclass(settings):
        for f in fields(settings):
            yield from _problems(getattr(settings, f.name), has_data)
        yield from settings.problems(has_data)


def _refuse_unread(cfg: DictConfig, settings: Settings) -> None:
    """A person who sets what nothing reads would think that they had tried it."""
    for key, rule in find_unread(settings).items():
        part, _, name = key.rpartition(".")
        default = getattr(OmegaConf.get_type(OmegaConf.select(cfg, part) or cfg), name, None)
        if rule.refused and (value := OmegaConf.select(cfg, key)) != default:
            raise ConfigError(f"{key}={format_value(value)}: {rule.why}")


def _refuse_supports(prior: DictConfig, informed_uses: list[str]) -> None:
    """Free answers are counted, k of them, in each use that the run has."""
    if prior.source != "generated" or not informed_uses:
        return
    if all(prior[use].k is None for use in informed_uses):
        raise ConfigError(f"prior=generated counts k answers: say how many, as in prior.{informed_uses[0]}.k=5")
    for use in informed_uses:
        if prior[use].k is None and prior[use].redraw == "union":
            raise ConfigError(
                f"prior.{use}.redraw=union: all admissible actions are considered, and no set of them can grow; add "
                f"prior.{use}.k=5, or say prior.{use}.redraw=visit"
            )


def _refuse_nothing_left(cfg: DictConfig) -> None:
    """All that a prompt without a state says, taken off what it says: every action would have the same weight."""
    from llmrl.prompts.prompt import names_in

    prior, prompt = cfg.prior, cfg.prompt
    names = names_in(prompt.template)
    shows = "observation" in names or ("history" in names and prompt.history_turns > 0)
    if prior.calibrate == "pmi" and prior.calibrate_weight == 1 and (prior.control == "marginal" or not shows):
        what = f"prior={prior.name}" if prior.control == "marginal" else f"the template of prompt {prompt.id!r}"
        raise ConfigError(
            f"prior.calibrate=pmi: {what} shows no observation, so that no difference is left; "
            "say prior.calibrate=none, or a prior.calibrate_weight other than 1"
        )


def _refuse_trust(cfg: DictConfig, informed_uses: list[str]) -> None:
    """`prior.mix=auto` learns from episodes what the prior's candidates are worth to the acting agent."""
    prior = cfg.prior
    if prior.mix != "auto" or prior.source == "uniform" or not informed_uses:
        return
    wrong = (
        (cfg.data is not None, "it learns from the run's episodes, and with data there are none"),
        (prior.behaviour.uniform, "with prior.behaviour.uniform=true no episode shows the prior's effect"),
        (prior.uniform_after is not None, "with prior.uniform_after later episodes do not show its effect"),
    )
    for holds, why in wrong:
        if holds:
            raise ConfigError(f"prior.mix=auto: {why}; or choose a number, as in prior.mix=0.05")


def _refuse_labels(cfg: DictConfig, informed_uses: list[str]) -> None:
    """Labels come from games that have an expert, and never from those that the run is judged in."""
    prior = cfg.prior
    if not prior.labels or not informed_uses:
        return
    if not getattr(OmegaConf.get_type(cfg.env), "has_train_games", False):
        raise ConfigError(
            f"prior.labels={prior.labels}: env={cfg.env.name} has no games of its own split to be labelled; kitchens "
            "(overcooked_*) and homes (household/*) have; or say prior.labels=0"
        )
    if cfg.env.get("split") == "train":
        raise ConfigError(
            f"prior.labels={prior.labels}: labels are taken from games of env.split=train, and the run would be judged "
            "in the same; choose another split, as in env.split=dev"
        )
    if prior.head == "hidden" and not has_schema("lm", cfg.lm, TransformersLMConfig):
        raise ConfigError(
            "prior.head=hidden: it reads the hidden states of a model in this process, as lm=tiny or lm=hf has them; "
            "use prior.head=bias or hash"
        )


def _refuse_misnamed(prior: DictConfig, folders: ConfigFolders) -> None:
    """A run, and every table, calls its prior by this name."""

    def kind(node: Any) -> str:
        return " ".join(filter(None, (node.get("control"), node.get("source"))))

    def kind_of(option: str) -> str:
        return kind(folders.read("prior", option).settings.get("prior", {}))

    mine = kind(prior)
    if prior.name in folders.groups["prior"] and kind_of(prior.name) != mine:
        kinds = {name: kind_of(name) for name in folders.groups["prior"]}
        others = [name for name, other in kinds.items() if other == mine]
        key = "control" if kinds[prior.name].endswith(prior.source) else "source"
        raise ConfigError(
            f"prior.{key}={format_value(prior[key])}: prior={prior.name} is made from {kinds[prior.name]}; "
            f"for {mine} use prior={' or '.join(others)}"
        )


def _refuse_data(cfg: DictConfig, folders: ConfigFolders) -> None:
    """Raises ConfigError for data that the learner or the prior cannot use."""
    learner, prior = OmegaConf.to_object(cfg.learner), cfg.prior
    if not isinstance(learner, LearnerConfig) or not learner.learns_from_data:
        schemas = {name: schema_of("learner", node) for name, node in _learners(folders).items()}
        others = [name for name, schema in schemas.items() if getattr(schema, "learns_from_data", False)]
        raise ConfigError(
            f"learner={cfg.learner.name} learns by acting and takes no data: use learner={'|'.join(others)}"
        )
    if prior.uniform_after is not None:
        raise ConfigError(
            f"prior.uniform_after={prior.uniform_after}: it counts decisions, and with data there are none"
        )
    if prior.target.redraw == "union":
        raise ConfigError(
            f"prior.target.redraw={prior.target.redraw}: all candidates are asked for before training, so that none "
            "come up on the way; use prior.target.redraw=never, or visit"
        )
    weighed = learner.uses_of_all_actions()
    draws = any(prior[use].k is not None for use in weighed)
    if draws or (weighed and prior.source != "uniform" and prior.mix == 0):
        raise ConfigError(
            f"learner={learner.name} multiplies by the prior's weight of every action: use prior=scored, or "
            "prior.target.k=null prior.evaluation.k=null, with prior.mix above 0"
        )


def _learners(folders: ConfigFolders) -> dict[str, DictConfig]:
    """Learner -> its settings, from the config files."""
    return {name: folders.read("learner", name).settings.get("learner", {}) for name in folders.groups["learner"]}
