"""What counts as the same shape, and the shares that are printed."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrl.config.compose import compose
from llmrl.envs.household.expert import Expert
from llmrl.envs.household.game import Game
from llmrl.envs.household.generate import Asked, random_game
from llmrl.envs.household.home import Home
from llmrl.envs.household.text import Words
from llmrl.envs.household.text import task as instruction
from llmrl.envs.household.types import OBJECTS, RECEPTACLES
from llmrl.envs.kitchen import text
from llmrl.envs.kitchen.expert import distance, expert_actions
from llmrl.envs.kitchen.layouts import FOODS, TOMATO, TOMATO_LETTUCE, overcooked_a
from llmrl.envs.kitchen.world import Kitchen
from llmrl.prompts.prompt import Prompt
from scripts.tiny import overlap as overlap_module
from scripts.tiny.corpus import CorpusConfig, Example, examples
from scripts.tiny.homes import HomesConfig
from scripts.tiny.overlap import (
    BARE,
    HOMES,
    KITCHENS,
    SPLITS,
    TASKS,
    N,
    Seen,
    here,
    home_overlap,
    homes_table,
    on_the_way,
    on_the_way_home,
    overlap,
    reachable,
)

SALAD = overcooked_a(TOMATO_LETTUCE)
slotted, ngrams = KITCHENS.slotted, KITCHENS.ngrams


def told(kitchen: Kitchen, renamed: dict[str, str] | None = None) -> list[Example]:
    """Every decision on a shortest way, by an author who makes no mistakes, in bare words; foods perhaps renamed."""
    found = []
    for state in on_the_way(kitchen):
        menu = text.menu(kitchen, state)
        for action in sorted(expert_actions(kitchen, state)):
            prompt, answer = f"{text.task(kitchen)}\n{text.observation(kitchen, state)}\n", menu[action]
            for old, new in (renamed or {}).items():
                prompt, answer = prompt.replace(old, new), answer.replace(old, new)
            found.append(Example(prompt, answer))
    return found


def test_foods_become_slots_in_order_of_appearance_over_all_texts() -> None:
    slots = slotted("Serve: beet and apple salad.", "You see an onion and a beet.", "fetch the apple")
    assert slots == ("Serve: <1> and <2> salad.", "You see a <3> and a <1>.", "fetch the <2>")


def test_only_whole_names_are_foods_and_only_their_articles_change() -> None:
    assert slotted("an old beetroot and an apple") == ("an old beetroot and a <1>",)


@given(st.permutations(FOODS), st.permutations(FOODS))
def test_names_leave_no_trace(one: list[str], other: list[str]) -> None:
    def tell(foods: list[str]) -> tuple[str, ...]:
        return slotted(f"You see {'an' if foods[0][0] in 'aeiou' else 'a'} {foods[0]}.", f"{foods[1]}, {foods[0]}")

    assert tell(one) == tell(other) == ("You see a <1>.", "<2>, <1>")


def test_ngrams_number_their_slots_anew() -> None:
    grams = list(ngrams("a beet and an apple.", 3))
    assert grams == [("a", "<1>", "and"), ("<1>", "and", "a"), ("and", "a", "<1>"), ("a", "<1>", ".")]
    assert list(ngrams("a beet", 3)) == []


def test_a_world_overlaps_itself_in_full_under_other_names() -> None:
    for renamed in ({}, {"tomato": "carrot", "lettuce": "radish", "onion": "beet"}):
        seen = Seen.read(told(SALAD, renamed))
        shares = overlap(SALAD, on_the_way(SALAD), seen)
        assert {name: share for name, share in shares.items() if name != "lookup"} == pytest.approx(
            {"pair": 1.0, "+task": 1.0, **{f"n={n}": 1.0 for n in N}}
        )


def test_a_world_overlaps_a_corpus_without_observations_in_nothing() -> None:
    shares = overlap(SALAD, on_the_way(SALAD), Seen.read([Example("", "How to make beet salad: ...")]))
    assert set(shares.values()) == {0.0}


def test_pairs_are_counted_one_by_one() -> None:
    tomato = overcooked_a(TOMATO)
    everything = told(tomato)
    assert len({(e.prompt, e.answer) for e in everything}) == len(everything)
    shares = overlap(tomato, on_the_way(tomato), Seen.read(everything[1:]))
    assert shares["pair"] == shares["+task"] == pytest.approx(1 - 1 / len(everything))


def test_the_order_belongs_to_a_pair_only_where_it_is_asked_for() -> None:
    seen = Seen.read([Example("Cook and serve: beet salad.\nYou see a beet.\n", "fetch the beet")])
    assert slotted("You see an onion.", "fetch the onion") in seen.pairs
    assert seen.lookup("Cook and serve: onion salad.", "You see an onion.", ["fetch the onion"])
    assert not seen.lookup("Cook and serve: apple salad.", "You see an onion.", ["fetch the onion"])


def test_a_lookup_answers_with_what_was_told_most_often_and_a_tie_is_an_error() -> None:
    order, observation = "Cook and serve: beet salad.", "You see a beet."

    def seen(*actions: str) -> Seen:
        return Seen.read([Example(f"{order}\n{observation}\n", action) for action in actions])

    assert seen("fetch the beet", "fetch the beet", "chop nothing").lookup(order, observation, ["fetch the beet"])
    assert not seen("chop nothing").lookup(order, observation, ["fetch the beet"])
    assert not seen("fetch the beet", "chop nothing").lookup(order, observation, ["fetch the beet"])


def test_the_way_is_made_of_shortest_ways_and_reachable_states_are_a_sample() -> None:
    way = on_the_way(SALAD)
    assert max(distance(SALAD, state) or 0 for state in way) == distance(SALAD, SALAD.initial()) == 10
    assert {distance(SALAD, state) for state in way} == set(range(1, 11))
    states = reachable(SALAD, 2000)
    assert set(way) <= set(states)
    assert len(states) > len(way)
    assert set(reachable(SALAD, 100)) < set(states)
    assert len(reachable(SALAD, 100)) <= 100


def test_the_bare_corpus_tells_the_same_decisions_as_the_one_that_was_read() -> None:
    cfg = CorpusConfig(kitchens=2, walkthroughs=2, howtos=1)
    bare, read = (list(examples(cfg, prompt)) for prompt in (Prompt(BARE), Prompt(compose([]).prompt)))
    assert bare[-1] == read[-1]
    for short, full in zip(bare[:-1], read[:-1], strict=True):
        assert short.answer == full.answer.strip()
        assert short.prompt.splitlines() == [full.prompt.splitlines()[0], full.prompt.splitlines()[-2]]
    assert sum(sum(times.values()) for times in Seen.read(bare).told.values()) == len(bare) - 1


# ---- homes -------------------------------------------------------------------------------------------------------

KINDS = [kind.lower() for kind in (*RECEPTACLES, *OBJECTS)]


def told_home(game: Game, renamed: dict[str, str] | None = None) -> list[Example]:
    """Every decision on a shortest way, in bare words; things perhaps renamed."""
    home = Home(game)
    expert, words = Expert(home), Words(home, "wanted")

    def tell(said: str) -> str:
        return re.sub(r"\w+", lambda m: (renamed or {}).get(m.group(), m.group()), said)

    return [
        Example(tell(f"{instruction(game.goal)}\n{words.observation(state)}\n"), tell(command))
        for state in on_the_way_home(home, expert)
        for command in sorted(expert.plan(state).commands)
    ]


def test_things_and_their_numbers_become_slots() -> None:
    slots = HOMES.slotted(
        "Find an apple and leave it in a fridge.",
        "On it: apple 2, bread 2.\nNot looked into yet: kitchen: cabinet 1 2 5, fridge 1.",
        "go to cabinet 5",
    )
    assert slots == (
        "Find a <1> and leave it in a <2>.",
        "On it: <1> <3>, <4> <5>.\nNot looked into yet: kitchen: <6> <7> <8> <9>, <2> <10>.",
        "go to <6> <9>",
    )


def test_rooms_and_words_that_hold_a_name_are_no_things() -> None:
    assert HOMES.slotted("the bedroom, another desklamp 1 at desk 2") == ("the bedroom, another <1> <2> at <3> <4>",)


@given(st.permutations(KINDS), st.permutations(range(1, 20)))
def test_names_and_numbers_of_things_leave_no_trace(kinds: list[str], numbers: list[int]) -> None:
    (one, other, *_), (n, m, *_) = kinds, numbers
    article = "an" if one[0] in "aeiou" else "a"
    slots = HOMES.slotted(f"Find {article} {one}.", f"{other} {n} {m}, {one} {m}", f"take {one} {m} from {other} {n}")
    assert slots == ("Find a <1>.", "<2> <3> <4>, <1> <5>", "take <1> <5> from <2> <3>")


@pytest.mark.parametrize("task", TASKS)
def test_a_game_overlaps_itself_in_full_under_other_names_and_only_in_part_another(task: Asked) -> None:
    game = random_game(task, "dev", 1)
    for renamed in ({}, dict(zip(KINDS, KINDS[1:] + KINDS[:1], strict=True))):
        seen = Seen.read(told_home(game, renamed), HOMES)
        shares = home_overlap(game, seen)
        assert {name: share for name, share in shares.items() if name != "lookup"} == pytest.approx(
            {"pair": 1.0, "+task": 1.0, **{f"n={n}": 1.0 for n in N}}
        )
        assert 0 < shares["lookup"] <= 1
        another = home_overlap(random_game(task, "dev", 2), seen)
        assert another["pair"] < 1
        assert 0 < another["n=8"] < another["n=3"] < 1


def test_the_list_of_what_was_not_looked_into_can_be_left_out() -> None:
    game = random_game("pick", "dev", 1)
    observation = "You stand at bed 1 in the bedroom. On it: book 1.\nFound: book 1 at bed 1."
    assert here(f"{observation}\nNot looked into yet: bedroom: desk 1.") == here(observation) == observation
    listless = [Example(re.sub(r"Not looked into yet.*\n", "", e.prompt), e.answer) for e in told_home(game)]
    assert home_overlap(game, Seen.read(listless, HOMES, here))["pair"] == 1
    assert home_overlap(game, Seen.read(listless, HOMES))["pair"] == 0


def test_the_way_through_a_home_is_made_of_shortest_ways() -> None:
    home = Home(random_game("pick_two", "dev", 0))
    expert = Expert(home)
    way = on_the_way_home(home, expert)
    distances = [expert.plan(state).distance for state in way]
    assert distances[0] == expert.plan(home.initial()).distance
    assert set(distances) == set(range(1, distances[0] + 1))
    assert len(set(way)) == len(way) > distances[0]  # either of the two can be fetched first


def test_the_table_has_a_row_for_every_split_and_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = CorpusConfig(kitchens=1, walkthroughs=1, howtos=1, homes=HomesConfig(games=6))
    (tmp_path / "card.json").write_text(json.dumps({"corpus": asdict(small)}))
    monkeypatch.setattr(overlap_module, "HOMES_CARD", tmp_path / "card.json")
    table = list(homes_table(2))
    rows = [(f"{split}, {task}", which) for split in SPLITS for task in TASKS for which in ("way", "here")]
    assert [(world, which) for world, which, _ in table] == rows
    assert {len(games) for _, _, games in table} == {2}
    assert all(0 < game["n=3"] <= 1 for _, _, games in table for game in games)
