from __future__ import annotations

import pytest

from llmrl.envs.base import InadmissibleAction
from llmrl.envs.household.env import HouseholdEnv, household
from llmrl.envs.household.expert import solution
from llmrl.envs.household.game import TASKS
from llmrl.envs.household.generate import random_game


def follow(env: HouseholdEnv, task: str) -> tuple[list[float], dict]:
    """An episode of the expert's: what each decision paid, and the last info."""
    _, info = env.reset(options={"task": task})
    paid, over = [], False
    while not over:
        shown, reward, terminated, truncated, info = env.step(max(info["expert_actions"]))
        assert info["expert_actions"] <= set(shown["actions"])
        assert info["duration"] == 1
        paid.append(reward)
        over = terminated or truncated
    return paid, info


def test_shows_task_texts_and_expert() -> None:
    env = household(task="examine")
    shown, info = env.reset(seed=0)
    assert shown["task"].startswith("Find a")
    assert shown["observation"].startswith(
        "You stand in the middle of the home. Your hands are empty.\nNot looked into"
    )
    assert shown["actions"][-3:] == ("help", "inventory", "look")
    assert info["task_id"] == "examine-dev-0"
    assert info["expert_actions"] < set(shown["actions"])
    assert env.deterministic


@pytest.mark.parametrize("task", TASKS)
def test_following_the_expert_succeeds_in_as_few_decisions_as_there_can_be(task: str) -> None:
    env = household(task=task, split="valid_unseen", index=2, count=3)  # type: ignore[arg-type]
    for number, name in enumerate(env.task_ids, start=2):
        paid, info = follow(env, name)
        assert paid == [0.0] * (len(paid) - 1) + [1.0]
        assert info["success"]
        assert info["expert_actions"] == frozenset()
        assert len(paid) == len(solution(random_game(task, "valid_unseen", number)))  # type: ignore[arg-type]


def test_games_are_tasks_and_are_generated_when_they_are_played() -> None:
    env = household(task="mixed", index=4, count=2_000)
    assert env.task_ids[:3] == ("cool-dev-0", "pick_two-dev-0", "pick-dev-1")
    for task in env.task_ids[:3]:
        assert env.reset(options={"task": task})[1]["task_id"] == task == env.home.game.name
    with pytest.raises(ValueError, match="unknown task 'cool-train-0'"):
        env.reset(options={"task": "cool-train-0"})


def test_the_same_actions_give_the_same_texts() -> None:
    """Whatever another copy, or the same game before, has done meanwhile."""
    one, other = household(task="clean", count=2), household(task="clean", count=2)
    told = []
    for env in (one, other, one):
        env.action_space.seed(3)
        shown, _ = env.reset(options={"task": "clean-dev-1"})
        told.append([shown])
        for _ in range(30):
            shown, _, terminated, _, info = env.step(env.action_space.sample())
            told[-1].append((shown, info))
            if terminated:
                break
    assert told[0] == told[1] == told[2]


def test_an_inadmissible_action_changes_nothing() -> None:
    env = household(task="heat")
    env.reset()
    env.step("go to fridge 1")
    before = env.state
    for action in ("go to fridge 1", "take apple 9 from fridge 1", "close fridge 1", 0):
        with pytest.raises(InadmissibleAction):
            env.step(action)  # type: ignore[arg-type]
    assert env.state == before


def test_decisions_truncate() -> None:
    env = household(max_decisions=2)
    env.reset()
    assert [env.step("look")[3] for _ in range(2)] == [False, True]


def test_memory_changes_what_is_told_and_nothing_else() -> None:
    told, offered = {}, set()
    for memory in ("none", "wanted", "all"):
        env = household(task="pick", memory=memory)  # type: ignore[arg-type]
        shown, info = env.reset()
        for _ in range(2):
            shown, *_, info = env.step(min(info["expert_actions"]))
        told[memory] = shown["observation"]
        offered.add((shown["actions"], info["expert_actions"]))
    assert len(offered) == 1
    assert len(set(told.values())) == 3
    assert told["wanted"].startswith(told["none"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "cook"}, "task='cook': choose one of pick"),
        ({"split": "test"}, "split='test': choose one of train"),
        ({"index": -1}, "index=-1"),
        ({"count": 0}, "count=0: ask for at least 1 game"),
        ({"memory": "seen"}, "memory='seen': choose one of none, wanted, all"),
        ({"max_decisions": 0}, "max_decisions=0"),
    ],
)
def test_settings_out_of_range(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        household(**settings)
