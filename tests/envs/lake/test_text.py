from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from llmrl.envs.lake import text
from llmrl.envs.lake.lake import Lake, random_lake

LAKES = st.builds(random_lake, st.integers(2, 9), st.integers(0, 10_000), st.booleans())
MOVES = {"left": (0, -1), "down": (1, 0), "right": (0, 1), "up": (-1, 0)}


@given(LAKES, st.data())
def test_texts_say_what_is_there(lake: Lake, data: st.DataObject):
    cell = data.draw(st.integers(0, lake.size**2 - 1))
    row, column = divmod(cell, lake.size)
    words = text.observation(lake, cell, with_map=False)
    assert f"row {row + 1}, column {column + 1}." in words
    if lake.rows[row][column] == "H":
        assert words.startswith("You are in a hole")
    elif lake.rows[row][column] == "G":
        assert words.startswith("You are at the goal")
    else:
        said = re.findall(r"(left|down|right|up) is (ice|a hole|the goal|the edge)", words.lower())
        assert [direction for direction, _ in said] == list(MOVES)
        for direction, thing in said:
            r, c = row + MOVES[direction][0], column + MOVES[direction][1]
            inside = 0 <= r < lake.size and 0 <= c < lake.size
            letter = lake.rows[r][c] if inside else "outside"
            assert thing == {"S": "ice", "F": "ice", "H": "a hole", "G": "the goal", "outside": "the edge"}[letter]


@given(LAKES, st.data())
def test_following_the_goal_s_direction_leads_to_it(lake: Lake, data: st.DataObject):
    cell = data.draw(st.sampled_from([i for i, letter in enumerate(lake.cells) if letter in "SF"]))
    row, column = divmod(cell, lake.size)
    _, _, way = text.observation(lake, cell, with_map=False).partition("The goal is ")
    for number, noun, direction in re.findall(r"(\d+) (rows?|columns?) (\w+)", way):
        assert noun.endswith("s") == (int(number) > 1)
        row += int(number) * MOVES[direction][0]
        column += int(number) * MOVES[direction][1]
    assert lake.rows[row][column] == "G"


@given(LAKES, st.data())
def test_the_map_is_the_lake(lake: Lake, data: st.DataObject):
    cell = data.draw(st.integers(0, lake.size**2 - 1))
    shown = text.observation(lake, cell, with_map=True)
    assert shown.startswith(text.observation(lake, cell, with_map=False) + "\n")
    drawn = "\n".join(shown.splitlines()[-lake.size :])
    assert drawn in text.drawing(lake, cell)
    marks = drawn.split()
    assert marks.pop(cell) == "@"
    letters = lake.cells[:cell] + lake.cells[cell + 1 :]
    assert marks == [{"S": ".", "F": ".", "H": "O", "G": "G"}[letter] for letter in letters]


@given(LAKES)
def test_the_task_tells_of_slippery_ice(lake: Lake):
    assert ("slippery" in text.task(lake)) == lake.slippery
    assert f"{lake.size} rows" in text.task(lake)


def test_cells_of_one_lake_read_differently():
    for lake in (random_lake(8, 0, False), random_lake(4, 0, False)):
        assert len({text.observation(lake, cell, with_map=False) for cell in range(lake.size**2)}) == lake.size**2
