"""What the embedded model read, and what is evaluated, share no dish, no layout and no task; and it is the model that
its card describes."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import pytest

import llmrl
from llmrl.config.compose import compose
from llmrl.envs.kitchen import text
from llmrl.envs.kitchen.layouts import (
    MAX_INGREDIENTS,
    TOMATO,
    TOMATO_LETTUCE,
    Split,
    dish_of,
    dishes_of,
    layout_hash,
    overcooked_a,
    random_kitchen,
)
from llmrl.envs.kitchen.world import Kitchen
from llmrl.prompts.prompt import Prompt
from scripts.tiny.corpus import CorpusConfig, Example, examples, kitchens

EMBEDDED = Path(llmrl.__file__).parent / "lm" / "tiny"
MODEL = EMBEDDED / "tiny-1"
FIRST = 2000  # texts; the whole corpus takes 40 s
FIRST_SHA256 = "357e0d79d9b5344ff951899c787ab61d7e00a422160075495256e625e89f64dd"
PER_SETTING = 60  # evaluated kitchens of each split and each number of ingredients
INGREDIENTS = (*range(1, MAX_INGREDIENTS + 1), None)


@cache
def card(model: str = "tiny-1") -> dict[str, Any]:
    return json.loads((EMBEDDED / model / "card.json").read_text())


@cache
def corpus_config() -> CorpusConfig:
    return CorpusConfig.of(card()["corpus"])


@cache
def read() -> list[Kitchen]:
    return kitchens(corpus_config())


@cache
def first_texts() -> list[Example]:
    return list(islice(examples(corpus_config(), Prompt(compose([]).prompt)), FIRST))


def map_a() -> list[Kitchen]:
    return [overcooked_a(TOMATO), overcooked_a(TOMATO_LETTUCE)]


def evaluated() -> dict[str, list[Kitchen]]:
    """What results are reported on, and what settings are chosen on."""
    found = {kitchen.name: [kitchen] for kitchen in map_a()}
    for split in ("dev", "test"):
        for n in INGREDIENTS:
            found[f"{split}, {n or 'mixed'}"] = [random_kitchen(split, i, n) for i in range(PER_SETTING)]
    return found


@pytest.mark.parametrize(
    "name_of",
    [
        pytest.param(lambda kitchen: tuple(sorted(dish_of(kitchen))), id="dish"),
        pytest.param(layout_hash, id="layout"),
        pytest.param(lambda kitchen: kitchen.name, id="task id"),
        pytest.param(
            lambda kitchen: frozenset(text.task(kitchen).removesuffix(".").replace(",", "").split()), id="order"
        ),
    ],
)
def test_what_was_read_and_what_is_evaluated_are_disjoint(name_of: Any) -> None:
    seen = {name_of(kitchen) for kitchen in read()}
    assert len(read()) == card()["corpus"]["kitchens"]
    for setting, those in evaluated().items():
        assert not seen & {name_of(kitchen) for kitchen in those}, setting


def test_the_splits_share_no_dish_of_any_size() -> None:
    by_split = {
        split: {d for n in range(1, MAX_INGREDIENTS + 1) for d in dishes_of(split, n)} for split in get_args(Split)
    }
    assert all(by_split.values())
    assert sum(map(len, by_split.values())) == len(set().union(*by_split.values()))
    assert not {TOMATO, TOMATO_LETTUCE} & set().union(*by_split.values())


@pytest.mark.parametrize("split", get_args(Split))
def test_map_a_is_in_no_split(split: Split) -> None:
    layouts = {layout_hash(kitchen) for kitchen in map_a()}
    for n in INGREDIENTS:
        assert not layouts & {layout_hash(random_kitchen(split, i, n)) for i in range(PER_SETTING)}
    assert not layouts & {layout_hash(kitchen) for kitchen in read()}


def test_texts_are_told_of_the_kitchens_read_and_of_no_others() -> None:
    orders = {text.task(kitchen) for kitchen in read()}
    told = {example.prompt.split("\n")[0] for example in first_texts()}
    assert len(told) > 10
    assert told <= orders


def test_the_corpus_is_the_one_the_model_was_trained_on() -> None:
    """Pinned, so that a change of wording or of rules cannot pass for the world that the model read about."""
    digest = hashlib.sha256()
    for example in first_texts():
        digest.update(json.dumps([example.prompt, example.answer]).encode())
    assert digest.hexdigest() == FIRST_SHA256


@pytest.mark.parametrize("model", ["tiny-1", "tiny-2"])
def test_the_card_describes_the_folder(model: str) -> None:
    from safetensors import safe_open

    assert sum(file.stat().st_size for file in (EMBEDDED / model).rglob("*")) <= 8_000_000
    weights = EMBEDDED / model / "model.safetensors"
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == card(model)["sha256"]
    with safe_open(weights, "pt") as tensors:
        sizes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]  # noqa: SIM118  (not a dict)
    parameters = sum(rows * (columns[0] if columns else 1) for rows, *columns in sizes)
    assert parameters == card(model)["parameters"]
    assert 500_000 <= parameters <= 4_000_000
    assert card(model)["corpus"]["author"] == "cook"
    told_twice = card(model)["training"].keys() & card(model)["corpus"].keys()
    assert "seed" in told_twice
    assert all(card(model)["training"][key] == card(model)["corpus"][key] for key in told_twice)


@pytest.mark.parametrize("model", ["tiny-1", "tiny-2"])
def test_both_tokenizers_agree_on_texts_of_the_corpus(model: str) -> None:
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    told = [part for example in first_texts()[::4] for part in (example.prompt, example.answer)]
    backend = Tokenizer.from_file(str(EMBEDDED / model / "tokenizer.json"))
    automatic = AutoTokenizer.from_pretrained(EMBEDDED / model)
    expected = [encoding.ids for encoding in backend.encode_batch(told)]
    assert automatic(told)["input_ids"] == expected
    assert [automatic.decode(ids) for ids in expected] == told
