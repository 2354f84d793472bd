"""How much faster does an agent learn when a language model tells it which actions make sense?

`llmrl.train(llmrl.compose(["learner=dqn", "seed=3"]))` is what `llmrl train learner=dqn seed=3` does.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

_LAZY = {"train": "llmrl.train", "compose": "llmrl.config"}  # torch is not loaded for those who only import llmrl


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        """Importing the submodule `train` would put it over the function of the same name."""
        if name == "train" and isinstance(value, ModuleType):
            value = value.train
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
