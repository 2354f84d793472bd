"""The settings of worlds."""

from __future__ import annotations

from dataclasses import dataclass

from llmrl.schema.fields import Schema, setting

CAPS = {"field": 50, "paper": 61, "paper_env": 100}  # the field's; the main paper's script's; its environment's
TASKS = ("pick", "examine", "clean", "heat", "cool", "pick_two", "mixed")
UNITS = ("games", "instructions")
MEMORIES = ("none", "wanted", "all")


@dataclass
class EnvConfig(Schema):
    """Any world of llmrl's own."""

    kind: str = "???"
    name: str = "???"

    has_train_games = False  # of a split `train`, with an expert: for prior.labels
    takes_one_step = False  # every decision is one primitive step
    can_be_listed = True  # all its states, so that success is computed: for evaluation.exact_up_to


@dataclass
class KitchenConfig(EnvConfig):
    """Overcooked tomato and salad, on map A."""

    # once: +0.2 per ingredient and episode | original: at every chop (a reward loop)
    reward: str = setting("once", choices=("once", "original"))
    max_decisions: int = setting(51, low=1)  # truncates
    max_primitive_steps: int = setting(200, low=1)  # truncates; the running macro-action finishes

    has_train_games = True


@dataclass
class RandomKitchenConfig(KitchenConfig):
    """Generated kitchens."""

    # train (the embedded model's training data) | dev | test
    split: str = setting("dev", choices=("train", "dev", "test"))
    index: int = setting(0, low=0)  # the first kitchen
    count: int = setting(1, low=1)  # how many, from `index` on; one task each
    ingredients: int | None = setting(3, low=1, high=3)  # 1, 2, 3, or null: mixed


@dataclass
class HouseholdConfig(EnvConfig):
    """Homes with the rules and the six task types of ALFWorld."""

    # pick | examine | clean | heat | cool | pick_two | mixed: the six in turn
    task: str = setting("pick", choices=TASKS)
    # train | dev | valid_seen (homes of train) | valid_unseen | corpus (training data of tiny-2)
    split: str = setting("dev", choices=("train", "dev", "valid_seen", "valid_unseen", "corpus"))
    index: int = setting(0, low=0)  # the first game
    count: int = setting(1, low=1)  # how many, from `index` on; one task each
    # unit of index and count: games | instructions (the first game that gives each)
    unit: str = setting("games", choices=UNITS, since=True)
    # earlier observations that the observation repeats: none | wanted | all
    memory: str = setting("wanted", choices=MEMORIES)
    max_decisions: int = setting(50, low=1, names=CAPS)  # truncates

    has_train_games = True
    takes_one_step = True
    can_be_listed = False


@dataclass
class AlfworldConfig(EnvConfig):
    """ALFWorld's own games, on its own engine: the extra `alfworld`, and ALFWORLD_DATA."""

    task: str = setting("pick", choices=TASKS)  # pick | examine | clean | heat | cool | pick_two | mixed: all six
    # train | valid_seen | valid_unseen
    split: str = setting("train", choices=("train", "valid_seen", "valid_unseen"))
    index: int = setting(0, low=0)  # the first one
    count: int | None = setting(None, low=1)  # how many, from `index` on; one task per game; null: all
    # unit of index and count: games | instructions (with all games that give them)
    unit: str = setting("games", choices=UNITS)
    without: list[str] = setting([])  # instructions left out before anything is counted
    # memory after the engine's text: none | wanted | all, as in homes, read off earlier texts
    memory: str = setting("none", choices=MEMORIES)
    # packaged: the package's own | file: the game file's, which runs as code
    grammar: str = setting("packaged", choices=("packaged", "file"))
    max_decisions: int = setting(50, low=1, names=CAPS)  # truncates

    takes_one_step = True
    can_be_listed = False


@dataclass
class FrozenLakeConfig(EnvConfig):
    """gymnasium's FrozenLake-v1, told in words."""

    size: int = setting(4, low=4, high=8)  # standard: 4 or 8 | random: 4 to 8
    # standard: gymnasium's map | random: generated ones, numbered
    layout: str = setting("standard", choices=("standard", "random"))
    index: int = setting(0, low=0)  # random: the first map
    count: int = setting(1, low=1)  # random: how many, from `index` on; one task each
    slippery: bool = False  # a step goes aside as often as not: left, right or ahead, each one time in three
    # local: position, the four neighbours, the goal's direction | full: the map as well
    map: str = setting("local", choices=("local", "full"))
    max_decisions: int = setting(20, low=1)  # truncates

    takes_one_step = True
