"""Needs the extra: `make test-alfworld`."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("textworld", reason="needs the extra: make test-alfworld")
pytest.importorskip("fast_downward", reason="needs the extra: make test-alfworld")

from envs.alfworld.small import small_game
from gymnasium.utils.env_checker import check_env

from llmrl.envs.alfworld import engine as engines
from llmrl.envs.alfworld.engine import Engine
from llmrl.envs.alfworld.env import AlfworldEnv, alfworld
from llmrl.envs.alfworld.games import GAME, NoGames, collect
from llmrl.envs.alfworld.generate import game_data, generate
from llmrl.envs.alfworld.packages import packaged_logic
from llmrl.envs.alfworld.shadow import Shadow
from llmrl.envs.base import Observation
from llmrl.envs.household.game import TASKS, Goal, Task
from llmrl.envs.household.generate import random_game
from llmrl.envs.pool import EnvPool, Reset, Step
from scripts.check_homes import compare

GOALS = {
    "pick": Goal("pick", "Mug", "Cabinet"),
    "examine": Goal("examine", "Mug", None),
    "clean": Goal("clean", "Mug", "Cabinet"),
    "heat": Goal("heat", "Mug", "Cabinet"),
    "cool": Goal("cool", "Mug", "Cabinet"),
    "pick_two": Goal("pick_two", "Mug", "Cabinet"),
}
WAY = (  # every verb, and every sentence that an object or a receptacle is examined with
    "go to countertop 1", "look", "take mug 1 from countertop 1", "inventory", "examine mug 1", "go to sinkbasin 1",
    "clean mug 1 with sinkbasin 1", "examine mug 1", "go to microwave 1", "heat mug 1 with microwave 1",
    "examine mug 1", "go to fridge 1", "cool mug 1 with fridge 1", "examine mug 1", "examine fridge 1",
    "open fridge 1", "examine fridge 1", "move mug 1 to fridge 1", "inventory", "examine fridge 1", "close fridge 1",
    "help", "go to drawer 1", "open drawer 1", "take fork 1 from drawer 1", "look",
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("alfworld")
    assert len(list(generate(root, ("train",), count=1))) == 6
    return root


@pytest.mark.parametrize("task", TASKS)
def test_the_fast_engine_says_what_the_stock_one_says(task: Task) -> None:
    """In a small kitchen every sentence, then a home of the generator at random."""
    stock, fast = Engine(fast=False), Engine()
    for game, way in ((small_game(GOALS[task]), WAY), (random_game(task, "train", 1), ())):
        logic = game_data(game, *packaged_logic(), walkthrough=())
        shown = []
        for engine in (stock, fast):
            engine.load(logic)
            shown.append(engine.reset())
        rng = random.Random(0)
        commands = iter([*way, "fly to the moon", *[None] * 12])
        for command in commands:
            assert shown[0] == shown[1]
            assert command is None or command in shown[0].commands or command.startswith("fly")
            command = command or rng.choice(shown[0].commands)
            shown = [engine.step(command) for engine in (stock, fast)]
        assert shown[0] == shown[1]
        assert stock.reset() == fast.reset() == fast.reset()
    stock.close()
    fast.close()


def test_homes_are_the_same_on_both_engines() -> None:
    """At least 5,000 steps in games of all six types, by an expert and at random."""
    engine = Engine()
    steps = 0
    verbs: set[str] = set()
    for task in TASKS:
        for index, split in enumerate(("train", "valid_seen", "valid_unseen")):
            found = compare(engine, random_game(task, split, index), 290, seed=index)  # type: ignore[arg-type]
            assert not found.differing
            assert found.wins > 0
            steps += found.steps
            verbs |= set(found.verbs)
    engine.close()
    assert steps >= 5_000
    assert verbs == {
        "go", "open", "close", "take", "move", "clean", "heat", "cool", "use", "look", "inventory", "examine", "help",
    }  # fmt: skip


def test_the_packaged_grammar_says_what_the_file_s_says(data: Path) -> None:
    games = collect(data, "train")
    said = []
    for grammar in ("packaged", "file"):
        env = AlfworldEnv(games, max_decisions=50, grammar=grammar)  # type: ignore[arg-type]
        for task in env.task_ids:
            said.append(env.reset(options={"task": task})[0])
        env.close()
    half = len(said) // 2
    assert said[:half] == said[half:]
    assert said[0]["task"] == games.games[0].instruction
    assert said[0]["observation"].startswith("You are in the middle of a room.")
    assert "Your task" not in said[0]["observation"]


def test_a_grammar_is_code_and_only_run_when_one_says_so(data: Path, tmp_path: Path) -> None:
    (game,) = collect(data, "train", ("pick",)).games
    mark = tmp_path / "mark"
    evil = f"{{open('{mark}', 'w').name}}"
    folder = tmp_path / "json_2.1.1" / "train" / game.name
    folder.mkdir(parents=True)
    for file in game.path.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    content = json.loads((folder / GAME).read_text())
    content["grammar"] = content["grammar"].replace("You are in the middle of a room", f"You are here {evil}")
    assert evil in content["grammar"]
    (folder / GAME).write_text(json.dumps(content))
    games = collect(tmp_path, "train")
    safe = AlfworldEnv(games, max_decisions=5)
    assert "in the middle of a room" in safe.reset()[0]["observation"]
    assert not mark.exists()
    trusting = AlfworldEnv(games, max_decisions=5, grammar="file")
    assert f"You are here {mark}" in trusting.reset()[0]["observation"]
    assert mark.exists()
    safe.close()
    trusting.close()


def test_a_problem_is_translated_once_for_all_processes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is kept on disk makes the same texts."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (game,) = collect(data, "train", ("heat",)).games

    def told() -> list[str]:
        engines._packed.cache_clear()  # as in another process
        engine = Engine()
        engine.load(game.logic())
        shown = [engine.reset()]
        for _ in range(5):
            shown.append(engine.step(shown[-1].commands[-1]))
        engine.close()
        return [s.text for s in shown]

    first = told()
    monkeypatch.setattr(engines.fast_downward, "pddl2sas", lambda *a: pytest.fail("it is translated again"))
    assert told() == first
    engines._packed.cache_clear()


def test_a_problem_that_cannot_be_read_is_named(data: Path, tmp_path: Path) -> None:
    (game,) = collect(data, "train", ("heat",)).games
    folder = tmp_path / "json_2.1.1" / "train" / game.name
    folder.mkdir(parents=True)
    for file in game.path.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    whole = json.loads((folder / GAME).read_text())
    text = whole["pddl_problem"]
    long = text.replace("Microwave_bar", f"{'M' * 1100}_bar")  # would be written past the end of a field
    for problem in (text[:-200], long, "(define)", ""):
        assert problem != text
        (folder / GAME).write_text(json.dumps(whole | {"pddl_problem": problem}))
        env = AlfworldEnv(collect(tmp_path, "train"), max_decisions=5)
        with pytest.raises(NoGames, match=f"{folder} cannot be played"):
            env.reset()
        env.close()


def test_it_is_a_gymnasium_environment_and_an_expert_reaches_every_goal(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALFWORLD_DATA", str(data))
    check_env(alfworld(task="pick"), skip_render_check=True)
    env = alfworld(task="mixed")
    assert len(env.task_ids) == 6
    assert env.provenance["games"] == 6
    assert env.provenance["packages"]["textworld"] == "1.7.0"
    for task in env.task_ids:
        _, info = env.reset(options={"task": task})
        over = False
        while not over:
            _, reward, over, truncated, info = env.step(min(info["expert_actions"]))
            assert not truncated
        assert (reward, info["success"]) == (1.0, True)
    env.close()


def played(pool: EnvPool, games: tuple[str, ...]) -> list[Observation]:
    """Two games in turns, the second one changing in between."""
    rng = random.Random(1)
    seen = [o.observation for o in pool.run([Reset(0, 0, games[0]), Reset(1, 0, games[1])])]
    for i in range(24):
        if i == 12:
            seen[-1] = pool.run([Reset(1, 0, games[2])])[0].observation
        seen += [o.observation for o in pool.run([Step(e, rng.choice(seen[e - 2]["actions"])) for e in (0, 1)])]
    return seen  # type: ignore[return-value]


def test_environments_beside_each_other_do_not_meddle(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALFWORLD_DATA", str(data))
    make = partial(alfworld, task="mixed")
    seen = []
    for workers in (0, 2):
        pool = EnvPool(make, 2, workers)
        seen.append(played(pool, pool.task_ids))
        pool.close()
    assert seen[0] == seen[1]
    before = len(engines._idle)
    alone = EnvPool(make, 2)
    assert played(alone, alone.task_ids) == seen[0]
    alone.close()
    assert len(engines._idle) == before  # copies of the library are handed on


def test_many_games_and_environments_take_no_more_memory(data: Path) -> None:
    def resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    games = collect(data, "train")
    env = AlfworldEnv(games, max_decisions=20)
    for task in env.task_ids:
        env.reset(options={"task": task})
    before = resident()
    for i in range(100):
        env.reset(options={"task": env.task_ids[i % 6]})
        other = AlfworldEnv(games, max_decisions=20)
        other.reset(options={"task": env.task_ids[0]})
        other.close()
    assert resident() - before < 10
    env.close()


def test_what_is_generated_is_the_same_each_time_and_never_mixed_with_others(data: Path, tmp_path: Path) -> None:
    files = {p: p.read_bytes() for p in data.rglob("*.*") if p.is_file()}
    list(generate(data, ("train",), ("pick",), count=1))
    assert {p: p.read_bytes() for p in data.rglob("*.*") if p.is_file()} == files
    assert {p.name for p in (data / "logic").iterdir()} == {"alfred.pddl", "alfred.twl2"}
    other = tmp_path / "json_2.1.1" / "train" / "pick_and_place_simple-Mug-None-Desk-1" / "trial_1"
    other.mkdir(parents=True)
    (other / "traj_data.json").write_text("{}")
    with pytest.raises(ValueError, match="holds games of others"):
        next(generate(tmp_path))


def test_a_game_whose_file_was_changed_has_no_expert(data: Path, tmp_path: Path) -> None:
    (game,) = collect(data, "train", ("pick",)).games
    folder = tmp_path / "json_2.1.1" / "train" / game.name
    folder.mkdir(parents=True)
    for file in game.path.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    content = json.loads((folder / GAME).read_text())
    (folder / GAME).write_text(json.dumps(content | {"pddl_problem": content["pddl_problem"] + "\n"}))
    env = AlfworldEnv(collect(tmp_path, "train"), max_decisions=5)
    assert "expert_actions" not in env.reset()[1]
    env.close()


def test_commands_make_games_look_at_them_and_train_on_them(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environ = {key: value for key, value in os.environ.items() if key != "ALFWORLD_DATA"}
    environ |= {"HOME": str(home), "OMP_NUM_THREADS": "1", "LLMRL_CACHE": str(tmp_path / "kept.sqlite3")}

    def llmrl(*words: str, code: int = 0, **more: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "llmrl", *words], cwd=tmp_path, env=environ | more, capture_output=True, text=True
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    said = llmrl("worlds", "generate", "alfworld", "games", "--split", "train", "--task", "pick", "--count", "2")
    assert f"export ALFWORLD_DATA={tmp_path / 'games'}" in said
    assert "choose one of train, valid_seen" in llmrl("worlds", "generate", "alfworld", "x", "--split", "dev", code=2)
    where = {"ALFWORLD_DATA": str(tmp_path / "games")}
    assert "train: 2 games (2 pick), 2 instructions" in llmrl("worlds", "check", "alfworld", **where)
    small = ["learner=random", "env_steps=12", "evaluation.every=12", "evaluation.episodes=1", "rollout.num_envs=2"]
    llmrl("train", "env=alfworld/pick", "env.max_decisions=6", *small, **where)
    (run,) = (tmp_path / "runs").glob("alfworld_pick-random-*")
    world = json.loads((run / "provenance.json").read_text())["world"]
    assert (world["games"], world["left_out"], world["success"]) == (2, {}, "won")
    assert len(world["data"]) == 64
    assert not (home / ".cache" / "alfworld").exists()  # as importing alfworld would have made


def test_a_shadow_is_only_for_commands_that_are_admissible() -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        Shadow(small_game()).step("take mug 1 from countertop 1")


def test_what_is_remembered_is_what_was_shown(data: Path) -> None:
    """Held against what our engine says that the agent has seen."""
    for memory in ("wanted", "all"):
        env = AlfworldEnv(collect(data, "train"), max_decisions=200, memory=memory)  # type: ignore[arg-type]
        env.action_space.seed(3)
        for task in env.task_ids:
            shown, _ = env.reset(options={"task": task})
            shadow = env._shadow
            assert shadow is not None
            home, over = shadow.home, False
            for _ in range(60):
                state, lines = shadow.state, shown["observation"].split("\n")
                holds = f"You hold {home.objects[state.hand].name}" if state.hand >= 0 else "Your hands are empty."
                assert any(line.startswith(holds) for line in lines)
                looked = [r.name for i, r in enumerate(home.receptacles) if state.searched >> i & 1]
                assert env._memory is not None
                assert sorted(env._memory.contents) == sorted(looked)
                for i, place in enumerate(home.receptacles):
                    if place.name in looked:
                        there = {home.objects[t].name for t in home.contents(state, i)}
                        assert set(env._memory.contents[place.name]) == there
                if over:
                    break
                shown, _, terminated, truncated, _ = env.step(env.action_space.sample())
                over = terminated or truncated
        env.close()


PLAY = """
import hashlib, random, sys
from pathlib import Path
from llmrl.envs.alfworld.env import AlfworldEnv
from llmrl.envs.alfworld.games import collect
env, rng, seen = AlfworldEnv(collect(Path(sys.argv[1]), "train"), max_decisions=30), random.Random(0), []
for task in env.task_ids:
    shown, over = env.reset(options={"task": task})[0], False
    while not over:
        shown, *_, truncated, info = env.step(rng.choice(shown["actions"]))
        over = "success" in info
        seen.append(repr((shown, sorted(info["expert_actions"]))))
print(hashlib.sha256("".join(seen).encode()).hexdigest())
"""


def test_another_process_shows_the_same(data: Path) -> None:
    """Whatever the order of its sets: a run that goes on elsewhere replays its games."""
    said = {
        subprocess.run(
            [sys.executable, "-c", PLAY, str(data)],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
