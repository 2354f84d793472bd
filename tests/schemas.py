"""Every schema there is."""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import get_args, get_type_hints

from llmrl.schema.kinds import KINDS
from llmrl.schema.run import TrainConfig


def schemas() -> set[type]:
    """What a run may be made of, and what that is made of."""
    found: set[type] = set()
    todo: list[type] = [TrainConfig, *(kind.schema for kinds in KINDS.values() for kind in kinds.values())]
    while todo:
        schema = todo.pop()
        found.add(schema)
        inner = (t for hint in get_type_hints(schema).values() for t in (hint, *get_args(hint)))
        todo += [t for t in inner if isinstance(t, type) and is_dataclass(t) and t not in found]
    return found
