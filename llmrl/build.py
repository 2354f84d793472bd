"""From a checked config to the objects of a run: of llmrl's own by their `kind`, of somebody else's by `_target_`.

A world and a language model are called with the keys of their config; an encoder, and a learner, with their whole
config: `encoder(cfg)`, `learner(cfg, seed, table)`; the weights of a prior with its settings:
`weights(settings, seed)`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache, partial
from pkgutil import resolve_name
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from llmrl.answers.answers import AnswerCache, Answers, KeptRows
from llmrl.answers.cache_file import cache_path
from llmrl.config.checks import plain_settings
from llmrl.config.compose import ConfigError
from llmrl.config.unread import USES, find_unread
from llmrl.core.files import to_json
from llmrl.core.state import TextState
from llmrl.core.targets import import_target
from llmrl.encoders.encoder import Encoder, FeatureTable, render
from llmrl.encoders.hash import HashEncoder
from llmrl.encoders.model import ModelEncoder
from llmrl.envs.pool import EnvPool, TextWorld
from llmrl.learners.learner import Learner
from llmrl.lm.language_model import LanguageModel, ModelIdentity
from llmrl.priors.head import Head, Label, bias_features
from llmrl.priors.prior import Prior
from llmrl.prompts.examples import Examples, NoExamples
from llmrl.prompts.prompt import Prompt
from llmrl.rollout.exact import Exact
from llmrl.rollout.labels import collect_labels, train_world
from llmrl.run.identity import RunIdentity, chat_template_of, model_identity
from llmrl.schema.encoders import EncoderConfig, ModelEncoderConfig
from llmrl.schema.kinds import KINDS, has_schema, kind_of
from llmrl.schema.lm import ModelConfig, TransformersLMConfig
from llmrl.schema.run import TrainConfig

LEARNED = "prior/"  # begins the names of what a prior learned, among those of weights
HASHED = EncoderConfig("hash", "hash")  # of prior.head=hash


@dataclass
class Parts:
    """The parts of a run."""

    prior: Prior
    learner: Learner
    table: FeatureTable | None  # None where nothing is learned
    answers: Answers | None  # None where nothing asks a model
    cache: AnswerCache | None  # of answers and feature rows; None where no model is asked for either
    history_turns: int  # the most that any rendered text shows

    def state_dict(self) -> dict[str, Tensor]:
        """All that was learned: the learner's weights, and beside them what the prior learned."""
        learned = {f"{LEARNED}{name}": torch.from_numpy(a) for name, a in self.prior.state_dict().items()}
        return self.learner.state_dict() | learned

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Raises ValueError where the prior is to have learned something and has not."""
        learned = {name.removeprefix(LEARNED): t.numpy() for name, t in tensors.items() if name.startswith(LEARNED)}
        self.learner.load_state_dict({name: t for name, t in tensors.items() if not name.startswith(LEARNED)})
        try:
            self.prior.load_state_dict(learned)
        except KeyError:
            raise ValueError(
                "prior.mix=auto and prior.labels are learned in training, and this run had others: leave them alone"
            ) from None


def build(cfg: DictConfig, identity: RunIdentity | None = None) -> Parts:
    """Prior, learner and their parts; `identity` of the run, where it is known, saves looking for its models again.

    Raises ValueError for settings that do not fit together.
    """
    model = model_identity(cfg) if identity is None else identity.model
    cfg = _without_the_unread(cfg)
    run: TrainConfig = OmegaConf.to_object(cfg)  # type: ignore[assignment]
    prompt = build_prompt(cfg) if run.prompt is not None else None
    rows_are_kept = has_schema("encoder", cfg.encoder, ModelConfig)
    cache = AnswerCache(cache_path(cfg.paths.cache)) if run.lm is not None or rows_are_kept else None
    answers = build_answers(cfg, cache, model) if run.lm is not None else None
    encoder = None
    if run.encoder is not None:
        kept: list[Any] = []
        if rows_are_kept and cache is not None:
            kept = [KeptRows(cache, cfg.cached_only), identity.encoder if identity else model_identity(cfg, "encoder")]
        encoder = _target("encoder", run.encoder)(run.encoder, *kept)
    table = FeatureTable(encoder) if encoder is not None else None
    own = import_target(run.prior._target_)(dict(run.prior.settings or {}), run.seed) if run.prior._target_ else None
    head = _head(cfg, run, prompt, cache, model) if run.prior.labels else None
    examples = build_copied(run) if run.prior.source == "copied" else None
    prior = Prior(run.prior, run.seed, prompt, answers, own, head, examples)
    learner = _target("learner", run.learner)(run.learner, run.seed, table)
    readers = (prompt, encoder, learner, own)  # whoever reads texts itself says how much of the history it shows
    turns = max(getattr(reader, "history_turns", 0) for reader in readers)
    return Parts(prior, learner, table, answers, cache, turns)


def _head(
    cfg: DictConfig, run: TrainConfig, prompt: Prompt | None, cache: AnswerCache | None, model: ModelIdentity | None
) -> Head | None:
    """The head that is fitted to labels; None where no use of the prior is informed."""
    prior = run.prior
    if prior.behaviour.uniform and prior.target.uniform and prior.evaluation.uniform:
        return None
    world, turns = train_world(run.env), prompt.history_turns if prompt is not None else 0

    def labels() -> list[Label]:
        pool = EnvPool(_maker("env", world), 1)
        return collect_labels(pool, run.seed, prior.labels, turns)

    if prior.head == "bias":
        return Head(bias_features, labels)
    if prior.head == "hash":
        encoder: Encoder = HashEncoder(HASHED)
    else:
        assert isinstance(run.lm, TransformersLMConfig)
        assert cache is not None
        lm = run.lm
        settings = ModelEncoderConfig(
            "model", "hidden", lm.model, lm.revision, lm.dtype, "last", device=lm.device, batch_size=lm.batch_size or 16
        )
        encoder = ModelEncoder(settings, KeptRows(cache, cfg.cached_only), model)

    def features(states: Sequence[TextState]) -> list[np.ndarray]:
        rows = encoder.encode([(render(state, 0), state.actions) for state in states])
        return [row / encoder.dim**0.5 for row in rows]  # as long as a vector of one number that is 1

    return Head(features, labels)


def _without_the_unread(cfg: DictConfig) -> DictConfig:
    """The config, in which uses of the prior that the run lacks ask nothing, and history that nothing reads is empty.

    So what does not name a run is not computed either.
    """
    keys = find_unread(plain_settings(cfg))
    cfg = cfg.copy()
    OmegaConf.set_readonly(cfg, False)
    for use in USES:
        if f"prior.{use}.uniform" in keys:
            cfg.prior[use].uniform = True
    if "prompt.history_turns" in keys:
        cfg.prompt.history_turns = 0
    return cfg


def build_pool(cfg: DictConfig, num_envs: int, workers: int = 0) -> EnvPool:
    return EnvPool(_env(cfg), num_envs, workers)


def build_env(cfg: DictConfig) -> TextWorld:
    """One copy of the world, to look at."""
    return _env(cfg)()


def build_exact(cfg: DictConfig, history_turns: int, at_most: int | None = None) -> Exact | None:
    """The world with all its states, for evaluations that are computed; None where it cannot be listed.

    at_most: so many states; by default as many as may be evaluated so.
    """
    if not (at_most := cfg.evaluation.exact_up_to if at_most is None else at_most):
        return None
    run: TrainConfig = OmegaConf.to_object(cfg)  # type: ignore[assignment]
    given = to_json(_plain(run.env)), history_turns, at_most
    # what somebody else's world looks like may depend on more than its settings
    exact = _list_states(*given) if kind_of("env", cfg.env) else _list_states.__wrapped__(*given)
    return None if exact is None else exact.anew()


@lru_cache(maxsize=4)
def _list_states(world: str, history_turns: int, at_most: int) -> Exact | None:
    """Runs of one process share the lists of states, which take longer than a short run learns. `world`: as JSON."""
    env = _maker("env", json.loads(world))()
    model = getattr(env, "model", None)
    try:
        if model is None:  # somebody else's world that knows nothing of models
            return None
        return Exact.of((model(task) for task in getattr(env, "task_ids", ())), history_turns, at_most)
    finally:
        with suppress(Exception):  # nothing depends on it any more
            env.close()


def build_answers(cfg: DictConfig, cache: AnswerCache | None = None, identity: ModelIdentity | None = None) -> Answers:
    """The kept answers of the run's model. `cache`: where, if it is open already; `identity`: the model's, if known.

    A model of ours is loaded when the first answer is missing; somebody else's at once, since only it knows who it is.
    """
    run: TrainConfig = OmegaConf.to_object(cfg)  # type: ignore[assignment]
    make = partial(build_model, cfg)
    cache = cache or AnswerCache(cache_path(cfg.paths.cache))
    identity = identity or model_identity(cfg)
    if identity is None:
        model = make()
        return Answers(cache, model.identity, model.engine, lambda: model, cfg.cached_only)
    # Where all is kept, transformers is not even imported, which takes about two seconds.
    in_process = isinstance(run.lm, TransformersLMConfig)
    engine: str = "transformers" if in_process else _target("lm", run.lm).engine  # type: ignore[attr-defined]
    return Answers(cache, identity, engine, make, cfg.cached_only)


def build_prompt(cfg: DictConfig) -> Prompt:
    run: TrainConfig = OmegaConf.to_object(cfg)  # type: ignore[assignment]
    assert run.prompt is not None
    shots, steps, select = run.prompt.shots, run.prompt.shot_steps, run.prompt.select
    try:
        examples = _examples(run, shots, steps, select) if shots else None
    except ValueError as error:
        raise ConfigError(
            f"prompt.shots={shots}: {error}; use prompt.shots=0, or a prompt without examples: prompt=menu"
        ) from None
    return Prompt(run.prompt, chat_template_of(cfg) or "", examples)


def build_copied(run: TrainConfig) -> Examples:
    """The examples that prior=copier copies. Raises ConfigError where the run's world has none."""
    try:
        return _examples(run, run.prior.copies, 1, "similar")
    except ValueError as error:
        raise ConfigError(f"prior={run.prior.name}: {error}; use another prior, as in prior=uniform_k") from None


def _examples(run: TrainConfig, shots: int, steps: int, select: str) -> Examples:
    """The examples of the run's world. Raises ValueError where it has none."""
    given = to_json(_plain(run.env)), shots, steps, select
    return _load_examples(*given) if kind_of("env", _plain(run.env)) else _load_examples.__wrapped__(*given)


@lru_cache(maxsize=4)
def _load_examples(world: str, shots: int, steps: int, select: str) -> Examples:
    """Runs of one process share them, as they do lists of states. `world`: as JSON."""
    node = json.loads(world)
    env = _maker("env", node)()
    try:
        if not hasattr(env, "practice"):  # somebody else's
            raise NoExamples(f"{node['_target_']} has no practice(), which gives other games to show examples of")
        return Examples(env.practice(), shots, steps, select)
    finally:
        with suppress(Exception):  # nothing depends on it any more
            env.close()


def build_model(cfg: DictConfig) -> LanguageModel:
    """The model itself, to be asked directly."""
    run: TrainConfig = OmegaConf.to_object(cfg)  # type: ignore[assignment]
    model: LanguageModel = _maker("lm", run.lm)()
    return model


def _env(cfg: DictConfig) -> Callable[[], TextWorld]:
    run: TrainConfig = OmegaConf.to_object(cfg)  # type: ignore[assignment]
    return _maker("env", run.env)


def _maker(part: str, node: Any) -> Callable[[], Any]:
    """Makes a world or a language model of its settings."""
    whose = "kind" if kind_of(part, _plain(node)) else "_target_"
    arguments = {key: value for key, value in _plain(node).items() if key not in (whose, "name")}
    return partial(_target(part, node), **arguments)


def _target(part: str, node: Any) -> Callable[..., Any]:
    """The class or function that makes a part."""
    kind = kind_of(part, _plain(node))
    found: Callable[..., Any] = (
        resolve_name(KINDS[part][kind].target) if kind else import_target(_plain(node)["_target_"])
    )
    return found


def _plain(node: Any) -> dict[str, Any]:
    return {f.name: getattr(node, f.name) for f in fields(node)} if is_dataclass(node) else dict(node)
