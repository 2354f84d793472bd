"""The `llmrl` command: parse, call, print. What is heavy is imported by the command that needs it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from rich.console import RenderableType

app = typer.Typer(
    help="How much faster does an agent learn when a language model tells it which actions make sense?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
runs_app = typer.Typer(help="Look at runs.", no_args_is_help=True)
app.add_typer(runs_app, name="runs")
cache_app = typer.Typer(help="Look after what language models said, and share it.", no_args_is_help=True)
app.add_typer(cache_app, name="cache")
data_app = typer.Typer(help="Look at data sets of transitions, and bring them in.", no_args_is_help=True)
app.add_typer(data_app, name="data")


lm_app = typer.Typer(help="Ask a language model directly; nothing is kept.", no_args_is_help=True)
app.add_typer(lm_app, name="lm")


worlds_app = typer.Typer(help="Look at the data of worlds, and make some.", no_args_is_help=True)
app.add_typer(worlds_app, name="worlds")


class Shown(StrEnum):
    job = "job"


class WorldWithData(StrEnum):
    alfworld = "alfworld"


ConfigDir = Annotated[
    Path | None, typer.Option(help="A folder with config groups of your own (env/mine.yaml, learner/mine.yaml, ...).")
]
Runs = Annotated[Path, typer.Option("--runs", help="Where runs are kept.")]
_GOES_ON = "stopped; the same command goes on from the last checkpoint"
PAUSED = 75  # exit code: what a run needs is out of reach for now
RUN = "A run's folder, or a part of its name that no other has."
Cache = Annotated[
    Path | None,
    typer.Option(help="The cache; by default $LLMRL_CACHE, or the one in your cache folder.", show_default=False),
]


@app.command()
def train(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="GROUP=OPTION and KEY=VALUE, as in learner=dqn seed=3", show_default=False),
    ] = None,
    multirun: Annotated[
        bool,
        typer.Option("--multirun", "-m", help="One run for each combination: seed='range(0,5)' learner=dqn,dqn_prior"),
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Runs of a sweep at the same time.")] = 1,
    cfg: Annotated[Shown | None, typer.Option(help="Print the resolved config, and do nothing.")] = None,
    config_dir: ConfigDir = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew; what there is of this run is kept aside.")
    ] = False,
    allow_drift: Annotated[
        bool, typer.Option("--allow-drift", help="Go on though numbers may differ on this machine; the run is marked.")
    ] = False,
    cached_only: Annotated[
        bool, typer.Option("--cached-only", help="Compute no answer: use kept ones, and say which are missing.")
    ] = False,
) -> None:
    """Train an agent. Without arguments: DQN-Prior in a text kitchen, with the embedded model.

    The same command is the same run: it goes on where it stopped, and is shown when it is done.
    """
    overrides = (overrides or []) + (["cached_only=true"] if cached_only else [])
    with _explained(_GOES_ON):
        _die_with_the_sweep()
        from llmrl.config import compose

        if config_dir is not None:
            sys.path.insert(0, str(Path.cwd()))  # so that its `_target_`s are found, as by `python -m llmrl`
        if multirun:
            flags = [f"--{name}" for name, on in (("fresh", fresh), ("allow-drift", allow_drift)) if on]
            _sweep(overrides, config_dir, jobs, cfg is not None, flags)
            return
        config = compose(overrides, config_dir)
        if cfg is not None:
            _print_config(config)
            return
        _train(config, fresh, allow_drift)


@app.command()
def collect(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="out=FILE size=N mix=WHO[:SHARE],... [success=PERCENT] [noise=SHARE] [KEY=VALUE]...",
            help="WHO: expert, random, prior, or a run's name. noise: of uniform actions, or a range as in 0.2:0.6.",
            show_default=False,
        ),
    ],
    runs: Runs = Path("runs"),
    config_dir: ConfigDir = None,
) -> None:
    """Collect episodes into a data set. The same command goes on where it stopped, and gives the same bytes."""
    with _explained():
        from llmrl.collect import collect as collect_episodes
        from llmrl.collect import parse_order
        from llmrl.config import compose

        if config_dir is not None:
            sys.path.insert(0, str(Path.cwd()))
        order, overrides = parse_order(arguments)
        typer.echo(collect_episodes(compose(overrides, config_dir), order, runs, typer.echo))


@app.command()
def play(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN|OVERRIDE",
            help="A run, to play with its last weights; without one, an untrained agent. Then KEY=VALUE.",
            show_default=False,
        ),
    ] = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="Play the greedy policy.")] = False,
    auto: Annotated[bool, typer.Option("--auto", help="Play one episode, or --steps, without asking.")] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="End after so many decisions.")] = None,
    runs: Runs = Path("runs"),
    config_dir: ConfigDir = None,
) -> None:
    """Watch an agent decide: what the model says, what Q adds, and what comes of it."""
    with _explained():
        from rich.console import Console

        from llmrl.play import open_game, typed
        from llmrl.play import play as play_game

        if config_dir is not None:
            sys.path.insert(0, str(Path.cwd()))
        console = Console()
        game = open_game(arguments or [], runs, config_dir, greedy)
        asks = not auto and sys.stdin.isatty() and sys.stdout.isatty()
        play_game(game, console, typed(console) if asks else None, steps)


@runs_app.command("list")
def runs_list(runs: Runs = Path("runs")) -> None:
    """All runs: how far they are, and how well they do."""
    with _explained():
        from llmrl.report.tables import runs_table
        from llmrl.run.load import load_runs

        found = load_runs(runs)
        if found:
            _print(runs_table(found))
        else:
            typer.echo(f"no runs in {runs}/; `llmrl train` makes one")


@runs_app.command("show")
def runs_show(run: Annotated[str, typer.Argument(help=RUN)], runs: Runs = Path("runs")) -> None:
    """One run: its settings, results, cost, and where it comes from."""
    with _explained():
        from llmrl.report.tables import run_table
        from llmrl.run.load import find_run
        from llmrl.run.versions import git_state

        git = git_state()
        _print(run_table(find_run(run, runs), git["commit"] if git else None))


@cache_app.command("info")
def cache_info(cache: Cache = None) -> None:
    """What is kept: of which models, how much, since when."""
    with _explained():
        from llmrl.priors.cache_file import cache_path
        from llmrl.priors.kept import info
        from llmrl.report.kept import info_tables

        for part in info_tables(info(cache_path(cache))):
            _print(part)


@cache_app.command("verify")
def cache_verify(cache: Cache = None) -> None:
    """Hold everything that is kept to what it should be; exit code 1 where something is wrong. Changes nothing."""
    with _explained():
        from llmrl.priors.cache_file import cache_path
        from llmrl.priors.kept import verify
        from llmrl.report.kept import verified

        found = verify(cache_path(cache))
        for line in verified(found):
            typer.echo(line)
        if found.problems:
            raise typer.Exit(1)


@cache_app.command("prune")
def cache_prune(
    cache: Cache = None,
    model: Annotated[list[str] | None, typer.Option(help="What this model said; may be given more than once.")] = None,
    mode: Annotated[str | None, typer.Option(help="score, generate, or rows: feature rows.")] = None,
    before: Annotated[str | None, typer.Option(help="What was stored before 2026-01-31, or 2026-01-31T12:00.")] = None,
    damaged: Annotated[bool, typer.Option("--damaged", help="What `llmrl cache verify` finds wrong.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only say what would go.")] = False,
) -> None:
    """Remove what all the options given hold for."""
    with _explained():
        from llmrl.priors.cache_file import cache_path
        from llmrl.priors.kept import Selection, moment, prune
        from llmrl.report.kept import pruned

        selection = Selection(model or (), mode, moment(before) if before else None, damaged)
        typer.echo(pruned(prune(cache_path(cache), selection, yes), yes))


@cache_app.command("export")
def cache_export(
    out: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")],
    cache: Cache = None,
    model: Annotated[list[str] | None, typer.Option(help="What this model said; may be given more than once.")] = None,
    run: Annotated[list[str] | None, typer.Option(help=f"What the models of this run said. {RUN}")] = None,
    runs: Runs = Path("runs"),
) -> None:
    """Write answers and feature rows to a file of their own: to share, or to publish with a run."""
    with _explained():
        from llmrl.priors.cache_file import cache_path
        from llmrl.priors.kept import export
        from llmrl.report.kept import exported
        from llmrl.run.load import models_of

        source = cache_path(cache)
        for line in exported(out, export(source, out, model or (), models_of(run or [], runs))):
            typer.echo(line)


@cache_app.command("import")
def cache_import(
    file: Annotated[Path, typer.Argument(help="An export, another cache, or one that was set aside.")],
    cache: Cache = None,
) -> None:
    """Add what is missing here; what is kept already stays. Of a damaged file, what can be read."""
    with _explained():
        from llmrl.priors.cache import AnswerCache
        from llmrl.priors.cache_file import cache_path
        from llmrl.priors.kept import import_
        from llmrl.report.kept import imported

        into = AnswerCache(cache_path(cache))
        if into.note:
            typer.echo(into.note, err=True)
        for line in imported(file, into.path, import_(into, file)):
            typer.echo(line)
        into.close()


DataFile = Annotated[Path, typer.Argument(metavar="FILE", help="A data set: .parquet, .jsonl or .part.")]


@data_app.command("info")
def data_info(file: DataFile) -> None:
    """How much there is, of what, how good it is, and where it comes from."""
    with _explained():
        from llmrl.data.files import read
        from llmrl.report.datasets import info

        for line in info(file, read(file)):
            typer.echo(line)


@data_app.command("head")
def data_head(file: DataFile, rows: Annotated[int, typer.Option("--rows", "-n", min=1, help="How many.")] = 5) -> None:
    """The first transitions."""
    with _explained():
        from llmrl.data.files import read
        from llmrl.report.datasets import head

        for line in head(read(file), rows):
            typer.echo(line)


@data_app.command("verify")
def data_verify(file: DataFile) -> None:
    """Hold every row to what a data set is; the first thing that is wrong is named, and the exit code is 1."""
    with _explained():
        from llmrl.data.files import read

        typer.echo(f"{file}: {len(read(file)):,} transitions, nothing wrong")


@data_app.command("convert")
def data_convert(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A data set: .parquet, .jsonl, .part, or .pkl of the paper's code.")
    ],
    out: Annotated[Path, typer.Argument(help="The file to write, .parquet or .jsonl; it must not exist.")],
    cut: Annotated[
        int | None, typer.Option(min=1, help="For .pkl: decisions after which an episode was cut (51 for salad).")
    ] = None,
) -> None:
    """Write a data set in another form. All of it is checked first; nothing is written of one that is wrong."""
    with _explained():
        from llmrl.data.files import convert

        typer.echo(f"{out}: {convert(file, out, cut):,} transitions")


@worlds_app.command("generate")
def worlds_generate(
    world: Annotated[WorldWithData, typer.Argument(help="alfworld: homes of ours in ALFWorld's layout.")],
    out: Annotated[Path, typer.Argument(help="The folder to write to; ALFWORLD_DATA then names it.")],
    split: Annotated[list[str] | None, typer.Option(help="Of this split; all three without.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Of this type of task; all six without.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Games of each type in each split.")] = 10,
    index: Annotated[int, typer.Option(min=0, help="The first one's number.")] = 0,
) -> None:
    """Write games that another engine can play. The same command writes the same files."""
    with _explained():
        from llmrl.envs.alfworld.check import generated

        for line in generated(out, split, task, count, index):
            typer.echo(line)


@worlds_app.command("check")
def worlds_check(
    world: Annotated[WorldWithData, typer.Argument(help="alfworld: the games in $ALFWORLD_DATA.")],
) -> None:
    """How many games there are to play, and which are left out and why; exit code 1 where there is none."""
    with _explained():
        from llmrl.envs.alfworld.check import checked

        for line in checked():
            typer.echo(line)


@app.command()
def tune(
    space: Annotated[str, typer.Option(help="What is searched: a name in configs/tune/, or a YAML file.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Settings of every trial, as in learner=dqn env_steps=4000", show_default=False),
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="The budget; by default the space's.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where log and runs are kept; by default tune/SPACE.")] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="A development world, instead of the space's: 'env=... env.index=3'.")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(min=0, help="A seed, instead of the space's.")] = None,
    sampler_seed: Annotated[int, typer.Option(min=0, help="The seed of the search itself.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at the same time.")] = 1,
    config_dir: ConfigDir = None,
) -> None:
    """Search settings with a fixed budget, on development tasks. The same command continues a search that stopped."""
    with _explained(_GOES_ON):
        from llmrl.tune.plan import plan

        if config_dir is not None:
            sys.path.insert(0, str(Path.cwd()))
        planned = plan(
            space,
            overrides or [],
            tasks=task or [],
            seeds=seed or [],
            trials=trials,
            sampler_seed=sampler_seed,
            config_dir=config_dir,
        )
        from llmrl.tune.screen import Screen
        from llmrl.tune.search import search

        search(planned, out or Path("tune") / planned.space.name, jobs, Screen())


@app.command()
def plot(
    run: Annotated[list[str], typer.Argument(help=RUN)],
    metric: Annotated[str, typer.Option(help="What is drawn: a metric's name.")] = "eval/success",
    x: Annotated[str, typer.Option(help="Over what: another metric's name.")] = "env_steps",
    out: Annotated[Path, typer.Option(help="The file to write: .png, .svg or .pdf.")] = Path("curve.png"),
    runs: Runs = Path("runs"),
) -> None:
    """Draw learning curves; runs that differ only in their seed become one line with its interval."""
    with _explained():
        from llmrl.report.plots import curve
        from llmrl.run.load import find_run

        typer.echo(curve([find_run(text, runs) for text in run], out, metric, x))


@app.command(context_settings={"ignore_unknown_options": True})  # so that --against stays where it was typed
def compare(
    run: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN... --against RUN...",
            help="Runs on either side: folders, globs, parts of names, and KEY=VALUE of their settings.",
        ),
    ],
    at: Annotated[str, typer.Option(help="Thresholds of success, in percent.")] = "50,80,95",
    x: Annotated[str, typer.Option(help="What is counted: env_steps, lm/distinct_prompts, seconds, ...")] = "env_steps",
    metric: Annotated[str, typer.Option(help="eval/success or eval_greedy/success.")] = "eval/success",
    with_training: Annotated[bool, typer.Option("--with-training", help="Count the training of models, too.")] = False,
    allow_dirty: Annotated[bool, typer.Option("--allow-dirty", help="Runs of uncommitted code, marked.")] = False,
    allow_different: Annotated[
        bool, typer.Option("--allow-different", help="Groups of different worlds or evaluations, marked.")
    ] = False,
    out: Annotated[
        list[Path] | None, typer.Option(help="A file to write: .md, .json, or a picture (.png, .svg, .pdf).")
    ] = None,
    runs: Runs = Path("runs"),
) -> None:
    """Compare groups of runs with another group: how many times fewer decisions, and how sure that is."""
    with _explained():
        from llmrl.report.compare import compare as compare_runs
        from llmrl.report.compare import percentages
        from llmrl.report.comparison import check_suffix, shown, write
        from llmrl.report.select import select, sides

        for file in out or []:
            check_suffix(file)
        a, b = (select(words, runs) for words in sides(run))
        found = compare_runs(
            a, b, metric=metric, x=x, levels=percentages(at), with_training=with_training, allow_dirty=allow_dirty,
            allow_different=allow_different,
        )  # fmt: skip
        _print(shown(found))
        for file in out or []:
            typer.echo(write(found, file))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="tiny-1, a folder, or a hub id.")],
    env: Annotated[
        str | None, typer.Option(help="The folder of the environment that has vLLM; by default the one on PATH.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    dtype: Annotated[str | None, typer.Option(help="float32 on a CPU, bfloat16 on a GPU, unless said.")] = None,
    revision: Annotated[str | None, typer.Option(help="A hub commit.")] = None,
    max_model_len: Annotated[int | None, typer.Option(min=1, help="Tokens of prompt and answer, at most.")] = None,
    gpus: Annotated[int, typer.Option(min=1, help="That one copy of the model is spread over.")] = 1,
    copies: Annotated[int, typer.Option(min=1, help="Of the model, behind one address.")] = 1,
) -> None:
    """Serve a model with vLLM, on 127.0.0.1, until Ctrl-C. Further options go to vLLM as they are."""
    with _explained():
        from llmrl.lm.server import Serving, find_vllm, serving

        what = Serving(model, revision, dtype, port, max_model_len, gpus, copies, context.args)
        with serving(find_vllm(env), what, typer.echo) as server:
            typer.echo(
                f"it answers at {server.url}; Ctrl-C stops it. To train with it:\n\n  {server.train_line(model)}\n"
            )
            with suppress(KeyboardInterrupt):  # SIGTERM among them: to be stopped is how this command ends
                server.process.wait()
                return
        typer.echo("stopped")


Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[OVERRIDE]...", help="As in lm=vllm lm.model=tiny-1", show_default=False),
]
OwnPrompt = Annotated[
    str | None, typer.Option("--prompt", help="Its text; by default the first state of the world.", show_default=False)
]
OwnActions = Annotated[
    list[str] | None, typer.Option("--action", help="One of the menu; may be given more than once.", show_default=False)
]


@lm_app.command("score")
def lm_score(
    overrides: Overrides = None, prompt: OwnPrompt = None, action: OwnActions = None, config_dir: ConfigDir = None
) -> None:
    """How likely the model finds each action of a menu."""
    with _explained(), _served(overrides, config_dir) as cfg:
        from llmrl.ask import score

        _print(score(cfg, prompt, action or []))


@lm_app.command("sample")
def lm_sample(
    overrides: Overrides = None,
    prompt: OwnPrompt = None,
    action: OwnActions = None,
    n: Annotated[int, typer.Option("--n", min=1, help="How many answers.")] = 5,
    config_dir: ConfigDir = None,
) -> None:
    """What the model answers freely, and which action each answer names."""
    with _explained(), _served(overrides, config_dir) as cfg:
        from llmrl.ask import sample

        _print(sample(cfg, prompt, action or [], n))


@lm_app.command("bench")
def lm_bench(
    overrides: Overrides = None,
    states: Annotated[int, typer.Option(min=1, help="How many different states of the world.")] = 64,
    k: Annotated[int, typer.Option("--k", min=1, help="Free answers for each.")] = 5,
    repeats: Annotated[int, typer.Option(min=1)] = 3,
    config_dir: ConfigDir = None,
) -> None:
    """How fast the model scores and answers, asked about states of the world."""
    with _explained(), _served(overrides, config_dir) as cfg:
        from llmrl.ask import bench

        for line in bench(cfg, states, k, repeats):
            typer.echo(line)


@app.command()
def doctor(runs: Runs = Path("runs")) -> None:
    """What is installed, where things are kept, and what is missing."""
    with _explained():
        from llmrl.doctor import findings
        from llmrl.report.tables import findings_table

        found = list(findings(runs))
        _print(findings_table(found))
        if any(finding.status == "broken" for finding in found):
            raise typer.Exit(1)


def main() -> None:
    signal.signal(signal.SIGTERM, _stop)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is to be ignored
        signal.signal(signal.SIGINT, _stop)
    try:
        app(prog_name="llmrl")
    except (KeyboardInterrupt, SystemExit) as end:
        # Typer, and modules that are being imported, make something else of it where no command has begun.
        failed = not isinstance(end, SystemExit) or bool(end.code)
        if _signals and failed:
            raise SystemExit(128 + _signals[0]) from None
        raise


class _Terminated(KeyboardInterrupt):
    """SIGTERM: what a batch system sends before it kills."""


_signals: list[int] = []  # that asked this process to stop


def _stop(number: int, frame: object) -> None:
    _signals.append(number)
    raise _Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _die_with_the_sweep() -> None:
    """A cell of a sweep that was killed would otherwise go on, and hold its run."""
    sweep = os.environ.pop("LLMRL_SWEEP", None)
    if sweep is None:
        return
    if sys.platform == "linux":
        import ctypes

        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, int(signal.SIGTERM))
    if sweep != str(os.getppid()):  # it was killed before this process got here
        raise typer.Exit(128 + signal.SIGTERM)


def _train(config: DictConfig, fresh: bool, allow_drift: bool) -> None:
    from llmrl.finished import shown_if_finished
    from llmrl.progress import reporter

    shown = reporter(config.progress)
    try:
        if not fresh and shown_if_finished(config, shown) is not None:
            return
        from llmrl.train import train

        with _server_of(config) as config:
            train(config, shown, fresh=fresh, allow_drift=allow_drift)
    finally:
        shown.close()


@contextmanager
def _served(overrides: list[str] | None, config_dir: Path | None) -> Iterator[DictConfig]:
    """The config, and its server where it is to be started."""
    from llmrl.config import compose

    if config_dir is not None:
        sys.path.insert(0, str(Path.cwd()))
    with _server_of(compose(overrides or [], config_dir)) as config:
        yield config


@contextmanager
def _server_of(config: DictConfig) -> Iterator[DictConfig]:
    """The config with the address of the server that lm.serve starts, for as long as the block."""
    if config.lm is None or config.lm.get("serve") is None or config.cached_only:
        yield config
        return
    from llmrl.serve import served

    with served(config, lambda text: typer.echo(text, err=True)) as config:
        yield config


def _sweep(overrides: list[str], config_dir: Path | None, jobs: int, only_print: bool, flags: Sequence[str]) -> None:
    from llmrl.report.tables import sweep_table
    from llmrl.sweep import launch, plan

    planned = plan(overrides, config_dir)
    if only_print:
        for cell in planned:
            typer.echo(f"--- # {' '.join(cell.overrides)}")
            _print_config(cell.cfg)
        return
    from llmrl.serve import served_for

    with served_for([cell.cfg for cell in planned if not cell.is_complete], typer.echo) as environment:
        codes = launch(planned, config_dir, jobs, typer.echo, flags, environment)
    rows = []
    for cell, code in zip(planned, codes, strict=True):
        run = cell.run()
        status = "paused" if code == PAUSED else "failed" if code or run is None else run.status
        rows.append((cell.overrides, run, status))
    _print(sweep_table(rows))
    if any(codes):
        raise typer.Exit(PAUSED if set(codes) <= {0, PAUSED} else 1)


def _print_config(config: DictConfig) -> None:
    from omegaconf import OmegaConf

    typer.echo(OmegaConf.to_yaml(config), nl=False)


def _print(shown: RenderableType) -> None:
    from rich.console import Console

    Console().print(shown)


@contextmanager
def _explained(stopped: str = "stopped") -> Iterator[None]:
    """Errors in one line; exit codes: 2 for what was typed, 1 for what failed, 75 for what is out of reach for now and
    may be typed again, 130 for Ctrl-C, 143 for SIGTERM."""
    try:
        yield
    except KeyboardInterrupt as stop:
        _fail(stopped, 143 if isinstance(stop, _Terminated) else 130)
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise
    except Exception as error:
        if os.environ.get("LLMRL_DEBUG") == "1":
            raise
        from llmrl.overrides import ConfigError

        if isinstance(error, ConfigError):
            _fail(str(error), 2)
        _fail(_one_line(error), getattr(error, "exit_code", 1))


def _one_line(error: Exception) -> str:
    """A ValueError's message, and that of an error of ours, is for a person; else the type, and where to look."""
    notes = getattr(error, "__notes__", [])
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return "; ".join([f"{error.filename}: {error.strerror}", *notes])
    if isinstance(error, ValueError) or type(error).__module__.startswith("llmrl."):
        return "; ".join([str(error), *notes])
    if not notes:
        notes = ["LLMRL_DEBUG=1 shows the traceback"]
    return "; ".join([f"{type(error).__name__}: {error}", *notes])


def _fail(text: str, code: int) -> NoReturn:
    from llmrl.secrets import without_secrets

    typer.secho("error: " if code not in (130, 143) else "", fg=typer.colors.RED, err=True, nl=False)
    typer.echo(without_secrets(text), err=True)
    raise typer.Exit(code)
