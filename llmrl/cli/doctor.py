"""`llmrl doctor`."""

from __future__ import annotations

from pathlib import Path

import typer

from llmrl.cli.shell import Runs, explain_errors, show


def doctor(runs: Runs = Path("runs")) -> None:
    """Show the packages installed, the folders used, and the parts that are missing."""
    with explain_errors():
        from llmrl.doctor import findings, findings_table

        found = list(findings(runs))
        show(findings_table(found))
        if any(finding.status == "broken" for finding in found):
            raise typer.Exit(1)
