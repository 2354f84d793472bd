from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrl.core.state import TextState
from llmrl.encoders.encoder import FeatureTable, render
from llmrl.encoders.hash import HashEncoder
from llmrl.schema.encoders import EncoderConfig

TEXTS = [
    ("Leave.\nA hall.", ("go north", "wait")),
    ("Leave.\nA hall.\nwait", ("go north", "wait", "open the red door")),
    ("", ("",)),
    ("Über\nwörter sind ñice", ("geh", "日本")),
]
DIGEST = """
import hashlib
from test_encoders import TEXTS
from llmrl.encoders.hash import HashEncoder
from llmrl.schema.encoders import EncoderConfig
print(hashlib.sha256(b"".join(r.tobytes() for r in HashEncoder(EncoderConfig(dim=32)).encode(TEXTS))).hexdigest())
"""


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_every_process_gets_the_same_numbers(hash_seed: str) -> None:
    here = hashlib.sha256(b"".join(r.tobytes() for r in HashEncoder(EncoderConfig(dim=32)).encode(TEXTS))).hexdigest()
    path = ":".join(p for p in [*map(str, Path(__file__).parents[:3]), *sys.path] if p)
    environ = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", DIGEST], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == here


WORDS = st.text("ab c\n", max_size=30)


@given(st.lists(st.tuples(WORDS, st.lists(WORDS, min_size=1, max_size=5)), min_size=1, max_size=5), st.data())
@settings(max_examples=60, deadline=None)
def test_a_row_depends_on_its_own_text_alone(texts: list[tuple[str, list[str]]], data: st.DataObject) -> None:
    encoder = HashEncoder(EncoderConfig(dim=24))
    together = encoder.encode(texts)
    i = data.draw(st.integers(0, len(texts) - 1))
    j = data.draw(st.integers(0, len(texts[i][1]) - 1))
    ((alone,),) = encoder.encode([(texts[i][0], [texts[i][1][j]])])
    assert together[i][j].tobytes() == alone.tobytes()


def test_rows_are_float32_of_length_near_one_each_text_its_own() -> None:
    encoder = HashEncoder(EncoderConfig(dim=512))
    rows = np.concatenate(encoder.encode(TEXTS))
    assert rows.dtype == np.float32
    assert rows.shape == (8, 512)
    assert len({row.tobytes() for row in rows}) == 8
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.full(8, 512**0.5), rel=0.5)


def test_alike_texts_are_nearer_than_unlike_ones() -> None:
    encoder = HashEncoder(EncoderConfig(dim=512))
    near, same, far = (
        row[0]
        for row in encoder.encode(
            [
                ("Leave.\nA hall with one red door.", ["wait"]),
                ("Leave.\nA hall with one blue door.", ["wait"]),
                ("Cook.\nYou hold the bowl here.", ["serve"]),
            ]
        )
    )
    assert np.linalg.norm(near - same) < 0.8 * np.linalg.norm(near - far)


def test_the_line_of_a_word_and_its_order_matter_but_not_its_case() -> None:
    encoder = HashEncoder(EncoderConfig(dim=32))
    (a,), (b,), (c,), (d,) = encoder.encode(
        [("x\ny z", ["w"]), ("y\nx z", ["w"]), ("x\nz y", ["w"]), ("X\nY z", ["W"])]
    )
    assert not np.array_equal(a, b)
    assert not np.array_equal(a, c)
    assert np.array_equal(a, d)


@pytest.mark.parametrize(("field", "value"), [("seed", 1), ("ngrams", 2)])
def test_settings_change_the_numbers(field: str, value: int) -> None:
    a, b = (
        HashEncoder(EncoderConfig(dim=8, **more)).encode([("one two three four", ["a"])])[0]
        for more in ({}, {field: value})
    )
    assert not np.array_equal(a, b)


def test_no_dimension_is_refused() -> None:
    with pytest.raises(ValueError, match=r"encoder\.dim=0"):
        HashEncoder(EncoderConfig(dim=0))


# ---- what is rendered ------------------------------------------------------------------------------------------------

STATE = TextState("Leave.", "A hall.", ("wait", "go"), (("a", "first"), ("b", "second"), ("c", "third")))


@pytest.mark.parametrize(
    ("turns", "lines"),
    [(0, []), (1, ["third"]), (2, ["third", "second"]), (9, ["third", "second", "first"])],
)
def test_the_last_action_stands_first(turns: int, lines: list[str]) -> None:
    assert render(STATE, turns) == "\n".join(["Leave.", "A hall.", *lines])


# ---- the table -------------------------------------------------------------------------------------------------------


class Recorder:
    """One number that counts, repeated: no two rows alike."""

    def __init__(self, dim: int = 3, history_turns: int = 0) -> None:
        self.dim, self.history_turns = dim, history_turns
        self.seen: list[tuple[str, Sequence[str]]] = []
        self.rows = 0

    def encode(self, texts: Sequence[tuple[str, Sequence[str]]]) -> list[np.ndarray]:
        self.seen += texts
        out = []
        for _, actions in texts:
            out.append(np.repeat(np.arange(self.rows, self.rows + len(actions), dtype=np.float32), 3).reshape(-1, 3))
            self.rows += len(actions)
        return out


ROOMS = st.builds(
    lambda room, menu: TextState("t", f"room {room}", tuple(f"a{i}" for i in range(menu))),
    st.integers(0, 40),
    st.integers(1, 400),
)


@given(st.lists(st.lists(ROOMS, max_size=8), max_size=8))
@settings(max_examples=40, deadline=None)
def test_the_table_encodes_each_text_once_and_keeps_its_rows(batches: list[list[TextState]]) -> None:
    encoder = Recorder()
    table = FeatureTable(encoder)
    known: dict[TextState, int] = {}
    for batch in batches:
        for state, found in zip(batch, table.ids(batch), strict=True):
            assert known.setdefault(state, int(found)) == found
    assert sorted(known.values()) == list(range(len(known)))  # ids are the order of arrival
    assert len(encoder.seen) == len(set(encoder.seen)) == len(known)
    assert table.size == encoder.rows == len(table.features)
    assert table.features[:, 0].tolist() == list(range(table.size))  # nothing was lost as it grew
    for state, i in known.items():
        first = table.first_row_of(state)
        assert first == table.first_row[i]
        assert first + len(state.actions) <= table.size


def test_more_states_than_the_first_room_holds() -> None:
    table = FeatureTable(Recorder())
    states = [TextState("t", str(i), ("a",)) for i in range(2500)]
    assert table.ids(states).tolist() == list(range(2500))
    assert table.first_row[:2500].tolist() == list(range(2500))
    assert table.features[:, 0].tolist() == list(range(2500))


def test_states_whose_texts_are_equal_share_an_id() -> None:
    longer = TextState("Leave.", "A hall.", ("wait", "go"), (("x", "other"), ("b", "second"), ("c", "third")))
    other_menu = TextState("Leave.", "A hall.", ("go", "wait"), STATE.history)
    two, three = FeatureTable(Recorder(history_turns=2)), FeatureTable(Recorder(history_turns=3))
    assert two.ids([STATE, longer, other_menu]).tolist() == [0, 0, 1]
    assert three.ids([STATE, longer, other_menu]).tolist() == [0, 1, 2]


def test_features_are_what_the_encoder_said() -> None:
    encoder = HashEncoder(EncoderConfig(dim=16, history_turns=2))
    table = FeatureTable(encoder)
    table.ids([TextState("t", "elsewhere", ("a", "b")), STATE])
    first = table.first_row_of(STATE)
    (expected,) = encoder.encode([(render(STATE, 2), STATE.actions)])
    assert torch.equal(table.features[first : first + 2], torch.from_numpy(expected))
