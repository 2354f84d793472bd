"""README.md and docs/: links lead somewhere, sentences are short, and generated pages say what the package says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from llmrl.cli.main import app
from llmrl.core.processes import PAUSED
from scripts import docs_reference, docs_results
from scripts.docs_reference import REFERENCE

REPOSITORY = Path(__file__).parent.parent
DOCS = REPOSITORY / "docs"
PAGES = sorted([REPOSITORY / "README.md", *DOCS.rglob("*.md")])
GENERATED = {REFERENCE / name for name in docs_reference.PAGES}
LINKED = [*PAGES, REPOSITORY / "CONTRIBUTING.md", REPOSITORY / "CHANGELOG.md"]
LONGEST = 25  # words of a sentence

FENCE = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
SENTENCE = re.compile(r"(?<=[.!?])[\"”)*]*\s+")
ABBREVIATED = re.compile(r"\b(et al|e\.g|i\.e|vs|cf)\.")
PROVENANCE = "*Provenance:*"  # of a figure: command, machine, commit


def name(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def anchors(page: Path) -> set[str]:
    """As GitHub and the site make them of headings."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE):
        plain = LINK.sub(r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", LINKED, ids=name)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    text = CODE.sub("", FENCE.sub("", page.read_text()))
    for _, target in LINK.findall(text):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.is_file(), f"{target}: no such file"
        assert page == REPOSITORY / "README.md" or page in LINKED[-2:] or file.is_relative_to(DOCS), (
            f"{target}: the site has only what is in docs/"
        )
        assert not anchor or anchor in anchors(file), f"{target}: no such heading"


def test_every_page_is_linked_from_the_start_page() -> None:
    linked = {(DOCS / path).resolve() for _, path in LINK.findall((DOCS / "index.md").read_text()) if "://" not in path}
    missing = [name(page) for page in PAGES if page.is_relative_to(DOCS) and page not in linked]
    assert missing == ["docs/index.md"]


def test_pages_that_code_and_configs_name_are_there() -> None:
    folders = [REPOSITORY / folder for folder in ("llmrl", "configs", "scripts", "tests")]
    files = [file for folder in folders for kind in ("*.py", "*.yaml") for file in folder.rglob(kind)]
    named = {path for file in files for path in re.findall(r"\bdocs/[\w/-]+\.md\b", file.read_text())}
    assert len(named) > 5
    assert [path for path in sorted(named) if not (REPOSITORY / path).is_file()] == []


def sentences(text: str) -> Iterator[str]:
    """Of running text and lists: without code, tables, headings, pictures, and where a figure is from."""
    text = re.sub(r"<!--.*?-->", "", FENCE.sub("\n\n", text), flags=re.DOTALL)
    text = re.sub(r"^---\n.*?\n---\n", "", text, flags=re.DOTALL)
    lines = ["" if re.match(r"\s*(\||#|!\[|<)", line) else line for line in text.splitlines()]
    text = re.sub(r"^ *([-*]|\d+\.) +", "\n\n", "\n".join(lines), flags=re.MULTILINE)
    for paragraph in re.split(r"\n\s*\n", text):
        if paragraph.strip().startswith(PROVENANCE):
            continue
        plain = LINK.sub(r"\1", CODE.sub("CODE", ABBREVIATED.sub(r"\1", paragraph)))
        plain = re.sub(r"\s+", " ", plain.replace("*", "")).strip()
        yield from (sentence for sentence in SENTENCE.split(plain) if sentence)


def words(sentence: str) -> int:
    return sum(any(letter.isalnum() for letter in word) for word in sentence.split())


@pytest.mark.parametrize("page", [page for page in PAGES if page not in GENERATED], ids=name)
def test_sentences_are_short_and_name_their_subject(page: Path) -> None:
    text = page.read_text()
    long = [f"{n} words: {s}" for s in sentences(text) if (n := words(s)) > LONGEST]
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    unnamed = [s for s in [*headings, *sentences(text)] if re.match(r"(What|Who)\b", s) and not s.endswith("?")]
    assert not long + unnamed, "\n".join(long + unnamed)


def test_a_long_sentence_is_found_and_code_and_tables_are_not() -> None:
    long = "A " + "very " * 24 + "long one ends here."
    text = f"# Title\n\nShort. {long}\n\n| {long} |\n\n```sh\n{long}\n```\n\n- An item.\n  It goes on `{long}`.\n"
    found = list(sentences(text))
    assert [words(s) > LONGEST for s in found] == [False, True, False, False]
    assert found[0] == "Short."


RESULTS = [
    (page, section) for page in sorted(docs_results.RESULTS.glob("*.md")) for section in docs_results.sections(page)
]


@pytest.mark.parametrize(
    "section", [pytest.param(s, id=f"{page.stem}: {s.title}") for page, s in RESULTS if s.has_results]
)
def test_every_result_names_the_commands_that_make_it(section: docs_results.Section) -> None:
    assert section.commands
    for command in section.commands:
        words = command.split()
        if words[0] == "llmrl":
            assert words[1] in get_command(app).commands
        else:
            assert (REPOSITORY / f"{words[2].replace('.', '/')}.py").is_file()
    studies = list(section.studies())  # raises for a name that there is not
    known = {arm for study in studies for arm in study.arms}
    assert {arm for table in section.tables for arm in docs_results.arms_of(table)} <= known
    assert not studies or any(command.startswith("llmrl reproduce ") for command in section.commands)


@pytest.mark.parametrize("file", docs_reference.PAGES)
def test_generated_pages_are_those_of_the_package(file: str) -> None:
    assert (REFERENCE / file).read_text() == docs_reference.page(file), "stale: type `make docs-reference`"


def test_every_metric_of_a_recorded_run_is_explained() -> None:
    metrics = {key for file in (REPOSITORY / "tests" / "golden").glob("*.json") for row in rows(file) for key in row}
    page = (REFERENCE / "metrics.md").read_text()
    explained = set(re.findall(r"`([\w/]+)`", page))
    families = {key.partition("/")[0] for key in explained if key.endswith("/...")}
    missing = {key for key in metrics - explained if key.partition("/")[0] not in families | {"eval_greedy"}}
    assert metrics
    assert not missing


def rows(file: Path) -> list[dict[str, float]]:
    found = json.loads(file.read_text())
    return found if isinstance(found, list) else found["metrics"]


def test_the_exit_code_of_a_paused_run_is_explained() -> None:
    codes = re.findall(r"^\| (\d+) \|", (REFERENCE / "exit-codes.md").read_text(), re.MULTILINE)
    assert codes == ["0", "1", "2", str(PAUSED), "130", "143"]
