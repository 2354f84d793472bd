from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmrl.core.files import publish, publish_folder, read_lines, to_json

KILLED_WRITER = """
import sys
from pathlib import Path
from llmrl.core.files import publish
path, n = Path(sys.argv[1]), 0
while True:
    n += 1
    publish(path, f"{n} " * 50_000)
    if n == 3:
        print("ready", flush=True)
"""


def test_json_is_compact_sorted_and_readable() -> None:
    assert to_json({"b": 1, "a": [None, "é", True]}) == '{"a":[null,"é",true],"b":1}'


def test_numbers_of_numpy_and_torch_are_numbers() -> None:
    values = {"i": np.int64(3), "f": np.float32(0.5), "b": np.bool_(True), "t": torch.tensor(2.0)}
    assert to_json(values) == '{"b":true,"f":0.5,"i":3,"t":2.0}'


@pytest.mark.parametrize("bad", [math.nan, math.inf, np.float32("nan"), torch.tensor(-math.inf)])
def test_what_is_not_finite_is_refused_by_name(bad: object) -> None:
    with pytest.raises(ValueError, match=r"eval/return\[1\] is -?(nan|inf)"):
        to_json({"env_steps": 3, "eval/return": [0.0, bad]})


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(TypeError, match="ndarray"):
        to_json({"x": np.zeros(2)})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_json_reads_back_and_its_bytes_are_a_function_of_the_values(value: dict[str, object]) -> None:
    text = to_json(value)
    assert "\n" not in text
    assert json.loads(text) == value
    assert to_json(dict(reversed(value.items()))) == text


def test_publish_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    publish(tmp_path / "a.txt", "one")
    publish(tmp_path / "a.txt", b"two")
    assert (tmp_path / "a.txt").read_text() == "two"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_kill_leaves_the_file_whole(tmp_path: Path) -> None:
    file = tmp_path / "state.txt"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED_WRITER, str(file)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        writer.kill()
    words = file.read_text().split()
    assert len(words) == 50_000
    assert len(set(words)) == 1


def test_a_published_folder_replaces_the_older_one(tmp_path: Path) -> None:
    publish_folder(tmp_path / "x" / "7", {"a": "1", "b": b"2"})
    publish_folder(tmp_path / "x" / "7", {"a": "3"})
    assert {p.name: p.read_text() for p in (tmp_path / "x" / "7").iterdir()} == {"a": "3"}
    assert os.listdir(tmp_path / "x") == ["7"]


def test_a_folder_that_fails_is_not_published(tmp_path: Path) -> None:
    publish_folder(tmp_path / "7", {"a": "1"})
    with pytest.raises(OSError, match="missing"):
        publish_folder(tmp_path / "7", {"a": "2", "missing/b": "3"})
    assert (tmp_path / "7" / "a").read_text() == "1"
    assert os.listdir(tmp_path) == ["7"]


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "m.jsonl"
    assert list(read_lines(file)) == []
    file.write_bytes(b'{"a":1}\n{"a":2}\n{"a":"\xc3')
    assert list(read_lines(file)) == [{"a": 1}, {"a": 2}]


def test_a_broken_line_inside_is_an_error_that_names_it(tmp_path: Path) -> None:
    file = tmp_path / "m.jsonl"
    file.write_text('{"a":1}\nhello\n{"a":2}\n')
    with pytest.raises(ValueError, match=r"m.jsonl, line 2"):
        list(read_lines(file))
