from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrl.answers import answers as module
from llmrl.answers import cache_file
from llmrl.answers.answers import (
    AnswerCache,
    AnswerCacheError,
    Answers,
    KeptRows,
    Questions,
    canonical,
    record_key,
    row_key,
)
from llmrl.lm.language_model import LanguageModelError, ModelIdentity, Sampling, Score

IDENTITY = ModelIdentity("small", "0123", "float32", "4567")
ACTIONS = [" take the cup\n", " put down the cup\n", " go north\n"]


class Model:
    """Answers that depend on the question and on `salt`, and a list of what was asked."""

    engine = "arithmetic"

    def __init__(self, salt: float = 1.0, identity: ModelIdentity = IDENTITY) -> None:
        self.salt, self.identity = salt, identity
        self.asked: list[tuple[str, object]] = []
        self.provenance = {"salt": str(salt)}

    def logprob(self, prompt: str, continuation: str) -> float:
        return -self.salt / (1 + len(prompt) + 7 * len(continuation))

    def score(self, prompts, continuations):
        self.asked += [(p, c) for p, texts in zip(prompts, continuations, strict=True) for c in texts]
        return [
            [Score(self.logprob(p, c), len(c)) for c in texts] for p, texts in zip(prompts, continuations, strict=True)
        ]

    def sample(self, prompts, seeds, sampling):
        self.asked += [(p, seed) for p, mine in zip(prompts, seeds, strict=True) for seed in mine]
        return [[f"{p} {seed} {self.salt}" for seed in mine] for p, mine in zip(prompts, seeds, strict=True)]


def answers(cache: AnswerCache, model: Model) -> Answers:
    return Answers(cache, model.identity, model.engine, lambda: model)


@pytest.fixture
def cache(tmp_path: Path) -> AnswerCache:
    return AnswerCache(tmp_path / "deep" / "answers.sqlite")


# ---- asking once -----------------------------------------------------------------------------------------------------


def test_a_second_run_needs_no_model(cache: AnswerCache):
    model = Model()
    prompts, menus = ["b", "a", "b"], [ACTIONS, ACTIONS[:1], ACTIONS[::-1]]
    first = answers(cache, model)
    scores = first.scores(prompts, menus)
    assert scores == [
        [Score(model.logprob(p, c), len(c)) for c in menu] for p, menu in zip(prompts, menus, strict=True)
    ]
    texts = first.generations(["a", "b"], 3, Sampling())
    assert sorted(model.asked, key=str) == sorted(set(model.asked), key=str)
    assert (first.counts.calls, first.counts.computed, first.counts.hits) == (2, 4 + 6, 0)
    assert first.counts.scored_tokens == sum(map(len, ACTIONS)) + len(ACTIONS[0])

    again = Answers(AnswerCache(cache.path), IDENTITY, Model.engine, lambda: pytest.fail("loaded the model"))
    assert again.scores(prompts, menus) == scores
    assert again.generations(["a", "b"], 3, Sampling()) == texts
    assert again.generations(["b", "a"], 2, Sampling()) == [texts[1][:2], texts[0][:2]]
    assert (again.counts.calls, again.counts.computed, again.counts.hits) == (0, 0, 4 + 6 + 4)


def test_more_extends_a_record_and_changes_nothing_in_it(cache: AnswerCache):
    old, new = Model(salt=1.0), Model(salt=2.0)
    kept = answers(cache, old).scores(["p"], [ACTIONS[:2]])
    [extended] = answers(cache, new).scores(["p"], [ACTIONS])
    assert new.asked == [("p", ACTIONS[2])]
    assert extended == [*kept[0], Score(new.logprob("p", ACTIONS[2]), len(ACTIONS[2]))]

    [few] = answers(cache, old).generations(["p"], 2, Sampling())
    [more] = answers(cache, new).generations(["p"], 5, Sampling())
    assert more[:2] == few
    assert [text.split()[-1] for text in more] == ["1.0", "1.0", "2.0", "2.0", "2.0"]


@given(st.lists(st.lists(st.tuples(st.sampled_from("pqr"), st.sets(st.sampled_from(ACTIONS))), max_size=4), max_size=6))
def test_whatever_the_order_everything_is_asked_once(calls):
    model = Model()
    asker = answers(AnswerCache(":memory:"), model)
    for call in calls:
        menus = [sorted(menu) for _, menu in call]
        found = asker.scores([p for p, _ in call], menus)
        assert [[s.logprob for s in scores] for scores in found] == [
            [model.logprob(p, c) for c in menu] for (p, _), menu in zip(call, menus, strict=True)
        ]
    wanted = {(p, c) for call in calls for p, menu in call for c in menu}
    assert len(model.asked) == len(wanted)
    assert set(model.asked) == wanted
    assert asker.counts.computed == len(wanted)


def test_seeds_are_the_hash_of_the_record_plus_the_index(cache: AnswerCache):
    model, sampling = Model(), Sampling(max_tokens=4, draw_seed=3)
    answers(cache, model).generations(["p"], 2, sampling)
    question = canonical(
        {
            "engine": "arithmetic",
            "mode": "generate",
            "model": {"model": "small", "revision": "0123", "dtype": "float32", "tokenizer": "4567"},
            "parameters": {"max_tokens": 4, "temperature": 1.0, "top_p": 1.0, "stop": "\n", "draw_seed": 3},
            "text": "p",
        }
    )
    base = int(record_key(question).hex()[:12], 16)
    assert model.asked == [("p", base), ("p", base + 1)]


def test_the_name_of_a_record_never_changes():
    """If it did, every answer kept so far would be asked again."""
    question = canonical({"text": "é\n", "mode": "score", "parameters": None, "p": [1.0, 0.95]})
    assert question == '{"mode":"score","p":[1.0,0.95],"parameters":null,"text":"é\\n"}'
    assert record_key(question).hex() == "3bf01b259c47e0f0d3b09ef62cd96a9abd52736faf2e34d7b364208e3ffa530a"


texts = st.text(max_size=20)
plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), texts)
nested = st.recursive(plain, lambda inner: st.dictionaries(texts, inner, max_size=4) | st.lists(inner, max_size=3))
fields = st.fixed_dictionaries({"engine": texts, "mode": texts, "model": nested, "parameters": nested})


@given(fields, texts, st.randoms())
def test_a_key_does_not_depend_on_the_order_of_fields(one: dict, text: str, rng: random.Random):
    def shuffled(value):
        if isinstance(value, dict):
            return {key: shuffled(value[key]) for key in rng.sample(sorted(value), len(value))}
        return [shuffled(item) for item in value] if isinstance(value, list) else value

    whole = one | {"text": text}
    assert record_key(canonical(shuffled(whole))) == record_key(canonical(whole))
    questions = Questions(shuffled(one))
    assert questions.text(text) == canonical(whole)
    assert questions.keys([text]) == [record_key(canonical(whole))]
    assert json.loads(questions.text(text)) == whole


@given(fields, texts, fields, texts)
def test_keys_are_equal_exactly_if_the_questions_are(one: dict, text: str, other: dict, another: str):
    def typed(value):  # 1, 1.0 and true are equal in Python, and not in JSON
        if isinstance(value, dict):
            return {key: typed(inner) for key, inner in value.items()}
        return [typed(item) for item in value] if isinstance(value, list) else (type(value).__name__, repr(value))

    equal = (typed(one), text) == (typed(other), another)
    assert (Questions(one).keys([text]) == Questions(other).keys([another])) == equal


@given(texts, texts)
def test_texts_that_differ_have_keys_that_differ(one: str, other: str):
    about = {"engine": "e", "mode": "score", "model": {}, "parameters": None}
    first, second = Questions(about).keys([one, other])
    assert (first == second) == (one == other)
    assert (row_key("{}", one) == row_key("{}", other)) == (one == other)
    assert row_key('{"pooling":"cls"}', one) != row_key('{"pooling":"mean"}', one)


@pytest.mark.parametrize("field", ["model", "revision", "dtype", "tokenizer"])
def test_another_model_has_other_records(cache: AnswerCache, field: str):
    answers(cache, Model(1.0)).scores(["p"], [ACTIONS])
    other = Model(2.0, ModelIdentity(**{**vars(IDENTITY), field: "another"}))
    answers(cache, other).scores(["p"], [ACTIONS])
    assert len(other.asked) == 3


@pytest.mark.parametrize(
    "other", [{"max_tokens": 5}, {"temperature": 0.5}, {"top_p": 0.5}, {"stop": "."}, {"draw_seed": 1}]
)
def test_other_parameters_have_other_records(cache: AnswerCache, other: dict):
    model = Model()
    asker = answers(cache, model)
    assert asker.generations(["p"], 3, Sampling()) != asker.generations(["p"], 3, Sampling(**other))
    assert len(set(model.asked)) == 6


def test_every_float_and_text_comes_back_as_it_was(cache: AnswerCache):
    rng = random.Random(0)
    values = [-rng.random() * 10 ** rng.randint(-12, 3) for _ in range(200)] + [0.0, -5e-324]
    found = {f"“{i}” ü\u2028\x00\n\\": [value, i] for i, value in enumerate(values)}
    cache.add({"q": found}, {})
    assert AnswerCache(cache.path).read([record_key("q")]) == [found]


# ---- only what is kept ----------------------------------------------------------------------------------------------


def test_only_what_is_kept_may_be_used(cache: AnswerCache):
    model = Model()
    kept = answers(cache, model).scores(["a", "b"], [ACTIONS, ACTIONS[:1]])
    only = Answers(cache, IDENTITY, Model.engine, lambda: pytest.fail("loaded the model"), cached_only=True)
    assert only.scores(["a", "b"], [ACTIONS, ACTIONS[:1]]) == kept
    with pytest.raises(AnswerCacheError) as error:
        only.scores(["a", "b", "c" * 70], [ACTIONS] * 3)
    message = str(error.value)
    assert message.startswith("only cached answers may be used, and 2 of 3 prompts (5 of 9 answers, mode score) of ")
    assert f"are not kept in {cache.path}; the first begins 'b': " in message
    assert "cached_only" in message
    assert "llmrl cache import FILE" in message
    with pytest.raises(AnswerCacheError, match=r"1 of 1 prompts \(3 of 3 answers, mode generate\).*'c{60}\.\.\.'"):
        only.generations(["c" * 70], 3, Sampling())
    assert len(model.asked) == 4


def rows_of(kept: KeptRows, texts: list[str], computed: list[str], salt: int = 0) -> list[bytes]:
    def compute(some: list[str]) -> list[bytes]:
        computed.extend(some)
        return [bytes([len(text), salt, 0, 0]) for text in some]

    return kept.rows({"model": "small", "pooling": "mean"}, texts, compute, lambda: {"salt": str(salt)})


def test_a_feature_row_is_computed_once_and_then_stands(cache: AnswerCache, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "COMMIT_EVERY", 2)
    kept, computed = KeptRows(cache), []
    assert kept.dim({"model": "small", "pooling": "mean"}) is None
    found = rows_of(kept, ["a", "bb", "a", "ccc"], computed)
    assert found == [bytes([n, 0, 0, 0]) for n in (1, 2, 1, 3)]
    assert computed == ["a", "bb", "ccc"]
    again: list[str] = []
    assert rows_of(KeptRows(AnswerCache(cache.path)), ["ccc", "dddd", "a"], again, salt=7) == [
        found[3], bytes([4, 7, 0, 0]), found[0]
    ]  # fmt: skip
    assert again == ["dddd"]
    assert kept.dim({"pooling": "mean", "model": "small"}) == 1
    assert kept.dim({"pooling": "cls", "model": "small"}) is None


def test_the_row_that_was_stored_first_is_the_row(cache: AnswerCache):
    """Also for a process that computed its own in the meantime."""

    def late(some: list[str]) -> list[bytes]:
        rows_of(KeptRows(AnswerCache(cache.path)), some, [], salt=1)
        return [b"mine"] * len(some)

    encoder = {"model": "small", "pooling": "mean"}
    assert KeptRows(cache).rows(encoder, ["a"], late, dict) == [bytes([1, 1, 0, 0])]


def test_rows_that_may_not_be_computed_are_counted(cache: AnswerCache):
    only, computed = KeptRows(cache, cached_only=True), []
    with pytest.raises(AnswerCacheError, match=r"no feature row of small.*cache import"):
        only.dim({"model": "small", "pooling": "mean"})
    rows_of(KeptRows(cache), ["a"], computed)
    assert rows_of(only, ["a"], computed) == [bytes([1, 0, 0, 0])]
    with pytest.raises(AnswerCacheError, match=r"2 of 3 feature rows of small.*the first of the text 'bb'"):
        rows_of(only, ["a", "bb", "ccc", "bb"], computed)
    assert computed == ["a"]


# ---- models that fail ------------------------------------------------------------------------------------------------


def test_what_was_answered_before_an_outage_is_kept(cache: AnswerCache, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "COMMIT_EVERY", 2)
    model = Model()

    def fails(prompts, continuations):
        if "d" in prompts:
            raise LanguageModelError("the server is gone")
        return Model.score(model, prompts, continuations)

    monkeypatch.setattr(model, "score", fails)
    with pytest.raises(LanguageModelError):
        answers(cache, model).scores(list("abcde"), [ACTIONS] * 5)
    later = Model(2.0)
    answers(AnswerCache(cache.path), later).scores(list("abcde"), [ACTIONS] * 5)
    assert {p for p, _ in later.asked} == set("cde")


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_what_is_no_number_is_never_kept(cache: AnswerCache, value: float):
    with pytest.raises(LanguageModelError, match="not a number"):
        answers(cache, Model(salt=value)).scores(["p"], [ACTIONS])
    assert cache._db.execute("SELECT count(*) FROM answers").fetchone() == (0,)


def test_too_few_answers_are_none(cache: AnswerCache, monkeypatch: pytest.MonkeyPatch):
    model = Model()
    monkeypatch.setattr(model, "sample", lambda prompts, seeds, sampling: [["only one"] for _ in prompts])
    with pytest.raises(ValueError, match="zip"):
        answers(cache, model).generations(["p"], 2, Sampling())
    assert cache._db.execute("SELECT count(*) FROM answers").fetchone() == (0,)


def test_the_model_that_is_loaded_must_be_the_one_declared(cache: AnswerCache):
    declared = ModelIdentity("small", "beef", "float32", "4567")
    with pytest.raises(LanguageModelError, match="not the one that was declared"):
        Answers(cache, declared, "arithmetic", Model).scores(["p"], [ACTIONS])
    with pytest.raises(LanguageModelError, match="not the one that was declared"):
        Answers(cache, IDENTITY, "vllm", Model).scores(["p"], [ACTIONS])


# ---- provenance ------------------------------------------------------------------------------------------------------


def test_each_answer_says_where_it_came_from(cache: AnswerCache):
    for salt in (1.0, 2.0):
        answers(cache, Model(salt)).scores(["p", "q"], [ACTIONS[: int(salt) + 1]] * 2)
    db = sqlite3.connect(cache.path)
    rows = db.execute(
        "SELECT question, part, answers, body, at FROM answers JOIN questions USING (key) "
        "JOIN provenance ON provenance.id = answers.provenance ORDER BY question, part"
    ).fetchall()
    assert [(json.loads(question)["text"], part) for question, part, *_ in rows] == [
        ("p", 0), ("p", 1), ("q", 0), ("q", 1)
    ]  # fmt: skip
    assert [len(json.loads(part)) for _, _, part, *_ in rows] == [2, 1, 2, 1]
    assert [json.loads(body)["salt"] for *_, body, _ in rows] == ["1.0", "2.0"] * 2
    assert {"llmrl", "machine"} < set(json.loads(rows[0][3]))
    assert all(datetime.fromisoformat(at).utcoffset() == timedelta(0) for *_, at in rows)
    assert db.execute("SELECT count(*) FROM provenance").fetchone() == (2,)


# ---- several processes -----------------------------------------------------------------------------------------------


def race(path: Path, me: int, barrier, results) -> None:
    asker = answers(AnswerCache(path), Model(salt=float(me)))
    prompts = [f"prompt {i}" for i in range(120)]
    mine = prompts[10 * me : 10 * me + 10]
    found = {}
    # First prompts that nobody else asks yet, then all together the same ones.
    for some in [mine, *(prompts[i : i + 10] for i in range(0, len(prompts), 10))]:
        barrier.wait()
        scores, texts = asker.scores(some, [ACTIONS] * 10), asker.generations(some, 3, Sampling())
        for prompt, of_prompt, answered in zip(some, scores, texts, strict=True):
            found[prompt] = ([s.logprob for s in of_prompt], [text.split()[-1] for text in answered])
    results.put(found)


def test_processes_that_race_agree(tmp_path: Path):
    """Each would answer differently; the file does not exist when they start."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(4, timeout=120), context.Queue()
    processes = [
        context.Process(target=race, args=(tmp_path / "answers.sqlite", me, barrier, results)) for me in range(1, 5)
    ]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    assert found[0] == found[1] == found[2] == found[3]
    assert {texts[0] for _, texts in found[0].values()} == {"1.0", "2.0", "3.0", "4.0"}


WRITER = """
import sys
from llmrl.answers.answers import AnswerCache
cache, first = AnswerCache(sys.argv[1]), int(sys.argv[2])
for i in range(first, first + 10**9):
    for part in (0, 1):
        questions = {f"question {i} {j}": {f"{part} answer {n}": "x" * 997 for n in range(5)} for j in range(4)}
        cache.add(questions, {"writer": sys.argv[2]})
        print(i, part, flush=True)
"""


def test_a_killed_writer_loses_and_tears_nothing(tmp_path: Path):
    path, acknowledged = tmp_path / "answers.sqlite", []
    for first, after in ((0, 3), (1000, 20), (2000, 41)):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(first)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
        assert writer.stdout is not None
        acknowledged += [tuple(map(int, writer.stdout.readline().split())) for _ in range(after)]
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().splitlines()
        acknowledged += [tuple(map(int, line.split())) for line in rest]
        assert writer.wait() == -signal.SIGKILL

    cache = AnswerCache(path)
    assert cache._db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    for i, part in acknowledged:
        for record in cache.read([record_key(f"question {i} {j}") for j in range(4)]):
            assert {name for name in record if name.startswith(str(part))} == {f"{part} answer {n}" for n in range(5)}
    # Whatever else is there was stored whole: four records at a time, five answers each.
    counts = cache._db.execute("SELECT count(*), min(length(answers)), max(length(answers)) FROM answers").fetchone()
    assert counts[0] % 4 == 0
    assert counts[1] == counts[2]
    assert counts[0] >= 4 * len(acknowledged)


# ---- files that will not do ------------------------------------------------------------------------------------------


def foreign(path: Path, kind: str) -> None:
    if kind == "a text":
        path.write_text("notes\n" * 500)
    elif kind == "a short text":
        path.write_text("x")
    elif kind == "nothing":
        path.touch()
    elif kind == "bytes":
        path.write_bytes(random.Random(0).randbytes(9000))
    elif kind == "another database":
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE answers (mine)")
    elif kind == "an empty database of another program":
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA application_id = 7")


@pytest.mark.parametrize(
    "kind", ["a text", "a short text", "nothing", "bytes", "another database", "an empty database of another program"]
)
def test_a_foreign_file_is_set_aside_and_named(tmp_path: Path, kind: str):
    path = tmp_path / "mine"
    foreign(path, kind)
    before = path.read_bytes()
    cache = AnswerCache(path)
    aside = tmp_path / "mine.set-aside-1"
    assert cache.note == f"{path} was no answer cache: set aside as {aside}, a new one takes its place"
    assert aside.read_bytes() == before
    cache.add({"q": {"a": 1}}, {})
    assert AnswerCache(path).read([record_key("q")]) == [{"a": 1}]
    assert AnswerCache(path).note is None


def fill(path: Path, records: int = 200) -> None:
    cache = AnswerCache(path)
    for i in range(records):
        cache.add({f"question {i}": {"a": "x" * 500}}, {})
    cache.close()


def damage(path: Path, start: int = 20 * 4096, end: int = 4096) -> bytes:
    """All between the first `start` and the last `end` bytes; returns what is there then."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xff" * (size - start - end))
    return path.read_bytes()


def test_damage_that_shows_at_once_is_set_aside(tmp_path: Path):
    path, aside = tmp_path / "kept", tmp_path / "kept.set-aside-1"
    fill(path)
    damaged = damage(path, start=100)
    cache = AnswerCache(path)
    assert cache.note == (
        f"{path} was damaged: set aside as {aside}, a new one takes its place; `llmrl cache import {aside}` brings "
        "back the readable entries"
    )
    assert aside.read_bytes() == damaged
    assert cache.read([record_key("question 1")]) == [{}]


@pytest.mark.parametrize("call", ["read", "add"])
def test_damage_that_shows_later_is_an_error_not_a_miss(tmp_path: Path, call: str):
    path, aside = tmp_path / "kept", tmp_path / "kept.set-aside-1"
    fill(path)
    damaged = damage(path)
    cache = AnswerCache(path)
    assert cache.note is None
    questions = [f"question {i}" for i in range(200)]
    calls = {
        "read": lambda: cache.read([record_key(question) for question in questions]),
        "add": lambda: cache.add({question: {"b": "y"} for question in questions}, {}),
    }
    with pytest.raises(AnswerCacheError, match=r"was damaged: set aside as .*cache import.*same command again"):
        calls[call]()
    assert aside.read_bytes() == damaged
    fresh = AnswerCache(path)
    assert (fresh.note, fresh.read([record_key("question 1")])) == (None, [{}])


def test_only_the_file_that_was_open_is_set_aside(tmp_path: Path):
    """Two find the damage: the second must not move what the first has put in its place."""
    path = tmp_path / "kept"
    fill(path)
    damage(path)
    keys = [record_key(f"question {i}") for i in range(200)]
    one, two = AnswerCache(path), AnswerCache(path)
    with pytest.raises(AnswerCacheError, match="set aside as"):
        one.read(keys)
    fresh = AnswerCache(path)
    fresh.add({"q": {"a": 1}}, {})
    with pytest.raises(AnswerCacheError, match="another process has set it aside"):
        two.read(keys)
    fresh.add({"r": {"a": 2}}, {})
    fresh.close()
    assert AnswerCache(path).read([record_key("q"), record_key("r")]) == [{"a": 1}, {"a": 2}]
    assert [p.name for p in tmp_path.glob("*set-aside-*") if p.suffix == ".set-aside-1"] == ["kept.set-aside-1"]
    assert not list(tmp_path.glob("*set-aside-2*"))


def open_and_store(path: Path, me: int, barrier, results) -> None:
    barrier.wait()
    cache = AnswerCache(path)
    cache.add({f"q{me}": {"a": me}}, {})
    barrier.wait()
    results.put((cache.note, cache.read([record_key(f"q{i}") for i in range(4)])))


@pytest.mark.parametrize("kind", ["damaged", "bytes", "of schema 1"])
def test_processes_that_race_to_open_end_up_with_one_file(tmp_path: Path, kind: str):
    path = tmp_path / "kept"
    if kind == "bytes":
        foreign(path, kind)
    else:
        fill(path)
        damage(path, start=100) if kind == "damaged" else to_schema_1(path)
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(4, timeout=120), context.Queue()
    processes = [context.Process(target=open_and_store, args=(path, me, barrier, results)) for me in range(4)]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    assert [records for _, records in found] == [[{"a": 0}, {"a": 1}, {"a": 2}, {"a": 3}]] * 4
    moved = [p for p in tmp_path.glob("kept.set-aside-*") if p.name.endswith("-1")]
    assert len([note for note, _ in found if note]) == len(moved) == (0 if kind == "of schema 1" else 1)
    assert not list(tmp_path.glob("kept.set-aside-2"))


def test_what_is_not_json_is_named_and_nothing_is_moved(cache: AnswerCache):
    cache.add({"q": {"a": 1}}, {})
    cache._db.execute("UPDATE answers SET answers = '{\"a\":'")
    with pytest.raises(AnswerCacheError, match=r"cannot be read.*llmrl cache verify.*prune --damaged"):
        cache.read([record_key("q")])
    assert AnswerCache(cache.path).note is None


def test_a_later_schema_is_refused_and_stays(cache: AnswerCache):
    cache._db.execute("UPDATE meta SET value = '3' WHERE name = 'schema'")
    cache.close()
    before = cache.path.read_bytes()
    with pytest.raises(AnswerCacheError, match="has schema 3, this version of llmrl reads 2: upgrade"):
        AnswerCache(cache.path)
    assert cache.path.read_bytes() == before


def to_schema_1(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.executescript("DROP TABLE feature_rows; DROP TABLE encoders; UPDATE meta SET value = '1'")


def test_a_file_of_schema_1_is_brought_to_2_and_keeps_its_answers(tmp_path: Path):
    path = tmp_path / "kept"
    fill(path, 3)
    to_schema_1(path)
    cache = AnswerCache(path)
    assert cache.note is None
    assert cache.read([record_key("question 2")]) == [{"a": "x" * 500}]
    cache.add_rows("{}", {"t": b"1234"}, {})
    assert AnswerCache(path).read_rows([row_key("{}", "t")]) == {row_key("{}", "t"): b"1234"}


@pytest.mark.parametrize("where", [".", "file/below"])
def test_a_path_that_cannot_be_a_file(tmp_path: Path, where: str):
    (tmp_path / "file").touch()
    with pytest.raises(AnswerCacheError, match="cannot be opened"):
        AnswerCache(tmp_path / where)


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("PRAGMA query_only = 1", "cannot be opened for writing.*paths.cache"),
        ("PRAGMA max_page_count = 1", "disk is full"),
    ],
)
def test_an_answer_that_cannot_be_stored_is_not_used(cache: AnswerCache, limit: str, message: str):
    answers(cache, Model()).scores(["p"], [ACTIONS])
    cache._db.execute(limit)
    asker = answers(cache, Model())
    menu = [f" action {i} {'x' * 2000}" for i in range(10)]
    with pytest.raises(AnswerCacheError, match=message):
        asker.scores(["q"], [menu])
    assert asker.scores(["p"], [ACTIONS])  # what was kept can still be read
    assert AnswerCache(cache.path).read([record_key("q")]) == [{}]


# ---- a file that another process holds -------------------------------------------------------------------------------


class Busy(sqlite3.OperationalError):
    sqlite_errorname = "SQLITE_BUSY"


def test_what_is_held_is_waited_for(monkeypatch: pytest.MonkeyPatch):
    tries = iter([Busy("database is locked"), Busy("database is locked"), None])

    def work() -> str:
        if (error := next(tries)) is not None:
            raise error
        return "done"

    assert cache_file.patiently(work) == "done"
    monkeypatch.setattr(cache_file, "BUSY_SECONDS", 0.0)
    with pytest.raises(Busy):
        cache_file.patiently(lambda: exec("raise error", {"error": Busy("database is locked")}))


def test_ctrl_c_is_answered_while_another_process_holds_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """SQLite answers no signal while it waits, so it may not wait for long."""
    path = tmp_path / "kept"
    cache = AnswerCache(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        ticks = iter([1.0])  # of the clock that is looked at whenever SQLite has waited
        monkeypatch.setattr(
            cache_file.time, "monotonic", lambda: next(ticks, None) or signal.raise_signal(signal.SIGINT) or 1.0
        )
        with pytest.raises(KeyboardInterrupt):
            cache.add({"q": {"a": 1}}, {})
        monkeypatch.undo()
    cache.add({"q": {"a": 1}}, {})
    monkeypatch.setattr(cache_file, "BUSY_SECONDS", 0.0)
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(AnswerCacheError, match="another process has held the file"):
            cache.add({"r": {"a": 1}}, {})
