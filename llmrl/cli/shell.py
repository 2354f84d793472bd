"""The shared parts of commands: common options, errors in one line, signals, printing."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from llmrl.core.targets import add_search_folder

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer
    from rich.console import RenderableType


def _importable(config_dir: Path | None) -> Path | None:
    if config_dir is not None:
        add_search_folder(config_dir)
    return config_dir


ConfigDir = Annotated[
    Path | None,
    typer.Option(
        help="A folder with config groups of your own (env/mine.yaml, learner/mine.yaml, ...).", callback=_importable
    ),
]
Runs = Annotated[Path, typer.Option("--runs", help="The folder of runs.")]
RUN = "A run's folder, or a part of its name that no other has."
GOES_ON = "stopped; the same command resumes from the last checkpoint, where there is one"
MISTAKES = (
    ValueError, ModuleNotFoundError, FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError,
    NotADirectoryError,
)  # fmt: skip


@contextmanager
def explain_errors(stopped: str = "stopped") -> Iterator[None]:
    """Prints an error in one line, and ends with its exit code.

    2: the words typed are wrong. 1: the command failed. 75: a server is out of reach for now, and the same command may
    be typed again. 130: Ctrl-C. 143: SIGTERM.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        _fail(stopped, 143 if isinstance(stop, Terminated) else 130)
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        if os.environ.get("LLMRL_DEBUG") == "1":
            raise
        _fail(_one_line(error), _exit_code(error))


def typed_options(ctx: typer.Context) -> list[str]:
    """The options of a command as they were typed, arguments aside."""
    words: list[str] = []
    for param in ctx.command.params:
        source = ctx.get_parameter_source(param.name or "")
        if param.param_type_name != "option" or source is None or source.name != "COMMANDLINE":
            continue
        value = ctx.params[param.name or ""]
        for each in value if isinstance(value, list | tuple) else [value]:
            words += [param.opts[0]] if each is True else [param.opts[0], str(each)]
    return words


def show(shown: RenderableType) -> None:
    from rich.console import Console

    Console().print(shown)


def drop_what_nobody_reads() -> None:
    """Makes a command go on when the reader of its output ends (`| head`). Later output is dropped."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:  # it was closed before: `>&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper) and stream.fileno() == number:
            stream.flush()
            raw = io.BufferedWriter(_Unread(number, "wb", closefd=False))
            text = io.TextIOWrapper(
                raw, stream.encoding, stream.errors, None, stream.line_buffering, stream.write_through
            )
            setattr(sys, name, text)


class _Unread(io.FileIO):
    def write(self, data: Buffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())  # for later output, and for processes started from here
            os.close(null)
            return memoryview(data).nbytes


class Terminated(KeyboardInterrupt):
    """SIGTERM: a batch system sends it before it kills."""


signals: list[int] = []  # received, that ask this process to stop


def stop(number: int, frame: object) -> None:
    signals.append(number)
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _exit_code(error: Exception) -> int:
    """The exit code of an error. 2 is a mistake in the words typed: a ValueError, or a file that cannot be opened."""
    from llmrl.core.overrides import ConfigError

    mistaken = isinstance(error, (ConfigError, *MISTAKES)) or getattr(error, "errno", None) == errno.EROFS
    return int(getattr(error, "exit_code", 2 if mistaken else 1))


def _one_line(error: Exception) -> str:
    """An error as one line. Messages of ValueErrors and of llmrl's errors stand alone; others follow their type."""
    notes = getattr(error, "__notes__", [])
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return "; ".join([f"{error.filename}: {error.strerror}", *notes])
    if isinstance(error, ModuleNotFoundError) and error.name and not notes:
        package = error.name.partition(".")[0]
        return f"the package {package} is needed here and is not installed: pip install {package}"
    if isinstance(error, ValueError) or type(error).__module__.startswith("llmrl."):
        return "; ".join([str(error), *notes])
    if not notes:
        notes = ["LLMRL_DEBUG=1 shows the traceback"]
    return "; ".join([f"{type(error).__name__}: {error}", *notes])


def _fail(text: str, code: int) -> NoReturn:
    from llmrl.core.secrets import without_secrets

    typer.secho("error: " if code not in (130, 143) else "", fg=typer.colors.RED, err=True, nl=False)
    typer.echo(without_secrets(text), err=True)
    raise typer.Exit(code)
