"""Code that a setting names by its import path."""

from __future__ import annotations

import logging
from typing import Any


def imported(path: str) -> Any:
    """What `_target_` names. Raises ValueError where it cannot be had, whatever its module raises."""
    from hydra.utils import get_object

    logging.getLogger("hydra").addHandler(logging.NullHandler())  # it logs what it raises
    try:
        return get_object(path)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"_target_={path} cannot be imported: {reason}") from error
