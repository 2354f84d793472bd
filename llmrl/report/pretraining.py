"""The knowledge of a run before its first decision: the training of its model and of the weights it starts from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from llmrl.lm.identify import local_folder
from llmrl.run.folder import read_object

# an axis of a comparison -> the part of a training's cost that is counted on it
COUNTED = {"seconds": "seconds", "training_seconds": "seconds", "lm/tokens": "tokens", "episodes": "episodes"}


@dataclass(frozen=True)
class Pretraining:
    """The texts and the time of a training; None where its source does not say."""

    what: str
    tokens: float | None  # that a loss was taken on where it says so, else of its corpus
    episodes: float | None
    worlds: float | None
    seconds: float | None

    def __str__(self) -> str:
        parts = [
            f"{value:,.0f} {name}"
            for name, value in (
                ("tokens", self.tokens), ("episodes", self.episodes), ("worlds", self.worlds),
                ("seconds of training", self.seconds),
            )
            if value is not None
        ]  # fmt: skip
        return f"{self.what}: {', '.join(parts)}" if parts else f"{self.what}: its training is not known"


def pretrainings(config: Mapping[str, Any]) -> list[Pretraining]:
    """The trainings behind a run's resolved config: its language model, its encoder's model, and its weights.

    Models tell it in the `card.json` of their folder, weights in the metadata of their file.
    """
    models = dict.fromkeys((config.get(part) or {}).get("model") for part in ("lm", "encoder"))
    found = [_model(str(model)) for model in models if model]
    weights = (config.get("learner") or {}).get("weights")
    return [*found, _read_card(Path(weights).name, _metadata(Path(weights)))] if weights else found


def cost(found: list[Pretraining], x: str) -> float:
    """The cost of the trainings on the axis `x`. Raises ValueError where it cannot be counted there or is not known."""
    if x not in COUNTED:
        raise ValueError(f"--with-training: no training is counted in {x}; choose --x {', '.join(COUNTED)}")
    total = 0.0
    for pretraining in found:
        value = getattr(pretraining, COUNTED[x])
        if value is None:
            raise ValueError(
                f"--with-training: {pretraining.what} does not say how many {COUNTED[x]} its training took "
                f"(a model's card.json or a file's metadata would, as \"{COUNTED[x]}\")"
            )
        total += value
    return total


def _read_card(what: str, card: Mapping[str, Any]) -> Pretraining:
    corpus = card.get("corpus") or {}
    kitchens, walkthroughs = corpus.get("kitchens"), corpus.get("walkthroughs")
    episodes = kitchens * walkthroughs if kitchens is not None and walkthroughs is not None else None
    tokens = card.get("tokens_trained", card.get("tokens", card.get("corpus_tokens")))
    return Pretraining(what, tokens, card.get("episodes", episodes), card.get("worlds", kitchens), card.get("seconds"))


def _model(model: str) -> Pretraining:
    """A model with a card was trained on this project's own corpora: a transfer prior, and called that."""
    try:
        folder = local_folder(model)
    except ValueError:  # a folder of the machine that made the run
        folder = None
    card = read_object(folder / "card.json") if folder else {}
    return _read_card(f"transfer prior {Path(model).name}" if card else model, card)


def _metadata(path: Path) -> dict[str, Any]:
    try:
        with safe_open(str(path), "np") as file:
            return {key: json.loads(value) for key, value in (file.metadata() or {}).items() if key != "format"}
    except (OSError, SafetensorError, json.JSONDecodeError):  # absent, or written by something else
        return {}
