from __future__ import annotations

import pytest

from llmrl.envs.base import InadmissibleAction
from llmrl.envs.kitchen.env import KitchenEnv, overcooked_random, overcooked_salad, overcooked_tomato
from llmrl.envs.kitchen.layouts import TOMATO, overcooked_a

FETCH, BOWL, BOARD, SERVE, CHOP = range(5)  # the tomato task's macro-actions


def play(env: KitchenEnv, choices: list[int]) -> list[tuple[float, bool, bool, dict]]:
    shown, _ = env.reset()
    answers = []
    for choice in choices:
        shown, *answer = env.step(shown["actions"][choice])
        answers.append(tuple(answer))
    return answers


def test_shows_task_texts_and_expert():
    env = overcooked_tomato()
    shown, info = env.reset(seed=0)
    assert shown == {
        "task": "Cook and serve: tomato salad.",
        "observation": "You hold nothing. You see a tomato.",
        "actions": ("fetch the tomato", "take the empty bowl", "go to the board", "serve nothing", "chop nothing"),
    }
    assert info == {"task_id": "overcooked_tomato", "expert_actions": frozenset({"fetch the tomato"})}
    assert env.task_ids == ("overcooked_tomato",)
    assert env.deterministic


def test_following_the_expert_succeeds():
    for env in (overcooked_tomato(), overcooked_salad(), overcooked_random(count=4)):
        for task in env.task_ids:
            shown, info = env.reset(options={"task": task})
            over = False
            while not over:
                assert info["expert_actions"] <= set(shown["actions"])
                shown, _, terminated, truncated, info = env.step(min(info["expert_actions"]))
                over = terminated or truncated
            assert info["success"]
            assert not truncated
            assert info["expert_actions"] == frozenset()


def test_every_chop_is_paid_or_the_first_alone():
    loop = [FETCH, BOARD, CHOP, FETCH, SERVE]  # chop, and serve it without the bowl
    three_steps = -0.001 * (1 + 0.99 + 0.99**2)
    chop, wrong = three_steps + 0.2 * 0.99**2, three_steps - 0.1 * 0.99**2
    for reward, again in (("original", chop), ("once", three_steps)):
        env = overcooked_tomato(reward=reward)
        answers = play(env, loop + loop)
        assert answers[2][0] == pytest.approx(chop)
        assert answers[4][0] == pytest.approx(wrong)
        assert answers[7][0] == pytest.approx(again)
        assert not any(terminated for _, terminated, _, _ in answers)
        assert play(env, loop)[2][0] == pytest.approx(chop)  # a new episode pays anew


def test_a_food_nobody_asked_for_pays_nothing():
    answers = play(overcooked_salad(), [2, 4, 7])  # the onion, to board 1, chopped
    assert answers[-1][0] == pytest.approx(sum(-0.001 * 0.99**i for i in range(3)))


def test_gamma_primitive():
    env = KitchenEnv([overcooked_a(TOMATO)], max_decisions=31, gamma_primitive=1.0)
    assert play(env, [FETCH, BOARD, CHOP])[-1][0] == pytest.approx(0.2 - 0.003)


def test_primitive_steps_truncate_and_the_running_decision_finishes():
    env = overcooked_tomato(max_primitive_steps=28)
    way = [FETCH, BOARD, CHOP, FETCH, BOWL, SERVE]
    answers = play(env, way)
    assert sum(info["duration"] for *_, info in answers) == env.primitive_steps == 28
    assert answers[-1][1:3] == (True, False)  # served with the last step that there was
    assert play(overcooked_tomato(max_primitive_steps=22), way)[-1][1:3] == (True, False)  # begun before the end
    truncated = play(overcooked_tomato(max_primitive_steps=21), way[:-1])[-1]
    assert truncated[1:3] == (False, True)
    assert truncated[3]["success"] is False


def test_decisions_truncate():
    assert [answer[2] for answer in play(overcooked_tomato(max_decisions=3), [CHOP] * 3)] == [False, False, True]


def test_an_inadmissible_action_changes_nothing():
    env = overcooked_salad()
    env.reset()
    env.step("fetch the tomato")
    before = (env.state, env.primitive_steps, env.action_space.menu)
    for action in ("fetch the potato", "put the lettuce on board 1", 0):
        with pytest.raises(InadmissibleAction):
            env.step(action)
    assert (env.state, env.primitive_steps, env.action_space.menu) == before


def test_random_kitchens_are_tasks():
    env = overcooked_random(split="test", index=16, count=3, ingredients=None)
    assert env.task_ids == tuple(f"overcooked_random/test/{index}" for index in (16, 17, 18))
    shown = {task: env.reset(options={"task": task})[0]["task"] for task in env.task_ids}
    assert all(text.startswith("Cook and serve: ") for text in shown.values())
    assert {env.reset(seed=seed)[1]["task_id"] for seed in range(30)} == set(env.task_ids)
    with pytest.raises(ValueError, match="overcooked_random/test/17"):
        env.reset(options={"task": "overcooked_random/test/177"})


def test_renders_before_during_and_after():
    env = overcooked_tomato()
    assert "@" in env.render()
    play(env, [FETCH])
    assert "@ tomato" in env.render()
    play(env, [FETCH, BOARD, CHOP, FETCH, BOWL, SERVE])
    assert "served" in env.render()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: overcooked_tomato(reward="twice"), "'twice': choose one of once, original"),
        (lambda: overcooked_tomato(max_primitive_steps=0), "max_primitive_steps=0"),
        (lambda: KitchenEnv([overcooked_a(TOMATO)], max_decisions=9, gamma_primitive=1.1), "gamma_primitive=1.1"),
        (lambda: KitchenEnv([overcooked_a(TOMATO)] * 2, max_decisions=9), "more than once: overcooked_tomato"),
        (lambda: KitchenEnv([], max_decisions=9), "at least one task"),
        (lambda: overcooked_random(count=0), "count=0"),
        (lambda: overcooked_random(split="tset"), "split='tset'"),
        (lambda: overcooked_random(index=-1), "index=-1"),
        (lambda: overcooked_random(ingredients=4), "ingredients=4"),
    ],
)
def test_impossible_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()
