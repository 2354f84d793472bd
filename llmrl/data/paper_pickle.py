"""The tuple layout of the released code of arXiv 2410.07927: a pickle of lists and tuples, read without running any.

A pickle is a program. This reader's machine knows containers, texts and numbers; whatever would name a class or a
function, numpy's included, is refused and named.

Each tuple is (instruction, observation, action, next observation, reward, done, admissible, next admissible). It says
neither where an episode that was cut ends, nor durations: an episode ends where `done` is true, where the next row
does not go on from this one, and after `cut` rows, where that is given. One that ends without `done` is truncated;
where it was not cut either, nobody knows how it went on.

Its trajectory files (`raw_trajectory_data.pt`, pickles whatever their name says) hold a list of (steps, return, list of
such tuples): each is an episode, whose end is the end of its list.
"""

from __future__ import annotations

import io
import pickle
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from llmrl.data.dataset import DataError

FIELDS = ("instruction", "observation", "action", "next observation", "reward", "done", "admissible", "next admissible")
TRAJECTORY = ("steps", "return", "tuples")
MOST = 10_000_000  # rows: a list may hold another one many times, so that a small file could stand for any number
SUCCEEDED = 0.5  # the released code counts an episode of Overcooked as a success when it returns more


def read_official(path: Path, cut: int | None = None) -> Iterator[dict[str, Any]]:
    """Its rows. `cut`: decisions after which the original cut an episode (51 for salad). Raises DataError."""
    loaded = _load(path)
    if not isinstance(loaded, list | tuple) or not loaded:
        raise DataError(f"{path} holds {type(loaded).__name__}, and has to hold a list of tuples")
    if isinstance(loaded[0], list | tuple) and len(loaded[0]) == len(TRAJECTORY):
        if cut is not None:
            raise DataError(f"{path} says itself where its episodes end; leave --cut out")
        yield from _rows((episode, True) for episode in _trajectories(loaded, path))
        return
    yield from _rows((episode, len(episode) == cut) for episode in _split(_tuples(loaded, str(path)), cut))


def _split(tuples: list[tuple[Any, ...]], cut: int | None) -> list[list[tuple[Any, ...]]]:
    episodes: list[list[tuple[Any, ...]]] = [[]]
    for i, row in enumerate(tuples):
        episodes[-1].append(row)
        after = tuples[i + 1] if i + 1 < len(tuples) else None
        goes_on = after is not None and (after[0], after[1], list(after[6])) == (row[0], row[3], list(row[7]))
        if after is not None and (row[5] or not goes_on or len(episodes[-1]) == cut):
            episodes.append([])
    return episodes


def _rows(episodes: Iterable[tuple[list[tuple[Any, ...]], bool]]) -> Iterator[dict[str, Any]]:
    """The rows of episodes. Each episode comes with whether its end is known."""
    for number, (episode, is_whole) in enumerate(episodes):
        won: bool | None = bool(episode[-1][5]) and sum(row[4] for row in episode) > SUCCEEDED
        if not episode[-1][5] and not is_whole:
            won = None
        for i, (task, observation, action, then, reward, done, actions, later) in enumerate(episode):
            last = i == len(episode) - 1
            yield {
                "episode": number, "task": task, "observation": observation, "actions": list(actions),
                "action": action, "reward": float(reward), "duration": 1, "terminated": bool(done),
                "truncated": last and not done, "next_observation": then, "next_actions": list(later),
                "success": won, "task_id": "", "agent": "",
            }  # fmt: skip


def _trajectories(loaded: Sequence[Any], path: Path) -> Iterator[list[tuple[Any, ...]]]:
    total = 0
    for number, trajectory in enumerate(loaded):
        where = f"{path}, trajectory {number}"
        if not isinstance(trajectory, list | tuple) or len(trajectory) != len(TRAJECTORY):
            raise DataError(f"{where}: {reprlib.repr(trajectory)}, and not ({', '.join(TRAJECTORY)})")
        steps, ret, tuples = trajectory
        if not isinstance(tuples, list | tuple) or not tuples or type(steps) is not int or steps != len(tuples):
            raise DataError(f"{where}: steps is {reprlib.repr(steps)}, and has to be how many tuples there are")
        total += steps
        if total > MOST:
            raise DataError(f"{path} stands for more than {MOST:,} rows")
        rows = _tuples(tuples, where)
        paid = sum(row[4] for row in rows)
        if not isinstance(ret, float | int) or not abs(ret - paid) <= 1e-6 * max(1.0, abs(paid)):
            raise DataError(f"{where}: return is {reprlib.repr(ret)}, and its rewards sum to {paid:g}")
        yield rows


def _tuples(loaded: Sequence[Any], where: str) -> list[tuple[Any, ...]]:
    rows = []
    for number, row in enumerate(loaded):
        if not isinstance(row, list | tuple) or len(row) != len(FIELDS):
            size = f" of {len(row)}" if isinstance(row, list | tuple) else ""
            raise DataError(f"{where}, row {number}: a {type(row).__name__}{size}, and not the tuple of {len(FIELDS)} "
                            f"({', '.join(FIELDS)})")  # fmt: skip
        for name, value in zip(FIELDS, row, strict=True):
            if not _fits(name, value):
                raise DataError(f"{where}, row {number}: {name} is {reprlib.repr(value)}")
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


def _load(path: Path) -> Any:
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
