"""The best settings of a search of the prior alone, as options that a person can choose."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from llmrl.core.files import publish
from llmrl.schema.kinds import kind_of
from llmrl.tune.plan import Plan

PRESET = "preset"  # a folder for --config-dir, in that of the search
RECOMMENDED = ("normalise", "calibrate", "calibrate_weight", "temperature")  # what configs/prior/ asks a model for


def option(plan: Plan, row: Mapping[str, Any]) -> str | None:
    """The name of the option of `lm` that a trial makes; None where more than a prior was searched, or no model asked.

    `prior.mix` is no part of it: how much is left to chance is the learner's, not the model's.
    """
    cfg = _config(plan, row)
    alone = kind_of("learner", cfg.learner) == "prior_only" and cfg.prior.source == "scored"
    return f"{cfg.lm.name}_tuned" if alone and cfg.lm is not None else None


def write_preset(folder: Path, plan: Plan, row: Mapping[str, Any]) -> None:
    """Writes lm/NAME.yaml and prompt/NAME.yaml under `folder`/preset, where `option` names one."""
    if (name := option(plan, row)) is None:
        return
    cfg = _config(plan, row)
    by = f"trial {row['number']} of `llmrl tune --space {plan.space.name}`, on {'; '.join(plan.tasks)}"
    prompt = {**_plain(cfg.prompt), "id": name}
    lm = {
        "defaults": [{"override /prompt": name}],
        "recommended": {key: cfg.prior[key] for key in RECOMMENDED},
        "lm": {**_plain(cfg.lm), "name": name},
    }
    head = f"# lm={cfg.lm.name} with the prompt and the prior's settings of {by}.\n"
    for group, package, content in (("prompt", "", prompt), ("lm", "# @package _global_\n", lm)):
        (folder / PRESET / group).mkdir(parents=True, exist_ok=True)
        publish(
            folder / PRESET / group / f"{name}.yaml", f"{package}{head}{OmegaConf.to_yaml(OmegaConf.create(content))}"
        )


def _config(plan: Plan, row: Mapping[str, Any]) -> DictConfig:
    return plan.compose(row["parameters"], plan.tasks[0], plan.seeds[0], Path("runs"))


def _plain(node: DictConfig) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(node)
    return dict(plain)
