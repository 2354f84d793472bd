"""`llmrl report`: one HTML page of a paper, a study or some runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrl.cli.completion import run_names
from llmrl.cli.reproduce import Scale
from llmrl.cli.shell import explain_errors


def report(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME|RUN... [KEY=VALUE]...",
            help="A paper, a study or a YAML file; else runs: folders, globs, parts of names, narrowed by settings.",
            autocompletion=run_names,
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("report.html"),
    scale: Annotated[Scale, typer.Option(help="The scale that a paper's runs were made at.")] = Scale.laptop,
    runs: Annotated[
        Path, typer.Option("--runs", help="The folder of runs; for a paper, it holds a folder for each study.")
    ] = Path("runs"),
) -> None:
    """Write one HTML page that needs no other file: claims, tables, figures, costs, commands and provenance."""
    with explain_errors():
        import shlex
        from functools import partial

        from llmrl.report.html import write_report
        from llmrl.report.select import filters_of, select
        from llmrl.reproduce import report_on_paper, report_on_runs
        from llmrl.studies.paper import find_paper, is_paper
        from llmrl.training.preflight import refuse_output

        refuse_output("--out", out)
        settings = filters_of(arguments)
        names = [word for word in arguments if word not in settings]
        say = partial(typer.echo, err=True)
        if len(names) == 1 and is_paper(names[0]):
            page = report_on_paper(find_paper(names[0], scale.value, settings), runs, say)
        else:
            page = report_on_runs(select(arguments, runs), shlex.join(["llmrl", "report", *arguments]))
        typer.echo(write_report(page, out))
