"""Settings that a run does not read, since another setting turns them off. `UNREAD` has the rules, one a line.

An unread setting does not name the run (`llmrl.run.identity`) and sets no group of runs apart. `llmrl
tune` does not search it, and a person who sets it is told. A rule holds only where no byte of the results can depend on
the setting, whatever the environment does; `tests/config/test_names.py` compares every rule with runs. Imports nothing
heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

from llmrl.core.files import flatten
from llmrl.schema.kinds import KINDS, kind_of, schema_of
from llmrl.schema.learners import BCConfig, CQLConfig, DQNConfig, DRRNConfig, NoLearnerConfig
from llmrl.schema.priors import SOURCES, USES, PriorConfig
from llmrl.schema.run import RolloutConfig

STANDS_FOR = {  # null is the value of the other setting, and the run is named by that
    "learner.alpha_eval": "learner.alpha",
    "prior.draw_seed": "seed",
    "data.draw": "seed",
}
NO_MORE_THAN = {"learner.prefill": "env_steps"}  # what is above the other setting does what the other setting does


class Settings(dict[str, Any]):
    """Dotted key -> value, as a checked or a saved config has them; None for what is not there."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Settings:
        return cls(flatten(config))

    def __missing__(self, key: str) -> None:
        return None

    def kind(self, part: str) -> str | None:
        """The kind of one of `PARTS`; None for a part of another package."""
        return kind_of(part, {key: self[f"{part}.{key}"] for key in ("kind", "_target_")})


When = Callable[[Settings], bool]


class Rule(NamedTuple):
    """`keys` are not read `when`. `why` is told to who sets one; it may name {prior}, {learner} and {env}.

    `refused`: another value than the default is a mistake that ends the command.
    """

    keys: tuple[str, ...]
    why: str
    when: When
    refused: bool = False


def find_unread(config: Mapping[str, Any]) -> dict[str, Rule]:
    """Dotted key -> why it is not read, of each such setting of a config as plain data, nested or flat."""
    s = Settings.of(config)
    found: dict[str, Rule] = {}
    for rule in UNREAD:
        keys = [key for key in rule.keys if key in s and key not in found]
        if keys and rule.when(s):
            why = rule.why.format(**{part: s[f"{part}.name"] for part in ("prior", "learner", "env")})
            found |= dict.fromkeys(keys, rule._replace(why=why))
    return found


def asks_a_model(config: Mapping[str, Any]) -> bool:
    """Whether a run's prior asks a language model anything."""
    s = Settings.of(config)
    source = SOURCES.get(s["prior.source"])
    return source is not None and source.asks and bool(find_informed_uses(s))


def find_informed_uses(s: Settings) -> list[str]:
    """The uses of the prior that the run has, and that are told what the prior says."""
    return [use for use in _uses(s) if not s[f"prior.{use}.uniform"]]


# ---- what rules ask --------------------------------------------------------------------------------------------------


def _schema(part: str, s: Settings) -> type | None:
    return None if (kind := s.kind(part)) is None else KINDS[part][kind].schema


def _is_a(schema: type | None, *others: type) -> bool:
    return schema is not None and issubclass(schema, others)


def _learns_from_data(s: Settings) -> bool:
    return s["data.file"] is not None


def _has_no_target(s: Settings) -> bool:
    """Whether the learner learns nothing, so that no target uses the next state's candidates."""
    schema = _schema("learner", s)
    return _is_a(schema, NoLearnerConfig) or (_is_a(schema, BCConfig) and not _learns_from_data(s))


def _uses(s: Settings) -> list[str]:
    absent = {"behaviour": _learns_from_data(s), "target": _has_no_target(s), "evaluation": False}
    return [use for use in USES if not absent[use]]


def _is_uniform(use: str, s: Settings) -> bool:
    """Whether all admissible actions are this use's candidates, with equal weights."""
    return bool(s[f"prior.{use}.uniform"]) or (s["prior.source"] == "uniform" and s[f"prior.{use}.k"] is None)


def _targets_have_all_actions(s: Settings) -> bool:
    """Whether each admissible action is a candidate of a target."""
    return _is_uniform("target", s) or (s["prior.target.k"] is None and s["prior.mix"] != 0)


def _is_never_computed(s: Settings) -> bool:
    """Whether an evaluation reads other candidates at each visit of a state, so that it has to be played."""
    redraw, drawn = s["prior.evaluation.redraw"], s["prior.source"] == "generated"
    grows = redraw == "union" and (drawn or s["prior.evaluation.k"] is not None)
    return not s["prior.evaluation.uniform"] and s["prior.source"] != "own" and (grows or (redraw == "visit" and drawn))


def _takes_one_step(s: Settings) -> bool:
    """Whether every decision that the run learns from is one primitive step."""
    world = _collected_in(s["data.file"]) if _learns_from_data(s) else _schema("env", s)
    return getattr(world, "takes_one_step", False)


def _collected_in(file: str) -> type | None:
    """The schema of the world that a data set was collected in; None for another's, and where nobody says."""
    from llmrl.data.files import DataError, world_of

    try:
        return schema_of("env", world_of(Path(file)))
    except DataError:  # told where the file is needed
        return None


def _shows_no_history(s: Settings) -> bool:
    """Whether no prompt shows history, and no draw depends on it."""
    from llmrl.prompts.prompt import names_in

    drawn_anew = all(s[f"prior.{use}.redraw"] == "visit" for use in find_informed_uses(s))
    of_examples_alone = s["prior.control"] == "marginal" and drawn_anew
    return "history" not in names_in(s["prompt.template"]) or (of_examples_alone and not s["prompt.shots"])


def _ends_before_the_first_evaluation(s: Settings) -> bool:
    steps = s["learner.gradient_steps"] if _learns_from_data(s) else _decisions(s)
    return steps is not None and s["evaluation.every"] >= steps


def _never_becomes_uniform(s: Settings) -> bool:
    return s["prior.uniform_after"] is not None and s["prior.uniform_after"] >= _decisions(s)


def _stops_at_the_prompts_end(s: Settings) -> bool:
    return s["prior.source"] == "generated" and s["prior.stop"] == [text for text in [s["prompt.end"]] if text]


def _stops_elsewhere(s: Settings) -> bool:
    stops = s["prior.stop"] is not None and not _stops_at_the_prompts_end(s)
    return s["prior.source"] == "generated" and stops and not _shows_the_end(s)


def _shows_the_end(s: Settings) -> bool:
    """Whether prompt.end is also written, after each example."""
    return bool(s["prompt.shots"]) and s["prompt.kind"] != "chat"


def only_stop(s: Settings) -> str | None:
    """The text that alone ends free answers in place of prompt.end, and that prompt.end could be as well."""
    stop = s["prior.stop"] or []
    alone = s["prior.source"] == "generated" and s["prompt.end"] is not None and len(stop) == 1
    return stop[0] if alone and not _shows_the_end(s) else None


def _has_episodes_to_spare(s: Settings) -> bool:
    return s["episodes"] is not None and s["episodes"] >= s["env_steps"]


def _has_decisions_to_spare(s: Settings) -> bool:
    return bool(s["env_steps"] >= _of_episodes(s))


def _of_episodes(s: Settings) -> float:
    """The decisions that a run's episodes take at most; infinity where that is unknown, as in a world of another
    package.
    """
    cap = s["env.max_decisions"] if _schema("env", s) is not None else None
    return inf if s["episodes"] is None or cap is None else (s["episodes"] - 1 + s["rollout.num_envs"]) * cap


def _decisions(s: Settings) -> Any:
    """The number of decisions that a run takes at most."""
    return s["env_steps"] if (least := _of_episodes(s)) == inf else min(s["env_steps"], least)


def _reads_no_more(s: Settings) -> bool:
    """Whether every free answer is an action, and none is passed over between two visits."""
    return s["prior.projection"] == "last" and all(s[f"prior.{use}.redraw"] == "never" for use in find_informed_uses(s))


def _never_forgets(s: Settings) -> bool:
    return s["learner.buffer"] >= _decisions(s) and not s["learner.priority"]


def _not_from(*sources: str) -> When:
    return lambda s: s["prior.source"] not in sources


def _knows_nothing(use: str) -> When:
    return lambda s: bool(s[f"prior.{use}.uniform"])


def _draws_nothing(use: str) -> When:
    return lambda s: s[f"prior.{use}.k"] is None and s["prior.source"] != "generated"


def _of(schemas: tuple[type, ...], when: When) -> When:
    return lambda s: _is_a(_schema("learner", s), *schemas) and when(s)


def _keys(part: str, names: str) -> tuple[str, ...]:
    return tuple(f"{part}.{name}" for name in names.split())


# ---- the rules: of several that hold, the first is told --------------------------------------------------------------

_GENERATED, _ASKED, _SCORED = "generated", "scored, sampled or generated", "scored or sampled"
_READS = "prior={{prior}} does not read this; prior={} does".format
_OFF = "this prompt does not read this; prompt.{} does".format
_TRAINING = " ".join(f.name for f in fields(BCConfig) if "absent_default" in f.metadata)
_ROLLOUT = " ".join(f.name for f in fields(RolloutConfig) if f.metadata.get("affects_result", True))  # for acting
_KNOWN = " ".join(f.name for f in fields(PriorConfig) if f.name not in ("name", "uniform_after", *USES))

# fmt: off
UNREAD: tuple[Rule, ...] = (
    # what the prior's source does not have, and uses of the prior that the run does not have
    Rule(_keys("prior", "max_tokens top_p limit draw_seed stop projection"), _READS(_GENERATED),
         _not_from("generated"), refused=True),
    Rule(_keys("prior", "temperature"), _READS(_ASKED), _not_from("generated", "scored"), refused=True),
    Rule(_keys("prior", "normalise calibrate"), _READS(_SCORED), _not_from("scored"), refused=True),
    Rule(_keys("prior", "calibrate_weight"), "prior.calibrate=pmi reads this",
         lambda s: s["prior.source"] != "scored" or s["prior.calibrate"] == "none"),
    Rule(_keys("prior", "control"), _READS("shuffled or marginal"), _not_from("scored"), refused=True),
    Rule(_keys("prior", "settings"), _READS("a prior of your own"), _not_from("own"), refused=True),
    Rule(_keys("prior", "error"), _READS("oracle"), _not_from("oracle"), refused=True),
    Rule(_keys("prior", "copies"), _READS("copier"), _not_from("copied"), refused=True),
    Rule(_keys("prior", "labels head"), _READS("scored, sampled or learned"), _not_from("scored", "learned"),
         refused=True),
    Rule(_keys("prior", "mix"), "prior={prior} is uniform anyway", lambda s: s["prior.source"] == "uniform"),
    Rule(_keys("prior", _KNOWN), "no use of the prior is left that knows it", lambda s: not find_informed_uses(s)),
    Rule(_keys("prior", "head"), "prior.labels=0 fits nothing", lambda s: s["prior.labels"] == 0),
    Rule(_keys("prior.behaviour", "k redraw uniform"), "a run that learns from data does not act", _learns_from_data),
    Rule(_keys("prior.target", "k redraw uniform"), "learner={learner} has no targets in this run", _has_no_target),
    *(Rule(_keys(f"prior.{use}", "k redraw"), f"prior.{use}.uniform=true considers all actions", _knows_nothing(use))
      for use in USES),
    *(Rule(_keys(f"prior.{use}", "redraw"), "all admissible actions are considered and nothing is drawn; add "
           f"prior.{use}.k=5 to draw five", _draws_nothing(use), refused=True)
      for use in USES),
    Rule(_keys("prior", "uniform_after"), "the run ends before", _never_becomes_uniform),
    # the prompt
    Rule(_keys("prompt", "system"), _OFF("kind=chat"), lambda s: s["prompt.kind"] != "chat", refused=True),
    Rule(_keys("prompt", "think_tokens think_end then"), _OFF("think=shared or each"),
         lambda s: s["prompt.think"] is None, refused=True),
    Rule(_keys("prompt", "shot_steps select"), _OFF("shots=4"), lambda s: not s["prompt.shots"]),
    Rule(_keys("prompt", "prefix"), "prior={prior} takes free answers, and scores nothing",
         lambda s: s["prior.source"] == "generated" and not s["prompt.shots"]),
    Rule(_keys("prior", "limit"), "prior.projection=last makes an action of every answer", _reads_no_more),
    Rule(_keys("prior", "stop"), "prompt.end is the same", _stops_at_the_prompts_end),
    Rule(_keys("prompt", "end"), "prior.stop takes its place", _stops_elsewhere),
    Rule(_keys("prompt", "history_turns"), "no prompt of this run shows history", _shows_no_history),
    # the schedule
    Rule(("env_steps", "episodes", *_keys("rollout", _ROLLOUT)), "a run that learns from data does not act",
         _learns_from_data),
    Rule(("episodes",), "each takes a decision or more, and env_steps ends the run before", _has_episodes_to_spare),
    Rule(("env_steps",), "the run's episodes take no more decisions", _has_decisions_to_spare),
    Rule(_keys("evaluation", "every grid per_doubling"), "the run ends before; it is evaluated at its end",
         _ends_before_the_first_evaluation),
    Rule(_keys("evaluation", "per_doubling"), "evaluation.grid=linear has no doublings",
         lambda s: s["evaluation.grid"] == "linear"),
    Rule(_keys("evaluation", "exact_up_to"), "env={env} cannot be listed, and is always played",
         lambda s: not getattr(_schema("env", s), "can_be_listed", True)),
    Rule(_keys("evaluation", "exact_up_to"), "an evaluation has other candidates at each visit, and is always played",
         _is_never_computed),
    # learners
    Rule(_keys("learner", "discount_by"), "every decision is one primitive step", _takes_one_step),
    Rule(_keys("learner", "discount_by"), "learner.gamma=0 and 1 are the same for any number of steps",
         lambda s: s["learner.gamma"] in (0, 1)),
    Rule(_keys("learner", "double_q"), "only learner.backup=max has two Qs",
         _of((DQNConfig, CQLConfig), lambda s: s["learner.backup"] != "max")),
    Rule(_keys("learner", "epsilon_final epsilon_decay"), "epsilon is the same all the time",
         _of((DQNConfig,), lambda s: s["learner.epsilon_final"] in (None, s["learner.epsilon"]))),
    Rule(_keys("learner", "importance"), "replay is uniform and does not read this; add learner.priority=0.6",
         _of((DQNConfig,), lambda s: s["learner.priority"] == 0), refused=True),
    Rule(_keys("learner", "buffer"), "the run is too short to fill it", _of((DQNConfig, DRRNConfig), _never_forgets)),
    Rule(_keys("learner", "alpha"), "learner.alpha_eval takes its place, and learner.backup=max has none",
         _of((CQLConfig,), lambda s: s["learner.backup"] == "max" and s["learner.alpha_eval"] is not None)),
    Rule(_keys("learner", "data_action"), "learner.join=true has every action of the data among the candidates",
         _of((CQLConfig,), lambda s: bool(s["learner.join"]))),
    Rule(_keys("learner", "data_action join"), "all admissible actions are candidates anyway",
         _of((CQLConfig,), _targets_have_all_actions)),
    Rule(_keys("learner", _TRAINING), "with learner.weights nothing is learned in the run, and this is not read; "
         "leave it out", _of((BCConfig,), _has_no_target), refused=True),
    Rule(_keys("learner", "learned_weight"),
         "it is of a product of experts: add learner.product=true, as learner=bc_prior has it, or leave it out",
         _of((BCConfig,), lambda s: not s["learner.product"]), refused=True),
    Rule(_keys("learner", "product"), "there is no prior that it could be multiplied with",
         _of((BCConfig,), lambda s: _is_uniform("evaluation", s) and s["learner.learned_weight"] == 1)),
)
# fmt: on
