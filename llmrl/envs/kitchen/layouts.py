"""Kitchens: the fixed map A of the text-kitchen literature, and kitchens generated from a seed.

Generated kitchens come in three splits that share nothing that could be memorised: the ingredients of a dish belong to
one split, and so does a layout, both by a hash of what they are. The two fixed tasks belong to no split: their dishes
are never generated.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from itertools import combinations
from typing import Literal, get_args

import numpy as np

from llmrl.envs.kitchen.world import Cell, Kitchen

Split = Literal["train", "dev", "test"]
Dish = frozenset[str]

FOODS = (
    "tomato",
    "lettuce",
    "onion",
    "carrot",
    "cucumber",
    "pepper",
    "mushroom",
    "radish",
    "celery",
    "cabbage",
    "beet",
    "apple",
)
TOMATO: Dish = frozenset({"tomato"})
TOMATO_LETTUCE: Dish = frozenset({"tomato", "lettuce"})
MAX_INGREDIENTS = 3


def overcooked_a(dish: Dish) -> Kitchen:
    """Map A: an open 5x5 room; with the two-ingredient dish also lettuce, a distracting onion and a second board.

    Source: the text kitchen of TWOSOME (arXiv 2401.14151).
    """
    if dish not in (TOMATO, TOMATO_LETTUCE):
        raise ValueError(f"map A has the dishes {sorted(TOMATO)} and {sorted(TOMATO_LETTUCE)}, not {sorted(dish)}")
    things = 1 if dish == TOMATO else 3
    return Kitchen(
        "overcooked_tomato" if dish == TOMATO else "overcooked_salad",
        floor=frozenset((r, c) for r in range(1, 6) for c in range(1, 6)),
        start=(1, 4),
        foods=("tomato", "lettuce", "onion")[:things],
        food_homes=((0, 5), (1, 6), (2, 6))[:things],
        bowl_home=(6, 5),
        boards=((1, 0), (2, 0))[: len(dish)],
        delivery=(3, 0),
        dish=frozenset(range(len(dish))),
    )


@lru_cache(maxsize=4096)
def random_kitchen(split: Split, index: int, ingredients: int | None = None) -> Kitchen:
    """Kitchen number `index` (0, 1, 2, ...) of a split; the same arguments always give the same kitchen.

    Rooms are 3 to 6 cells each way, with or without inner walls. One ingredient comes with one or two boards, two with
    two, three with two or three; and with none to two foods that the order does not ask for. `ingredients` asks for
    dishes of that size (1 to 3); None mixes. Raises ValueError for arguments out of range.
    """
    if split not in get_args(Split):
        raise ValueError(f"split={split!r}: choose one of {', '.join(get_args(Split))}")
    if ingredients is not None and not 1 <= ingredients <= MAX_INGREDIENTS:
        raise ValueError(f"ingredients={ingredients}: a dish has 1 to {MAX_INGREDIENTS}, or null for a mixture")
    if index < 0:
        raise ValueError(f"index={index}: kitchens are numbered from 0")
    rng = np.random.Generator(np.random.PCG64([get_args(Split).index(split), ingredients or 0, index]))
    size = ingredients or int(rng.integers(1, MAX_INGREDIENTS + 1))
    dishes = dishes_of(split, size)
    dish = dishes[int(rng.integers(len(dishes)))]
    others = [food for food in FOODS if food not in dish]
    distractors = [others[i] for i in rng.permutation(len(others))[: rng.integers(0, 3)]]
    foods = [*sorted(dish), *distractors]
    foods = [foods[i] for i in rng.permutation(len(foods))]
    boards = 2 if size == 2 else int(rng.integers(1, 3)) + (size == 3)  # more than one ingredient needs two boards
    name = f"overcooked_random/{split}/{f'{ingredients}-ingredient/' if ingredients else ''}{index}"
    while True:
        kitchen = _draw_layout(rng, name, tuple(foods), boards, frozenset(foods.index(f) for f in dish))
        if (
            kitchen is not None
            and _split_of(layout_hash(kitchen)) == split
            and layout_hash(kitchen) not in _map_a_layouts()
        ):
            return kitchen


def dishes_of(split: Split, size: int) -> list[Dish]:
    """Every dish of `size` ingredients that belongs to `split`, in a fixed order."""
    every = [frozenset(foods) for foods in combinations(sorted(FOODS), size)]
    return [d for d in every if d not in (TOMATO, TOMATO_LETTUCE) and _split_of("+".join(sorted(d))) == split]


def dish_of(kitchen: Kitchen) -> Dish:
    return frozenset(kitchen.foods[i] for i in kitchen.dish)


def layout_hash(kitchen: Kitchen) -> str:
    """A name for where everything is, whatever the foods are called."""
    homes = sorted(kitchen.food_homes)
    where = [sorted(kitchen.floor), kitchen.start, homes, kitchen.bowl_home, kitchen.boards, kitchen.delivery]
    return hashlib.sha256(json.dumps(where).encode()).hexdigest()


def _split_of(text: str) -> Split:
    """Six tenths to train, two to dev, two to test."""
    bucket = hashlib.sha256(f"kitchen split: {text}".encode()).digest()[0] * 10 // 256
    return "train" if bucket < 6 else "dev" if bucket < 8 else "test"


def _map_a_layouts() -> set[str]:
    return {layout_hash(overcooked_a(TOMATO)), layout_hash(overcooked_a(TOMATO_LETTUCE))}


def _draw_layout(
    rng: np.random.Generator, name: str, foods: tuple[str, ...], boards: int, dish: frozenset[int]
) -> Kitchen | None:
    """One attempt; None when the walls cut something off or there is no room for every station."""
    rows, cols = (int(n) for n in rng.integers(3, 7, size=2))
    floor = {(r, c) for r in range(1, rows + 1) for c in range(1, cols + 1)}
    for _ in range(rng.integers(0, 3)):  # each inner wall spans the room but for a gap
        if rng.random() < 0.5:
            column = int(rng.integers(2, cols))
            wall = [(r, column) for r in range(1, rows + 1)]
        else:
            row = int(rng.integers(2, rows))
            wall = [(row, c) for c in range(1, cols + 1)]
        gap = int(rng.integers(len(wall)))
        floor -= set(wall[:gap] + wall[gap + 1 :])
    rim: list[Cell] = [(r, c) for r in (0, rows + 1) for c in range(1, cols + 1)]
    rim += [(r, c) for c in (0, cols + 1) for r in range(1, rows + 1)]
    usable = [(r, c) for r, c in sorted(rim) if {(r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)} & floor]
    needed = len(foods) + boards + 2
    if len(usable) < needed:
        return None
    places = [usable[i] for i in rng.permutation(len(usable))[:needed]]
    cells = sorted(floor)
    try:
        return Kitchen(
            name,
            floor=frozenset(floor),
            start=cells[int(rng.integers(len(cells)))],
            foods=foods,
            food_homes=tuple(places[: len(foods)]),
            bowl_home=places[len(foods)],
            boards=tuple(places[len(foods) + 1 : -1]),
            delivery=places[-1],
            dish=dish,
        )
    except ValueError:  # a station that cannot be reached
        return None
