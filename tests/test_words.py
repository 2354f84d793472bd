"""Docstrings, help texts, CONTRIBUTING.md and CHANGELOG.md name their subject, and say it in short sentences."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from llmrl.cli.main import app
from tests.test_docs import LONGEST, REPOSITORY, sentences, words

PAGES = [REPOSITORY / "CONTRIBUTING.md", REPOSITORY / "CHANGELOG.md"]
FILES = sorted(file for folder in ("llmrl", "scripts") for file in (REPOSITORY / folder).rglob("*.py"))
UNNAMED = re.compile(r"(What|Who|Whatever|Whoever|Of)\b")


def unnamed(sentence: str) -> bool:
    """Whether a sentence begins with no subject; a question may."""
    return UNNAMED.match(sentence) is not None and not sentence.endswith("?")


def too_long(sentence: str) -> bool:
    return words(sentence) > LONGEST


def docstrings(file: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                yield f"{file.relative_to(REPOSITORY)}: {getattr(node, 'name', 'module')}", text


def help_texts(command: Any, path: str = "llmrl") -> Iterator[tuple[str, str]]:
    """The texts of a command, of its options and arguments, and of its subcommands."""
    yield path, command.help or ""
    for parameter in command.params:
        yield f"{path} {parameter.name}", getattr(parameter, "help", None) or ""
    if isinstance(command, TyperGroup):
        for name, each in command.commands.items():
            yield from help_texts(each, f"{path} {name}")


def test_docstrings_begin_with_a_subject_or_a_verb() -> None:
    found = [named for file in FILES for named in docstrings(file)]
    assert len(found) > 1000
    assert [f"{where}: {text[:60]}" for where, text in found if unnamed(next(sentences(text), ""))] == []


def test_help_texts_are_short_and_name_their_subject() -> None:
    texts = dict(help_texts(get_command(app)))
    assert {"llmrl train", "llmrl cache prune model", "llmrl lm score"} <= set(texts)
    said = [(where, sentence) for where, text in texts.items() for sentence in sentences(text)]
    assert [f"{where}: {sentence}" for where, sentence in said if unnamed(sentence) or too_long(sentence)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_are_short_and_name_their_subject(page: Path) -> None:
    found = list(sentences(page.read_text()))
    assert len(found) > 50
    assert [sentence for sentence in found if unnamed(sentence) or too_long(sentence)] == []


@pytest.mark.parametrize(
    ("sentence", "is_fault"),
    [
        ("What is kept.", True),
        ("Of the run's world.", True),
        ("Whoever asks.", True),
        ("Whether it is kept.", False),
        ("What is kept?", False),
        ("The cells of a sweep.", False),
        ("Offline runs.", False),
    ],
)
def test_a_sentence_without_a_subject_is_found(sentence: str, is_fault: bool) -> None:
    assert unnamed(sentence) is is_fault
