"""How well a run's data and its prior fit its world, looked at before anything is learned.

`data_fit` and `prior_fit` give numbers, which `summary.json` keeps under `fit`. `describe_misfit` says in one sentence
what is wrong with them. Nothing is asked of a model that the run would not ask anyway.

    observations, actions              rows of data, with known_*: those whose text occurs in the world, where it can be
                                       listed
    answers, named                     free answers read so far, and those that named an action
    states, entropy, uniform_entropy   of what the prior says of a few states, in nats
    expert, uniform_expert             the chance of an expert's action there, where experts are known
    success, uniform_success           of the prior alone and of uniform actions, computed, where the world is listed

Imports nothing heavy: a finished run is shown without it.
"""

from __future__ import annotations

from math import log
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrl.run.folder import NotBegun

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from omegaconf import DictConfig

    from llmrl.data.dataset import DataSet
    from llmrl.priors.prior import Prior
    from llmrl.rollout.exact import Exact

FEW = 48  # states that are looked at
SELDOM = 0.01  # successes too rare to be compared


class Misfit(NotBegun):
    """Data or prior do not fit the world, and the run is strict about it."""

    exit_code = 2


def data_fit(data: DataSet, rows: np.ndarray, world: Exact) -> dict[str, int]:
    """The counts of a run's data rows, and of those whose observations and actions the world has."""
    seen: set[str] = set()
    offered: set[str] = set()
    for state in world.texts():
        seen.add(state.observation)
        offered.update(state.actions)
    observations = [data.texts[i] for i in data["observation"][rows].tolist()]
    menus, taken = data["actions"][rows].tolist(), data["action"][rows].tolist()
    actions = [data.texts[data.menus[menu][action]] for menu, action in zip(menus, taken, strict=True)]
    return {
        "observations": len(rows),
        "known_observations": sum(text in seen for text in observations),
        "actions": len(rows),
        "known_actions": sum(text in offered for text in actions),
    }


def prior_fit(prior: Prior, world: Exact | None) -> dict[str, Any]:
    """Figures of the prior so far: entropy, expert mass, named answers and success.

    Empty where it asks no model, or is a control. With `world`, its states are asked about, as each exact evaluation
    does; not where the prior has no formula.
    """
    if not prior.asks or prior.cfg.control is not None:
        return {}
    fit: dict[str, Any] = {}
    alone = world.alone(prior) if world is not None else None
    if alone is not None and prior.informs("evaluation"):
        fit["success"], fit["uniform_success"] = alone
    # Where no evaluation can be computed, the run is the same without a list of states.
    states = dict(world.some(FEW) if world is not None and alone is not None else ()) | prior.first
    said = [(p, experts) for state, experts in states.items() if (p := prior.says(state)) is not None][:FEW]
    if said:
        fit |= {
            "states": len(said),
            "entropy": sum(-x * log(x) for p, _ in said for x in p.values() if x > 0) / len(said),
            "uniform_entropy": sum(log(len(p)) for p, _ in said) / len(said),
        }
    known = [(p, experts) for p, experts in said if experts]
    if known:
        fit["expert"] = sum(p[action] for p, experts in known for action in experts) / len(known)
        fit["uniform_expert"] = sum(len(experts) / len(p) for p, experts in known) / len(known)
    if (answers := prior.count_named()) is not None:
        fit["named"], fit["answers"] = answers
    return fit


def describe_misfit(fit: Mapping[str, Any], cfg: DictConfig) -> str | None:
    """The misfit in one sentence; None where there is none."""
    world, said = f"env={cfg.env.name}", []
    if any(2 * fit[f"known_{what}"] < fit[what] for what in ("observations", "actions") if what in fit):
        counts = (f"{fit[f'known_{what}']:,} of {fit[what]:,} {what}" for what in ("observations", "actions"))
        file = Path(cfg.data.file).name
        said.append(f"{' and '.join(counts)} of {file} occur in {world}: the data were not collected in this world")
    if 2 * fit.get("named", 0) < fit.get("answers", 0):
        said.append(
            f"{fit['named']:,} of {fit['answers']:,} answers of the model named an action: a prompt that lists them "
            "(prompt=menu, or prompt=chat for a model that converses) or more tokens (prior.max_tokens) may help"
        )
    if _is_worse_than_uniform(fit):
        what = (
            "the prior alone succeeds in {:.1%} of episodes and uniform actions in {:.1%}".format(
                fit["success"], fit["uniform_success"]
            )
            if max(fit.get("success", 0), fit.get("uniform_success", 0)) >= SELDOM
            else "the prior takes an expert's action with chance {:.1%} and uniform actions with {:.1%}".format(
                fit["expert"], fit["uniform_expert"]
            )
        )
        said.append(f"{what}: the model says nothing useful about {world} with this prompt")
    return "; ".join(said) or None


def _is_worse_than_uniform(fit: Mapping[str, Any]) -> bool:
    if max(fit.get("success", 0), fit.get("uniform_success", 0)) >= SELDOM:
        return bool(fit["success"] < fit["uniform_success"])
    return bool(fit.get("expert", 0) < fit.get("uniform_expert", 0))
