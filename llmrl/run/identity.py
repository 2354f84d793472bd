"""The identity of a run: the settings that can change its result, and its name, which is a hash of them.

It is computed once and handed on. `llmrl/config/unread.py` says which settings a run does not read. Imports nothing
heavy.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from omegaconf import DictConfig, ListConfig, OmegaConf

from llmrl.config.checks import plain_settings
from llmrl.config.compose import as_checked, config_folder, dataclass_in
from llmrl.config.unread import NO_MORE_THAN, STANDS_FOR, Settings, find_unread, only_stop
from llmrl.core.overrides import ConfigError, ConfigFolders
from llmrl.run.folder import own_folder
from llmrl.schema.kinds import PARTS, has_schema, schema_of, with_old_target
from llmrl.schema.lm import ModelConfig, OpenAILMConfig
from llmrl.schema.run import TrainConfig

if TYPE_CHECKING:
    from llmrl.lm.language_model import ModelIdentity


@dataclass(frozen=True)
class RunIdentity:
    id: str  # SHA-256 of `settings`, as 64 hex digits
    stem: str  # what the name says of the run before its id: world, learner, prior, seed
    settings: Mapping[str, Any]  # what the id is a hash of
    model: ModelIdentity | None  # of `lm`; None where nothing asks a model of ours
    encoder: ModelIdentity | None

    @property
    def name(self) -> str:
        """The name of the run's folder. A folder shows more digits where two ids begin alike (`RunIdentity.folder`)."""
        return f"{self.stem}-{self.id[:8]}"

    def folder(self, runs: Path) -> Path:
        """The folder of the run in `runs`, whether it exists or not."""
        return own_folder(runs, self.name, self.id)


def identify_run(cfg: DictConfig) -> RunIdentity:
    """The identity of the run that `cfg` describes. Raises ConfigError for a model or a file that cannot be found."""
    cfg = as_checked(cfg)
    model, encoder = model_identity(cfg), model_identity(cfg, "encoder")
    settings = _named_settings(cfg, model, encoder)
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    stem = f"{cfg.env.name}-{cfg.learner.name}-{cfg.prior.name}-s{cfg.seed}"
    return RunIdentity(hashlib.sha256(text.encode()).hexdigest(), stem, settings, model, encoder)


def _named_settings(cfg: DictConfig, model: ModelIdentity | None, encoder: ModelIdentity | None) -> dict[str, Any]:
    """The settings that can change a result, and what models and files turn out to be, without the unread ones."""
    settings: dict[str, Any] = result_settings(cfg)
    settings |= {part: with_old_target(part, settings[part]) for part in PARTS if settings[part] is not None}
    for part, identity in (("lm", model), ("encoder", encoder)):
        if identity:
            settings[part] |= asdict(identity)
    if template := chat_template_of(cfg):
        settings["prompt"]["chat_template"] = template
    starts_from = getattr(schema_of("learner", cfg.learner), "starts_from", None)
    if starts_from is not None and cfg.learner.weights is not None:
        settings["learner"]["weights"] = weights_contents(cfg.learner.weights)
    if cfg.data is not None:
        settings["data"]["file"] = data_contents(cfg.data.file)
        settings["data"]["size"] = cfg.data.size or data_rows(cfg.data.file)
    plain = plain_settings(cfg)
    stands = {key: OmegaConf.select(cfg, other) for key, other in STANDS_FOR.items() if _is_null(cfg, key)}
    stands |= {key: plain[other] for key, other in NO_MORE_THAN.items() if _is_above(cfg, key, plain[other])}
    for key, value in stands.items():
        part, _, name = key.rpartition(".")
        plain[part][name] = settings[part][name] = value
    if (end := only_stop(Settings.of(plain))) is not None:  # the run is named by prompt.end, which does the same
        plain["prompt"]["end"] = settings["prompt"]["end"] = end
        plain["prior"]["stop"] = None
        settings["prior"].pop("stop", None)
    for key in find_unread(plain):
        _leave_out(settings, key.split("."))
    return settings


def model_identity(cfg: DictConfig, part: str = "lm") -> ModelIdentity | None:
    """The identity of the model behind `lm` or `encoder`, with its resolved revision; None where there is none.

    Where only what is kept may be used (`cached_only`), a model that cannot be found is the one whose answers are kept.
    Raises ConfigError for one that cannot be found.
    """
    node = cfg[part]
    if not has_schema(part, node, ModelConfig):
        return None
    from llmrl.lm.identify import identify, identify_served
    from llmrl.lm.language_model import with_bos

    try:
        if "/" not in node.model and node.get("tokenizer") is None:  # else it is declared, and the server has it
            _refuse_missing_model(cfg, part)
        if has_schema(part, node, OpenAILMConfig):
            return identify_served(node.model, node.revision, node.dtype, node.tokenizer)
        return with_bos(identify(node.model, node.revision, node.dtype, part), node.get("bos"))
    except ValueError as error:
        if not cfg.cached_only:
            raise ConfigError(str(error)) from error
        return _kept_identity(cfg, part, str(error))


def _refuse_missing_model(cfg: DictConfig, part: str) -> None:
    """Raises ConfigError for a model that `llmrl models get` has still to get."""
    from llmrl.models.get import refuse_missing

    own = Path(cfg.paths.config_dir) if cfg.paths.config_dir is not None else None
    refuse_missing(cfg[part].model, part, ConfigFolders(config_folder(), own if own and own.is_dir() else None))


def chat_template_of(cfg: DictConfig) -> str | None:
    """The name of the chat template of the run's model; None for a prompt that is no chat. Raises ConfigError."""
    if cfg.prompt is None or cfg.prompt.kind != "chat":
        return None
    if not has_schema("lm", cfg.lm, ModelConfig):
        return "its own"  # somebody else's model says what it is by its identity
    from llmrl.lm.identify import chat_template

    try:
        return chat_template(cfg.lm.model, cfg.lm.revision, cfg.lm.get("tokenizer"))
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _kept_identity(cfg: DictConfig, part: str, why: str) -> ModelIdentity:
    from llmrl.answers.cache_file import AnswerCacheError, cache_path
    from llmrl.answers.inspection import find_identities
    from llmrl.lm.language_model import ModelIdentity

    node, path = cfg[part], cache_path(cfg.paths.cache)
    try:
        found = find_identities(path, node.model, node.revision, node.dtype)
    except AnswerCacheError as error:
        raise ConfigError(f"{why}; and nothing is kept: {error}") from error
    if len(found) == 1:
        return ModelIdentity(**found[0])
    if not found:
        raise ConfigError(f"{why}; and {path} keeps nothing of it: bring that in with `llmrl cache import FILE`")
    revisions = " or ".join(f"{part}.revision={about['revision']}" for about in found)
    raise ConfigError(f"{path} keeps answers of {len(found)} models that {node.model} may stand for: type {revisions}")


def result_settings(node: Any) -> Any:
    """A checked config as plain data, without the fields that cannot change a result.

    A field with `affects_result` false in its metadata is left out, and so is one whose value equals the
    `absent_default` of its metadata: the value that means what was done before the field existed, so that older runs
    keep their names. A part without a schema enters whole.
    """
    if isinstance(node, ListConfig):
        return [result_settings(item) for item in node]
    if not isinstance(node, DictConfig):
        return node
    schema = OmegaConf.get_type(node)
    if not is_dataclass(schema):
        return {str(key): result_settings(value) for key, value in node.items()}
    settings = {}
    for f in fields(schema):
        value = result_settings(node[f.name])
        absent = "absent_default" in f.metadata and value == f.metadata["absent_default"]
        if f.metadata.get("affects_result", True) and not absent:
            settings[f.name] = value
    return settings


def free_settings(config: Mapping[str, Any]) -> set[str]:
    """The dotted keys of a saved config that cannot change a result."""
    parts = {part: schema_of(part, config.get(part)) for part in PARTS}
    return _free(TrainConfig, "", {part: schema for part, schema in parts.items() if schema is not None})


def weights_contents(weights: str) -> str:
    """A file's SHA-256: what is in it, wherever it lies."""
    try:
        with Path(weights).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"learner.weights={weights}: there is no such file to read ({error.strerror})") from None


def data_contents(file: str) -> str:
    """The hash of a data set's rows: what is learned from, wherever it lies."""
    from llmrl.data.files import DataError, content_of

    try:
        return content_of(Path(file))
    except DataError as error:
        raise ConfigError(f"data={error}") from None


def data_rows(file: str) -> int:
    """The number of transitions of a data set."""
    from llmrl.data.files import DataError, rows_of

    try:
        return rows_of(Path(file))
    except DataError as error:
        raise ConfigError(f"data={error}") from None


def data_world(file: str) -> dict[str, Any] | None:
    """The world that a data set was collected in, as a config's `env`; None where the file does not say."""
    from llmrl.data.files import DataError, world_of

    try:
        return world_of(Path(file))
    except DataError as error:
        raise ConfigError(f"data={error}") from None


def _is_null(cfg: DictConfig, key: str) -> bool:
    part, _, name = key.rpartition(".")
    return cfg[part] is not None and name in cfg[part] and cfg[part][name] is None


def _is_above(cfg: DictConfig, key: str, limit: int) -> bool:
    value = OmegaConf.select(cfg, key)
    return value is not None and value > limit


def _leave_out(settings: dict[str, Any], path: Sequence[str]) -> None:
    """Takes what is at `path` out of nested settings, and a part that is then empty."""
    first, *rest = path
    if rest and isinstance(settings.get(first), dict):
        _leave_out(settings[first], rest)
    if first in settings and (not rest or settings[first] == {}):
        del settings[first]


def _free(schema: type, path: str, parts: Mapping[str, type]) -> set[str]:
    free: set[str] = set()
    hints = get_type_hints(schema)
    for f in fields(schema):
        inner = parts.get(f.name) if not path else None
        inner = inner or dataclass_in(hints[f.name])
        if not f.metadata.get("affects_result", True):
            free |= {f"{path}{f.name}"} | ({f"{path}{f.name}.{g.name}" for g in fields(inner)} if inner else set())
        elif inner is not None:
            free |= _free(inner, f"{path}{f.name}.", {})
    return free
