"""Homes small enough to be searched state by state."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from llmrl.envs.household.game import TREATED, Game, Goal, Layout, Object, Receptacle, Task
from llmrl.envs.household.home import Home, HomeState
from llmrl.envs.household.types import LAMPS, MAY_HOLD

KITCHEN = ("Cabinet", "CounterTop", "Drawer", "Fridge", "Microwave", "SinkBasin", "SideTable")
THINGS: dict[Task, tuple[str, ...]] = {
    "pick": ("Spoon", "Mug", "Apple"),
    "examine": ("Book", "Mug"),
    "clean": ("Apple", "Mug", "Spoon"),
    "heat": ("Apple", "Mug", "Potato"),
    "cool": ("Apple", "Mug"),
    "pick_two": ("Mug", "Spoon"),
}


def small_game(task: Task, seed: int, receptacles: int = 4, objects: int = 3) -> Game:
    """At random: some instances of the wanted type, then others, wherever they may lie."""
    rng = np.random.Generator(np.random.PCG64(seed))
    while True:
        needs = [TREATED[task][0]] if task in TREATED else ["SideTable"] if task == "examine" else []
        kinds = needs + [str(k) for k in rng.choice(KITCHEN, receptacles - len(needs))]
        layout = Layout(
            ("kitchen",), tuple(Receptacle(k, kinds[:i].count(k) + 1, "kitchen") for i, k in enumerate(kinds))
        )
        wanted = str(rng.choice(THINGS[task]))
        others = [str(t) for t in rng.choice(["Mug", "Apple", "Spoon", "Book", "Kettle"], objects)]
        types = ([wanted] * int(rng.integers(1 + (task == "pick_two"), 3)) + others)[:objects]
        types += sorted(LAMPS) if task == "examine" else []
        places = [[i for i, k in enumerate(kinds) if t in MAY_HOLD[k]] for t in types]
        targets = sorted({k for k in kinds if wanted in MAY_HOLD[k] and k not in needs})
        if not all(places) or not targets:
            continue
        things = tuple(
            Object(t, types[:i].count(t) + 1, int(rng.choice(where)))
            for i, (t, where) in enumerate(zip(types, places, strict=True))
        )
        goal = Goal(task, wanted, None if task == "examine" else str(rng.choice(targets)))
        return Game(f"{task}-{seed}", layout, things, goal)


def successors(home: Home, s: HomeState) -> Iterator[tuple[str, HomeState]]:
    menu = home.menu(s)
    for text, command in zip(menu.texts, menu.commands, strict=True):
        yield text, home.apply(s, command)


def distances(home: Home) -> dict[HomeState, int]:
    """The decisions left in every state that can be reached, by a search backwards from all where the goal is."""
    came: dict[HomeState, list[HomeState]] = {}
    queue = deque([home.initial()])
    found = {home.initial()}
    while queue:
        s = queue.popleft()
        if home.done(s):
            continue
        for _, after in successors(home, s):
            after = after._replace(searched=0)  # what was seen decides nothing
            came.setdefault(after, []).append(s)
            if after not in found:
                found.add(after)
                queue.append(after)
    left = {s: 0 for s in found if home.done(s)}
    queue = deque(left)
    while queue:
        s = queue.popleft()
        for before in came.get(s, ()):
            if before not in left:
                left[before] = left[s] + 1
                queue.append(before)
    return left
