"""`llmrl runs`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrl.commands.shell import RUN, Runs, explained, show

app = typer.Typer(help="Look at runs.", no_args_is_help=True)


@app.command("list")
def runs_list(runs: Runs = Path("runs")) -> None:
    """All runs: how far they are, and how well they do."""
    with explained():
        from llmrl.report.tables import runs_table
        from llmrl.run.load import load_runs

        found = load_runs(runs)
        if found:
            show(runs_table(found))
        else:
            typer.echo(f"no runs in {runs}/; `llmrl train` makes one")


@app.command("show")
def runs_show(run: Annotated[str, typer.Argument(help=RUN)], runs: Runs = Path("runs")) -> None:
    """One run: its results, its cost, where it comes from, and the command that makes it."""
    with explained():
        from llmrl.config import ConfigError
        from llmrl.report.command import shell_line
        from llmrl.report.tables import run_table
        from llmrl.run.load import find_run
        from llmrl.run.versions import git_state

        git = git_state()
        found = find_run(run, runs)
        show(run_table(found, git["commit"] if git else None))
        if found.config:
            try:
                typer.echo(shell_line(found.config))
            except ConfigError as error:
                typer.echo(f"its command is {error}")
