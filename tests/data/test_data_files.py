"""Data sets in files: round trips, what damage does, and pickles that are not run."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.datasets import any_rows, built, row, rows
from hypothesis import given, settings

from llmrl.data.dataset import UNKNOWN, DataError
from llmrl.data.files import content_of, convert, read, write
from llmrl.data.frames import FrameWriter, read_frames
from llmrl.data.parquet import read_about


@settings(max_examples=25, deadline=None)
@given(any_rows())
def test_every_form_gives_the_rows_back(given: list[dict[str, Any]]) -> None:
    data = built(given, collected={"mix": "random"})
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a.parquet", "a.jsonl"):
            path = Path(folder) / name
            write(path, data)
            again = read(path)
            assert list(again.rows()) == given
            assert again.about == data.about
            assert again.content() == data.content()
        framed = _framed(Path(folder) / "a.part", given)
        assert list(read(framed).rows()) == given
        first = (Path(folder) / "a.parquet").read_bytes()
        convert(Path(folder) / "a.jsonl", Path(folder) / "b.parquet")
        assert (Path(folder) / "b.parquet").read_bytes() == first


def _framed(path: Path, given: list[dict[str, Any]], about: dict[str, Any] | None = None) -> Path:
    writer = FrameWriter(path, about or {"seed": 1})
    for episode in range(given[-1]["episode"] + 1):
        writer.add([row for row in given if row["episode"] == episode], {"tried": episode})
    writer.close()
    return path


def test_a_parquet_file_says_what_it_is(tmp_path: Path) -> None:
    data = built(rows(2, 3), seed=4)
    write(tmp_path / "a.parquet", data)
    assert content_of(tmp_path / "a.parquet") == data.content()
    assert read_about(tmp_path / "a.parquet")["seed"] == 4
    with pytest.raises(DataError, match="is there already"):
        convert(tmp_path / "a.parquet", tmp_path / "a.parquet")


def test_a_text_is_stored_once(tmp_path: Path) -> None:
    long = "x" * 10_000
    given = [row | {"task": long} for row in rows(*[3] * 50)]
    write(tmp_path / "a.parquet", built(given))
    _framed(tmp_path / "a.part", given)
    assert all((tmp_path / name).read_bytes().count(b"x" * 5_000) <= 2 for name in ("a.parquet", "a.part"))
    assert (tmp_path / "a.part").stat().st_size < 30_000


# ---- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["a.parquet", "a.jsonl", "a.part"])
def test_a_file_that_was_cut_off_is_named_wherever_it_was(form: str, tmp_path: Path) -> None:
    path = tmp_path / form
    _framed(path, rows(2, 3)) if form == "a.part" else write(path, built(rows(2, 3)))
    whole = path.read_bytes()
    lines = [i + 1 for i, byte in enumerate(whole[:-1]) if byte == ord("\n")] if form == "a.jsonl" else []
    for length in {0, 1, 10, len(whole) // 2, len(whole) - 30, len(whole) - 1, *lines}:
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=str(path)):
            read(path)


def test_a_parquet_file_that_was_changed(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    write(tmp_path / "a.parquet", built(rows(2, 3)))
    table = pq.read_table(tmp_path / "a.parquet")
    changed = table.set_column(table.column_names.index("reward"), "reward", pa.array([0.5] * 5))
    pq.write_table(changed, tmp_path / "b.parquet")
    with pytest.raises(DataError, match="its rows are not those that were written"):
        read(tmp_path / "b.parquet")
    bad = table.set_column(table.column_names.index("action"), "action", pa.array(["east"] * 4 + ["north"]))
    pq.write_table(bad.replace_schema_metadata(table.schema.metadata), tmp_path / "c.parquet")
    with pytest.raises(DataError, match=r"c\.parquet"):  # not of the kind, or not on the menu
        read(tmp_path / "c.parquet")
    pq.write_table(table.drop(["reward"]), tmp_path / "d.parquet")
    with pytest.raises(DataError, match=r"d\.parquet has no column reward"):
        read(tmp_path / "d.parquet")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "e.parquet")
    with pytest.raises(DataError, match=r"is a Parquet file, but none of llmrl.s: write its rows as \.jsonl"):
        read(tmp_path / "e.parquet")


def test_no_bit_can_change_without_being_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write(path, built(rows(2, 3)))
    whole, content = path.read_bytes(), read(path).content()
    for at in range(0, len(whole), 23):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        with suppress(DataError):
            assert read(path).content() == content  # what nobody reads: a statistic, the name of the writer


def test_values_that_no_column_holds(tmp_path: Path) -> None:
    for changed, said in (
        ({"duration": 10**12}, "row 0: duration is 1000000000000, and is 2,147,483,647 at most"),
        ({"reward": 10**400}, "row 0: reward is a whole number that no float can hold"),
        ({"agent": "a\ud800"}, "cannot be written as UTF-8"),
        ({"task": [[0] * 100] * 100}, "row 0: task is [[0, 0, 0, 0, 0, 0, ...]"),
    ):
        with pytest.raises(DataError) as error:
            built([row(0, 0, 1, **changed)])
        assert said in str(error.value)
        assert len(str(error.value)) < 400
    path = tmp_path / "a.jsonl"
    path.write_text('{"llmrl_data": 1}\n' + "[" * 100_000 + "\n")
    with pytest.raises(DataError, match=r"a\.jsonl, row 0 \(line 2\)"):
        read(path)


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write(path, built(rows(2, 3)))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:3], "{broken\n", *lines[4:]]))
    with pytest.raises(DataError, match=r"a\.jsonl, row 2 \(line 4\)"):
        read(path)
    path.write_text("".join([*lines[:3], lines[3].replace('"reward": 0.0', '"reward": NaN'), *lines[4:]]))
    with pytest.raises(DataError, match=r"a\.jsonl, row 2: its reward is no finite number"):
        read(path)
    path.write_text("".join(lines[1:]))
    with pytest.raises(DataError, match=r"line 1: a data set begins with"):
        read(path)


def test_files_of_no_known_form(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a file that ends in \.parquet or"):
        read(tmp_path / "a.csv")
    with pytest.raises(DataError, match="there is no such file"):
        read(tmp_path / "a.parquet")
    write(tmp_path / "a.parquet", built(rows(1)))
    with pytest.raises(DataError, match=r"--cut is for \.pkl files"):
        read(tmp_path / "a.parquet", cut=3)


# ---- while it is collected -------------------------------------------------------------------------------------------


def test_what_a_kill_tore_is_written_again(tmp_path: Path) -> None:
    given = rows(2, 3, 1)
    whole = _framed(tmp_path / "whole.part", given).read_bytes()
    path = tmp_path / "a.part"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        writer = FrameWriter(path, {"seed": 1})
        assert writer.kept == [(n, {"tried": i}) for i, n in enumerate((2, 3, 1))][: len(writer.kept)]
        for episode in range(len(writer.kept), 3):
            writer.add([row for row in given if row["episode"] == episode], {"tried": episode})
        writer.close()
        assert path.read_bytes() == whole


def test_zeros_that_a_power_cut_left_are_no_record(tmp_path: Path) -> None:
    path = _framed(tmp_path / "a.part", rows(2))
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(64))
    with pytest.raises(DataError, match=r"a\.part, record 2: it is torn or damaged"):
        read(path)
    writer = FrameWriter(path, {"seed": 1})
    assert len(writer.kept) == 1
    writer.close()
    assert path.read_bytes() == whole


def test_two_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.part"
    first = FrameWriter(path, {"seed": 1})
    first.add(rows(2), {})
    with pytest.raises(DataError, match="is being written by another `llmrl collect`"):
        FrameWriter(path, {"seed": 1})
    first.close()
    second = FrameWriter(path, {"seed": 1})
    assert len(second.kept) == 1
    second.close()


def test_another_collection_does_not_go_on_with_it(tmp_path: Path) -> None:
    path = _framed(tmp_path / "a.part", rows(2))
    before = path.read_bytes()
    with pytest.raises(DataError, match="was begun otherwise \\(seed: 1 there, 2 now\\)"):
        FrameWriter(path, {"seed": 2})
    assert path.read_bytes() == before
    about, _ = read_frames(path)
    assert about == {"seed": 1}


# ---- the paper's tuples ----------------------------------------------------------------------------------------------


def _tuples(*lengths: int, done: bool = True) -> list[tuple[Any, ...]]:
    return [
        (
            r["task"], r["observation"], r["action"], r["next_observation"], r["reward"], done and r["terminated"],
            r["actions"], ["east", "west"],
        )
        for r in rows(*lengths)
    ]  # fmt: skip


def _pickled(path: Path, value: Any) -> Path:
    path.write_bytes(pickle.dumps(value))
    return path


def test_the_papers_layout(tmp_path: Path) -> None:
    path = _pickled(tmp_path / "a.pkl", [*_tuples(2), *_tuples(3, done=False), *_tuples(1)])
    data = read(path)
    assert data["episode"].tolist() == [0, 0, 1, 1, 1, 2]
    assert data["terminated"].tolist() == [False, True, False, False, False, True]
    assert data["truncated"].tolist() == [False, False, False, False, True, False]
    assert data["success"].tolist() == [1, 1, UNKNOWN, UNKNOWN, UNKNOWN, 1]
    assert data.about == {"imported": "a.pkl", "cut": None}
    assert read(path, cut=3)["success"].tolist() == [1, 1, 0, 0, 0, 1]
    cut = read(path, cut=2)
    assert cut["episode"].tolist() == [0, 0, 1, 1, 2, 3]
    convert(path, tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet").content() == data.content()


class _Hostile:
    def __reduce__(self) -> Any:
        return os.mkdir, ("made_by_a_pickle",)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (_Hostile(), "mkdir"),
        ([_Hostile()], "mkdir"),
        (np.zeros(2), "numpy"),
        ([("t", "o", "a", "n", np.float64(1), False, ["a"], ["a"])], "numpy"),
        (OrderedDict(a=1), "collections.OrderedDict"),
    ],
)
def test_a_pickle_that_wants_more_than_containers(
    value: Any, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = _pickled(tmp_path / "a.pkl", value)
    with pytest.raises(DataError, match=f"a.pkl wants .*{named}.*nothing was loaded"):
        read(path)
    assert not (tmp_path / "made_by_a_pickle").exists()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"rows": []}, "holds dict, and has to hold a list of tuples"),
        ([1, 2], "row 0: a int, and not the tuple"),
        ([("t", "o")], "row 0: a tuple of 2, and not the tuple of 8"),
        ([*_tuples(1), ("t", "o", 3, "n", 0.0, True, ["a"], ["a"])], "row 1: action is 3"),
        ([("t", "o", "b", "n", 0.0, True, ["a"], ["a"])], "row 0: its action is not on its menu"),
        ([("t", "o", "a", "n", float("nan"), True, ["a"], ["a"])], "row 0: its reward is no finite number"),
        ([("t", "o", "a", "n", 10**400, True, ["a"], ["a"])], "row 0: reward is 1000"),
    ],
)
def test_tuples_that_are_none(value: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        read(_pickled(tmp_path / "a.pkl", value))
    assert said in str(error.value)
    assert str(tmp_path / "a.pkl") in str(error.value)


def _trajectories(*lengths: int, done: bool = True) -> list[tuple[int, float, list[tuple[Any, ...]]]]:
    found = [_tuples(length, done=done) for length in lengths]
    return [(len(episode), float(sum(row[4] for row in episode)), episode) for episode in found]


def test_the_papers_trajectories(tmp_path: Path) -> None:
    """Two episodes that a list of tuples could not tell apart; one that was cut."""
    path = _pickled(tmp_path / "raw_trajectory_data.pt", [*_trajectories(2, 1), *_trajectories(3, done=False)])
    data = read(path)
    assert data["episode"].tolist() == [0, 0, 1, 2, 2, 2]
    assert data["terminated"].tolist() == [False, True, True, False, False, False]
    assert data["truncated"].tolist() == [False, False, False, False, False, True]
    assert data["success"].tolist() == [1, 1, 1, 0, 0, 0]
    convert(path, tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet").content() == data.content()
    with pytest.raises(DataError, match="says itself where its episodes end"):
        read(path, cut=3)
    with pytest.raises(DataError, match="says itself where its episodes end"):
        read(_pickled(tmp_path / "a.pkl", _trajectories(2)), cut=3)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([*_trajectories(2), (2, 1.0)], "trajectory 1: (2, 1.0), and not (steps, return, tuples)"),
        ([(3, 1.0, _tuples(2))], "trajectory 0: steps is 3"),
        ([(0, 0.0, [])], "trajectory 0: steps is 0"),
        ([(2, 0.0, _tuples(2))], "trajectory 0: return is 0.0, and its rewards sum to 1"),
        ([(2, float("nan"), _tuples(2))], "trajectory 0: return is nan"),
        ([*_trajectories(1), (1, 0.0, [("t", "o", 3, "n", 0.0, True, ["a"], ["a"])])], "trajectory 1, row 0: action"),
        ([(1, 0.0, [_Hostile()])], "mkdir"),
    ],
)
def test_trajectories_that_are_none(value: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as error:
        read(_pickled(tmp_path / "a.pt", value))
    assert said in str(error.value)
    assert not (tmp_path / "made_by_a_pickle").exists()


def test_a_small_pickle_stands_for_no_more_rows_than_there_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmrl.data.paper_pickle.MOST", 10)
    with pytest.raises(DataError, match="stands for more than 10 rows"):
        read(_pickled(tmp_path / "a.pt", _trajectories(2) * 6))


def test_a_torn_pickle(tmp_path: Path) -> None:
    data = pickle.dumps(_tuples(3))
    (tmp_path / "a.pkl").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="cannot be read as a pickle"):
        read(tmp_path / "a.pkl")


def test_rows_that_hold_other_columns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 0: reward is missing"):
        built([{key: value for key, value in row(0, 0, 1).items() if key != "reward"}])
