"""What tiny-2 read of homes, and what is played there, share no layout, no game and no instruction."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from itertools import islice
from pathlib import Path
from typing import get_args

import pytest

import llmrl
from llmrl.envs.household.expert import Expert
from llmrl.envs.household.game import TASKS, Game
from llmrl.envs.household.generate import Split, of_corpus, random_game
from llmrl.envs.household.home import Home
from llmrl.envs.household.text import task as instruction
from scripts.tiny import homes
from scripts.tiny.corpus import CorpusConfig, kitchens
from scripts.tiny.homes import HomeDecision, HomesConfig, walkthrough, walkthroughs
from scripts.tiny.quality import HOMES, homes_exam

CARD = Path(llmrl.__file__).parent / "lm" / "tiny" / "tiny-2" / "card.json"
FIRST = 60  # games; the whole corpus takes a minute
FIRST_SHA256 = "33603b811a3704b2bb7d8f020d1b2b11f8638b1fe9e5e9c4cafed34e1593168b"
EVALUATED: tuple[Split, ...] = tuple(split for split in get_args(Split) if split != "corpus")
A_SPLIT = 120  # games


@cache
def config() -> HomesConfig:
    read = CorpusConfig.of(json.loads(CARD.read_text())["corpus"]).homes
    assert read is not None
    return read


@cache
def read() -> list[Game]:
    return homes.games(config())


@cache
def first_decisions() -> list[HomeDecision]:
    return [decision for told in islice(walkthroughs(config()), FIRST) for decision in told]


@pytest.mark.parametrize("split", EVALUATED)
def test_what_was_read_and_what_is_evaluated_are_disjoint(split: Split) -> None:
    evaluated = [random_game("mixed", split, index) for index in range(A_SPLIT)]
    for name in ("hash", "name"):
        assert not {getattr(game, name) for game in read()} & {getattr(game, name) for game in evaluated}
    assert not {game.layout.hash for game in read()} & {game.layout.hash for game in evaluated}
    assert not {game.goal for game in read()} & {game.goal for game in evaluated}
    assert not {instruction(game.goal) for game in read()} & {instruction(game.goal) for game in evaluated}


def test_everything_read_is_of_the_corpus() -> None:
    assert len(read()) == config().games
    assert all(of_corpus(game.goal) for game in read())
    assert {game.goal.task for game in read()} == set(TASKS)


def test_the_corpus_is_the_one_the_model_was_trained_on() -> None:
    """Pinned, so that a change of wording or of rules cannot pass for the world that the model read about."""
    digest = hashlib.sha256()
    for d in first_decisions():
        told = [d.told.task, d.told.observation, d.told.actions[d.action], d.shown]
        digest.update(json.dumps(told).encode())
    assert digest.hexdigest() == FIRST_SHA256


def test_authors_err_as_often_as_the_card_says_and_go_on_to_the_goal() -> None:
    decisions = first_decisions()
    right = sum(d.action in d.good for d in decisions) / len(decisions)
    low, high = config().mistakes
    assert 1 - high - 0.05 < right < 1 - low + 0.05  # a random action may be right
    assert all(d.good for d in decisions)
    assert {d.shown for d in decisions} == set(range(config().max_history + 1))


def test_an_author_who_never_errs_takes_a_shortest_way() -> None:
    import numpy as np

    from llmrl.envs.household.text import Words

    home = Home(random_game("heat", "corpus", 0))
    expert = Expert(home)
    cfg = HomesConfig(mistakes=(0.0, 0.0))
    way = list(walkthrough(home, expert, Words(home, "wanted"), cfg, np.random.default_rng(0)))
    assert len(way) == expert.plan(home.initial()).distance
    assert all(d.action in d.good for d in way)


def test_models_are_asked_about_dev_games_without_earlier_actions() -> None:
    asked = homes_exam(games=6)
    assert tuple(asked) == HOMES
    for index in range(6):
        task = instruction(random_game("mixed", "dev", index).goal)
        for which in HOMES:
            assert asked[which][index]
            for question in asked[which][index]:
                assert question.prompt.startswith(task)
                assert "Before:" not in question.prompt
                assert set(question.expert) <= set(range(len(question.actions)))


def test_kitchens_are_read_about_too() -> None:
    cfg = CorpusConfig.of(json.loads(CARD.read_text())["corpus"])
    assert len(kitchens(cfg)) >= 100
    assert cfg.worlds == cfg.kitchens + config().games
    assert cfg.episodes == cfg.kitchens * cfg.walkthroughs + config().games * config().walkthroughs
