"""`llmrl configs`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from llmrl.cli import completion
from llmrl.cli.shell import ConfigDir, explain_errors, show

if TYPE_CHECKING:
    from rich.console import RenderableType

    from llmrl.config.settings import Catalogue, Setting


def configs(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[GROUP|KEY]",
            help="A group, or settings: learner, evaluation, learner.alpha",
            show_default=False,
            autocompletion=completion.groups,
        ),
    ] = None,
    option: Annotated[
        str | None,
        typer.Argument(
            metavar="[OPTION]",
            help="An option of the group, as in learner dqn",
            show_default=False,
            autocompletion=completion.options,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for a program.")] = False,
    config_dir: ConfigDir = None,
) -> None:
    """Show the words that `llmrl train` takes: groups, their options, and settings with meaning and range."""
    with explain_errors():
        from llmrl.config.settings import Catalogue

        catalogue = Catalogue(config_dir)
        if name is not None and option is None and "=" in name:  # learner=dqn, as `llmrl train` has it
            name, _, option = name.partition("=")
        if name is None:
            _print(_groups_json(catalogue) if as_json else None, _groups(catalogue))
        elif option is not None:
            from llmrl.core.overrides import ConfigError, one_of

            if name not in catalogue.groups():
                raise ConfigError(one_of("GROUP", name, catalogue.groups()))
            settings = catalogue.of(name, option)
            _print([asdict(s) for s in settings] if as_json else None, _option(catalogue, name, option, settings))
        elif (found := catalogue.look_up(name)) is not None:
            values = {s.key: catalogue.values(s.key) for s in found}
            plain = [asdict(s) | {"values": values[s.key]} for s in found]
            _print(plain if as_json else None, (part for s in found for part in _setting(s, values[s.key])))
        else:
            options = catalogue.options(name)
            _print([asdict(o) for o in options] if as_json else None, _options(catalogue, name))


def _print(plain: object, parts: Iterator[RenderableType]) -> None:
    if plain is not None:
        typer.echo(json.dumps(plain, indent=2, ensure_ascii=False))
        return
    for part in parts:
        show(part)


def _groups_json(catalogue: Catalogue) -> dict[str, object]:
    groups = {group: [asdict(o) for o in options] for group, options in catalogue.groups().items()}
    return {"groups": groups, "settings": catalogue.sections()}


def _groups(catalogue: Catalogue) -> Iterator[RenderableType]:
    for group, options in catalogue.groups().items():
        yield _line(group, "")
        yield _indent(", ".join(f"{o.name} (default)" if o.is_default else o.name for o in options))
    yield _line("settings in no group", "")
    yield _indent(", ".join(catalogue.sections()))
    yield _line("", "llmrl configs GROUP, GROUP OPTION or KEY says more")


def _options(catalogue: Catalogue, group: str) -> Iterator[RenderableType]:
    for option in catalogue.options(group):
        yield _line(f"{group}={option.name}", "default" if option.is_default else "")
        if option.text:
            yield _indent(option.in_short)


def _option(catalogue: Catalogue, group: str, name: str, settings: Sequence[Setting]) -> Iterator[RenderableType]:
    (option,) = (o for o in catalogue.options(group) if o.name == name)
    yield _line(f"{group}={name}", "default" if option.is_default else "")
    if option.text:
        yield _indent(option.text)
    for setting in settings:
        yield from _setting(setting)


def _setting(setting: Setting, values: dict[str, object] | None = None) -> Iterator[RenderableType]:
    """A setting, and its values in the options of its group where they differ."""
    from llmrl.core.overrides import format_value

    several = {option: format_value(value) for option, value in (values or {}).items()}
    head = setting.key if len(set(several.values())) > 1 else f"{setting.key}={format_value(setting.value)}"
    yield _line(head, setting.allowed or setting.kind)
    if setting.meaning:
        yield _indent(setting.meaning)
    if head == setting.key:
        for value in dict.fromkeys(several.values()):
            yield _indent(f"{value}: {', '.join(o for o, v in several.items() if v == value)}")


def _line(name: str, about: str) -> RenderableType:
    from rich.text import Text

    return Text.assemble((name, "bold"), "  " if name and about else "", (about, "dim"))


def _indent(text: str) -> RenderableType:
    from rich.padding import Padding
    from rich.text import Text

    return Padding(Text(text), (0, 0, 0, 4), expand=False)
