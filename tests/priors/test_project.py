from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrl.priors.project import project

KITCHEN = (
    "fetch the tomato",
    "take the empty bowl",
    "go to board 1",
    "go to board 10",
    "serve nothing",
    "chop nothing",
)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("go to board 1", "go to board 1"),
        (" Go  to\tBOARD 10.", "go to board 10"),
        ("“Take the empty bowl!”", "take the empty bowl"),
        ("`chop nothing`", "chop nothing"),
        ("\n\n  serve nothing\nchop nothing", "serve nothing"),
        ("I would fetch the tomato, since it is near.", "fetch the tomato"),
        ("fetch the tomato; fetch the tomato", "fetch the tomato"),
        ("first go to board 1, then board 2", "go to board 1"),
        ("go to board 100", None),
        ("forgo to board 1", None),
        ("serve nothing and chop nothing", "serve nothing"),  # the longer of the two
        ("fetch", None),
        ("fetch the\ntomato", None),
        ("something else", None),
        ("", None),
        (" \n\t\n", None),
        ("...!", None),
        ("GO TO BOARD 1\u2028chop nothing", "go to board 1"),
    ],
)
def test_kitchen(answer: str, expected: str | None):
    assert project(answer, KITCHEN) == (None if expected is None else KITCHEN.index(expected))


@pytest.mark.parametrize(
    ("answer", "actions", "expected"),
    [
        # A tie is none: two that are equally long, or that read alike.
        ("go left or go east", ("go left", "go east"), None),
        ("go left", ("Go left", "go  left."), None),
        ("I go left now", ("Go left", "go  left."), None),
        # What stands there word for word is no tie.
        ("go  left.", ("Go left", "go  left."), 1),
        ("...", ("...", "wait"), 0),
        ("GO LEFT and go right", ("go left", "go right"), 1),
        # The longest wins over what it holds, wherever it is.
        ("open the red door", ("open", "red door", "open the red door now"), 1),
        ("look; then go to cabinet 10", ("look", "go to cabinet 1", "go to cabinet 10"), 2),
        # What means something in a pattern means itself.
        ("use a.c", ("use abc", "use a.c"), 1),
        ("I use abc", ("use a.c", "use a?"), None),
        ("try x (y+z)* again", ("x (y+z)*", "x"), 0),
        ("press [", ("press [", "press ]"), 0),
        ("go to c++ shop", ("go to c", "go to c++ shop"), 1),
        # Letters of any script, composed or not.
        ("NIMM DAS GEFÄSS", ("nimm das gefäß",), 0),
        ("cafe\u0301 noir", ("caf\u00e9 noir",), 0),
        ("the cafe\u0301", ("the cafe",), None),
        ("拿起碗。", ("拿起碗", "放下碗"), 0),
        ("anything", (), None),
        ("anything", ("", "!"), None),
    ],
)
def test_edges(answer: str, actions: tuple[str, ...], expected: int | None):
    assert project(answer, actions) == expected


words = st.text(alphabet="abAB 10.*+(?", min_size=1, max_size=6)
menus = st.lists(words, max_size=5, unique=True).map(tuple)


@given(words, menus)
def test_an_answer_that_is_an_action_is_that_action(action: str, menu: tuple[str, ...]):
    action = action.strip()
    actions = (*(a for a in menu if a != action), action)
    if action:
        assert project(f"\n {action} \nanything", actions) == len(actions) - 1


@given(st.text(), menus)
def test_what_is_chosen_is_in_the_answer(answer: str, menu: tuple[str, ...]):
    def plain(text: str) -> str:
        return re.sub(r"\s+", " ", text.casefold())

    chosen = project(answer, menu)
    if chosen is not None:
        assert plain(menu[chosen]).strip(" .*(?") in plain(answer)


@given(st.lists(st.sampled_from(["go", "to", "red", "door", "one"]), max_size=8), st.permutations(range(5)))
def test_the_order_of_the_menu_does_not_matter(said: list[str], order: list[int]):
    menu = ["go to red door", "go", "red door", "door one", "one"]
    answer = " ".join(said)
    chosen = project(answer, menu)
    shuffled = project(answer, [menu[i] for i in order])
    assert (None if shuffled is None else order[shuffled]) == chosen


@given(st.text())
def test_any_text_is_an_answer(answer: str):
    assert project(answer, KITCHEN) in {None, *range(len(KITCHEN))}
    assert project(answer, (answer, *KITCHEN)) in {None, *range(len(KITCHEN) + 1)}


@given(st.text(alphabet="ab 1.", max_size=12), st.lists(st.text(alphabet="ab 1.", max_size=4), max_size=4))
def test_the_longest_whole_action_is_chosen_and_a_tie_is_none(answer: str, menu: list[str]):
    """Against the rule spelled out, word by word, for texts where that is easy to say."""
    words_said = re.sub(r"[.\s]+", " ", answer).strip()
    actions = [action for action in menu if not set(". ") & set(action)]
    chosen = project(words_said, actions)
    whole = [i for i, action in enumerate(actions) if action and action in words_said.split()]
    longest = [i for i in whole if len(actions[i]) == max(len(actions[j]) for j in whole)]
    first_exact = [i for i, action in enumerate(actions) if action and action == words_said]
    assert chosen == (first_exact[0] if first_exact else longest[0] if len(longest) == 1 else None)
