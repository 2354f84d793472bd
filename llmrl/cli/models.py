"""`llmrl models`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmrl.cli.shell import ConfigDir, explain_errors, show

if TYPE_CHECKING:
    from rich.table import Table

    from llmrl.core.overrides import ConfigFolders
    from llmrl.models.entry import Entry

app = typer.Typer(help="List small real models, and get one.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="A name that `llmrl models list` shows.")]


@app.command("list")
def models_list(config_dir: ConfigDir = None) -> None:
    """List the models that have a name, and whether each is on this machine."""
    with explain_errors():
        from rich.filesize import decimal

        from llmrl.lm.model_folders import find_stored
        from llmrl.models.entry import read_entries

        table = _table("model", "file", "licence", "", "about")
        for entry in read_entries(_folders(config_dir)):
            here = "here" if find_stored(entry.name) else "not here"
            table.add_row(entry.name, decimal(entry.size), entry.licence, here, entry.about)
        show(table)


@app.command("get")
def models_get(
    name: Name,
    accept_terms: Annotated[
        bool,
        typer.Option("--accept-terms", help="Accept the terms of a model that has some; without it they are shown."),
    ] = False,
    config_dir: ConfigDir = None,
) -> None:
    """Download a model and make a folder of it that `llmrl train` reads. A model already here is not fetched again."""
    with explain_errors("stopped; the same command resumes"):
        from llmrl.models.entry import read_entry
        from llmrl.models.get import get

        folders = _folders(config_dir)
        entry = read_entry(name, folders)
        folder = get(entry, accept_terms, partial(typer.echo, err=True))
        typer.echo(f"{name} is in {folder}; to train with it: {_train_line(entry, folders)}")


@app.command("info")
def models_info(name: Name, config_dir: ConfigDir = None) -> None:
    """Show one model: its licence, origin, hash and folder, and the settings recommended with it."""
    with explain_errors():
        from rich.filesize import decimal

        from llmrl.lm.model_folders import find_stored, read_notice
        from llmrl.models.entry import read_entry

        folders = _folders(config_dir)
        entry = read_entry(name, folders)
        table = _table()
        table.add_row("model", f"{name}: {entry.about}")
        table.add_row("file", f"{entry.file}, {decimal(entry.size)}, {entry.convert}")
        table.add_row("sha256", entry.sha256)
        for source in entry.sources:
            table.add_row("from", str(source))
        table.add_row("licence", f"{entry.licence}, {entry.licence_url}")
        if entry.terms is not None:
            table.add_row("terms", entry.terms)
        if (folder := find_stored(name)) is None:
            table.add_row("folder", "not on this machine yet")
        else:
            from llmrl.lm.identify import identify

            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            table.add_row("folder", f"{folder}, {decimal(size)}")
            table.add_row("revision", identify(name).revision)
            made = read_notice(folder).get("converted_by") or {}
            if made:
                table.add_row("made with", ", ".join(f"{package} {version}" for package, version in made.items()))
        table.add_row("train", _train_line(entry, folders))
        show(table)


def _folders(config_dir: Path | None) -> ConfigFolders:
    from llmrl.config.compose import config_folder
    from llmrl.core.overrides import ConfigFolders

    return ConfigFolders(config_folder(), config_dir)


def _train_line(entry: Entry, folders: ConfigFolders) -> str:
    """The command that trains with a model.

    An option of the model's name sets the recommended settings. Without one, the command names each of them.
    """
    group = "lm" if entry.kind == "lm" else "encoder"
    if entry.name in folders.groups.get(group, {}):
        words = [f"{group}={entry.name}"]
    elif group == "lm":
        words = ["lm=hf", f"lm.model={entry.name}", *entry.settings()]
    else:
        words = ["encoder=bert", f"encoder.model={entry.name}", "encoder.pooling=mean"]
    options = ["--config-dir", str(folders.extra)] if folders.extra is not None else []
    return " ".join(["llmrl train", *options, *words])


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, show_header=bool(columns), pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns or ("", ""):
        table.add_column(column, overflow="fold")
    return table
