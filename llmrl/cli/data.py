"""`llmrl data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmrl.cli.shell import explain_errors

app = typer.Typer(help="Look at data sets of transitions, and bring them in.", no_args_is_help=True)


DataFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="A data set: .parquet, .jsonl or .part; minari:NAME of Minari.")
]


@app.command("info")
def data_info(file: DataFile) -> None:
    """Show the size of a data set, its contents, its success, and its provenance."""
    with explain_errors():
        from llmrl.data.files import read
        from llmrl.report.datasets import info

        for line in info(file, read(file)):
            typer.echo(line)


@app.command("head")
def data_head(
    file: DataFile, rows: Annotated[int, typer.Option("--rows", "-n", min=1, help="The number of transitions.")] = 5
) -> None:
    """Show the first transitions."""
    with explain_errors():
        from llmrl.data.files import read
        from llmrl.report.datasets import head

        for line in head(read(file), rows):
            typer.echo(line)


@app.command("verify")
def data_verify(file: DataFile) -> None:
    """Check every row of a data set. The first fault is named, and the exit code is then 1."""
    with explain_errors():
        from llmrl.data.dataset import DataError
        from llmrl.data.files import exists, read

        try:
            typer.echo(f"{file}: {len(read(file)):,} transitions, nothing wrong")
        except DataError as error:
            error.exit_code = 1 if exists(file) else 2  # type: ignore[attr-defined]
            raise


@app.command("convert")
def data_convert(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A data set: .parquet, .jsonl, .part; minari:NAME of Minari; .pkl, .pt of the paper's code.",
        ),
    ],
    out: Annotated[Path, typer.Argument(help="The output: .parquet, .jsonl or minari:NAME; it must not exist.")],
    cut: Annotated[
        int | None, typer.Option(min=1, help="For .pkl: decisions after which an episode was cut (51 for salad).")
    ] = None,
) -> None:
    """Write a data set in another form. All of it is checked first; nothing is written of one that is wrong."""
    with explain_errors():
        from llmrl.data.files import convert

        typer.echo(f"{out}: {convert(file, out, cut):,} transitions")
