"""Examples in a prompt: what they show, whose games they are of, which are chosen, and who has none."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import Corridor

import llmrl
from llmrl.build import build_env, build_prompt
from llmrl.config.compose import ConfigError, compose
from llmrl.core.state import TextState
from llmrl.envs.base import TextEnv
from llmrl.envs.kitchen.layouts import dish_of
from llmrl.lm.language_model import Conversation
from llmrl.prompts.examples import Examples, NoExamples, Step, play_expert
from llmrl.prompts.prompt import Prompt
from llmrl.run.identity import identify_run
from llmrl.schema.priors import PromptConfig

WORLDS = ["env=overcooked_tomato", "env=overcooked_salad", "env=household/pick", "env=frozen_lake"]


class Practised(Corridor):
    """Corridors of other lengths, without wind."""

    def practice(self) -> Iterator[TextEnv]:
        return (Corridor((length,), wind=0.0) for length in (4, 5, 3))


class Mute(Corridor):
    def practice(self) -> Iterator[TextEnv]:
        raise NoExamples("the corridors are shut")


def prompt_of(*typed: str) -> Prompt:
    return build_prompt(compose([*typed, "learner=prior_only"]))


def first_state(world: TextEnv) -> TextState:
    seen, _ = world.reset(seed=0)
    return TextState(seen["task"], seen["observation"], tuple(seen["actions"]))


def in_room(number: int, length: int = 2) -> TextState:
    return TextState(f"Walk {length} rooms east.", f"You are in room {number}.", ("go east", "go west"))


# ---- what is shown ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", WORLDS)
def test_an_example_looks_as_the_question_does_and_is_answered(world: str) -> None:
    cfg = compose([world, "prompt=shots", "prompt.shots=2", "learner=prior_only"])
    menu, env = prompt_of(world, "prompt=menu"), build_env(cfg)
    state = first_state(env)  # type: ignore[arg-type]
    steps = Examples(env.practice(), 2, 1, "fixed").of(state)  # type: ignore[attr-defined]
    blocks = [f"{menu.render(step.state)} {step.action}\n\n" for step in steps]
    assert len(blocks) == 2
    assert build_prompt(cfg).render(state) == "".join(blocks) + menu.render(state)


def test_all_states_share_fixed_examples_and_any_prompt_takes_them() -> None:
    prompt = prompt_of("env=overcooked_tomato", "prompt=shots")
    states = [TextState("Cook.", text, ("wait",), (("Before.", "wait"),)) for text in ("A.", "B.", "")]
    rendered = [prompt.render(state) for state in states]
    menu = prompt_of("env=overcooked_tomato", "prompt=menu")
    assert len({text.removesuffix(menu.render(s)) for text, s in zip(rendered, states, strict=True)}) == 1
    same = prompt_of("env=overcooked_tomato", "prompt=menu", "prompt.shots=4")
    assert [same.render(state) for state in states] == rendered


def test_a_conversation_has_them_as_questions_and_answers() -> None:
    given = PromptConfig("c", "{{ observation }}", prefix="", kind="chat", system="Play.", shots=2)
    asked = Prompt(given, "template", Examples(Practised().practice(), 2, 1, "fixed")).render(in_room(0))
    assert isinstance(asked, Conversation)
    assert [(m["role"], m["content"]) for m in asked.messages] == [
        ("system", "Play."),
        ("user", "You are in room 0."),
        ("assistant", "go east"),
        ("user", "You are in room 4."),
        ("assistant", "go east"),
        ("user", "You are in room 0."),
    ]


def test_examples_show_as_much_history_as_the_question() -> None:
    given = PromptConfig("h", "{{ history | map('last') | join(',') }}|{{ observation }}", history_turns=1, shots=1)
    prompt = Prompt(given, "", Examples(Practised().practice(), 1, 3, "fixed"))
    shown = (
        "|You are in room 0. go east\n\ngo east|You are in room 1. go east\n\ngo east|You are in room 2. go east\n\n"
    )
    assert prompt.render(in_room(7)) == f"{shown}|You are in room 7."


@given(st.integers(1, 3), st.integers(1, 7))
@settings(max_examples=30, deadline=None)
def test_fixed_examples_go_through_a_game(shots: int, steps: int) -> None:
    lengths = [4, 5, 3][:shots]
    rooms: list[int] = []
    for number, length in enumerate(lengths):
        last = max(0, length - steps)  # the latest start from which `steps` decisions are left
        start = round(last * number / (shots - 1)) if shots > 1 else 0
        rooms += range(start, min(length, start + steps))
    found = Examples(Practised().practice(), shots, steps, "fixed").of(in_room(0))
    assert [step.state.observation for step in found] == [f"You are in room {room}." for room in rooms]


# ---- whose games -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [*WORLDS, "env=overcooked_random", "env=household/mixed"])
def test_examples_are_an_experts_successes_in_games_of_others(world: str) -> None:
    env: Any = build_env(compose([world, "learner=random"]))
    others = [other for other, _ in zip(env.practice(), range(6), strict=False)]
    assert not {name for other in others for name in other.task_ids} & set(env.task_ids)
    for other in others:
        steps = play_expert(other)
        seen, info = other.reset(seed=0)
        for at, (state, action) in enumerate(steps):
            assert (state.task, state.observation, state.actions) == (
                seen["task"],
                seen["observation"],
                seen["actions"],
            )
            assert state.history == tuple((before.observation, done) for before, done in steps[:at])
            assert action in info["expert_actions"]
            seen, _, terminated, _, info = other.step(action)
        assert terminated
        assert info["success"]


def test_a_dish_of_the_evaluated_kitchens_is_in_no_example() -> None:
    for world in ("env=overcooked_tomato", "env=overcooked_salad", "env=overcooked_random env.count=20"):
        env: Any = build_env(compose([*world.split(), "learner=random"]))
        own = {dish_of(kitchen) for kitchen in env.kitchens.values()}
        others = [next(iter(other.kitchens.values())) for other, _ in zip(env.practice(), range(32), strict=False)]
        assert not own & {dish_of(kitchen) for kitchen in others}
        assert all(kitchen.name.startswith("overcooked_random/train/") for kitchen in others)
        assert {len(dish) for dish in own} == {len(kitchen.dish) for kitchen in others}


def test_an_instruction_of_the_evaluated_homes_is_in_no_example() -> None:
    env: Any = build_env(compose(["env=household/pick", "env.count=30", "learner=random"]))
    own = {env.reset(seed=0, options={"task": task})[0]["task"] for task in env.task_ids}
    others = [first_state(other).task for other, _ in zip(env.practice(), range(32), strict=False)]
    assert not own & set(others)


# ---- the most similar ------------------------------------------------------------------------------------------------


def likeness(a: TextState, b: TextState) -> float:
    """The cosine of two sets of word n-grams, each line for itself, counted one by one."""

    def grams(state: TextState) -> Counter[str]:
        found: Counter[str] = Counter()
        for line in (state.task, state.observation, *state.actions):
            words = line.lower().split()
            for start in range(len(words)):
                for end in range(start + 1, min(start + 3, len(words)) + 1):
                    found[" ".join(words[start:end])] = 1
        return found

    x, y = grams(a), grams(b)
    return sum(x[gram] * y[gram] for gram in x) / math.sqrt(x.total() * y.total())


@pytest.mark.parametrize("world", ["env=overcooked_salad", "env=household/pick"])
@pytest.mark.parametrize("steps", [1, 2])
def test_similar_examples_are_the_most_like_of_their_games(world: str, steps: int) -> None:
    env: Any = build_env(compose([world, "learner=random"]))
    examples = Examples(env.practice(), 3, steps, "similar")
    games = [play_expert(other) for other, _ in zip(env.practice(), range(32), strict=False)]
    state = first_state(env)
    best: list[tuple[float, list[Step]]] = []
    for game in games:
        stretches = [game[at : at + steps] for at in range(max(1, len(game) - steps + 1))]
        likest = max(stretches, key=lambda stretch: likeness(state, stretch[-1].state))
        best.append((likeness(state, likest[-1].state), likest))
    best.sort(key=lambda found: -found[0])
    found = examples.of(state)
    assert found == [step for _, stretch in reversed(best[:3]) for step in stretch]
    assert examples.of(games[5][-1].state)[-1] == games[5][-1]  # one that is there is the most similar to itself


def test_states_without_an_observation_share_similar_examples() -> None:
    prompt = prompt_of("env=overcooked_tomato", "prompt=shots", "prompt.select=similar", "prompt.shots=2")
    told = [TextState("Cook.", "", ("wait", "go"), history) for history in ((), (("A.", "go"),))]
    assert len({prompt.render(state) for state in told}) == 1


# ---- names, and who has none -----------------------------------------------------------------------------------------


def test_what_decides_over_examples_names_the_run() -> None:
    typed = ["learner=prior_only", "env=overcooked_tomato"]

    def name(*more: str) -> str:
        return identify_run(compose([*typed, *more])).id

    assert name("prompt=menu") == name("prompt=menu", "prompt.shot_steps=3", "prompt.select=similar")
    others = [[], ["prompt.shots=2"], ["prompt.shot_steps=2"], ["prompt.select=similar"]]
    shots = [name("prompt=shots", *more) for more in others]
    assert len({name("prompt=menu"), *shots}) == 5
    assert name("prompt=shots") == name("prompt=menu", "prompt.shots=4")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("env=overcooked_random env.split=train", "examples come from kitchens of the split train, and overcooked_ran"),
        ("env=household/pick env.split=train", "examples come from games of the split train, and pick-train-0 is one"),
        ("env=corridor", "Corridor knows no other games to show examples of"),
        ("env=mute", "the corridors are shut; use prompt.shots=0, or a prompt without examples: prompt=menu"),
        ("env=practised prompt.shots=7", "prompt.shots=7: there are 3 games for 7 examples"),
    ],
)
def test_who_has_no_examples_is_told_before_anything_is_made(typed: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "own" / "env").mkdir(parents=True)
    for world in (Corridor, Mute, Practised):
        file = tmp_path / "own" / "env" / f"{world.__name__.lower()}.yaml"
        file.write_text(f"_target_: {world.__module__}.{world.__name__}\nname: {world.__name__.lower()}\n")
    runs = tmp_path / "runs"
    cfg = compose([*typed.split(), "prompt=shots", f"paths.runs={runs}"], tmp_path / "own")
    with pytest.raises(ConfigError, match=said):
        llmrl.train(cfg)
    assert not runs.exists()


def test_examples_have_no_thoughts() -> None:
    with pytest.raises(ConfigError, match=r"prompt\.shots=2: examples show actions and no thoughts"):
        compose(["prompt=cot", "prompt.shots=2"])


def test_the_history_of_examples_is_read_where_no_question_has_one() -> None:
    typed = ["learner=prior_only", "prior=marginal", "prompt=shots"]
    names = [identify_run(compose([*typed, f"prompt.history_turns={turns}"])).id for turns in (0, 1)]
    assert names[0] != names[1]
    bare = [identify_run(compose([*typed, f"prompt.history_turns={turns}", "prompt.shots=0"])).id for turns in (0, 1)]
    assert bare[0] == bare[1]
