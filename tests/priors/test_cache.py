from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrl.lm.language_model import LanguageModelError, ModelIdentity, Sampling, Score
from llmrl.priors import cache as module
from llmrl.priors.cache import AnswerCache, AnswerCacheError, Answers, canonical, record_key

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
from llmrl.priors.cache import AnswerCache
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
def test_a_foreign_file_is_left_as_it_is(tmp_path: Path, kind: str):
    path = tmp_path / "mine"
    foreign(path, kind)
    before = path.read_bytes()
    with pytest.raises(AnswerCacheError, match="no answer cache"):
        AnswerCache(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["mine"]


def test_a_damaged_file_is_an_error_not_a_miss(cache: AnswerCache):
    for i in range(200):
        cache.add({f"question {i}": {"a": "x" * 500}}, {})
    cache.close()
    size = cache.path.stat().st_size
    with cache.path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 8192))
    damaged = cache.path.read_bytes()
    with pytest.raises(AnswerCacheError, match="damaged"):
        AnswerCache(cache.path).read([record_key(f"question {i}") for i in range(200)])
    assert cache.path.read_bytes() == damaged


def test_a_later_schema_is_refused(cache: AnswerCache):
    cache._db.execute("UPDATE meta SET value = '2' WHERE name = 'schema'")
    with pytest.raises(AnswerCacheError, match="has schema 2, this version of llmrl reads 1: upgrade"):
        AnswerCache(cache.path)


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
