"""The texts of the lake, and the lake drawn in letters."""

from __future__ import annotations

from llmrl.envs.lake.lake import Lake

ACTIONS = ("go left", "go down", "go right", "go up")  # gymnasium's order
DIRECTIONS = ((0, -1), (1, 0), (0, 1), (-1, 0))  # (rows, columns) of each action
_THINGS = {"S": "ice", "F": "ice", "H": "a hole", "G": "the goal"}
_MARKS = {"S": ".", "F": ".", "H": "O", "G": "G"}
_YOU = "@"
_LEGEND = f"{_YOU} you, . ice, O hole, G goal"


def task(lake: Lake) -> str:
    text = f"Cross the frozen lake of {lake.size} rows and {lake.size} columns to the goal, and stay out of the holes."
    if lake.slippery:
        text += (
            " The ice is slippery: one step in three goes the chosen way, "
            "the others slip to one side of it or to the other."
        )
    return text


def observation(lake: Lake, cell: int, with_map: bool) -> str:
    """The walker's place, its neighbours and the goal's direction; `with_map`: the whole lake too."""
    row, column = divmod(cell, lake.size)
    place = f"row {row + 1}, column {column + 1}"
    if lake.cells[cell] == "G":
        sentences = f"You are at the goal, in {place}."
    elif lake.cells[cell] == "H":
        sentences = f"You are in a hole, in {place}."
    else:
        around = ", ".join(
            f"{action.removeprefix('go ')} is {_neighbour(lake, row + down, column + right)}"
            for action, (down, right) in zip(ACTIONS, DIRECTIONS, strict=True)
        )
        sentences = f"You stand in {place}. {around.capitalize()}. The goal is {_way(lake, row, column)}."
    return f"{sentences}\nThe lake ({_LEGEND}):\n{_map(lake, cell)}" if with_map else sentences


def drawing(lake: Lake, cell: int) -> str:
    return f"{_map(lake, cell)}\n\n{_LEGEND}"


def _neighbour(lake: Lake, row: int, column: int) -> str:
    inside = 0 <= row < lake.size and 0 <= column < lake.size
    return _THINGS[lake.rows[row][column]] if inside else "the edge"


def _way(lake: Lake, row: int, column: int) -> str:
    """The direction of the goal, e.g. "2 rows down and 1 column right"."""
    goal_row, goal_column = divmod(lake.goal, lake.size)
    parts = [
        _count(abs(goal_row - row), "row", "down" if goal_row > row else "up"),
        _count(abs(goal_column - column), "column", "right" if goal_column > column else "left"),
    ]
    return " and ".join(part for part in parts if part)


def _count(number: int, noun: str, where: str) -> str:
    return f"{number} {noun}{'s' * (number > 1)} {where}" if number else ""


def _map(lake: Lake, cell: int) -> str:
    marks = [_MARKS[letter] for letter in lake.cells]
    marks[cell] = _YOU
    return "\n".join(" ".join(marks[first : first + lake.size]) for first in range(0, len(marks), lake.size))
