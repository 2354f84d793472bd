"""The expert of a kitchen: every macro-action on a shortest way, in decisions, from any state to the dish served.

Two states are alike when the way to the goal is the same for both. Foods that the order asks for are interchangeable,
and so are the others. The cook's place matters only while its hands are empty: full hands cannot chop, and the actions
that empty them happen at a fixed place. Distances are kept per class of alike states: five foods and three boards make
80,000 states, but 4,000 classes. They are found by A*, class by class as they are asked for. Each search sharpens the
bounds of the next (Adaptive A*, Koenig and Likhachev, AAMAS 2005).
"""

from __future__ import annotations

import heapq
from collections import deque
from functools import lru_cache
from typing import Any

from llmrl.envs.kitchen.world import NOTHING, Item, Kitchen, KitchenState


def expert_actions(kitchen: Kitchen, state: KitchenState) -> frozenset[int]:
    """The macro-actions that begin a shortest way to success; empty when served, or when no way is left."""
    decisions = distance(kitchen, state)
    if not decisions:
        return frozenset()
    search = _search_of(kitchen)
    return frozenset(
        action
        for action in range(kitchen.num_actions)
        if search.distance(kitchen.apply(state, action).state, at_most=decisions - 1) == decisions - 1
    )


def distance(kitchen: Kitchen, state: KitchenState) -> int | None:
    """The fewest decisions from `state` to the dish served (0 when it is); None when there is no way."""
    return _search_of(kitchen).distance(state)


def enumerate_states(kitchen: Kitchen) -> list[KitchenState]:
    """Every state that can be reached, the initial one first: 1,161 for salad, 80,000 for the largest kitchens."""
    states, queue = {kitchen.initial(): None}, deque([kitchen.initial()])
    while queue:
        state = queue.popleft()
        if not state.served:
            for action in range(kitchen.num_actions):
                successor = kitchen.apply(state, action).state
                if successor not in states:
                    states[successor] = None
                    queue.append(successor)
    return list(states)


_Class = tuple[Any, ...]  # a hashable name for all states that are alike
_SERVED: _Class = ("served",)


class _Search:
    """The distances and bounds found so far in one kitchen."""

    def __init__(self, kitchen: Kitchen) -> None:
        self._kitchen = kitchen
        self._exact: dict[_Class, int | None] = {_SERVED: 0}  # None: no way
        self._bound: dict[_Class, int] = {}  # at most the distance
        self._successors: dict[_Class, dict[_Class, KitchenState]] = {}

    def distance(self, state: KitchenState, at_most: int | None = None) -> int | None:
        """The distance of `state`; with `at_most`, None also when it is more than that."""
        start = _class_of(self._kitchen, state)
        if start not in self._exact:
            if at_most is not None and self._bound_of(start, state) > at_most:
                return None
            self._search(start, state, at_most)
        decisions = self._exact.get(start)
        return None if decisions is None or (at_most is not None and decisions > at_most) else decisions

    def _search(self, start: _Class, state: KitchenState, at_most: int | None) -> None:
        """A* from `start`: afterwards its distance is known, or its bound is above `at_most`."""
        came_from: dict[_Class, _Class] = {}
        spent = {start: 0}
        closed: set[_Class] = set()
        heap = [(self._bound_of(start, state), 0, start, state)]
        pushed = 0  # orders equal entries, latest first: the search goes deep before it goes wide
        while heap:
            total, _, node, at = heapq.heappop(heap)
            if at_most is not None and total > at_most:
                self._sharpen(closed, spent, at_most + 1)
                return
            if node in self._exact:
                self._sharpen(closed, spent, total)
                while node != start:
                    node = came_from[node]
                    self._exact[node] = total - spent[node]
                return
            if node in closed:
                continue
            closed.add(node)
            for successor, reached in self._successors_of(node, at).items():
                left = self._exact[successor] if successor in self._exact else self._bound_of(successor, reached)
                if left is not None and (successor not in spent or spent[node] + 1 < spent[successor]):
                    spent[successor], came_from[successor] = spent[node] + 1, node
                    pushed -= 1
                    heapq.heappush(heap, (spent[successor] + left, pushed, successor, reached))
        self._exact.update(dict.fromkeys(closed))

    def _sharpen(self, closed: set[_Class], spent: dict[_Class, int], total: int) -> None:
        """Sharpens bounds: an expanded state lies at least `total` minus the way to it from the goal."""
        for node in closed:
            self._bound[node] = max(self._bound[node], total - spent[node])

    def _bound_of(self, node: _Class, state: KitchenState) -> int:
        bound = self._bound.get(node)
        if bound is None:
            bound = self._bound[node] = lower_bound(self._kitchen, state)
        return bound

    def _successors_of(self, node: _Class, state: KitchenState) -> dict[_Class, KitchenState]:
        """The classes one decision away, each with a state that stands for it."""
        successors = self._successors.get(node)
        if successors is None:
            successors = {}
            for action in range(self._kitchen.num_actions):
                reached = self._kitchen.apply(state, action).state
                successors.setdefault(_class_of(self._kitchen, reached), reached)
            successors.pop(node, None)
            self._successors[node] = successors
        return successors


@lru_cache(maxsize=256)
def _search_of(kitchen: Kitchen) -> _Search:
    return _Search(kitchen)


def _class_of(kitchen: Kitchen, s: KitchenState) -> _Class:
    if s.served:
        return _SERVED
    wanted = sum(s.in_bowl >> food & 1 for food in kitchen.dish)
    return (
        s.cell if s.hand == NOTHING else None,
        _kind(kitchen, s, s.hand),
        *[_kind(kitchen, s, item) for item in s.boards],
        wanted,
        s.in_bowl.bit_count() - wanted,
    )


def _kind(kitchen: Kitchen, s: KitchenState, item: Item) -> str:
    if item == NOTHING:
        return ""
    if item == kitchen.bowl:
        return "bowl"
    return ("wanted" if item in kitchen.dish else "other") + ("-chopped" if s.chopped >> item & 1 else "")


def lower_bound(kitchen: Kitchen, s: KitchenState) -> int:
    """Decisions that cannot be saved; one decision lowers it by one at most, so A* may trust it.

    Each ingredient needs what is left of fetching, putting on a board, chopping and gathering; the bowl has to be in
    hand at the end, but out of it while there is something to chop; and the dish has to be served.
    """
    if s.served:
        return 0
    spoiled = any(s.in_bowl >> food & 1 for food in range(len(kitchen.foods)) if food not in kitchen.dish)
    raw_left, decisions = False, 1
    for food in kitchen.dish:
        gathered, chopped = s.in_bowl >> food & 1, s.chopped >> food & 1
        if gathered and not spoiled:
            continue
        if chopped and not gathered:
            decisions += 1
            continue
        raw_left = True
        decisions += 2 if food in s.boards else 3 if food == s.hand else 4  # a spoiled bowl's foods return home
    put_down = raw_left or spoiled
    if s.hand == kitchen.bowl:
        return decisions + 2 * put_down
    if s.hand == NOTHING:
        decisions += 1
    elif s.hand not in kitchen.dish:  # away with it, which a spoiled bowl can serve for
        decisions += 1 if spoiled and s.chopped >> s.hand & 1 else 2
    else:
        decisions += 2 * put_down if s.chopped >> s.hand & 1 else 1
    return decisions + 2 * spoiled
