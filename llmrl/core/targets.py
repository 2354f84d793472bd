"""Code that a setting names by its import path."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Keeping(Protocol):
    """An object of it that keeps a state, for checkpoints."""

    def save(self) -> Any: ...

    def restore(self, saved: Any) -> None: ...


def add_search_folder(config_dir: Path) -> None:
    """Modules that its `_target_`s name are looked for in the working folder, beside `config_dir`, and inside it."""
    paths = [str(path.resolve()) for path in (Path.cwd(), config_dir.resolve().parent, config_dir)]
    sys.path[:] = [*dict.fromkeys([*paths, *sys.path])]


def import_target(path: str) -> Any:
    """The object that `_target_` names. Raises ValueError where it cannot be imported, whatever its module raises."""
    from hydra.utils import get_object

    logging.getLogger("hydra").addHandler(logging.NullHandler())  # it logs what it raises
    try:
        return get_object(path)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"_target_={path} cannot be imported: {reason}") from error
