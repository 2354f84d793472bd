"""`llmrl reproduce`: a paper, or a study, by one command."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from llmrl.cli.shell import explained


class Scale(StrEnum):
    smoke = "smoke"
    laptop = "laptop"
    full = "full"


def reproduce(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME [KEY=VALUE]...",
            help="A paper of configs/paper, a study of configs/study, or a YAML file. Then settings of every run.",
            show_default=False,
        ),
    ] = None,
    scale: Annotated[
        Scale, typer.Option(help="smoke: minutes. laptop: a night. full: the paper's models, and a server.")
    ] = Scale.laptop,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Runs at the same time.")] = 1,
    only: Annotated[
        list[str] | None, typer.Option(metavar="TABLE|ARM", help="Only this table or arm; may be repeated.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Only the first so many seeds.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Say what is complete and left, and do nothing.")] = False,
    tables: Annotated[bool, typer.Option("--tables", help="Only write the tables that finished runs allow.")] = False,
    runs: Annotated[Path, typer.Option("--runs", help="Holds a folder for each study, and tables/.")] = Path("runs"),
) -> None:
    """Repeat a paper: its runs, its evaluations, and its tables beside the published figures.

    What is complete is not run again, and the same command goes on where it stopped. Without a NAME, all names.
    """
    with explained("stopped; the same command goes on"):
        from llmrl.report.select import filters_of

        settings = filters_of(arguments or [])
        names = [word for word in arguments or [] if word not in settings]
        if not names:
            _list_names()
            return
        from llmrl.reproduce import plan, write_tables
        from llmrl.reproduce import reproduce as run
        from llmrl.studies.paper import find_paper

        papers = [find_paper(name, scale.value, settings) for name in names]
        failed = []
        for paper in papers:
            if tables:
                for path in write_tables(paper, runs, typer.echo):
                    typer.echo(path)
                continue
            work = plan(paper, runs, only, seeds)
            if paper.needs:
                typer.echo(f"{paper.name}, --scale {scale.value}: needs {paper.needs}")
            for line in (line for each in work for line in each.lines(jobs)):
                typer.echo(line)
            if not list_:
                failed += run(paper, work, runs, jobs, typer.echo)
        if failed:
            typer.echo("\n".join([f"{len(failed)} failed; the same command tries them again:", *failed]), err=True)
            raise typer.Exit(1)


def _list_names() -> None:
    from llmrl.studies.paper import find_paper, paper_files
    from llmrl.studies.study import study_files

    for name in paper_files():
        typer.echo(f"{name:12} {find_paper(name).title}")
    typer.echo(f"studies: {', '.join(study_files())}")
