"""The models that tiny-1 is compared with: they are built whole, read as much, and are measured on other kitchens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import llmrl
from llmrl.build import build_answers
from llmrl.config.compose import compose
from llmrl.envs.kitchen import text
from llmrl.envs.kitchen.layouts import random_kitchen
from llmrl.lm.language_model import Score
from llmrl.prompts.prompt import Prompt
from scripts.tiny import ladder, quality
from scripts.tiny.build import Training, build
from scripts.tiny.corpus import CorpusConfig, Example, examples
from scripts.tiny.quality import Exam, Question, exam, measure

FEW = CorpusConfig(kitchens=3, walkthroughs=2, howtos=5)
SMALL = Training(width=32, layers=1, steps=2, batch_tokens=512)


def held_out() -> Exam:
    return exam(kitchens=1, ingredients=(1,), states=5)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "smallest"
    build(folder, FEW, 300, SMALL, held_out())
    return folder


@cache
def told(cfg: CorpusConfig) -> list[Example]:
    return list(examples(cfg, Prompt(compose([]).prompt)))


def test_what_is_built_loads_as_a_model_of_a_run_and_scores(built: Path, tmp_path: Path) -> None:
    cfg = compose(["lm=hf", f"lm.model={built}", "lm.device=cpu", f"paths.cache={tmp_path / 'answers.sqlite3'}"])
    question = held_out()["way"][0][0]
    (scores,) = build_answers(cfg).scores([question.prompt], [question.actions])
    assert len(scores) == len(question.actions)
    assert all(np.isfinite(score.logprob) and score.logprob < 0 for score in scores)


def test_the_card_says_what_was_read_and_how_good_the_model_is(built: Path) -> None:
    card = json.loads((built / "card.json").read_text())
    assert card["corpus_texts"] == len(told(FEW))
    assert (card["worlds"], card["episodes"]) == (3, 6)
    assert 2 * SMALL.batch_tokens >= card["tokens_trained"] > SMALL.batch_tokens
    assert card["seconds"] >= 0
    assert card["training"] == asdict(SMALL)
    again = measure(built, held_out())
    assert (card["expert_mass"], card["log_likelihood"]) == (again["expert_mass"], again["log_likelihood"])


def test_a_build_is_a_function_of_its_settings(built: Path, tmp_path: Path) -> None:
    card = json.loads((built / "card.json").read_text())
    same = build(tmp_path / "same", FEW, 300, SMALL, held_out())
    untrained = build(tmp_path / "untrained", FEW, 300, replace(SMALL, steps=0), held_out())
    assert same["sha256"] == card["sha256"] != untrained["sha256"]
    assert (untrained["tokens_trained"], untrained["worlds"], untrained["episodes"]) == (0, 0, 0)


def test_random_authors_tell_as_many_texts_and_give_no_advice() -> None:
    cook = told(FEW)
    random = told(replace(FEW, author="random", howtos=0, texts=len(cook)))
    assert len(random) == len(cook)
    assert all(example.prompt for example in random)
    assert any(not example.prompt for example in cook)
    orders = {example.prompt.split("\n")[0] for example in cook if example.prompt}
    assert {example.prompt.split("\n")[0] for example in random} == orders


def test_texts_are_dropped_evenly_and_never_made_up() -> None:
    everything = told(FEW)
    some = told(replace(FEW, texts=40))
    assert len(some) == 40
    at = [everything.index(example) for example in some]
    assert max(at) > len(everything) / 2 > min(at)
    with pytest.raises(ValueError, match=f"texts={len(everything) + 1}: .* give {len(everything)};"):
        told(replace(FEW, texts=len(everything) + 1))


def test_the_ladder_starts_from_what_tiny_1_read() -> None:
    card = json.loads((Path(llmrl.__file__).parent / "lm" / "tiny" / "tiny-1" / "card.json").read_text())
    settings = json.loads(json.dumps(asdict(ladder.COOK)))
    assert {key: settings[key] for key in card["corpus"]} == card["corpus"]
    assert card["corpus_texts"] == ladder.COOK_TEXTS == ladder.RANDOM.texts


def test_a_complete_rung_is_not_built_again_and_never_mistaken_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder, "RUNGS", {"untrained": ladder.Rung(FEW, 32, 1, trained=False)})
    monkeypatch.setattr(ladder, "exam", held_out)
    ladder.climb(["untrained"], tmp_path, steps=600)
    (tmp_path / "untrained" / "model.safetensors").write_bytes(b"left alone")
    ladder.climb(["untrained"], tmp_path, steps=600)
    assert (tmp_path / "untrained" / "model.safetensors").read_bytes() == b"left alone"

    monkeypatch.setattr(ladder, "RUNGS", {"untrained": ladder.Rung(FEW, 64, 1, trained=False)})
    with pytest.raises(ValueError, match="other settings"):
        ladder.climb(["untrained"], tmp_path, steps=600)

    (tmp_path / "untrained" / "card.json").unlink()  # the last thing written: what lacks it was cut off
    ladder.climb(["untrained"], tmp_path, steps=600)
    assert json.loads((tmp_path / "untrained" / "card.json").read_text())["training"]["width"] == 64


class Known:
    """A model that writes each action with a given probability."""

    def __init__(self, *probabilities: float) -> None:
        self.row = [Score(float(np.log(p)), 1) for p in probabilities]

    def score(self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]) -> list[list[Score]]:
        return [self.row[: len(texts)] for texts in continuations]


def test_expert_mass_is_a_share_of_the_menu_and_the_likelihood_of_everything() -> None:
    mass, log_likelihood = quality._answer(Known(0.1, 0.2, 0.1), Question("", ("a", "b", "c"), (0, 1)))
    assert mass == pytest.approx(0.75)
    assert log_likelihood == pytest.approx(np.log(0.3))


def test_chance_is_what_a_model_without_preferences_reaches() -> None:
    for which, share in quality.chance(held_out()).items():
        questions = held_out()[which][0]
        answers = [quality._answer(Known(*[0.01] * len(q.actions)), q)[0] for q in questions]
        assert share == pytest.approx(np.mean(answers))


def test_models_are_asked_about_dev_kitchens_without_earlier_actions() -> None:
    order = text.task(random_kitchen("dev", 0, 1))
    for which, kitchens in held_out().items():
        (questions,) = kitchens
        assert questions
        assert len(questions) <= 5 or which == "way"
        for question in questions:
            assert question.prompt.startswith(order)
            assert "Before:" not in question.prompt
            assert question.expert
            assert set(question.expert) <= set(range(len(question.actions)))
