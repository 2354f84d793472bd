"""Games from a seed: homes, what lies in them, and a goal, in splits that share nothing that could be known by heart.

| split          | layouts      | games                         | for                                                |
|----------------|--------------|-------------------------------|----------------------------------------------------|
| `train`        | training     | four fifths, by hash          | learning                                           |
| `valid_seen`   | training     | the others                    | results: new games in homes that were trained in   |
| `dev`          | its own      |                               | trying things out, and every choice of a setting   |
| `valid_unseen` | its own      |                               | results: new homes                                 |
| `corpus`       | its own      | goals that no other split has | what an embedded model reads                       |

A layout belongs to one pool by the hash of what it is. A goal (task, object and receptacle: an instruction) is the
corpus's or everybody else's, by its hash.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Literal, get_args

import numpy as np

from llmrl.envs.household.expert import solution
from llmrl.envs.household.game import TASKS, TREATED, Game, Goal, Layout, Object, Receptacle, Task
from llmrl.envs.household.types import FIXED, FURNITURE, LAMPS, LIVES_IN, MAY_HOLD, RECEPTACLES, Room

Split = Literal["train", "dev", "valid_seen", "valid_unseen", "corpus"]
Asked = Literal["pick", "examine", "clean", "heat", "cool", "pick_two", "mixed"]
Pool = Literal["training", "dev", "unseen", "corpus"]

POOLS: dict[Split, Pool] = {
    "train": "training",
    "dev": "dev",
    "valid_seen": "training",
    "valid_unseen": "unseen",
    "corpus": "corpus",
}
LAYOUTS: dict[Pool, int] = {"training": 80, "dev": 40, "unseen": 40, "corpus": 240}
RECEPTACLES_IN_A_HOME = (10, 35)
OBJECTS_IN_A_HOME = (15, 40)
HOMES: tuple[tuple[Room, ...], ...] = (
    ("kitchen",),
    ("kitchen", "living room"),
    ("kitchen", "bedroom"),
    ("kitchen", "bathroom"),
    ("kitchen", "living room", "bathroom"),
    ("living room",),
    ("living room", "bedroom"),
    ("bedroom",),
    ("bedroom", "bathroom"),
)
MOST_OF_A_TYPE = 3


@lru_cache(maxsize=4096)
def random_game(task: Asked, split: Split, index: int) -> Game:
    """Game number `index` (0, 1, 2, ...) of a split; the same arguments always give the same game.

    `mixed` takes the six tasks in turn: its game 7 is number 1 of `examine`. Every game is solved before it is given
    out. Raises ValueError for arguments out of range.
    """
    if task not in get_args(Asked):
        raise ValueError(f"task={task!r}: choose one of {', '.join(get_args(Asked))}")
    if split not in get_args(Split):
        raise ValueError(f"split={split!r}: choose one of {', '.join(get_args(Split))}")
    if index < 0:
        raise ValueError(f"index={index}: games are numbered from 0")
    if task == "mixed":
        return random_game(TASKS[index % len(TASKS)], split, index // len(TASKS))
    rng = np.random.Generator(np.random.PCG64([get_args(Split).index(split), TASKS.index(task), index]))
    while True:
        game = _draw_game(rng, game_name(task, split, index), task, split)
        if game is not None and (POOLS[split] != "training" or _is_train(game) == (split == "train")):
            solution(game)
            return game


def game_name(task: Asked, split: Split, index: int) -> str:
    """The name of a game, which need not be generated for it."""
    if task == "mixed":
        task, index = TASKS[index % len(TASKS)], index // len(TASKS)
    return f"{task}-{split}-{index}"


@lru_cache(maxsize=1024)
def random_layout(pool: Pool, number: int) -> Layout:
    """Layout `number` of a pool, 0 to LAYOUTS[pool] - 1."""
    rng = np.random.Generator(np.random.PCG64([get_args(Pool).index(pool), number]))
    least, most = RECEPTACLES_IN_A_HOME
    while True:
        layout = _draw_layout(rng)
        if least <= len(layout.receptacles) <= most and pool_of(layout) == pool:
            return layout


def pool_of(layout: Layout) -> Pool:
    """The pool of a layout: three tenths go to training, two to dev, two to unseen, three to the corpus."""
    bucket = _bucket(f"home: {layout.hash}", 10)
    return "training" if bucket < 3 else "dev" if bucket < 5 else "unseen" if bucket < 7 else "corpus"


def of_corpus(goal: Goal) -> bool:
    """Whether a goal is for the corpus alone: three in ten are."""
    return _bucket(f"goal: {goal.name}", 10) < 3


def _is_train(game: Game) -> bool:
    return _bucket(f"game: {game.hash}", 5) > 0


def _bucket(text: str, buckets: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) % buckets


def _draw_layout(rng: np.random.Generator) -> Layout:
    rooms = HOMES[int(rng.integers(len(HOMES)))]
    count = dict.fromkeys(RECEPTACLES, 0)
    receptacles = []
    for room in rooms:
        for kind, (least, most) in FURNITURE[room].items():
            for _ in range(int(rng.integers(least, most + 1))):
                count[kind] += 1
                receptacles.append(Receptacle(kind, count[kind], room))
    return Layout(rooms, tuple(receptacles))


def _draw_game(rng: np.random.Generator, name: str, task: Task, split: Split) -> Game | None:
    """One attempt; None where the layout does not suit the task, or there is no place for something."""
    pool = POOLS[split]
    layout = random_layout(pool, int(rng.integers(LAYOUTS[pool])))
    goal = _draw_goal(rng, layout, task, split)
    if goal is None:
        return None
    placed: list[tuple[str, int]] = []  # (type, receptacle)
    needed = [goal.object] * (int(rng.integers(1, 3)) + (task == "pick_two"))
    needed += sorted(LAMPS) if task == "examine" else []
    for kind in needed:
        places = _places(layout, kind, without=goal.receptacle)
        if not places:
            return None
        placed.append((kind, places[int(rng.integers(len(places)))]))
    least, most = OBJECTS_IN_A_HOME
    wished = int(rng.integers(least, min(most, 2 * len(layout.receptacles)) + 1))
    rooms = [receptacle.room for receptacle in layout.receptacles]
    for _ in range(20 * wished):
        if len(placed) == wished:
            break
        living = sorted(LIVES_IN[rooms[int(rng.integers(len(rooms)))]] - {goal.object})
        kind = living[int(rng.integers(len(living)))]
        places = _places(layout, kind)
        if places and sum(kind == other for other, _ in placed) < (1 if kind in FIXED else MOST_OF_A_TYPE):
            placed.append((kind, places[int(rng.integers(len(places)))]))
    if len(placed) < least:
        return None
    count: dict[str, int] = {}
    objects = []
    for kind, place in (placed[i] for i in rng.permutation(len(placed))):
        count[kind] = count.get(kind, 0) + 1
        objects.append(Object(kind, count[kind], place))
    return Game(name, layout, tuple(objects), goal)


def _draw_goal(rng: np.random.Generator, layout: Layout, task: Task, split: Split) -> Goal | None:
    """One of those that the layout has room for; of all its objects first one, then one of its receptacles."""
    treated = TREATED.get(task)
    if treated is not None and not layout.of_type(treated[0]):
        return None
    if task == "examine" and not all(_places(layout, lamp) for lamp in LAMPS):
        return None
    things = sorted(set().union(*(LIVES_IN[room] for room in layout.rooms)) - FIXED)
    if treated is not None:
        things = [thing for thing in things if thing in treated[1]]
    if not things:
        return None
    thing = things[int(rng.integers(len(things)))]
    kinds: list[str | None] = [None]
    if task != "examine":
        present = {receptacle.type for receptacle in layout.receptacles} - {treated[0] if treated else None}
        kinds = [kind for kind in sorted(present) if thing in MAY_HOLD[kind]]
    goals = [goal for kind in kinds if of_corpus(goal := Goal(task, thing, kind)) == (split == "corpus")]
    return goals[int(rng.integers(len(goals)))] if goals else None


def _places(layout: Layout, kind: str, without: str | None = None) -> list[int]:
    """The receptacles in which a thing may lie at first: in rooms that it lives in; not of the type `without`."""
    return [
        i
        for i, r in enumerate(layout.receptacles)
        if kind in LIVES_IN[r.room] and kind in MAY_HOLD[r.type] and r.type != without
    ]
