"""Replay recorded episodes of an original world in ours and count what differs.

    python scripts/check_conformance.py overcooked FILE

FILE holds one episode a line, as JSON: `task`, `map`, `actions` (macro-action indices) and, after each action, `obs`
(the original's vector), `reward`, `primitive_steps`, `done`, `text` and `menu`; `obs0`, `text0` and `menu0` are the
reset's. `text` and `menu` are numbers that name a text or a menu within its task: equal numbers are equal texts,
other numbers other ones. Our wording is our own, so what is checked is that both sides tell the same states apart.

Exit status: 0 all agrees, 1 something differs, 2 the file cannot be used.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmrl.envs.kitchen.env import KitchenEnv, overcooked_salad, overcooked_tomato
from llmrl.envs.kitchen.world import Kitchen, KitchenState

KINDS = {
    "vector": "the original's vector, computed from our state",
    "reward": "further than 1e-9 apart",
    "steps": "primitive steps",
    "done": "delivered, or 200 primitive steps",
    "text-": "two of the original's texts are one of ours",
    "text+": "one of the original's texts is two of ours",
    "menu-": "two of the original's menus are one of ours",
    "menu+": "one of the original's menus is two of ours",
}
NUM_TASKS = 7  # of the original: the length of the one-hot


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("world", choices=["overcooked"])
    parser.add_argument("file", type=Path)
    path = parser.parse_args(argv).file
    replays = {
        "tomato salad": Replay(overcooked_tomato(reward="original", max_decisions=sys.maxsize), number=0),
        "lettuce-tomato salad": Replay(overcooked_salad(reward="original", max_decisions=sys.maxsize), number=3),
    }
    try:
        for episode in read_episodes(path, {task: replay.num_actions for task, replay in replays.items()}):
            replays[episode["task"]].play(episode)
    except MalformedFileError as error:
        print(f"{path}: {error}", file=sys.stderr)
        return 2
    print(f"{'task':<21}{'episodes':>9}{'steps':>8}{'':4}" + "".join(f"{kind:>8}" for kind in KINDS))
    for task, replay in replays.items():
        counts = "".join(f"{replay.mismatches[kind]:>8}" for kind in KINDS)
        print(f"{task:<21}{replay.episodes:>9}{replay.steps:>8}{'':4}{counts}")
    total = {kind: sum(replay.mismatches[kind] for replay in replays.values()) for kind in KINDS}
    for kind, meaning in KINDS.items():
        if total[kind]:
            print(f"{total[kind]} mismatches of {kind}: {meaning}")
    return 1 if any(total.values()) else 0


class MalformedFileError(ValueError):
    """The file is not a complete list of recorded episodes."""


class Replay:
    """One task's episodes, replayed in our world; `mismatches` counts by kind."""

    def __init__(self, env: KitchenEnv, number: int) -> None:
        self.env, self.number = env, number
        self.num_actions = env.kitchen.num_actions
        self.episodes = self.steps = 0
        self.mismatches: Counter[str] = Counter()
        self._ours_of: dict[tuple[str, int], Any] = {}  # the first of ours seen with each of theirs
        self._theirs_of: dict[tuple[str, Any], int] = {}

    def play(self, episode: dict[str, Any]) -> None:
        shown, _ = self.env.reset()
        self.episodes += 1
        self._compare_view(shown, episode["obs0"], episode["text0"], episode["menu0"])
        for t, action in enumerate(episode["actions"]):
            shown, reward, terminated, truncated, info = self.env.step(shown["actions"][action])
            done = terminated or truncated
            self.steps += 1
            self._compare_view(shown, episode["obs"][t], episode["text"][t], episode["menu"][t])
            self.mismatches["reward"] += not abs(reward - episode["reward"][t]) < 1e-9
            self.mismatches["steps"] += info["duration"] != episode["primitive_steps"][t]
            self.mismatches["done"] += done != episode["done"][t]
            if done:
                return

    def _compare_view(self, shown: Any, vector: list[int], text: int, menu: int) -> None:
        ours = observation_vector(self.env.kitchen, self.env.state, self.number)
        self.mismatches["vector"] += ours != vector
        for kind, theirs, words in (("text", text, shown["observation"]), ("menu", menu, shown["actions"])):
            self.mismatches[f"{kind}-"] += self._theirs_of.setdefault((kind, words), theirs) != theirs
            self.mismatches[f"{kind}+"] += self._ours_of.setdefault((kind, theirs), words) != words


def observation_vector(kitchen: Kitchen, s: KitchenState, number: int) -> list[int]:
    """The original's observation as a vector.

    It holds foods (row, column, chops), bowl, boards, delivery and cook (row, column), and the task, one-hot. A thing
    out of view reads zero.
    """
    vector: list[int] = []
    for food in range(len(kitchen.foods)):
        place = kitchen.place_of(s, food)
        vector += [*place, 3 * (s.chopped >> food & 1)] if kitchen.sees(s.cell, place) else [0, 0, 0]
    for place in (kitchen.place_of(s, kitchen.bowl), *kitchen.boards, kitchen.delivery):
        vector += place if kitchen.sees(s.cell, place) else (0, 0)
    return [*vector, *s.cell, *(int(task == number) for task in range(NUM_TASKS))]


def read_episodes(path: Path, num_actions: dict[str, int]) -> Iterator[dict[str, Any]]:
    """The episodes of a file, each checked for form; raises MalformedFileError at the first that is not one.

    `num_actions` names the tasks there are and how many macro-actions each has.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MalformedFileError(f"cannot be read: {error}") from error
    if not lines:
        raise MalformedFileError("holds no episode")
    for number, line in enumerate(lines, 1):
        try:
            episode = json.loads(line)
        except json.JSONDecodeError as error:
            raise MalformedFileError(f"line {number} is not JSON ({error}): is the file cut off?") from error
        if problem := _problem(episode, num_actions):
            raise MalformedFileError(f"line {number} {problem}")
        yield episode


def _problem(episode: Any, num_actions: dict[str, int]) -> str | None:
    """The fault that keeps a record from being an episode."""
    if not isinstance(episode, dict):
        return "is not a JSON object"
    task, world_map = episode.get("task"), episode.get("map")
    if not isinstance(task, str) or task not in num_actions or world_map != "A":
        return f"is of task {task!r} on map {world_map!r}; known are {', '.join(num_actions)} on map 'A'"
    if missing := sorted(({"obs0", "text0", "menu0"} | _ENTRIES.keys()) - episode.keys()):
        return f"lacks {', '.join(missing)}"
    length = len(episode["actions"]) if isinstance(episode["actions"], list) else 0
    if not length:
        return "has no actions"
    for key, types in _ENTRIES.items():
        entries = episode[key]
        if not isinstance(entries, list) or len(entries) != length:
            return f"does not have one {key} for each of its {length} actions"
        if wrong := [entry for entry in entries if type(entry) not in types]:
            return f"has {wrong[0]!r} among its {key}"
    if wrong := [episode[key] for key in ("text0", "menu0") if type(episode[key]) is not int]:
        return f"has {wrong[0]!r} for a text or menu"
    if wrong := [action for action in episode["actions"] if not 0 <= action < num_actions[task]]:
        return f"has action {wrong[0]}; there are 0..{num_actions[task] - 1}"
    return "goes on after it is done" if any(episode["done"][:-1]) else None


_ENTRIES: dict[str, tuple[type, ...]] = {
    "actions": (int,),
    "obs": (list,),
    "text": (int,),
    "menu": (int,),
    "reward": (int, float),
    "primitive_steps": (int,),
    "done": (bool,),
}


if __name__ == "__main__":
    sys.exit(main())
