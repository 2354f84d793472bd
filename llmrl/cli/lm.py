"""`llmrl lm`, and `llmrl serve`."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import typer

from llmrl.cli.shell import ConfigDir, explain_errors, show

app = typer.Typer(help="Ask a language model directly; nothing is kept.", no_args_is_help=True)


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
    with explain_errors():
        from llmrl.lm.vllm import Serving, find_vllm, serving

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


@app.command("score")
def lm_score(
    overrides: Overrides = None, prompt: OwnPrompt = None, action: OwnActions = None, config_dir: ConfigDir = None
) -> None:
    """How likely the model finds each action of a menu."""
    with explain_errors():
        from llmrl.config.compose import compose
        from llmrl.query import score

        show(score(compose(overrides or [], config_dir), prompt, action or []))


@app.command("sample")
def lm_sample(
    overrides: Overrides = None,
    prompt: OwnPrompt = None,
    action: OwnActions = None,
    n: Annotated[int, typer.Option("--n", min=1, help="How many answers.")] = 5,
    config_dir: ConfigDir = None,
) -> None:
    """What the model answers freely, and which action each answer names."""
    with explain_errors():
        from llmrl.config.compose import compose
        from llmrl.query import sample

        show(sample(compose(overrides or [], config_dir), prompt, action or [], n))


@app.command("bench")
def lm_bench(
    overrides: Overrides = None,
    states: Annotated[int, typer.Option(min=1, help="How many different states of the world.")] = 64,
    k: Annotated[int, typer.Option("--k", min=1, help="Free answers for each.")] = 5,
    repeats: Annotated[int, typer.Option(min=1)] = 3,
    config_dir: ConfigDir = None,
) -> None:
    """How fast the model scores and answers, asked about states of the world."""
    with explain_errors():
        from llmrl.config.compose import compose
        from llmrl.query import bench

        for line in bench(compose(overrides or [], config_dir), states, k, repeats):
            typer.echo(line)
