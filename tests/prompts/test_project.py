from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrl.prompts.project import project, project_last

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
        ("serve nothing and chop nothing", None),
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
    assert project(answer, KITCHEN).action == (None if expected is None else KITCHEN.index(expected))


@pytest.mark.parametrize(
    ("answer", "actions", "expected"),
    [
        # Two actions that stand apart, or that read alike, are none.
        ("go left or go east", ("go left", "go east"), None),
        ("go left", ("Go left", "go  left."), None),
        ("I go left now", ("Go left", "go  left."), None),
        # What stands there word for word is no tie.
        ("go  left.", ("Go left", "go  left."), 1),
        ("...", ("...", "wait"), 0),
        ("GO LEFT and go right", ("go left", "go right"), None),
        # The longest wins over what it holds, wherever it is.
        ("open the red door", ("open", "open the red door", "open the red door now"), 1),
        ("I open the red door", ("open", "red door", "open the red door"), 2),
        ("I go to cabinet 10", ("cabinet 10", "go to cabinet 1", "go to cabinet 10"), 2),
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
    assert project(answer, actions).action == expected


DESKS = ("go to desk 1", "take mug 1 from desk 1", "desk 1")
TURNS = ("left", "right", "go left", "go right")


@pytest.mark.parametrize(
    ("answer", "actions"),
    [
        ("left or right", TURNS),
        ("go to desk 1 and take mug 1 from desk 1", DESKS),
        ("go left, left", TURNS),  # the shorter stands apart, too
        ("open the red door", ("open the red", "red door")),  # neither lies inside the other
        ("not left but right", TURNS),
        ("Do not go left, go right.", TURNS),
        ("go left", ("Go left", "go  left.")),
        ("I go left now", ("Go left", "go  left.")),
    ],
)
def test_two_actions_that_stand_apart_are_ambiguous(answer: str, actions: tuple[str, ...]):
    assert project(answer, actions) == (None, "ambiguous")


@pytest.mark.parametrize("answer", ["go left, yes: go left", "Go left! GO LEFT", "go to the left: go left"])
def test_the_same_action_twice_is_that_one(answer: str):
    assert project(answer, ("go left", "go right")) == (0, "named")


@pytest.mark.parametrize(
    "answer",
    [
        "I should never go left", "not go left", "Do not go left.", "don't go left", "don\u2019t go left",
        "dont go left", "You cannot go left", "can not go left", "I can't go left", "I wouldn't go left",
        "avoid go left", "by avoiding go left", "without go left", "instead of go left", "look rather than go left",
        "neither go left", "no go left", "no-go left", 'There is no "go left"', "NEVER go left",
        "not only go left",  # conservative
        "I must not, under any circumstances, go left", "Do not do this: go left", "no, never go left",
        "go left, no, do not go left", "not so go left", "I refuse to go left", "refusing to go left",
        "It is impossible to go left", "I am unable to go left", "no way will I go left",
    ],
)  # fmt: skip
def test_a_negated_action_is_none(answer: str):
    assert project(answer, ("go left", "go right")) == (None, "negated")


@pytest.mark.parametrize(
    "answer",
    [
        "no, go left", "No. go left", "No! Go left!", "no: go left", "no - go left", "No \u2014 go left",
        "no... go left", "No problem, go left", "no key here - go left",
        "I do not know. Maybe go left", "Why not? go left", "I can't wait; go left",
        "I'm not sure, but I go left", "There is no mug here, so I go left", "nothing is here, go left",
        "knot: go left", "I want to go left",
        "go left, do not wait",  # what follows does not count
        "go left is not wrong",
    ],
)  # fmt: skip
def test_a_negation_of_something_else_is_none_of_the_action(answer: str):
    assert project(answer, ("go left", "go right")) == (0, "named")


@pytest.mark.parametrize("answer", ["do not enter", "Do not enter!", "I do not enter: do not enter", "so do not enter"])
def test_an_actions_own_negation_negates_nothing(answer: str):
    assert project(answer, ("enter", "do not enter")) == (1, "named")


words = st.text(alphabet="abAB 10.*+(?", min_size=1, max_size=6)
menus = st.lists(words, max_size=5, unique=True).map(tuple)


@given(words, menus)
def test_an_answer_that_is_an_action_is_that_action(action: str, menu: tuple[str, ...]):
    action = action.strip()
    actions = (*(a for a in menu if a != action), action)
    if action:
        assert project(f"\n {action} \nanything", actions) == (len(actions) - 1, "named")


@given(st.text(), menus)
def test_what_is_chosen_is_in_the_answer(answer: str, menu: tuple[str, ...]):
    def plain(text: str) -> str:
        return re.sub(r"\s+", " ", text.casefold())

    chosen = project(answer, menu).action
    if chosen is not None:
        assert plain(menu[chosen]).strip(" .*(?") in plain(answer)


@given(st.lists(st.sampled_from(["go", "to", "red", "door", "one"]), max_size=8), st.permutations(range(5)))
def test_the_order_of_the_menu_does_not_matter(said: list[str], order: list[int]):
    menu = ["go to red door", "go", "red door", "door one", "one"]
    answer = " ".join(said)
    chosen = project(answer, menu)
    shuffled = project(answer, [menu[i] for i in order])
    assert shuffled.how == chosen.how
    assert (None if shuffled.action is None else order[shuffled.action]) == chosen.action


@given(st.text())
def test_any_text_is_an_answer(answer: str):
    for menu in (KITCHEN, (answer, *KITCHEN)):
        action, how = project(answer, menu)
        assert (how == "named") == (action in range(len(menu)))
        assert (how != "named") == (action is None)


NESTED = ("go", "go left", "left", "do not go", "go left now")


@given(st.lists(st.sampled_from(["go", "left", "now", "do", "not", "never", "well,"]), min_size=1, max_size=8))
def test_against_the_rule_spelled_out_word_by_word(said: list[str]):
    """For texts without the marks that end a clause, where whole words are list items."""
    plain = [word.strip(",") for word in said]
    spans = {
        (start, start + len(text.split())): text
        for text in NESTED
        for start in range(len(plain))
        if plain[start : start + len(text.split())] == text.split()
    }
    outer = [(s, e) for s, e in spans if not any(a <= s and e <= b and (a, b) != (s, e) for a, b in spans)]
    named = {spans[span] for span in outer}
    inside = {i for s, e in outer for i in range(s, e)}
    negations = [i for i, word in enumerate(plain) if word in ("not", "never") and i not in inside]
    answer = " ".join(said)
    if answer.strip(",") in NESTED:
        expected = (NESTED.index(answer.strip(",")), "named")
    elif len(named) != 1:
        expected = (None, "ambiguous" if named else "nothing")
    elif any(i < start for start, _ in outer for i in negations):
        expected = (None, "negated")
    else:
        expected = (NESTED.index(named.pop()), "named")
    assert project(answer, NESTED) == expected


turns = st.sampled_from(["go left", "go right"])
fillers = st.lists(st.sampled_from(["I", "think", "that", "maybe", "is", "wrong", "the", "door"]), max_size=4).map(
    " ".join
)


@given(fillers, turns, fillers, turns, fillers)
def test_two_mentions_apart_are_named_only_where_they_are_one(a: str, one: str, b: str, other: str, c: str):
    menu = ("go left", "go right")
    found = project(f"{a} {one} {b} {other} {c}", menu)
    assert found == ((menu.index(one), "named") if one == other else (None, "ambiguous"))


@given(st.sampled_from(["not", "never", "don't", "cannot", "avoid", "no"]), fillers, turns, fillers)
def test_a_negation_counts_until_its_clause_ends(negation: str, between: str, action: str, after: str):
    menu = ("go left", "go right")
    assert project(f"{negation} {between} {action} {after}", menu) == (None, "negated")
    for end in (". ", "! ", "? ", "; ", " but ", ", so "):
        assert project(f"{negation} {between}{end}{action} {after}", menu) == (menu.index(action), "named")


@pytest.mark.parametrize(
    ("answer", "menu", "index", "how"),
    [
        ("first go left, then GO RIGHT, then go right", ("go left", "go right", "wait"), 1, "named"),
        ("go right or go left", ("go left", "go right", "wait"), 1, "named"),  # as often: the last on the menu
        ("go left\nwait", ("go left", "go right", "wait"), 2, "named"),  # all lines count
        ("open cabinet 10", ("open cabinet 1", "open cabinet 10"), 1, "named"),
        ("open cabinet 10", ("open cabinet 10", "open cabinet 1"), 1, "named"),  # inside a longer one, too
        ("no idea", ("go left", "go right"), 1, "nothing"),
        ("", ("go left",), 0, "nothing"),
    ],
)
def test_the_last_match_is_the_released_codes(answer: str, menu: tuple[str, ...], index: int, how: str) -> None:
    assert project_last(answer, menu) == (index, how)
    assert project_last(answer, menu).failed == (how == "nothing")


@given(st.text("ab ", max_size=12), st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=4))
def test_the_last_match_is_held_most_often_and_nothing_behind_it_as_often(answer: str, menu: list[str]) -> None:
    found = project_last(answer, menu).action
    assert found is not None
    counts = [answer.count(action) for action in menu]
    assert counts[found] == max(counts)
    assert all(count < counts[found] for count in counts[found + 1 :])
