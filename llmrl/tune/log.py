"""The files of a search: trials.jsonl is the truth, study.json and best.yaml are made of it."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

import llmrl
from llmrl.core.files import flatten, publish, read_lines, to_json
from llmrl.core.locks import held
from llmrl.run.folder import read_object
from llmrl.run.versions import package_versions
from llmrl.tune.plan import Plan
from llmrl.tune.preset import write_preset


class OtherSearch(ValueError):
    """The folder holds a search of something else, or with another yardstick."""


@contextmanager
def hold_log(folder: Path) -> Iterator[None]:
    """One process at a time searches in a folder. Raises ValueError where one does already."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("ab")
    except OSError as error:
        raise ValueError(
            f"nothing can be written in {folder} ({error.strerror}); choose another place with --out FOLDER"
        ) from None
    with file:
        if not held(file):
            raise ValueError(f"{folder} is in use by another search: wait until it ends, or stop it")
        yield


class Log:
    """The trials so far, in order. Every one that is added is on disk when `add` returns.

    Raises OtherSearch where the folder's search is not that of `plan`, or has more trials than it allows.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        found = read_object(folder / "study.json").get("search")
        if found is not None and found != json.loads(to_json(plan.identity)):
            raise OtherSearch(
                f"{folder} holds another search ({_difference(found, plan.identity)}); choose another --out FOLDER"
            )
        self.rows = list(read_lines(folder / "trials.jsonl"))
        if self.rows and found is None:
            raise OtherSearch(f"{folder} has trials and no study.json with its settings; choose another --out FOLDER")
        if len(self.rows) > plan.trials:
            raise OtherSearch(
                f"{folder} has {len(self.rows)} trials already, more than {plan.trials}: say --trials {len(self.rows)}"
            )
        self._publish_study()

    def add(self, row: Mapping[str, Any]) -> None:
        assert row["number"] == len(self.rows)
        self.rows.append(json.loads(to_json(row)))
        publish(self.folder / "trials.jsonl", "".join(f"{to_json(r)}\n" for r in self.rows))
        self._publish_study()

    def _publish_study(self) -> None:
        plan, chosen = self.plan, best(self.rows)
        study = {
            "search": plan.identity,
            "description": plan.space.plain["description"],
            "budget": {
                "trials": plan.trials,
                "tasks": len(plan.tasks),
                "seeds": len(plan.seeds),
                "env_steps": plan.env_steps,
                "decisions": plan.decisions,
            },
            "status": "complete" if len(self.rows) == plan.trials else "running",
            "trials": len(self.rows),
            "failed": sum(row["state"] == "failed" for row in self.rows),
            "decisions": sum(row["decisions"] for row in self.rows),
            "seconds": sum(row["seconds"] for row in self.rows),
            "best": chosen,
            "versions": {
                "llmrl": llmrl.__version__,
                "python": platform.python_version(),
                "optuna": metadata.version("optuna"),
                **package_versions(),
            },
        }
        publish(self.folder / "study.json", json.dumps(json.loads(to_json(study)), indent=2, ensure_ascii=False) + "\n")
        if chosen is not None:
            publish(self.folder / "best.yaml", _best_yaml(plan, chosen))
            write_preset(self.folder, plan, chosen)


def best(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The trial of the greatest value, of equal ones the first; None where none is complete."""
    return next(iter(rank(rows)), None)


def rank(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The complete trials, best first."""
    return sorted((row for row in rows if row["state"] == "complete"), key=lambda row: (-row["value"], row["number"]))


def _best_yaml(plan: Plan, row: Mapping[str, Any]) -> str:
    head = f"# Trial {row['number']} of {plan.trials} of `llmrl tune --space {plan.space.name}`, on development tasks."
    content = {"overrides": plan.agent(row["parameters"]), "value": row["value"], "final": row["final"]}
    return f"{head}\n{OmegaConf.to_yaml(OmegaConf.create(content))}"


def _difference(found: Any, wanted: Any) -> str:
    there, here = flatten(found), flatten(json.loads(to_json(wanted)))
    key = next(key for key in [*here, *there] if there.get(key, ...) != here.get(key, ...))
    return f"its {key} is {there.get(key, 'absent')}, and not {here.get(key, 'absent')}"
