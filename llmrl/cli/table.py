"""`llmrl table`: the tables of a paper or a study, from the runs that are complete."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrl.cli.reproduce import Scale
from llmrl.cli.shell import explain_errors


def table(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME [KEY=VALUE]...",
            help="A paper of configs/paper, a study of configs/study, or a YAML file; settings as in `reproduce`.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="A file to write: .md, .csv or .tex (booktabs). By default Markdown is printed.")
    ] = None,
    scale: Annotated[Scale, typer.Option(help="The scale that the runs were made at.")] = Scale.laptop,
    runs: Annotated[Path, typer.Option("--runs", help="Holds a folder of runs for each study.")] = Path("runs"),
) -> None:
    """Print or write the tables of a paper, from its complete runs. Nothing is run."""
    with explain_errors():
        from functools import partial

        from llmrl.core.overrides import ConfigError
        from llmrl.report.result import refuse_form, write_results
        from llmrl.report.select import filters_of
        from llmrl.reproduce import head, make_tables, read_results
        from llmrl.studies.paper import find_paper
        from llmrl.training.preflight import refuse_output

        settings = filters_of(arguments)
        if out is not None:
            refuse_output("--out", out)
            refuse_form(out)
        names = [word for word in arguments if word not in settings]
        if out is not None and len(names) > 1:
            raise ConfigError(f"--out {out}: one file takes the tables of one name, and there are {len(names)}")
        for name in names:
            paper = find_paper(name, scale.value, settings)
            tables = make_tables(paper, read_results(paper, runs), runs, partial(typer.echo, err=True))
            if out is not None and tables:
                typer.echo(write_results(tables, out, head(paper)))
            elif tables:
                typer.echo("\n".join([head(paper), *(each.markdown() for each in tables)]), nl=False)
            else:
                raise typer.Exit(1)
