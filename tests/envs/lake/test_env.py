from __future__ import annotations

import copy
import warnings

import gymnasium
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv
from gymnasium.utils.env_checker import check_env

from llmrl.config.compose import compose
from llmrl.envs.lake.env import LakeEnv, frozen_lake
from llmrl.envs.lake.lake import standard_lake
from llmrl.envs.lake.text import ACTIONS

WORLDS = [
    {},
    {"slippery": True},
    {"size": 8, "max_decisions": 100},
    {"size": 8, "slippery": True, "max_decisions": 100},
    {"layout": "random", "index": 5, "count": 4},
    {"layout": "random", "size": 6, "count": 2, "slippery": True},
]


def play(env: LakeEnv, *actions: str) -> list[tuple]:
    return [env.step(action) for action in actions]


def test_shows_task_texts_and_expert():
    env = frozen_lake()
    shown, info = env.reset(seed=0)
    assert shown == {
        "task": "Cross the frozen lake of 4 rows and 4 columns to the goal, and stay out of the holes.",
        "observation": (
            "You stand in row 1, column 1. Left is the edge, down is ice, right is ice, up is the edge. "
            "The goal is 3 rows down and 3 columns right."
        ),
        "actions": ("go left", "go down", "go right", "go up"),
    }
    assert info == {"task_id": "frozen_lake/4x4", "expert_actions": frozenset({"go down", "go right"})}
    assert env.deterministic


def test_the_goal_pays_and_succeeds():
    env = frozen_lake()
    env.reset()
    *before, last = play(env, "go down", "go down", "go right", "go down", "go right", "go right")
    assert [answer[1:4] for answer in before] == [(0.0, False, False)] * 5
    assert last[0]["observation"] == "You are at the goal, in row 4, column 4."
    assert last[1:4] == (1.0, True, False)
    assert last[4] == {
        "task_id": "frozen_lake/4x4",
        "duration": 1,
        "expert_actions": frozenset(),
        "success": True,
    }


def test_a_hole_ends_without_success():
    env = frozen_lake()
    env.reset()
    *_, last = play(env, "go down", "go right")
    assert last[0]["observation"] == "You are in a hole, in row 2, column 2."
    assert last[1:4] == (0.0, True, False)
    assert last[4]["success"] is False


def test_decisions_truncate():
    env = frozen_lake()
    env.reset()
    answers = play(env, *["go left"] * 20)
    assert [answer[3] for answer in answers] == [False] * 19 + [True]
    assert not any(answer[2] for answer in answers)
    assert answers[-1][4]["success"] is False
    env = frozen_lake(max_decisions=1)
    env.reset()
    assert env.step("go up")[3]


@pytest.mark.parametrize("settings", WORLDS)
def test_steps_as_gymnasium_does(settings):
    env = frozen_lake(**settings)
    slipped = False
    for episode in range(40):
        task = env.task_ids[episode % len(env.task_ids)]
        env.reset(seed=episode, options={"task": task})
        lake = env.lakes[task]
        theirs = FrozenLakeEnv(desc=list(lake.rows), is_slippery=lake.slippery)
        theirs.reset(seed=episode)
        theirs.np_random = copy.deepcopy(env.np_random)  # a reset of theirs draws, one of ours does not
        env.action_space.seed(episode)
        over = False
        while not over:
            before, action = env.cell, env.action_space.sample()
            _, reward, terminated, truncated, info = env.step(action)
            cell, their_reward, their_end, _, _ = theirs.step(ACTIONS.index(action))
            assert (env.cell, reward, terminated) == (cell, their_reward, their_end)
            if terminated or truncated:
                assert info["success"] == (lake.cells[cell] == "G")
            slipped |= abs(env.cell - before) == (1 if action in ("go up", "go down") else lake.size)
            over = terminated or truncated
    assert slipped == settings.get("slippery", False)
    assert env.deterministic != slipped


def test_a_seed_decides_where_one_slips():
    env = frozen_lake(slippery=True)

    def way(seed: int) -> list[str]:
        env.reset(seed=seed)
        texts, over = [], False
        while not over:
            shown, _, terminated, truncated, _ = env.step("go right")
            texts.append(shown["observation"])
            over = terminated or truncated
        return texts

    assert way(3) == way(3)
    assert len({tuple(way(seed)) for seed in range(20)}) > 5


def test_generated_lakes_are_tasks():
    env = frozen_lake(layout="random", size=8, index=16, count=3)
    assert env.task_ids == tuple(f"frozen_lake/random/8x8/{index}" for index in (16, 17, 18))
    assert len({lake.rows for lake in env.lakes.values()}) == 3
    assert frozen_lake(layout="random", size=8, index=17).lakes[env.task_ids[1]].rows == env.lakes[env.task_ids[1]].rows
    assert {env.reset(seed=seed)[1]["task_id"] for seed in range(30)} == set(env.task_ids)
    env.reset(options={"task": env.task_ids[2]})
    assert env.lake.name == env.task_ids[2]
    with pytest.raises(ValueError, match="frozen_lake/random/8x8/17"):
        env.reset(options={"task": "frozen_lake/random/8x8/177"})


def test_renders_before_during_and_after():
    env = frozen_lake()
    assert env.render().startswith("@ . . .\n. O . O\n. . . O\nO . . G\n")
    env.reset()
    play(env, "go down", "go right")
    assert env.render().startswith(". . . .\n. @ . O\n")


@pytest.mark.parametrize("settings", [{"slippery": True}, {"layout": "random", "count": 5, "map": "full"}])
def test_gymnasium_checks(settings):
    spec = EnvSpec("llmrl/Lake-v0", entry_point=frozen_lake, kwargs=settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(20):  # the checker's first action is random, what follows must not depend on it
            check_env(gymnasium.make(spec, render_mode="ansi").unwrapped)


def test_the_config_is_the_world_s_defaults():
    cfg = compose(["env=frozen_lake"])
    settings = {key: value for key, value in cfg.env.items() if key not in ("kind", "name")}
    assert settings == {key: value for key, value in frozen_lake.__kwdefaults__.items() if key != "render_mode"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 5}, "size=5: the standard lakes are 4x4, 8x8; for another size use layout=random"),
        ({"layout": "rndom"}, "layout='rndom': choose one of standard, random"),
        ({"map": "whole"}, "map='whole': choose one of local, full"),
        ({"index": 3}, "index=3, count=1: these number generated lakes; add layout=random"),
        ({"count": 2}, "index=0, count=2: these number generated lakes; add layout=random"),
        ({"layout": "random", "count": 0}, "count=0: ask for at least 1 lake"),
        ({"layout": "random", "index": -1}, "index=-1: lakes are numbered from 0"),
        ({"layout": "random", "size": 1}, "size=1: a lake has at least 2 rows"),
        ({"max_decisions": 0}, "max_decisions=0"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        frozen_lake(**settings)
    with pytest.raises(ValueError, match="at least one task"):
        LakeEnv([], max_decisions=3)
    with pytest.raises(ValueError, match="more than once: frozen_lake/4x4"):
        LakeEnv([standard_lake(4, False)] * 2, max_decisions=3)
