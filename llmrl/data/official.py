"""The tuple layout of the released code of arXiv 2410.07927: a pickle of lists and tuples, read without running any.

A pickle is a program. This reader's machine knows containers, texts and numbers; whatever would name a class or a
function, numpy's included, is refused and named.

Each tuple is (instruction, observation, action, next observation, reward, done, admissible, next admissible). It says
neither where an episode that was cut ends, nor durations: an episode ends where `done` is true, where the next row
does not go on from this one, and after `cut` rows, where that is given. One that ends without `done` is truncated;
where it was not cut either, nobody knows how it went on.
"""

from __future__ import annotations

import io
import pickle
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from llmrl.data.dataset import DataError

FIELDS = ("instruction", "observation", "action", "next observation", "reward", "done", "admissible", "next admissible")
SUCCEEDED = 0.5  # the released code counts an episode of Overcooked as a success when it returns more


def read_official(path: Path, cut: int | None = None) -> Iterator[dict[str, Any]]:
    """Its rows. `cut`: decisions after which the original cut an episode (51 for salad). Raises DataError."""
    tuples = _tuples(_loaded(path), path)
    episodes: list[list[tuple[Any, ...]]] = [[]]
    for i, row in enumerate(tuples):
        episodes[-1].append(row)
        after = tuples[i + 1] if i + 1 < len(tuples) else None
        goes_on = after is not None and (after[0], after[1], list(after[6])) == (row[0], row[3], list(row[7]))
        if after is not None and (row[5] or not goes_on or len(episodes[-1]) == cut):
            episodes.append([])
    for number, episode in enumerate(episodes):
        won: bool | None = bool(episode[-1][5]) and sum(row[4] for row in episode) > SUCCEEDED
        if not episode[-1][5] and len(episode) != cut:
            won = None
        for i, (task, observation, action, then, reward, done, actions, later) in enumerate(episode):
            last = i == len(episode) - 1
            yield {
                "episode": number, "task": task, "observation": observation, "actions": list(actions),
                "action": action, "reward": float(reward), "duration": 1, "terminated": bool(done),
                "truncated": last and not done, "next_observation": then, "next_actions": list(later),
                "success": won, "task_id": "", "agent": "",
            }  # fmt: skip


def _tuples(loaded: Any, path: Path) -> list[tuple[Any, ...]]:
    if not isinstance(loaded, list | tuple) or not loaded:
        raise DataError(f"{path} holds {type(loaded).__name__}, and has to hold a list of tuples")
    rows = []
    for number, row in enumerate(loaded):
        if not isinstance(row, list | tuple) or len(row) != len(FIELDS):
            size = f" of {len(row)}" if isinstance(row, list | tuple) else ""
            raise DataError(f"{path}, row {number}: a {type(row).__name__}{size}, and not the tuple of {len(FIELDS)} "
                            f"({', '.join(FIELDS)})")  # fmt: skip
        for name, value in zip(FIELDS, row, strict=True):
            if not _fits(name, value):
                raise DataError(f"{path}, row {number}: {name} is {reprlib.repr(value)}")
        rows.append(tuple(row))
    return rows


def _fits(name: str, value: Any) -> bool:
    if name in ("admissible", "next admissible"):
        return isinstance(value, list | tuple) and all(isinstance(text, str) for text in value)
    if name == "reward":
        return isinstance(value, float) or (type(value) is int and abs(value) < 1 << 53)
    if name == "done":
        return isinstance(value, bool) or value in (0, 1)
    return isinstance(value, str)


class _Plain(pickle.Unpickler):
    """Containers, texts and numbers come from opcodes of their own; everything else has to be found by its name."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise _NotPlain(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise _NotPlain(f"a reference to something outside of it ({pid!r})")


class _NotPlain(Exception): ...


def _loaded(path: Path) -> Any:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    try:
        return _Plain(io.BytesIO(data)).load()
    except _NotPlain as error:
        raise DataError(
            f"{path} wants {error}, and only lists, tuples, dicts, texts and numbers are read from a pickle: "
            "nothing was loaded"
        ) from None
    except Exception as error:  # whatever a torn or a hostile pickle makes of the machine
        raise DataError(f"{path} cannot be read as a pickle ({type(error).__name__}: {error})") from None
