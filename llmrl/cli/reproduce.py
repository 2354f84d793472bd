"""`llmrl reproduce`: a paper, or a study, by one command."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from llmrl.cli.shell import explain_errors


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
    seeds: Annotated[int | None, typer.Option(min=1, help="The number of seeds to run, from the first.")] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="List the runs that are complete and those left, and run nothing.")
    ] = False,
    tables: Annotated[
        bool, typer.Option("--tables", help="Write the tables of the runs that are complete, and run nothing.")
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option(metavar="FILE.zip", help="Pack complete runs, answers and report; run nothing."),
    ] = None,
    from_: Annotated[
        Path | None, typer.Option("--from", metavar="FILE.zip", help="The export to repeat, with --verify.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Repeat the runs of --from with its answers, and compare bytes.")
    ] = False,
    runs: Annotated[
        Path, typer.Option("--runs", help="The folder that holds a folder for each study, and tables/.")
    ] = Path("runs"),
) -> None:
    """Repeat a paper: its runs, its evaluations, and its tables beside the published figures.

    Complete runs are not run again. The same command resumes where it stopped. Without a NAME, it lists the names.
    """
    with explain_errors("stopped; the same command resumes"):
        from llmrl.report.select import filters_of

        settings = filters_of(arguments or [])
        names = [word for word in arguments or [] if word not in settings]
        if from_ is not None or verify:
            _verify(from_, verify, only or [], names)
            return
        if not names:
            _list_names()
            return
        from llmrl.core.overrides import ConfigError
        from llmrl.reproduce import export_paper, plan, write_tables
        from llmrl.reproduce import reproduce as run
        from llmrl.studies.paper import find_paper

        papers = [find_paper(name, scale.value, settings) for name in names]
        if export is not None:
            if len(papers) != 1:
                raise ConfigError(f"--export {export}: one paper fills one file; name one")
            typer.echo(export_paper(papers[0], runs, export, typer.echo))
            return
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


def _verify(file: Path | None, wanted: bool, only: list[str], names: list[str]) -> None:
    from llmrl.core.overrides import ConfigError

    if file is None or not wanted or names:
        raise ConfigError(
            "to repeat the runs of an export: llmrl reproduce --from FILE.zip --verify [--only PART_OF_NAME]"
        )
    from llmrl.studies.parcel import verify

    verdicts = []
    for verdict in verify(file, only):
        typer.echo(verdict)
        verdicts.append(verdict.agree)
    same, differ = verdicts.count(True), verdicts.count(False)
    typer.echo(f"{same} of {len(verdicts)} runs wrote the same bytes, {differ} differ")
    if differ or not same:
        raise typer.Exit(1)


def _list_names() -> None:
    from textwrap import fill

    from llmrl.studies.paper import find_paper, paper_files
    from llmrl.studies.study import study_files

    for name in paper_files():
        typer.echo(f"{name:12} {find_paper(name).title}")
    typer.echo(fill(f"studies: {', '.join(study_files())}", 80, subsequent_indent="  ", break_on_hyphens=False))
