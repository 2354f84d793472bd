"""How much faster does an agent learn when a language model tells it which actions make sense?

`llmrl.train(llmrl.compose(["learner=dqn", "seed=3"]))` is what `llmrl train learner=dqn seed=3` does, and
`llmrl.load_runs("runs")` reads back what became of it, with metrics as tables. The worlds are gymnasium's, as
`llmrl/Household-v0` is.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmrl.config.compose import compose as compose
    from llmrl.report.runs import join_runs as join_runs
    from llmrl.report.runs import load_runs as load_runs
    from llmrl.train import train as train

__version__ = "0.1.0"
__all__ = ["__version__", "compose", "join_runs", "load_runs", "train"]

# Nothing heavy is loaded for those who only import llmrl.
_LAZY = {
    "train": "llmrl.train",
    "compose": "llmrl.config.compose",
    "join_runs": "llmrl.report.runs",
    "load_runs": "llmrl.report.runs",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        """Importing the submodule `train` would put it over the function of the same name."""
        if name == "train" and isinstance(value, ModuleType):
            value = value.train
        super().__setattr__(name, value)


class _WithGymnasium(MetaPathFinder):
    """Registers the worlds when gymnasium is imported, which takes longer than llmrl and is not needed by all of it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "gymnasium":
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        spec = next(filter(None, (finder.find_spec(fullname, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def then_register(module: ModuleType) -> None:
                execute(module)
                import_module("llmrl.envs")

            spec.loader.exec_module = then_register  # type: ignore[method-assign]
        return spec


sys.modules[__name__].__class__ = _Package
if "gymnasium" in sys.modules:
    import_module("llmrl.envs")
else:
    sys.meta_path.insert(0, _WithGymnasium())
