from __future__ import annotations

from llmrl.envs.alfworld.memory import Memory

INTRO = (
    "You are in the middle of a room. Looking quickly around you, you see a cabinet 10, a cabinet 2, a countertop 1, "
    "a microwave 1, and a fridge 1."
)
TRAJECTORY = {"pddl_params": {"object_target": "Mug", "toggle_target": ""}}
TEXTS = (
    "You arrive at countertop 1. On the countertop 1, you see a mug 12, an apple 1, and a mug 2.",
    "You pick up the mug 2 from the countertop 1.",
    "You arrive at microwave 1. The microwave 1 is closed.",
    "You heat the mug 2 using the microwave 1.",
    "You open the microwave 1. The microwave 1 is open. In it, you see nothing.",
    "You move the mug 2 to the microwave 1.",
)


def told(memory: Memory) -> list[str]:
    memory.reset(INTRO)
    memory.observe(INTRO)
    lines = [memory.describe()]
    for text in TEXTS:
        memory.observe(text)
        lines.append(memory.describe())
    return lines


def test_the_wanted_and_what_is_left_to_search() -> None:
    lines = told(Memory("wanted", TRAJECTORY))
    empty, left = "Your hands are empty.", "Not looked into yet: cabinet 2 10, fridge 1"
    assert lines[0] == f"{empty}\nNot looked into yet: cabinet 2 10, countertop 1, fridge 1, microwave 1."
    assert lines[1] == f"{empty}\nFound: mug 2 at countertop 1, mug 12 at countertop 1.\n{left}, microwave 1."
    assert lines[3] == f"You hold mug 2.\nFound: mug 12 at countertop 1.\n{left}, microwave 1."
    assert lines[4] == f"You hold mug 2 (hot).\nFound: mug 12 at countertop 1.\n{left}, microwave 1."
    assert lines[6] == f"{empty}\nFound: mug 12 at countertop 1, mug 2 (hot) at microwave 1.\n{left}."


def test_everything_that_was_seen() -> None:
    assert told(Memory("all", TRAJECTORY))[-1].split("\n")[1] == (
        "Found: countertop 1: apple 1, mug 12; microwave 1: mug 2 (hot)."
    )


def test_hot_things_are_not_cold() -> None:
    memory = Memory("wanted", TRAJECTORY)
    memory.reset(INTRO)
    memory.observe("You pick up the mug 2 from the cabinet 2.")
    for verb in ("clean", "heat", "cool"):
        memory.observe(f"You {verb} the mug 2 using the fridge 1.")
    assert memory.describe().startswith("You hold mug 2 (clean, cold).")
