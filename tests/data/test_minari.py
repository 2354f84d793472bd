"""Data sets of Minari: there and back to the byte, sets that others made, and names for what is wrong."""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest
from data.datasets import any_rows, built, row, rows
from hypothesis import given, settings
from typer.testing import CliRunner

from llmrl.cli.main import app
from llmrl.data.dataset import DataError
from llmrl.data.files import convert, read, write

NAME = Path("minari:llmrl/rooms-v0")


def without_zeros(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "0")
    if isinstance(value, dict):
        return {key: without_zeros(inner) for key, inner in value.items()}
    return [without_zeros(inner) for inner in value] if isinstance(value, list) else value


def test_without_minari_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minari", None)
    write(tmp_path / "a.parquet", built(rows(2)))
    done = CliRunner().invoke(app, ["data", "convert", str(tmp_path / "a.parquet"), str(NAME)])
    assert done.exit_code == 2
    assert f"{NAME} needs packages that are not installed" in done.stderr
    assert "llmrl[minari]" in done.stderr


class TestWithMinari:
    @pytest.fixture(autouse=True)
    def store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        pytest.importorskip("minari")
        pytest.importorskip("h5py")
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))
        return tmp_path / "store"

    def test_it_is_a_data_set_of_texts(self, store: Path, tmp_path: Path) -> None:
        import minari
        from gymnasium.spaces import Text

        data = built([*rows(2, 3), row(2, 0, 1, agent="expert", success=None)], collected={"seed": 3})
        write(NAME, data)
        found = minari.load_dataset("llmrl/rooms-v0")
        assert (found.total_episodes, found.total_steps) == (3, 6)
        assert found.storage.metadata["algorithm_name"] == "expert, random"
        assert found.storage.metadata["llmrl"]["content"] == data.content()
        for space in (found.observation_space, found.action_space):
            assert isinstance(space, Text)
        for episode in found:
            assert all(text in found.observation_space for text in episode.observations)
            assert all(text in found.action_space for text in episode.actions)
        episode = found[1]
        assert list(episode.observations) == ["room 0", "room 1", "room 2", "room 3"]
        assert episode.terminations.tolist() == [False, False, True]
        assert [json.loads(menu) for menu in episode.infos["actions"]] == [["east", "west"]] * 3 + [[]]
        assert "success" not in found[2].infos
        assert [path.name for path in store.iterdir()] == ["llmrl"]
        assert sorted(path.name for path in (store / "llmrl").iterdir()) == ["namespace_metadata.json", "rooms-v0"]

    def test_there_and_back_is_the_same_file(self) -> None:
        @settings(max_examples=20, deadline=None)
        @given(any_rows())
        def there_and_back(given_rows: list[dict[str, Any]]) -> None:
            plain = without_zeros(given_rows)
            if any(len(set(row["actions"])) < len(row["actions"]) for row in plain):
                plain = rows(2)  # two texts became one
            if any(len(set(row["next_actions"])) < len(row["next_actions"]) for row in plain):
                plain = rows(2)
            with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
                patch.setenv("MINARI_DATASETS_PATH", folder)
                first, again, lines = (Path(folder) / name for name in ("a.parquet", "b.parquet", "b.jsonl"))
                write(first, built(plain, collected={"mix": {"random": 0.5}}))
                assert convert(first, NAME) == convert(NAME, again) == convert(NAME, lines) == len(plain)
                assert again.read_bytes() == first.read_bytes()
                assert list(read(lines).rows()) == plain

        there_and_back()

    def test_what_the_commands_say(self, tmp_path: Path) -> None:
        write(tmp_path / "a.parquet", built(rows(2, 3)))

        def typed(*words: str | Path) -> tuple[int, str]:
            done = CliRunner().invoke(app, ["data", *map(str, words)])
            return done.exit_code, done.output

        assert typed("convert", tmp_path / "a.parquet", NAME) == (0, f"{NAME}: 5 transitions\n")
        assert typed("verify", NAME) == (0, f"{NAME}: 5 transitions, nothing wrong\n")
        assert f"{NAME}: 5 transitions, 2 episodes\n" in typed("info", NAME)[1]
        assert "episode 1: task 1" in typed("head", NAME)[1]
        code, text = typed("convert", tmp_path / "a.parquet", NAME)
        assert (code, "is there already" in text) == (2, True)
        code, text = typed("verify", "minari:llmrl/none-v0")
        assert (code, "minari download llmrl/none-v0" in text) == (2, True)
        for name in ("rooms", "../rooms-v0", "a b-v0", "", "/rooms-v0"):
            code, text = typed("convert", tmp_path / "a.parquet", f"minari:{name}")
            assert (code, "a name is [NAMESPACE/]NAME-vNUMBER" in " ".join(text.split())) == (2, True), name
        code, text = typed("convert", NAME, tmp_path / "b.parquet", "--cut", "3")
        assert (code, "--cut is for .pkl files" in " ".join(text.split())) == (2, True)

    def test_a_text_that_hdf5_cannot_hold_is_named(self, store: Path) -> None:
        given = rows(2, 2)
        given[2] |= {"actions": ["east", "a\0b"]}
        with pytest.raises(DataError, match="episode 1: its actions holds a character of code 0"):
            write(NAME, built(given))
        assert not (store / "llmrl").exists()

    def test_a_write_that_fails_leaves_nothing(self, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import h5py

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(h5py.Group, "create_dataset", full)
            with pytest.raises(OSError, match="No space left"):
                write(NAME, built(rows(2)))
        assert [path.name for path in (store / "llmrl").iterdir()] == ["namespace_metadata.json"]
        write(NAME, built(rows(2)))

    @pytest.mark.parametrize(
        ("key", "at", "value", "said"),
        [
            ("rewards", 0, 7.0, "episode 1: its rows are not those that were written"),
            ("observations", 1, b"elsewhere", "episode 1: its rows are not those that were written"),
            ("terminations", 0, True, "episode 1, row 0: its episode continues after its end"),
            ("actions", 1, b"north", "episode 1, row 1: its action is not on its menu"),
            (
                "infos/actions",
                1,
                b"[east",
                r"episode 1, observation 1: its `actions` are '\[east', and have to be a JSON",
            ),
            ("infos/duration", 1, 0, "episode 1, row 0: its duration is below 1"),
            ("infos/task", 1, b"another", "episode 1, row 1: task changes within an episode"),
        ],
    )
    def test_what_was_changed_is_named(self, store: Path, key: str, at: int, value: Any, said: str) -> None:
        import h5py

        write(NAME, built(rows(2, 3)))
        with h5py.File(store / "llmrl/rooms-v0/data/main_data.hdf5", "a") as file:
            file[f"episode_1/{key}"][at] = value
        with pytest.raises(DataError, match=said):
            read(NAME)

    def test_what_is_missing_or_torn_is_named(self, store: Path) -> None:
        import h5py

        write(NAME, built(rows(2, 3)))
        data = store / "llmrl/rooms-v0/data"
        whole = (data / "main_data.hdf5").read_bytes()
        with h5py.File(data / "main_data.hdf5", "a") as file:
            file.move("episode_0", "other")
            file.move("episode_1", "episode_0")
            file.move("other", "episode_1")
        with pytest.raises(DataError, match="some are missing, or in another order"):
            read(NAME)
        (data / "main_data.hdf5").write_bytes(whole)
        with h5py.File(data / "main_data.hdf5", "a") as file:
            del file["episode_1/infos/duration"]
        with pytest.raises(DataError, match="episode 1: its rows are not those that were written"):
            read(NAME)
        (data / "main_data.hdf5").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DataError, match=f"{NAME} cannot be read"):
            read(NAME)
        (data / "metadata.json").write_text("{")
        with pytest.raises(DataError, match=f"{NAME} cannot be read"):
            read(NAME)


class TestOfOthers:
    @pytest.fixture(autouse=True)
    def store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("minari")
        pytest.importorskip("h5py")
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))

    def make(self, data_format: str = "hdf5", spaces: dict[str, Any] | None = None, **changed: Any) -> Path:
        """An episode of two decisions, made with Minari's own function."""
        import minari
        from gymnasium.spaces import Text
        from minari.data_collector import EpisodeBuffer

        episode = {
            "observations": ["a", "b", "c"], "actions": ["go", "stop"], "rewards": [0.0, 1.0],
            "terminations": [False, True], "truncations": [False, False],
            "infos": {"actions": ['["go","stop"]', '["stop"]', "[]"]},
        } | changed  # fmt: skip
        texts = {"observation_space": Text(9), "action_space": Text(9)} | (spaces or {})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            minari.create_dataset_from_buffers(
                "of/others-v1", [EpisodeBuffer(**episode)], data_format=data_format, **texts
            )
        return Path("minari:of/others-v1")

    @pytest.mark.parametrize("data_format", ["hdf5", "arrow", "parquet"])
    def test_a_set_with_menus_is_read(self, data_format: str) -> None:
        data = read(self.make(data_format))
        assert data.about == {"imported": "minari:of/others-v1"}
        assert list(data.rows()) == [
            {"episode": 0, "task": "", "observation": "a", "actions": ["go", "stop"], "action": "go", "reward": 0.0,
             "duration": 1, "terminated": False, "truncated": False, "next_observation": "b", "next_actions": ["stop"],
             "success": None, "task_id": "", "agent": ""},
            {"episode": 0, "task": "", "observation": "b", "actions": ["stop"], "action": "stop", "reward": 1.0,
             "duration": 1, "terminated": True, "truncated": False, "next_observation": "c", "next_actions": [],
             "success": None, "task_id": "", "agent": ""},
        ]  # fmt: skip

    def test_menus_may_end_with_the_last_decision(self) -> None:
        infos = {"actions": ['["go"]', '["stop"]'], "task": ["win"] * 2, "success": [False, True]}
        found = list(read(self.make(infos=infos)).rows())
        assert [(row["task"], row["success"]) for row in found] == [("win", True)] * 2
        assert found[1]["next_actions"] == []

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"infos": {"task": ["x"] * 3}}, "episode 0: its infos have no `actions`, the menu .*; they have task$"),
            ({"infos": {}}, "its infos have no `actions`, .*; they have nothing$"),
            ({"infos": {"actions": ["[]"]}}, "its infos have 1 `actions`, and it has 3 observations"),
            (
                {"infos": {"actions": ["[1]"] * 3}},
                r"observation 0: its `actions` are '\[1\]', and have to be a JSON list",
            ),
            ({"infos": {"actions": ['["go", "stop"]'] * 3, "task": ["x"]}}, "its infos have 1 `task`, and it has 2"),
            ({"terminations": [False, False]}, "row 1: (its episode stops here without an end|it ends nothing)"),
            ({"observations": ["a", "b"]}, "it has 2 rewards and 2 observations, and needs one more"),
            ({"rewards": [0.0, float("nan")]}, "episode 0, row 1: its reward is no finite number"),
        ],
    )
    def test_what_it_lacks_is_named(self, changed: dict[str, Any], said: str) -> None:
        with pytest.raises(DataError, match=said):
            read(self.make(**changed))

    def test_other_spaces_are_refused(self) -> None:
        from gymnasium.spaces import Discrete

        name = self.make(spaces={"action_space": Discrete(3)}, actions=[0, 1])
        with pytest.raises(DataError, match=r"its actions are Discrete\(3\), and a data set has texts"):
            read(name)


def test_an_unknown_form_names_minari_too(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\.parquet or \.jsonl, or minari:NAME"):
        convert(tmp_path / "a.parquet", tmp_path / "a.csv")
