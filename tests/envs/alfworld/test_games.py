from __future__ import annotations

import json
from pathlib import Path

import pytest
from envs.alfworld.small import small_game, write_game

from llmrl.envs.alfworld.env import choose_games
from llmrl.envs.alfworld.games import Collection, GameFile, NoGames, collect, data_hash, data_root
from llmrl.envs.alfworld.problem import OFFICIAL
from llmrl.envs.household.game import Goal

GOALS = (
    Goal("pick", "Mug", "Cabinet"),
    Goal("examine", "Mug", None),
    Goal("clean", "Mug", "Cabinet"),
    Goal("heat", "Mug", "Cabinet"),
    Goal("cool", "Mug", "Cabinet"),
    Goal("pick_two", "Mug", "Cabinet"),
)


def test_games_of_all_types_are_found_in_the_order_of_their_names(tmp_path: Path) -> None:
    for goal in reversed(GOALS):
        write_game(tmp_path, small_game(goal), sentence=f"do {goal.task}")
    found = collect(tmp_path, "train")
    assert [game.name for game in found.games] == sorted(game.name for game in found.games)
    assert {game.task: game.instruction for game in found.games} == {goal.task: f"do {goal.task}" for goal in GOALS}
    assert found.note == ""
    (only,) = collect(tmp_path, "train", ("heat",)).games
    assert only.name.startswith("pick_heat_then_place_in_recep-Mug-None-Cabinet-")
    assert set(only.logic()) == {"pddl_domain", "grammar", "pddl_problem"}


def test_what_the_original_leaves_out_is_left_out_named_and_counted(tmp_path: Path) -> None:
    games = [small_game(goal) for goal in GOALS]
    write_game(tmp_path, games[0])
    write_game(tmp_path, games[1], solvable=False)
    write_game(tmp_path, games[2], solvable=...)
    (write_game(tmp_path, games[3]) / "game.tw-pddl").unlink()
    torn = write_game(tmp_path, games[4]) / "game.tw-pddl"
    torn.write_bytes(torn.read_bytes()[:-40])
    write_game(tmp_path, games[5], grammar="no sentence")
    top = tmp_path / "json_2.1.1" / "train"
    movable = top / "pick_and_place_with_movable_recep-Apple-Bowl-Fridge-1" / "trial_1"
    for folder in (movable, top / "pick_and_place_simple-AppleSliced-None-Fridge-1" / "trial_1"):
        folder.mkdir(parents=True)
        (folder / "traj_data.json").write_text("{}")
    found = collect(tmp_path, "train")
    assert [game.task for game in found.games] == ["pick"]
    assert {why: len(names) for why, names in found.left_out.items()} == {
        "never checked for being solvable": 1,
        "torn": 1,
        "unsolvable": 1,
        "with movable receptacles or sliced objects": 2,
        "without a sentence that says what is asked": 1,
        "without game.tw-pddl": 1,
    }
    assert found.note.startswith("7 of 8 games are left out: 1 never checked for being solvable (pick_clean_then_")
    assert "1 torn (pick_cool_then_place_in_recep-Mug-None-Cabinet-" in found.note


@pytest.mark.parametrize("file", ["traj_data.json", "game.tw-pddl"])
@pytest.mark.parametrize("text", ["", "[]", '{"task_type": ', '{"task_type": "other"}', '{"a": ' + "[" * 100_000])
def test_files_that_are_no_games_are_no_games(file: str, text: str, tmp_path: Path) -> None:
    write_game(tmp_path, small_game(GOALS[0]))
    (write_game(tmp_path, small_game(GOALS[3])) / file).write_text(text)
    found = collect(tmp_path, "train")
    assert [game.task for game in found.games] == ["pick"]
    assert sum(map(len, found.left_out.values())) == 1


def test_a_sentence_that_cannot_be_read_leaves_its_game_out(tmp_path: Path) -> None:
    write_game(tmp_path, small_game(GOALS[0]))
    write_game(tmp_path, small_game(GOALS[3]), grammar='task :: "Your task is to: put it \\q there"')
    found = collect(tmp_path, "train")
    assert [game.task for game in found.games] == ["pick"]
    assert {why: len(names) for why, names in found.left_out.items()} == {"with a sentence that cannot be read": 1}


def test_a_file_that_is_mended_is_read_again(tmp_path: Path) -> None:
    folder = write_game(tmp_path, small_game(GOALS[0]), solvable=False)
    with pytest.raises(NoGames, match="1 of 1 games are left out: 1 unsolvable"):
        collect(tmp_path, "train")
    data = json.loads((folder / "game.tw-pddl").read_text())
    (folder / "game.tw-pddl").write_text(json.dumps(data | {"solvable": True}))
    (game,) = collect(tmp_path, "train").games
    (folder / "game.tw-pddl").write_text(json.dumps(data))
    with pytest.raises(NoGames, match="was changed while it was in use"):
        game.logic()


def test_without_data_one_message_has_the_two_commands_that_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    with pytest.raises(NoGames, match="ALFWORLD_DATA is not set") as error:
        data_root()
    assert "`export ALFWORLD_DATA=$HOME/alfworld` and `alfworld-download`" in str(error.value)
    assert "llmrl worlds generate alfworld FOLDER" in str(error.value)
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(NoGames, match=r"has no folder json_2\.1\.1"):
        data_root()
    (tmp_path / "json_2.1.1" / "train").mkdir(parents=True)
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path))
    assert data_root() == tmp_path
    with pytest.raises(NoGames, match="valid_seen: there is no such folder; splits found: train"):
        collect(tmp_path, "valid_seen")
    with pytest.raises(NoGames, match=f"no game to play of {OFFICIAL['pick']}"):
        collect(tmp_path, "train", ("pick",))
    assert [p.name for p in tmp_path.iterdir()] == ["json_2.1.1"]  # nothing was made, in the home or elsewhere


def test_the_hash_of_the_data_is_of_what_is_played(tmp_path: Path) -> None:
    write_game(tmp_path / "a", small_game(GOALS[0]))
    write_game(tmp_path / "b", small_game(GOALS[0]))
    write_game(tmp_path / "c", small_game(GOALS[0]), sentence="do something else")
    a, b, c = (data_hash(collect(tmp_path / name, "train").games) for name in "abc")
    assert a == b != c


def test_games_are_chosen_by_number_or_by_instruction() -> None:
    said = "abacbd"
    games = tuple(
        GameFile(str(i), Path(str(i)), "pick", f"Your task is to: {what}.", "") for i, what in enumerate(said)
    )
    found = Collection(games, {}).games

    def numbers(**settings: object) -> str:
        return "".join(g.name for g in choose_games(found, **{"index": 0, "count": None, "without": ()} | settings))  # type: ignore[arg-type]

    assert numbers(unit="games") == "012345"
    assert numbers(unit="games", index=4) == "45"
    assert numbers(unit="games", index=1, count=2, without=["b"]) == "23"
    assert numbers(unit="instructions", count=2) == "0124"  # a and b
    assert numbers(unit="instructions", index=2) == "35"  # all others: no instruction is in both
    assert numbers(unit="instructions", count=1, without=["a"]) == "14"
    with pytest.raises(ValueError, match="index=5, count=2: there are 6 games"):
        numbers(unit="games", index=5, count=2)
    with pytest.raises(ValueError, match="there are 4 instructions"):
        numbers(unit="instructions", index=4)
    with pytest.raises(ValueError, match="without='z': no game says this; what games say: a, b, c, d"):
        numbers(unit="games", without=["z"])
    with pytest.raises(ValueError, match="unit=trials: choose one of games, instructions"):
        numbers(unit="trials")
