"""A thought first, and conversations: what is asked, under what name it is kept, and what a person is shown."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from fixture_lm import ACTIONS, PROMPTS, build_llama
from rich.console import Console
from small_server import SmallServer

from llmrl.answers.answers import AnswerCache, Answers
from llmrl.cli.play_screen import play
from llmrl.config.compose import ConfigError, compose
from llmrl.lm.identify import chat_template
from llmrl.lm.language_model import Conversation, ModelIdentity, Sampling, Score, distance
from llmrl.lm.openai_lm import OpenAILM, VllmLM
from llmrl.lm.transformers_lm import TransformersLM
from llmrl.play import open_game
from llmrl.prompts.thinking import Thinking
from llmrl.run.identity import identify_run

GOLDEN_LM = Path(__file__).parent.parent / "golden" / "lm"
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<me>{% endif %}"
)
THOUGHT, ACTION = Sampling(max_tokens=32, stop="\n"), Sampling(max_tokens=8, stop="\n")


class Thinker:
    """Thinks one of two things, by its seed; then names its prompt's end and the seed."""

    engine, provenance = "thinker", {}
    identity = ModelIdentity("thinker", "1", "float32", "none")

    def score(self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]) -> list[list[Score]]:
        return [[Score(-float(len(p + c)), 1) for c in cs] for p, cs in zip(prompts, continuations, strict=True)]

    def sample(self, prompts: Sequence[str], seeds: Sequence[Sequence[int]], sampling: Sampling) -> list[list[str]]:
        if sampling == THOUGHT:
            return [[f" hm{seed % 2}" for seed in some] for some in seeds]
        return [[f"{p[-9:]}|{seed - some[0]}" for seed in some] for p, some in zip(prompts, seeds, strict=True)]


def answers(cache: AnswerCache | None = None) -> Answers:
    model = Thinker()
    return Answers(cache or AnswerCache(":memory:"), model.identity, model.engine, lambda: model)


def test_a_shared_thought_is_had_once_and_stands_before_every_answer() -> None:
    kept = answers()
    thinking = Thinking(kept, THOUGHT, " so:", each=False)
    ((thought,),) = thinking.thoughts(["p"], 9)
    (texts,) = thinking.generations(["p"], 3, ACTION)
    assert texts == [f"p{thought} so:|{i}"[-11:] for i in range(3)]
    assert kept.counts.computed == 4  # one thought, three answers
    assert thinking.scores(["p"], [["a", "bcd"]]) == kept.scores([f"p{thought} so:"], [["a", "bcd"]])


def test_each_answer_has_a_thought_and_equal_thoughts_are_followed_by_different_answers() -> None:
    thinking = Thinking(answers(), THOUGHT, " so:", each=True)
    (thoughts,) = thinking.thoughts(["p"], 6)
    (texts,) = thinking.generations(["p"], 6, ACTION)
    assert set(thoughts) == {" hm0", " hm1"}
    for i, (thought, text) in enumerate(zip(thoughts, texts, strict=True)):
        assert text == f"p{thought} so:|{thoughts[:i].count(thought)}"[-11:]
    assert thinking.generations(["p"], 4, ACTION) == [texts[:4]]  # fewer are the first of them


# ---- conversations ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> TransformersLM:
    folder = tmp_path_factory.mktemp("chat") / "talker"
    build_llama(folder, context=512)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return TransformersLM(str(folder), device="cpu")


@pytest.fixture(scope="module")
def server(talker: TransformersLM) -> Iterator[SmallServer]:
    with SmallServer(talker) as server:
        yield server


@pytest.fixture
def said(talker: TransformersLM) -> list[Conversation]:
    return [
        Conversation([{"role": "system", "content": "Play."}, {"role": "user", "content": p}], "t") for p in PROMPTS
    ]


def folder_of(lm: TransformersLM) -> str:
    return str(lm.tokenizer.name_or_path)


def test_a_conversation_is_scored_as_its_template_writes_it(talker: TransformersLM, said: list[Conversation]) -> None:
    rendered = [f"<system>Play.\n<user>{p}\n<me>" for p in PROMPTS]
    ids = [talker.tokenizer(text, add_special_tokens=False)["input_ids"] for text in rendered]
    assert talker.texts.prompts(said) == ids
    assert json.loads(said[0]) == {"messages": list(said[0].messages), "template": "t"}
    more = said[0].and_then("I think.", "And now?")
    assert [m["role"] for m in more.messages] == ["system", "user", "assistant", "user"]


def test_a_server_scores_and_answers_conversations_as_the_model_does(
    talker: TransformersLM, server: SmallServer, said: list[Conversation]
) -> None:
    served = VllmLM(folder_of(talker), url=server.url, dtype="float32")
    prompts = [*said, PROMPTS[0]]  # beside a plain one
    menus = [ACTIONS] * len(prompts)
    assert distance(served.score(prompts, menus), talker.score(prompts, menus)) < 1e-4
    seeds = [[1, 2]] * len(prompts)
    assert served.sample(prompts, seeds, ACTION) == talker.sample(prompts, seeds, ACTION)
    assert all("messages" not in body for body in server.seen)  # they went as tokens
    served.close()
    plain = OpenAILM("talker", url=server.url, tokenizer="theirs")
    server.without = frozenset({"tokenize", "version"})
    assert plain.sample(said, [[1, 2]] * 4, ACTION) == talker.sample(said, [[1, 2]] * 4, ACTION)
    assert "messages" in server.seen[-1]
    server.without = frozenset()
    plain.close()


def test_the_template_names_the_run(talker: TransformersLM, tmp_path: Path) -> None:
    folder = folder_of(talker)
    chat = ["lm=hf", f"lm.model={folder}", "prompt=chat", "prompt.end='</s>'"]
    before = identify_run(compose(chat)).id
    assert identify_run(compose([*chat, "prompt.system=Hello."])).id != before
    file = Path(folder) / "chat_template.jinja"
    file.write_text(f"{TEMPLATE} ")
    assert identify_run(compose(chat)).id != before
    file.write_text(TEMPLATE)
    assert identify_run(compose(chat)).id == before
    with pytest.raises(ValueError, match="has no chat template"):
        chat_template(str(GOLDEN_LM))
    assert chat_template("theirs/model", None, "declared") == "of declared"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["prompt=cot", "prompt.think=each"], "scores actions after one thought"),
        (["prompt.system=Hello."], "prompt.kind=chat does"),
        (["prompt.think_tokens=7"], "prompt.think=shared or each does"),
        (["prompt=cot", "prompt.think=twice"], "choose one of shared, each"),
    ],
)
def test_settings_that_nothing_reads_are_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compose(overrides)


# ---- play ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [["prior=generated", "prompt.think=each"], ["prior=generated"], ["prior=scored"]])
def test_play_shows_thoughts_and_projects_what_follows_them(
    more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMRL_CACHE", str(tmp_path / "kept.sqlite3"))
    model = ["lm=hf", f"lm.model={GOLDEN_LM}", "lm.device=cpu", "prompt=cot", "prompt.think_tokens=12"]
    game = open_game([*model, *more, "env=overcooked_tomato", "learner=prior_only"])
    console = Console(file=io.StringIO(), width=100)
    play(game, console, steps=1)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    if "prompt.think=each" in more:
        assert shown.count("thought ") == shown.count("→") >= 5
    else:
        assert shown.count("thought:") == 1
    assert game.answers is not None
    assert game.answers.counters()["lm/generated_tokens"] > 0
