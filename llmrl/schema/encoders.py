"""The settings of encoders: text to vector, for Q."""

from __future__ import annotations

from dataclasses import dataclass

from llmrl.schema.fields import Schema, setting
from llmrl.schema.lm import DEVICES, ModelConfig


@dataclass
class EncoderConfig(Schema):
    """Hashed word n-grams, randomly projected."""

    kind: str = "???"
    name: str = setting("???", free=True)  # the option's name
    dim: int = setting(256, low=1)  # size of a text's vector
    ngrams: int = setting(3, low=1)  # words of an n-gram, at most
    history_turns: int = setting(0, low=0)  # number of the last observations and actions shown
    seed: int = setting(0, low=0)  # seed of the random projection: equal in all runs of a comparison


@dataclass
class ModelEncoderConfig(ModelConfig):
    """Hidden states of a transformers model: `lm` (causal), `bert` (the paper's)."""

    pooling: str = setting("mean", choices=("cls", "mean", "last"))  # cls | mean | last
    history_turns: int = setting(0, low=0)  # number of the last observations and actions shown
    device: str = setting("auto", choices=DEVICES, free=True)  # auto: a GPU where there is one
    # texts per forward on a GPU; on a CPU 1, so that no row depends on another
    batch_size: int = setting(16, low=1)
