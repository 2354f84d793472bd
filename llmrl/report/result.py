"""A table of results: its cells as text, its notes, and the forms in which it is handed on."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llmrl.core.files import publish
from llmrl.core.overrides import ConfigError
from llmrl.report import markdown
from llmrl.report.compare_tables import escape_latex


@dataclass(frozen=True)
class ResultTable:
    name: str
    title: str
    columns: list[str]
    rows: list[list[str]]
    claims: list[str] = field(default_factory=list)  # what it allows to be said, and what it does not
    notes: list[str] = field(default_factory=list)  # how its figures were made

    def markdown(self) -> str:
        lines = [f"## {self.title}", "", *markdown.table(self.columns, self.rows)]
        return "\n".join([*lines, "", *(f"- {line}" for line in (*self.claims, *self.notes))]).rstrip() + "\n"

    def csv(self) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["table", *self.columns])
        writer.writerows([self.name, *row] for row in self.rows)
        return text.getvalue()

    def latex(self) -> str:
        """A tabular with the rules of booktabs; notes are comments."""
        head, *rows = [" & ".join(map(escape_latex, line)) + r" \\" for line in [self.columns, *self.rows]]
        columns = "l" + "r" * (len(self.columns) - 1)
        lines = [f"% {self.title}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule", *rows]
        return (
            "\n".join(
                [*lines, r"\bottomrule", r"\end{tabular}", *(f"% {line}" for line in (*self.claims, *self.notes))]
            )
            + "\n"
        )


FORMS: dict[str, Callable[[ResultTable], str]] = {
    ".md": ResultTable.markdown, ".csv": ResultTable.csv, ".tex": ResultTable.latex,
}  # fmt: skip


def refuse_form(file: Path) -> None:
    """Raises ConfigError for a file whose suffix is no form of a table."""
    if file.suffix not in FORMS:
        raise ConfigError(f"--out {file}: a table is written as {', '.join(FORMS)}; name a file that ends so")


def write_results(tables: Sequence[ResultTable], file: Path, head: str = "") -> Path:
    """All tables in one file; its suffix says the form. `head` begins a Markdown file, and is a comment in LaTeX."""
    refuse_form(file)
    parts = [FORMS[file.suffix](table) for table in tables]
    if head and file.suffix == ".md":
        parts.insert(0, head.rstrip() + "\n")
    elif head and file.suffix == ".tex":
        parts.insert(0, "".join(f"% {line}\n" for line in ["\\usepackage{booktabs}", *head.splitlines()] if line))
    file.parent.mkdir(parents=True, exist_ok=True)
    publish(file, "\n".join(parts))
    return file
