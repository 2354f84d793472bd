"""Fills the tables of docs/results from complete runs: python -m scripts.docs_results [--runs RUNS] [PAGE...]

A section that has a table or a picture names the commands that make it again, in a paragraph that begins with
*Provenance:*. A table whose first column is `arm` has the arms of a study that such a command reproduces, by their
names. Those whose runs are all in RUNS are written anew, and the others stay. tests/test_docs.py holds the pages to
that.
"""

from __future__ import annotations

import re
import shlex
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llmrl.report import markdown
from llmrl.studies.paper import find_paper
from llmrl.studies.study import Study, find_results
from llmrl.studies.table import curve_table

RESULTS = Path(__file__).parent.parent / "docs" / "results"
COMMAND = re.compile(r"`((?:llmrl|python -m scripts\.)[^`]*)`")
AGAINST = re.compile(r"times fewer than (\w+), to 80 %")


@dataclass(frozen=True)
class Section:
    """A heading of a page and its text."""

    title: str
    text: str

    @property
    def has_results(self) -> bool:
        return bool(self.tables) or "\n![" in self.text

    @property
    def tables(self) -> list[str]:
        return [found[0] for found in re.finditer(r"(?:^\|.*\n)+", self.text, re.MULTILINE)]

    @property
    def commands(self) -> list[str]:
        """The commands of its provenance, each in one line."""
        paragraphs = re.findall(r"^\*Provenance:\*.*?(?=\n\s*\n|\Z)", self.text, re.MULTILINE | re.DOTALL)
        return [" ".join(command.split()) for text in paragraphs for command in COMMAND.findall(text)]

    def studies(self) -> Iterator[Study]:
        """The studies that its commands reproduce. Raises ConfigError for a name that there is not."""
        for command in self.commands:
            words = shlex.split(command)
            if words[:2] == ["llmrl", "reproduce"]:
                for name in re.split(r" +-", " ".join(words[2:]))[0].split():
                    yield from find_paper(name).studies.values()


def sections(page: Path) -> list[Section]:
    parts = re.split(r"^(#+ .+)\n", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [Section(title.lstrip("# "), text) for title, text in zip(parts[1::2], parts[2::2], strict=True)]


def arms_of(table: str) -> list[str]:
    """The arms of a table's rows; none where its first column is another."""
    head, _, *rows = ([cell.strip() for cell in line.strip().strip("|").split("|")] for line in table.splitlines())
    return [row[0] for row in rows] if head[0] == "arm" else []


def fill(page: Path, runs: Path) -> Iterator[str]:
    """Writes the tables of the page whose runs are complete; a line for each table of arms."""
    text = page.read_text(encoding="utf-8")
    for section in sections(page):
        for table in section.tables:
            arms, against = arms_of(table), AGAINST.search(table)
            study = next((study for study in section.studies() if set(arms) <= set(study.arms)), None)
            if not arms or against is None or study is None:
                continue
            wanted = [*arms, *({against[1]} - set(arms))]
            results = find_results(study, runs / study.name, wanted)
            lacking = len(list(study.cells(wanted))) - len(results.cells)
            if lacking:
                yield f"{page.name}, {section.title}: {lacking} runs of {study.name} are missing"
                continue
            made = curve_table("", "", results, against[1], arms)
            rows = {row[0]: row for row in made.rows}
            text = text.replace(table, "\n".join(markdown.table(made.columns, [rows[arm] for arm in arms])) + "\n")
            yield f"{page.name}, {section.title}: written"
    page.write_text(text, encoding="utf-8")


def main() -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pages", nargs="*", type=Path, default=sorted(RESULTS.glob("*.md")))
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="holds a folder of runs for each study")
    asked = parser.parse_args()
    for page in asked.pages:
        for line in fill(page, asked.runs):
            print(line)


if __name__ == "__main__":
    main()
