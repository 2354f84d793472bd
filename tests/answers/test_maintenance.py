"""Looking at kept answers, and carrying them from one file to another."""

from __future__ import annotations

import shutil
import sqlite3
import struct
import tempfile
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrl.answers.answers import AnswerCache, AnswerCacheError, canonical, record_key, row_key
from llmrl.answers.inspection import info, verify
from llmrl.answers.pruning import Selection, prune
from llmrl.answers.records import as_utc
from llmrl.answers.transfer import export, import_
from llmrl.lm.language_model import ModelIdentity

SMALL = ModelIdentity("small", "0123", "float32", "4567")
LARGE = ModelIdentity("large", "89ab", "float32", "4567")
ENCODER = canonical({"class": "ModelEncoder", "pooling": "mean", **asdict(SMALL)})


def question(text: str, mode: str = "score", model: ModelIdentity = SMALL) -> str:
    return canonical({"engine": "e", "mode": mode, "model": asdict(model), "parameters": None, "text": text})


def row(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def opened(path: Path) -> AnswerCache:
    """A cache that does not wait for the disk."""
    return AnswerCache(path, durable=False)


def fill(path: Path, records: int = 3) -> Path:
    cache = opened(path)
    for i in range(records):
        cache.add({question(f"p{i}"): {" go\n": [-1.5, 2], " stay\n": [-0.5, 2]}}, {"torch": "1"})
        cache.add({question(f"p{i}", "generate", LARGE): {"0": "go", "1": "stay"}}, {"torch": "2"})
        cache.add({question(f"p{i}"): {" wait\n": [0.0, 1]}}, {"torch": "3"})
        cache.add_rows(ENCODER, {f"text {i}": row(i, 0.5)}, {"torch": "1"})
    cache.close()
    return path


def dump(path: Path) -> tuple[dict[str, dict], dict[bytes, bytes]]:
    """All answers and all rows."""
    db = sqlite3.connect(path)
    questions = [q for (q,) in db.execute("SELECT question FROM questions")]
    rows = dict(db.execute("SELECT key, floats FROM feature_rows"))
    db.close()
    cache = AnswerCache(path)
    found = cache.read([record_key(q) for q in questions])
    cache.close()
    return dict(zip(questions, found, strict=True)), rows


def change(path: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(path) as db:
        assert db.execute(statement, values).rowcount > 0


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return fill(tmp_path / "kept")


# ---- info, verify ----------------------------------------------------------------------------------------------------


def test_info_counts_by_model_engine_and_mode(kept: Path):
    change(kept, "UPDATE answers SET at = '2020-01-02T03:04:05+00:00' WHERE part = 1")
    found = info(kept)
    assert (found.path, found.schema) == (kept, 2)
    assert found.bytes >= kept.stat().st_size
    small, large = sorted(found.answers, key=lambda group: group.about["mode"], reverse=True)
    assert small.about == {"engine": "e", "mode": "score", "model": asdict(SMALL)}
    assert (small.prompts, small.answers) == (3, 9)
    assert small.first == "2020-01-02T03:04:05+00:00" < small.last
    assert (large.about["model"]["model"], large.prompts, large.answers) == ("large", 3, 6)
    (rows,) = found.rows
    assert (rows.about["pooling"], rows.answers) == ("mean", 3)


def test_a_healthy_cache_verifies_and_stays_as_it_is(kept: Path):
    before = kept.read_bytes()
    found = verify(kept)
    assert (found.prompts, found.answers, found.rows, found.problems) == (6, 15, 3, [])
    assert kept.read_bytes() == before


DAMAGES = {
    "its key is not the hash of its question": "UPDATE questions SET question = question || ' ' WHERE rowid = 1",
    "its answers are no JSON object": "UPDATE answers SET answers = '[1]' WHERE part = 1",
    "has no log-probability": "UPDATE answers SET answers = '{\"a\":[0.5,1]}' WHERE part = 1",
    "has no log-probability: [nan": "UPDATE answers SET answers = '{\"a\":[NaN,1]}' WHERE part = 1",
    "has no number of tokens": "UPDATE answers SET answers = '{\"a\":[-0.5,0]}' WHERE part = 1",
    "answered twice: ' go\\n'": "UPDATE answers SET answers = '{\" go\\n\":[-0.5,1]}' WHERE part = 1",
    "is no text": "UPDATE answers SET answers = '{\"0\":1}' WHERE answers LIKE '{\"0\"%'",
    "is no number of a generation": 'UPDATE answers SET answers = \'{"00":"x"}\' WHERE answers LIKE \'{"0"%\'',
    "where it came from is unknown": "UPDATE answers SET provenance = 99 WHERE part = 1",
    "is no time": "UPDATE answers SET at = 'yesterday' WHERE part = 1",
    "no answers": "DELETE FROM answers WHERE part = 0",
    "answers without a question": "DELETE FROM questions WHERE rowid = 1",
    "its key is not the hash of its text": "UPDATE feature_rows SET text = 'another' WHERE rowid = 1",
    "its length is not 2": "UPDATE feature_rows SET floats = x'00000000' WHERE rowid = 1",
    "a feature is not a number": "UPDATE feature_rows SET floats = x'000000000000c07f' WHERE rowid = 1",
    "its encoder is unknown": "UPDATE feature_rows SET encoder = 9 WHERE rowid = 1",
}


@pytest.mark.parametrize("problem", DAMAGES)
def test_verify_names_what_is_wrong(kept: Path, problem: str):
    change(kept, DAMAGES[problem])
    found = verify(kept)
    assert any(problem in line for line in found.problems)
    prune(kept, Selection(damaged=True), really=True)
    left = [line for line in verify(kept).problems if problem in line]
    assert left == []


def test_rounding_above_0_is_no_damage(kept: Path):
    change(kept, "UPDATE answers SET answers = '{\" wait\\n\":[1e-7,1]}' WHERE part = 1")
    assert verify(kept).problems == []


@pytest.mark.parametrize("look", [info, verify])
def test_to_look_makes_and_moves_nothing(tmp_path: Path, look):
    path = tmp_path / "kept"
    with pytest.raises(AnswerCacheError, match="there is no such file"):
        look(path)
    path.write_bytes(b"x" * 5000)
    with pytest.raises(AnswerCacheError, match="is no answer cache: nothing can be read"):
        look(path)
    assert path.read_bytes() == b"x" * 5000
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


# ---- prune -----------------------------------------------------------------------------------------------------------


def test_prune_says_what_would_go_and_then_does_it(kept: Path):
    before = dump(kept)
    counted = prune(kept, Selection(models=["large"]), really=False)
    assert (counted.prompts, counted.answers, counted.rows) == (3, 6, 0)
    assert dump(kept) == before
    assert prune(kept, Selection(models=["large"]), really=True).answers == 6
    answers, rows = dump(kept)
    assert answers == {q: record for q, record in before[0].items() if "large" not in q}
    assert rows == before[1]
    assert verify(kept).problems == []
    with sqlite3.connect(kept) as db:
        assert db.execute("SELECT count(*) FROM provenance").fetchone() == (2,)


def test_prune_takes_what_all_conditions_hold_for(kept: Path):
    change(kept, "UPDATE answers SET at = '2020-01-02T03:04:05+00:00' WHERE part = 1")
    assert prune(kept, Selection(mode="rows", models=["large"]), really=True).rows == 0
    assert prune(kept, Selection(mode="generate", models=["small"]), really=True).answers == 0
    old = prune(kept, Selection(before=as_utc("2021-01-01")), really=True)
    assert (old.prompts, old.answers, old.rows) == (0, 3, 0)
    assert {frozenset(record) for q, record in dump(kept)[0].items() if "score" in q} == {
        frozenset([" go\n", " stay\n"])
    }
    AnswerCache(kept).add({question("p0"): {" wait\n": [-9.0, 1]}}, {})
    assert dump(kept)[0][question("p0")][" wait\n"] == [-9.0, 1]
    assert prune(kept, Selection(mode="rows"), really=True).rows == 3
    assert dump(kept)[1] == {}


def test_prune_gives_the_space_back(tmp_path: Path):
    path = fill(tmp_path / "kept", 300)
    before = path.stat().st_size
    found = prune(path, Selection(models=["small"]), really=True)
    assert found.bytes > before // 3
    assert path.stat().st_size == before - found.bytes


def test_something_must_be_said_to_prune():
    with pytest.raises(ValueError, match=r"--model NAME, --mode, --before DATE or --damaged"):
        Selection()
    with pytest.raises(ValueError, match="use one of score, generate, rows"):
        Selection(mode="sampled")
    with pytest.raises(ValueError, match="--before soon: type a date"):
        as_utc("soon")
    assert as_utc("2026-01-31") == "2026-01-31T00:00:00+00:00"
    assert as_utc("2026-01-31T12:00+02:00") == "2026-01-31T10:00:00+00:00"


# ---- export, import --------------------------------------------------------------------------------------------------

names = st.sampled_from([" go\n", " stay\n", "“ü”\u2028"])
scores = st.tuples(st.floats(-50, 0), st.integers(1, 9)).map(list)
answered = st.dictionaries(names, scores, min_size=1)
contents = st.lists(
    st.tuples(st.sampled_from("pqr"), st.sampled_from([SMALL, LARGE]), answered, st.integers(0, 3)), max_size=6
)


def make(path: Path, content: list) -> Path:
    cache = opened(path)
    for prompt, model, found, number in content:
        cache.add({question(prompt, model=model): found}, {"number": str(number)})
        cache.add_rows(ENCODER, {f"{prompt} {number}": row(number, len(found))}, {"number": str(number)})
    cache.close()
    return path


@given(contents.filter(len))
@settings(deadline=None, max_examples=15)
def test_an_export_that_is_imported_is_the_same(content: list):
    with tempfile.TemporaryDirectory() as folder:
        kept = make(Path(folder) / "kept", content)
        out, copy = Path(folder) / "out", Path(folder) / "copy"
        written = export(kept, out)
        assert not written.problems
        found = import_(opened(copy), out)
        assert dump(copy) == dump(out) == dump(kept)
        assert (found.answers, found.rows, found.known) == (written.answers, written.rows, 0)
        again = import_(opened(copy), out)
        assert (again.answers, again.rows, again.differing) == (0, 0, 0)
        assert again.known == written.answers + written.rows
        assert verify(copy).problems == []


@given(contents, contents)
@settings(deadline=None, max_examples=15)
def test_merged_in_either_order_the_same_is_known(one: list, other: list):
    with tempfile.TemporaryDirectory() as folder:
        a, b = make(Path(folder) / "a", one), make(Path(folder) / "b", other)
        ab, ba = (Path(shutil.copy(x, Path(folder) / name)) for x, name in ((a, "ab"), (b, "ba")))
        first, second = import_(opened(ab), b), import_(opened(ba), a)
        (in_ab, rows_ab), (in_ba, rows_ba) = dump(ab), dump(ba)
        assert {q: record.keys() for q, record in in_ab.items()} == {q: record.keys() for q, record in in_ba.items()}
        assert rows_ab.keys() == rows_ba.keys()
        (in_a, rows_a), (in_b, rows_b) = dump(a), dump(b)
        assert all(name in in_a.get(q, {}) or name in in_b[q] for q, record in in_ab.items() for name in record)
        for q, record in in_a.items():
            assert in_ab[q].items() >= record.items()  # what was here stays
        for key, floats in rows_a.items():
            assert rows_ab[key] == floats
        shared = [(q, name) for q in in_a.keys() & in_b.keys() for name in in_a[q].keys() & in_b[q].keys()]
        differing = sum(in_a[q][name] != in_b[q][name] for q, name in shared)
        differing += sum(rows_a[key] != rows_b[key] for key in rows_a.keys() & rows_b.keys())
        assert first.differing == second.differing == differing
        assert verify(ab).problems == verify(ba).problems == []


def test_an_export_holds_the_models_that_were_named(kept: Path, tmp_path: Path):
    found = export(kept, tmp_path / "large", models=["large"])
    assert (found.prompts, found.answers, found.rows) == (3, 6, 0)
    found = export(kept, tmp_path / "small", identities=[asdict(SMALL)])
    assert (found.prompts, found.answers, found.rows) == (3, 9, 3)
    with sqlite3.connect(tmp_path / "small") as db:
        sources = {body for (body,) in db.execute("SELECT body FROM provenance")}
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert sources == {'{"torch":"1"}', '{"torch":"3"}'}
    with pytest.raises(AnswerCacheError, match="holds nothing of unknown"):
        export(kept, tmp_path / "none", models=["unknown"])
    with pytest.raises(AnswerCacheError, match="holds nothing of small"):
        export(kept, tmp_path / "none", identities=[asdict(SMALL) | {"revision": "another"}])
    assert not (tmp_path / "none").exists()


def test_an_export_overwrites_nothing(kept: Path, tmp_path: Path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(AnswerCacheError, match="exists and is left as it is"):
        export(kept, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"
    assert {p.name for p in tmp_path.iterdir()} <= {"kept", "kept-wal", "kept-shm", ".kept.lock", "out"}


def test_an_exported_file_serves_as_a_cache(kept: Path, tmp_path: Path):
    out = tmp_path / "out"
    export(kept, out)
    cache = AnswerCache(out)
    assert cache.note is None
    cache.add({question("new"): {" go\n": [-1.0, 1]}}, {})
    assert len(dump(out)[0]) == 7


def test_what_is_wrong_is_left_out_of_an_import(kept: Path, tmp_path: Path):
    change(
        kept,
        "UPDATE answers SET answers = '{\" go\\n\":[2.5,1]}' WHERE key = ? AND part = 0",
        record_key(question("p0")),
    )
    change(kept, "UPDATE questions SET question = 'nothing' WHERE key = ?", record_key(question("p1")))
    change(kept, "UPDATE feature_rows SET floats = x'00' WHERE key = ?", row_key(ENCODER, "text 2"))
    copy = tmp_path / "copy"
    found = import_(opened(copy), kept)
    assert len(found.problems) == 3
    answers, rows = dump(copy)
    assert question("p1") not in answers
    assert answers[question("p0")] == {" wait\n": [0.0, 1]}
    assert answers[question("p2")] == {" go\n": [-1.5, 2], " stay\n": [-0.5, 2], " wait\n": [0.0, 1]}
    assert set(rows) == {row_key(ENCODER, "text 0"), row_key(ENCODER, "text 1")}
    assert verify(copy).problems == []


def test_a_damaged_file_is_read_as_far_as_it_goes(tmp_path: Path):
    path = fill(tmp_path / "kept", 400)
    whole, rows = dump(path)
    pages = path.stat().st_size // 4096
    with path.open("r+b") as file:
        for page in range(30, pages, 9):
            file.seek(4096 * page)
            file.write(b"\xff" * 4096)
    assert any("SQLite" in line for line in verify(path).problems)
    copy = tmp_path / "copy"
    found = import_(opened(copy), path)
    assert found.problems
    saved, saved_rows = dump(copy)
    assert len(whole) // 3 < len(saved) < len(whole)
    assert all(whole[q].items() >= record.items() for q, record in saved.items())
    assert saved_rows.items() <= rows.items()
    assert verify(copy).problems == []
    with pytest.raises(AnswerCacheError, match=r"damaged as a file.*cache import"):
        prune(path, Selection(damaged=True), really=True)


def test_an_import_takes_caches_alone(kept: Path, tmp_path: Path):
    cache = AnswerCache(kept)
    (tmp_path / "text").write_text("x" * 9000)
    with pytest.raises(AnswerCacheError, match="is no answer cache"):
        import_(cache, tmp_path / "text")
    with sqlite3.connect(tmp_path / "another") as db:
        db.execute("CREATE TABLE answers (mine)")
    with pytest.raises(AnswerCacheError, match="is no answer cache"):
        import_(cache, tmp_path / "another")
    with pytest.raises(AnswerCacheError, match="is the cache itself"):
        import_(cache, kept)
    with pytest.raises(AnswerCacheError, match="no such file"):
        import_(cache, tmp_path / "absent")
    change(kept, "UPDATE meta SET value = '3'")
    with pytest.raises(AnswerCacheError, match="has schema 3"):
        import_(opened(tmp_path / "new"), kept)


def test_a_cache_of_schema_1_can_be_looked_at_and_imported(kept: Path, tmp_path: Path):
    whole, _ = dump(kept)
    with sqlite3.connect(kept) as db:
        db.executescript("DROP TABLE feature_rows; DROP TABLE encoders; UPDATE meta SET value = '1'")
    assert (info(kept).schema, info(kept).rows) == (1, [])
    assert verify(kept).problems == []
    import_(opened(tmp_path / "new"), kept)
    assert dump(tmp_path / "new") == (whole, {})
    assert info(kept).schema == 1


@pytest.mark.parametrize("row_id", [b"\x80\x64", b"\x83\x2c"])  # 100, and 428: other rows have come, or will not come
def test_damaged_row_ids_are_named_and_looked_past(tmp_path: Path, row_id: bytes):
    cache = opened(tmp_path / "kept")
    cache.add({question(f"p{i}"): {" go\n": [-1.0, 1]} for i in range(600)}, {})
    cache.close()
    with closing(sqlite3.connect(tmp_path / "kept", isolation_level=None)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.execute("PRAGMA journal_mode = DELETE")
        (stored,) = db.execute("SELECT question FROM questions WHERE rowid = 300").fetchone()
    data = bytearray((tmp_path / "kept").read_bytes())
    text = data.find(stored.encode())
    at = data.rfind(b"\x82\x2c", text - 48, text)  # 300, as SQLite writes it
    assert at > 0
    data[at : at + 2] = row_id
    (tmp_path / "kept").write_bytes(data)
    found = verify(tmp_path / "kept")
    assert any("row ids are out of order" in problem for problem in found.problems)
    into = opened(tmp_path / "other")
    import_(into, tmp_path / "kept")
    into.close()
    assert len(dump(tmp_path / "other")[0]) >= 590  # a search by number misses some beside it
