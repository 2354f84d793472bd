"""The kitchen: what a macro-action does to a kitchen, as a pure function of its state.

A kitchen is a grid with one cook. Foods are fetched, chopped on boards, gathered in the bowl and served. The cook
acts in macro-actions ("fetch the tomato"), each of which takes one or more primitive steps. Nothing here is random, and
states are small immutable tuples, so a kitchen can be enumerated, searched, and its transitions kept.

The rules agree with the text kitchen of TWOSOME (arXiv 2401.14151), which the recorded episodes checked by
`scripts/check_conformance.py` came from.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

Cell = tuple[int, int]  # (row, column)
Item = int  # a food's index, or Kitchen.bowl, or NOTHING

NOTHING: Item = -1
CHOPS = 3  # primitive chops that turn a raw food into a chopped one


class KitchenState(NamedTuple):
    """The place of each thing. A thing that is not named here lies at its home place, raw."""

    cell: Cell
    hand: Item
    boards: tuple[Item, ...]  # what lies on each board
    in_bowl: int  # bit i: food i is in the bowl (and chopped: the bowl takes nothing else)
    chopped: int  # bit i: food i is chopped
    served: bool = False  # the asked-for dish was served; nothing happens any more


class Effect(NamedTuple):
    """The effect of one macro-action."""

    state: KitchenState
    steps: int  # primitive steps taken, at least 1
    chopped: Item = NOTHING  # the food that became chopped, at the last step
    delivery: int = 0  # +1 the asked-for dish was served, -1 something else was, at the last step


@dataclass(frozen=True)
class Kitchen:
    """A layout and an order. Macro-actions are indices: each food, the bowl, each board, the delivery, chop.

    Cells outside `floor` cannot be entered. Every station and every item's home lies outside it, beside exactly one
    cell of it that is used to reach it (the first in reading order when there are several).
    """

    name: str
    floor: frozenset[Cell]
    start: Cell
    foods: tuple[str, ...]
    food_homes: tuple[Cell, ...]
    bowl_home: Cell
    boards: tuple[Cell, ...]
    delivery: Cell
    dish: frozenset[int]  # indices of the foods that the order asks for
    radius: int = 2  # the cook sees cells at most this far away in both directions
    _paths: dict[Cell, dict[Cell, int]] = field(default_factory=dict, repr=False, compare=False)
    _access: dict[Cell, Cell] = field(default_factory=dict, repr=False, compare=False)
    _effects: dict[tuple[KitchenState, int], Effect] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.foods) != len(self.food_homes):
            raise ValueError(f"{len(self.foods)} foods but {len(self.food_homes)} places for them")
        if not self.dish or not self.dish <= set(range(len(self.foods))):
            raise ValueError(f"the dish {sorted(self.dish)} is not made of the foods 0..{len(self.foods) - 1}")
        if not self.boards:
            raise ValueError("a kitchen needs at least one board")
        if self.start not in self.floor:
            raise ValueError(f"the cook starts at {self.start}, which is not floor")
        for place in (*self.food_homes, self.bowl_home, *self.boards, self.delivery):
            if self.start not in self.distances(self.access(place)):
                raise ValueError(f"{place} cannot be reached from {self.start}")

    @property
    def bowl(self) -> Item:
        return len(self.foods)

    @property
    def num_actions(self) -> int:
        return len(self.foods) + len(self.boards) + 3

    def initial(self) -> KitchenState:
        return KitchenState(self.start, NOTHING, (NOTHING,) * len(self.boards), 0, 0)

    def apply(self, state: KitchenState, action: int) -> Effect:
        """The effect of macro-action `action` in `state`; computed once per pair, then kept."""
        key = (state, action)
        effect = self._effects.get(key)
        if effect is None:
            effect = self._effects[key] = self._compute(state, action)
        return effect

    def _compute(self, state: KitchenState, action: int) -> Effect:
        if state.served:
            raise ValueError("the dish has been served: reset the kitchen")
        foods, boards = len(self.foods), len(self.boards)
        if action < foods:
            return self._get_food(state, action)
        if action == foods:
            return self._get_bowl(state)
        if action < foods + 1 + boards:
            return self._go_to_board(state, action - foods - 1)
        if action == foods + 1 + boards:
            return self._deliver(state)
        if action == foods + 2 + boards:
            return self._chop(state)
        raise ValueError(f"macro-action {action} is not one of 0..{self.num_actions - 1}")

    # ---- the five kinds of macro-action ---------------------------------------------------------------------------

    def _get_food(self, s: KitchenState, food: Item) -> Effect:
        bit, carried = 1 << food, s.hand == food
        if carried or (s.in_bowl & bit and s.hand == self.bowl):
            return Effect(s, 1)
        if s.in_bowl & bit:  # in the bowl on a board: the cook walks until it sees it, then idles once
            cell, moves = self._walk_until_seen(s.cell, self.place_of(s, food))
            return Effect(s._replace(cell=cell), moves + 1)
        place = self.place_of(s, food)
        at, dist = self._walk(s.cell, place)
        if food in s.boards and not s.chopped & bit:  # raw food on a board is approached, not picked up
            return Effect(s._replace(cell=at), max(1, dist))
        s = s._replace(cell=at)
        if s.hand == NOTHING:
            s = self._lift(s, food)._replace(hand=food)
        elif s.hand == self.bowl and s.chopped & bit:
            s = self._lift(s, food)._replace(in_bowl=s.in_bowl | bit)
        return Effect(s, dist + 1)

    def _get_bowl(self, s: KitchenState) -> Effect:
        if s.hand == self.bowl:
            return Effect(s, 1)
        at, dist = self._walk(s.cell, self.place_of(s, self.bowl))
        s = s._replace(cell=at)
        if s.hand == NOTHING:
            return Effect(self._lift(s, self.bowl)._replace(hand=self.bowl), dist + 1)
        if s.chopped >> s.hand & 1:  # the chopped food goes in, then the bowl is taken
            filled = self._lift(s, self.bowl)._replace(hand=self.bowl, in_bowl=s.in_bowl | 1 << s.hand)
            return Effect(filled, dist + 2)
        return Effect(s, dist + 1)

    def _go_to_board(self, s: KitchenState, board: int) -> Effect:
        at, dist = self._walk(s.cell, self.boards[board])
        s = s._replace(cell=at)
        if s.hand == NOTHING:
            return Effect(s, max(1, dist))
        lying = s.boards[board]
        if lying == NOTHING:
            boards = tuple(s.hand if b == board else item for b, item in enumerate(s.boards))
            s = s._replace(boards=boards, hand=NOTHING)
        elif s.hand == self.bowl and s.chopped >> lying & 1:  # chopped food goes into the bowl in hand
            s = self._lift(s, lying)._replace(in_bowl=s.in_bowl | 1 << lying)
        elif lying == self.bowl and s.chopped >> s.hand & 1:  # the filled bowl ends up in hand
            s = self._lift(s, self.bowl)._replace(hand=self.bowl, in_bowl=s.in_bowl | 1 << s.hand)
        return Effect(s, dist + 1)

    def _deliver(self, s: KitchenState) -> Effect:
        at, dist = self._walk(s.cell, self.delivery)
        s = s._replace(cell=at)
        if s.hand == NOTHING:
            return Effect(s, max(1, dist))
        wanted = sum(1 << food for food in self.dish)
        if s.hand == self.bowl and s.in_bowl == wanted:
            return Effect(s._replace(hand=NOTHING, served=True), dist + 1, delivery=1)
        returned = s.in_bowl if s.hand == self.bowl else 1 << s.hand  # everything goes back home, raw
        in_bowl = 0 if s.hand == self.bowl else s.in_bowl
        return Effect(s._replace(hand=NOTHING, in_bowl=in_bowl, chopped=s.chopped & ~returned), dist + 1, delivery=-1)

    def _chop(self, s: KitchenState) -> Effect:
        for board in self.boards_beside(s.cell):
            food = s.boards[board]
            if food not in (NOTHING, self.bowl) and not s.chopped >> food & 1:
                if s.hand != NOTHING:  # no free hand: the knife is never lifted, the time passes
                    return Effect(s, CHOPS)
                return Effect(s._replace(chopped=s.chopped | 1 << food), CHOPS, chopped=food)
        return Effect(s, 1)

    # ---- geometry -------------------------------------------------------------------------------------------------

    def place_of(self, s: KitchenState, item: Item) -> Cell:
        """The cell where an item is. Something carried is where the cook is; after serving, the dish is there."""
        if item == s.hand or (item != self.bowl and s.in_bowl >> item & 1 and s.hand == self.bowl):
            return s.cell
        if item in s.boards:
            return self.boards[s.boards.index(item)]
        if item != self.bowl and s.in_bowl >> item & 1:
            return self.delivery if s.served else self.place_of(s, self.bowl)
        if item == self.bowl:
            return self.delivery if s.served else self.bowl_home
        return self.food_homes[item]

    def sees(self, cell: Cell, place: Cell) -> bool:
        return abs(cell[0] - place[0]) <= self.radius and abs(cell[1] - place[1]) <= self.radius

    def boards_beside(self, cell: Cell) -> list[int]:
        return [b for b, (r, c) in enumerate(self.boards) if abs(cell[0] - r) + abs(cell[1] - c) == 1]

    def access(self, place: Cell) -> Cell:
        """The floor cell from which a station or home place is used."""
        cell = self._access.get(place)
        if cell is None:
            beside = sorted(n for n in _neighbours(place) if n in self.floor)
            if not beside:
                raise ValueError(f"no floor beside {place}")
            cell = self._access[place] = beside[0]
        return cell

    def distances(self, goal: Cell) -> dict[Cell, int]:
        """Steps from every cell to `goal` around the walls (Manhattan distance in an open room)."""
        table = self._paths.get(goal)
        if table is None:
            table, queue = {goal: 0}, deque([goal])
            while queue:
                cell = queue.popleft()
                for n in _neighbours(cell):
                    if n in self.floor and n not in table:
                        table[n] = table[cell] + 1
                        queue.append(n)
            self._paths[goal] = table
        return table

    def _walk(self, cell: Cell, place: Cell) -> tuple[Cell, int]:
        at = self.access(place)
        return at, self.distances(at)[cell]

    def _walk_until_seen(self, cell: Cell, place: Cell) -> tuple[Cell, int]:
        """Walk towards `place`, rows before columns, and stop as soon as it is in view."""
        table, moves = self.distances(self.access(place)), 0
        while not self.sees(cell, place) and table[cell] > 0:
            cell = next(n for n in _neighbours(cell) if table.get(n, table[cell]) < table[cell])
            moves += 1
        return cell, moves

    def _lift(self, s: KitchenState, item: Item) -> KitchenState:
        return s._replace(boards=tuple(NOTHING if lying == item else lying for lying in s.boards))


def _neighbours(cell: Cell) -> tuple[Cell, Cell, Cell, Cell]:
    """The four neighbours, those in another row first: paths change rows before columns."""
    r, c = cell
    return (r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)
