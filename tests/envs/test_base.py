from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from collections import Counter

import gymnasium
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

import llmrl.envs  # noqa: F401  (registers the worlds)
from llmrl.envs.base import InadmissibleAction, TextEnv, Turn


class Corridor(TextEnv):
    """Somebody else's world: find the way out of a dark corridor, in at most five steps to the east."""

    def __init__(self, max_decisions: int = 20) -> None:
        super().__init__(("short", "long"), max_decisions=max_decisions, deterministic=False)

    def _reset(self, task_id):
        self.left = {"short": 2, "long": 5}[task_id]
        self.steps = 0
        return f"Leave the {task_id} corridor. Quick: “¡allez!”", self.turn()

    def _step(self, index):
        self.left -= self.turn().actions[index] == "go east"
        self.steps += 1
        return self.turn()

    def turn(self):
        smell = self.np_random.choice(["mould", "café"])
        return Turn(
            f"It is dark.\nIt smells of {smell}.",
            ("wait", "go east") if self.left % 2 else ("go east", "wait", "sing"),
            reward=float(self.left == 0),
            terminated=self.left == 0,
            truncated=self.steps >= 15,
            success=self.left == 0,
            duration=3,
        )


@pytest.fixture
def env():
    return Corridor()


def test_observation_and_info(env):
    shown, info = env.reset(options={"task": "long"})
    assert set(shown) == {"task", "observation", "actions"}
    assert shown["task"] == "Leave the long corridor. Quick: “¡allez!”"
    assert shown["actions"] == ("wait", "go east")
    assert shown in env.observation_space
    assert info == {"task_id": "long"}  # nothing is known of the expert, and nothing has been done
    shown, reward, terminated, truncated, info = env.step("go east")
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert shown["actions"] == ("go east", "wait", "sing")
    assert info == {"task_id": "long", "duration": 3}


def test_success_is_told_at_the_end(env):
    env.reset(options={"task": "short"})
    env.step("go east")
    _, reward, terminated, truncated, info = env.step("go east")
    assert (reward, terminated, truncated, info["success"]) == (1.0, True, False, True)
    with pytest.raises(ResetNeeded):
        env.step("go east")


def test_caps_truncate(env):
    env.reset()
    ends = [env.step("wait")[2:] for _ in range(15)]
    assert [end[:2] for end in ends] == [(False, False)] * 14 + [(False, True)]
    assert ends[-1][2]["success"] is False
    capped = Corridor(max_decisions=4)
    capped.reset()
    assert [capped.step("wait")[3] for _ in range(4)] == [False, False, False, True]
    with pytest.raises(ResetNeeded):
        capped.step("wait")


def test_success_at_the_last_decision_is_no_truncation():
    env = Corridor(max_decisions=2)
    env.reset(options={"task": "short"})
    env.step("go east")
    assert env.step("go east")[2:4] == (True, False)


@pytest.mark.parametrize("action", ["go est", "sing", "", "Wait", 0, None, ("wait",)])
def test_an_inadmissible_action_changes_nothing(env, action):
    env.reset(seed=1, options={"task": "long"})
    before = pickle.dumps(env)
    with pytest.raises(InadmissibleAction) as raised:
        env.step(action)
    assert pickle.dumps(env) == before
    assert repr(action) in str(pickle.loads(pickle.dumps(raised.value)))  # as it comes from another process
    assert "one of the 2 texts" in str(raised.value)
    if action == "go est":
        assert "'go east'" in str(raised.value)


def test_tasks_are_asked_for_or_drawn(env):
    assert {env.reset(seed=seed)[1]["task_id"] for seed in range(20)} == {"short", "long"}
    assert env.reset(seed=3)[1] == env.reset(seed=3)[1]
    with pytest.raises(ValueError, match=r"'lang'.* 2, the nearest: long"):
        env.reset(options={"task": "lang"})
    with pytest.raises(ValueError, match="tusk"):
        env.reset(options={"tusk": "long"})


def test_same_seed_task_and_actions_give_the_same_texts(env):
    def play():
        shown, _ = env.reset(seed=7, options={"task": "long"})
        return [shown["observation"], *(env.step(action)[0]["observation"] for action in ["wait", "go east", "sing"])]

    assert play() == play()


def test_the_action_space_is_the_menu(env):
    with pytest.raises(ResetNeeded):
        env.action_space.sample()
    env.reset(options={"task": "long"})
    assert "wait" in env.action_space
    assert "sing" not in env.action_space
    assert 0 not in env.action_space
    env.step("go east")
    assert "sing" in env.action_space
    env.action_space.seed(5)
    first = [env.action_space.sample() for _ in range(300)]
    env.action_space.seed(5)
    assert [env.action_space.sample() for _ in range(300)] == first
    assert set(first) == {"go east", "wait", "sing"}
    assert min(Counter(first).values()) > 60
    with pytest.raises(ValueError, match="mask"):
        env.action_space.sample(mask=1)


@pytest.mark.parametrize(
    ("task_ids", "max_decisions", "message"),
    [((), 5, "at least one task"), (("a", "b", "a"), 5, "more than once: a"), (("a",), 0, "max_decisions=0")],
)
def test_impossible_worlds(task_ids, max_decisions, message):
    with pytest.raises(ValueError, match=message):
        TextEnv(task_ids, max_decisions=max_decisions)


@pytest.mark.parametrize(("actions", "message"), [(("a", "b", "a"), "twice"), ((), "no action")])
def test_a_broken_menu_is_named(actions, message):
    class Broken(Corridor):
        def _reset(self, task_id):
            return "task", Turn("observation", actions)

    with pytest.raises(ValueError, match=f"Broken.*{message}"):
        Broken().reset()


def make_corridor():
    return Corridor()


@pytest.mark.parametrize(
    "make",
    [
        make_corridor,
        lambda: gymnasium.make("llmrl/OvercookedTomato-v0", render_mode="ansi").unwrapped,
        lambda: gymnasium.make("llmrl/OvercookedSalad-v0", render_mode="ansi").unwrapped,
        lambda: gymnasium.make("llmrl/OvercookedRandom-v0", count=5, ingredients=None, render_mode="ansi").unwrapped,
        lambda: gymnasium.make("llmrl/Household-v0", task="mixed", count=5, render_mode="ansi").unwrapped,
    ],
)
def test_gymnasium_checks(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(20):  # the checker's first action is random, what follows must not depend on it
            env = make()
            check_env(env, skip_render_check=env.spec is None, skip_close_check=env.spec is None)


def test_vector_environments():
    envs = gymnasium.vector.SyncVectorEnv([make_corridor] * 3)
    shown, _ = envs.reset(seed=0)
    assert len(shown) == 3
    shown, rewards, *_ = envs.step(("wait",) * 3)
    assert rewards.shape == (3,)


def test_importing_worlds_is_light():
    code = (
        "import sys, llmrl.envs, llmrl.envs.kitchen.env\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'transformers')])\n"
        "print([m for m in sys.modules if m.startswith('llmrl.') and not m.startswith('llmrl.envs')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "[]"]
