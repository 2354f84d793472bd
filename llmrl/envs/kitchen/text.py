"""The texts of a kitchen: the observation and the menu of macro-actions, as functions of what the cook can see.

The texts carry the same information as the original's, which the recorded episodes check. The words are our own. No
cell is ever named: two cells from which the same things look the same share a text.
"""

from __future__ import annotations

from llmrl.envs.kitchen.world import NOTHING, Item, Kitchen, KitchenState


def task(kitchen: Kitchen) -> str:
    """The order, e.g. "Cook and serve: tomato and lettuce salad." """
    return f"Cook and serve: {_join([kitchen.foods[i] for i in sorted(kitchen.dish)])} salad."


def observation(kitchen: Kitchen, s: KitchenState) -> str:
    sentences = [f"You hold {_thing(kitchen, s, s.hand)}."]
    in_view = [
        f"{_article(name)} {name}"
        for i, name in enumerate(kitchen.foods)
        if kitchen.place_of(s, i) == kitchen.food_homes[i] and kitchen.sees(s.cell, kitchen.food_homes[i])
    ]
    if kitchen.place_of(s, kitchen.bowl) == kitchen.bowl_home and kitchen.sees(s.cell, kitchen.bowl_home):
        in_view.append("the bowl")
    if in_view:
        sentences.append(f"You see {_join(in_view)}.")
    for b, place in enumerate(kitchen.boards):
        if kitchen.sees(s.cell, place):
            lying = s.boards[b]
            what = "is free" if lying == NOTHING else f"has {_thing(kitchen, s, lying)}"
            sentences.append(f"{_board(kitchen, b).capitalize()} {what}.")
    beside = kitchen.boards_beside(s.cell)
    if beside:
        sentences.append(f"You stand at {_join([_board(kitchen, b) for b in beside])}.")
    return " ".join(sentences)


def menu(kitchen: Kitchen, s: KitchenState) -> tuple[str, ...]:
    """One text per macro-action, in the order of `Kitchen.apply`; the words follow what is in hand and in view."""
    bowl_in_hand, hands_full = s.hand == kitchen.bowl, s.hand != NOTHING
    food = "add {0} to the bowl" if bowl_in_hand else "fetch {0}"
    texts = [food.format(f"the {name}") for name in kitchen.foods]
    texts.append(f"take the {'filled' if _sees_filled_bowl(kitchen, s) else 'empty'} bowl")
    puts_down = bowl_in_hand or (hands_full and not s.chopped >> s.hand & 1)  # chopped food: "go to" stays
    for b in range(len(kitchen.boards)):
        name = _board(kitchen, b)
        carried = "the bowl" if bowl_in_hand else f"the {kitchen.foods[s.hand]}" if puts_down else ""
        texts.append(f"put {carried} on {name}" if puts_down else f"go to {name}")
    texts.append("serve the dish" if hands_full else "serve nothing")
    texts.append(f"chop {_choppable(kitchen, s)}")
    return tuple(texts)


def _sees_filled_bowl(kitchen: Kitchen, s: KitchenState) -> bool:
    """Single-ingredient orders never rename the bowl, and a served dish is not mentioned."""
    visible = kitchen.sees(s.cell, kitchen.place_of(s, kitchen.bowl))
    return len(kitchen.dish) > 1 and s.in_bowl != 0 and visible and not s.served


def _choppable(kitchen: Kitchen, s: KitchenState) -> str:
    for b in kitchen.boards_beside(s.cell):
        if s.boards[b] not in (NOTHING, kitchen.bowl):
            return f"the {kitchen.foods[s.boards[b]]}"
    return "nothing"


def _thing(kitchen: Kitchen, s: KitchenState, item: Item) -> str:
    if item == NOTHING:
        return "nothing"
    if item == kitchen.bowl:
        inside = [name for i, name in enumerate(kitchen.foods) if s.in_bowl >> i & 1]
        return f"the bowl with {_join(inside)}" if inside else "the empty bowl"
    name = kitchen.foods[item]
    return f"chopped {name}" if s.chopped >> item & 1 else f"a raw {name}"


def _board(kitchen: Kitchen, board: int) -> str:
    return f"board {board + 1}" if len(kitchen.boards) > 1 else "the board"


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
