"""`llmrl reproduce`: whole studies by one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrl.cli.shell import explained


def reproduce(
    name: Annotated[
        list[str] | None,
        typer.Argument(help="Studies: names in configs/study/, or YAML files; all of ours, where none is named."),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Runs at the same time.")] = 1,
    only: Annotated[list[str] | None, typer.Option(metavar="ARM", help="Only this arm; may be repeated.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Only the first so many seeds.")] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="Say what is complete and what is left, and do nothing.")
    ] = False,
    tables: Annotated[bool, typer.Option("--tables", help="Only write the tables that finished runs allow.")] = False,
    runs: Annotated[Path, typer.Option("--runs", help="A folder for each study, and tables/, are in it.")] = Path(
        "runs"
    ),
) -> None:
    """Run whole studies, their evaluations in other games, and their tables. What is complete is not run again."""
    with explained("stopped; the same command goes on"):
        from llmrl.studies.study import find_study, study_files

        studies = [find_study(each) for each in name or study_files()]
        from llmrl.reproduce import find_work, write_tables
        from llmrl.reproduce import reproduce as run

        if tables:
            for study in studies:
                for path in write_tables(study, runs / study.name, runs / "tables", typer.echo):
                    typer.echo(path)
            return
        work = [find_work(study, runs / study.name, only, seeds) for study in studies]
        for each in work:
            typer.echo(each.title)
            for arm, why in each.missing.items():
                typer.echo(f"  {arm}: {why}")
        if list_:
            return
        if failed := run(work, runs, jobs, typer.echo):
            typer.echo("\n".join([f"{len(failed)} failed; the same command tries them again:", *failed]), err=True)
            raise typer.Exit(1)
