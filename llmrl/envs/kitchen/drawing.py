"""A drawing of the kitchen for people, in plain text. The cook's own view is `text`."""

from __future__ import annotations

from llmrl.envs.kitchen.world import NOTHING, Cell, Item, Kitchen, KitchenState

MAX_WIDTH = 80
COUNTER, COOK, IN_VIEW = "░", "@", "·"


def draw(kitchen: Kitchen, s: KitchenState) -> str:
    """The map from above, what lies where, and a legend; at most 80 characters wide."""
    rows, cols = zip(*kitchen.floor, strict=True)
    top, bottom, left, right = min(rows) - 1, max(rows) + 1, min(cols) - 1, max(cols) + 1
    width = min(10, MAX_WIDTH // (right - left + 1))
    labels = _labels(kitchen, s)

    def cell(place: Cell) -> str:
        if place == s.cell:
            return f"{COOK if s.hand == NOTHING else f'{COOK} {_thing(kitchen, s, s.hand)}'[:width]:^{width}}"
        if place in kitchen.floor:
            return f"{IN_VIEW if kitchen.sees(s.cell, place) else ' ':^{width}}"
        label = labels.get(place, "")[:width]
        padded = f" {label} " if label and len(label) + 2 <= width else label
        return f"{padded:{COUNTER}^{width}}"

    lines = ["".join(cell((r, c)) for c in range(left, right + 1)) for r in range(top, bottom + 1)]
    facts = {"in hand": _thing(kitchen, s, s.hand)}
    facts |= {_board(kitchen, b): _thing(kitchen, s, item) for b, item in enumerate(s.boards)}
    facts["in the bowl"] = ", ".join(_inside(kitchen, s)) or "nothing"
    if s.served:
        facts["served"] = "the dish, as ordered"
    name_width = max(map(len, facts))
    lines += ["", *(f"  {name:<{name_width}}  {what}" for name, what in facts.items())]
    lines += ["", f"  {COOK} you   {IN_VIEW} floor in view   {COUNTER} counter or wall   * chopped"]
    return "\n".join(lines)


def _labels(kitchen: Kitchen, s: KitchenState) -> dict[Cell, str]:
    """The labels of the counter: stations always, items while they lie there."""
    labels = {kitchen.delivery: "serve"}
    for i, (name, home) in enumerate(zip(kitchen.foods, kitchen.food_homes, strict=True)):
        if kitchen.place_of(s, i) == home:
            labels[home] = name
    if kitchen.place_of(s, kitchen.bowl) == kitchen.bowl_home:
        labels[kitchen.bowl_home] = "bowl"
    for b, (place, item) in enumerate(zip(kitchen.boards, s.boards, strict=True)):
        number = f"{b + 1} " if len(kitchen.boards) > 1 else ""
        labels[place] = _board(kitchen, b) if item == NOTHING else number + _thing(kitchen, s, item)
    return labels


def _thing(kitchen: Kitchen, s: KitchenState, item: Item) -> str:
    if item == NOTHING:
        return "nothing"
    if item == kitchen.bowl:
        return "bowl"
    return kitchen.foods[item] + "*" * (s.chopped >> item & 1)


def _inside(kitchen: Kitchen, s: KitchenState) -> list[str]:
    return [_thing(kitchen, s, i) for i in range(len(kitchen.foods)) if s.in_bowl >> i & 1]


def _board(kitchen: Kitchen, board: int) -> str:
    return f"board {board + 1}" if len(kitchen.boards) > 1 else "board"
