"""A frozen lake: its map, and gymnasium's table of what a step may do there."""

from __future__ import annotations

from collections.abc import Sequence

from gymnasium.envs.toy_text.frozen_lake import MAPS, FrozenLakeEnv, generate_random_map

ICE_SHARE = 0.8  # of the cells of a generated lake, as gymnasium's own default


class Lake:
    """A square map and its rules, those of gymnasium's FrozenLake-v1. A cell is numbered `row * size + column`."""

    def __init__(self, name: str, rows: Sequence[str], slippery: bool) -> None:
        """`rows`: the map from above, one letter a cell: Start, Frozen, Hole, Goal."""
        self.name, self.rows, self.slippery = name, tuple(rows), slippery
        self.size = len(self.rows)
        self.table: dict[int, dict[int, list[tuple[float, int, float, bool]]]] = FrozenLakeEnv(
            desc=list(rows), is_slippery=slippery
        ).P  # cell -> action -> what may come of it: (probability, cell, reward, terminated)
        self.cells = "".join(self.rows)
        self.start, self.goal = self.cells.index("S"), self.cells.index("G")


def standard_lake(size: int, slippery: bool) -> Lake:
    """gymnasium's own map. Raises ValueError when it has none of that size."""
    name = f"{size}x{size}"
    if name not in MAPS:
        raise ValueError(f"size={size}: the standard lakes are {', '.join(MAPS)}; for another size use layout=random")
    return Lake(f"frozen_lake/{name}", MAPS[name], slippery)


def random_lake(size: int, index: int, slippery: bool) -> Lake:
    """gymnasium's generated map of seed `index`; there is always a way to the goal.

    Small lakes repeat: two indices may give the same map. Raises ValueError when `size` is below 2 or `index` negative.
    """
    if size < 2:
        raise ValueError(f"size={size}: a lake has at least 2 rows, for the start and the goal")
    if index < 0:
        raise ValueError(f"index={index}: lakes are numbered from 0")
    return Lake(f"frozen_lake/random/{size}x{size}/{index}", generate_random_map(size, ICE_SHARE, index), slippery)
