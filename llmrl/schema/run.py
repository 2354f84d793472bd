"""The settings of a run. `llmrl/schema/kinds.py` has the schemas of its parts.

The YAML files under `configs/` are what a person reads and chooses from; these dataclasses check them. The run id is a
hash of the settings whose `affects_result` is true, without those that another setting turns off
(`llmrl.run.identity.identify_run`, `llmrl/config/unread.py`). Imports nothing heavy: the command line reads this before
torch is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llmrl.schema.fields import Schema, setting
from llmrl.schema.priors import PriorConfig, PromptConfig


@dataclass
class DataConfig(Schema):
    """The data of an offline run; `data=FILE` sets the file."""

    file: str = "???"  # .parquet; the contents name the run, not the path
    # transitions, of whole episodes but the last; a smaller size begins a larger one. null: all
    size: int | None = setting(None, low=1)
    draw: int | None = setting(None, low=0)  # decides the order of the episodes; null: the run's seed


@dataclass
class RolloutConfig(Schema):
    num_envs: int = setting(8, low=1)  # environments that act at the same time
    workers: int = setting(0, low=0, free=True)  # processes that step environments; 0: this one
    # in two halves that take turns, so that one is asked about while the other acts
    pipeline: bool = setting(False, since=True)

    def problems(self, has_data: bool) -> Iterator[str]:
        if self.pipeline and self.num_envs < 2 and not has_data:
            yield "rollout.pipeline=true: one environment has no halves; add rollout.num_envs=2 or more"


@dataclass
class EvaluationConfig(Schema):
    every: int = setting(200, low=1)  # decisions; gradient steps of a run that learns from data
    # episodes of the behaviour policy; the greedy one takes one per task where nothing is random
    episodes: int = setting(30, low=1)
    # linear: at every multiple of `every` | log: `per_doubling` times from there to twice
    grid: str = setting("linear", choices=("linear", "log"), since=True)
    per_doubling: int = setting(4, low=1, since=True)  # log: evaluations from one step to twice that step
    # in worlds of at most this many states, history included, success is computed and not sampled
    exact_up_to: int = setting(0, low=0, since=True)


@dataclass
class PathsConfig(Schema):
    runs: str = setting("runs", free=True)  # the folder that runs are kept in
    cache: str | None = setting(None, free=True)  # cache of answers; null: $LLMRL_CACHE or the user's cache folder
    config_dir: str | None = setting(None, free=True)  # --config-dir, as it was typed


@dataclass
class TrainConfig(Schema):
    """One run. `env`, `lm`, `learner` and `encoder` are of a `kind`; somebody else's, a `_target_`, needs no schema."""

    env: Any = "???"  # the world
    prior: PriorConfig = setting(PriorConfig)
    lm: Any = None  # null where nothing asks a model
    prompt: PromptConfig | None = None  # null where nothing asks a model
    learner: Any = "???"  # the learning algorithm
    encoder: Any = None  # null where nothing is learned
    env_steps: int = setting(4000, low=1)  # decisions in the run
    # episodes in the run, at most; null: no limit
    episodes: int | None = setting(None, low=1, since=True)
    rollout: RolloutConfig = setting(RolloutConfig)
    evaluation: EvaluationConfig = setting(EvaluationConfig)
    data: DataConfig | None = setting(None, since=True)  # null: the agent learns from its own transitions
    seed: int = setting(0, low=0)  # seed of every random draw
    numerics: int = 3  # raised by the commit that changes a golden curve
    checkpoint_every: int = setting(1000, low=1, free=True)  # decisions, or gradient steps; one more at the end
    threads: int = setting(1, low=1, free=True)  # torch threads; provenance, and the machine type of a resumed run
    progress: bool = setting(True, free=True)  # a moving bar, on a terminal
    strict: bool = setting(False, free=True)  # data or a prior that do not fit the world end the run before it learns
    cached_only: bool = setting(False, free=True)  # use cached answers alone; a missing one ends the run
    paths: PathsConfig = setting(PathsConfig, free=True)
