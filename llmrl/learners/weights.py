"""Networks that were trained before a run: files of safetensors that say what they are and what they fit.

The tensors are those of `network`, by name. The metadata holds JSON under each key: `what`, `encoder` (its settings),
`hidden`, and whatever tells how the network came about.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from llmrl.encoders.encoder import Encoder

What = Literal["policy", "q"]  # logits of a cloned policy | Q


def read_weights(path: str | Path, what: What, encoder: Encoder, hidden: Sequence[int]) -> dict[str, Tensor]:
    """The tensors of `network(encoder.dim, hidden)` in a file that `scripts/clone.py` wrote.

    Raises ValueError where the file cannot be read, holds something else than `what`, or was made for another encoder
    or another size; the message names both.
    """
    about = read_about(path)
    if about.get("what") not in get_args(What):
        raise ValueError(f"{path} does not name its contents; it is no {what} of llmrl's")
    if about["what"] != what:
        raise ValueError(f"{path} holds a cloned {about['what']} and a {what} is needed: give one of a {what}")
    here = encoder_settings(encoder)
    if about.get("encoder") != here:
        raise ValueError(_unlike(path, about.get("encoder") or {}, here))
    if about.get("hidden") != list(hidden):
        raise ValueError(
            f"{path} has layers of {about.get('hidden')} and this run asks for learner.hidden={list(hidden)}; "
            f"type learner.hidden={json.dumps(about.get('hidden'), separators=(',', ':'))}"
        )
    tensors = safetensors.torch.load_file(path)
    expected = {name: tuple(t.shape) for name, t in network(encoder.dim, hidden).state_dict().items()}
    found = {name: tuple(t.shape) for name, t in tensors.items()}
    if found != expected:
        raise ValueError(f"{path} is damaged: it holds {found}, and its own description means {expected}")
    if not all(t.isfinite().all() for t in tensors.values()):
        raise ValueError(f"{path} is damaged: it holds numbers that are not finite; make it again")
    return tensors


def write_weights(
    path: Path, net: nn.Sequential, what: What, encoder: Encoder, hidden: Sequence[int], about: Mapping[str, Any]
) -> None:
    """`about`: how the network came about, in anything JSON can hold."""
    described = {**about, "what": what, "encoder": encoder_settings(encoder), "hidden": list(hidden)}
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.contiguous() for name, t in net.state_dict().items()}
    safetensors.torch.save_file(tensors, path, {key: json.dumps(value) for key, value in described.items()})


def read_about(path: str | Path) -> dict[str, Any]:
    """The description in a file's metadata; raises ValueError where there is no such file, or it is another kind."""
    try:
        with safe_open(str(path), "pt") as file:
            return {key: json.loads(value) for key, value in (file.metadata() or {}).items() if key != "format"}
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such file of weights") from None
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} cannot be read as weights of llmrl: {error}") from None


def network(dim: int, hidden: Sequence[int]) -> nn.Sequential:
    """[dim -> hidden... -> 1] with ReLU between; DQN's Q is the same."""
    sizes = [dim, *hidden]
    layers: list[nn.Module] = []
    for i, o in pairwise(sizes):
        layers += [nn.Linear(i, o), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], 1))


def encoder_settings(encoder: Encoder) -> dict[str, Any]:
    """The settings that determine an encoder's features: its class, and its settings that can change a result."""
    settings: dict[str, Any] = {"class": type(encoder).__name__, "dim": encoder.dim}
    cfg = getattr(encoder, "cfg", None)
    if cfg is not None and is_dataclass(cfg):
        settings |= {
            f.name: getattr(cfg, f.name)
            for f in fields(cfg)
            if f.metadata.get("affects_result", True) and f.name not in ("kind", "name")
        }
    return settings


def _unlike(path: str | Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    differing = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    found, asked = (", ".join(f"{key}={s[key]}" for key in differing if key in s) for s in (there, here))
    mend = " ".join(f"encoder.{key}={there[key]}" for key in differing if key in there)
    if "class" in differing:
        mend = f"the encoder that it was made for, {there.get('class', 'which it does not name')}"
    return f"{path} was trained on features with {found or 'no settings'}, and this run's have {asked}; type {mend}"
