"""`llmrl lm`, and `llmrl serve`."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import typer

from llmrl.cli.shell import ConfigDir, explain_errors, show

app = typer.Typer(help="Ask a language model directly. The cache keeps none of it.", no_args_is_help=True)


def serve(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="tiny-1, a folder, or a hub id.")],
    env: Annotated[
        str | None, typer.Option(help="The folder of the environment that has vLLM; by default the one on PATH.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    dtype: Annotated[str | None, typer.Option(help="By default float32 on a CPU, and bfloat16 on a GPU.")] = None,
    revision: Annotated[str | None, typer.Option(help="A hub commit.")] = None,
    max_model_len: Annotated[int | None, typer.Option(min=1, help="Tokens of prompt and answer, at most.")] = None,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs that share one copy of the model.")] = 1,
    copies: Annotated[int, typer.Option(min=1, help="Copies of the model behind one address.")] = 1,
) -> None:
    """Serve a model with vLLM, on 127.0.0.1, until Ctrl-C. Further options go to vLLM unchanged."""
    with explain_errors():
        from llmrl.lm.vllm import Serving, find_vllm, serving

        what = Serving(model, revision, dtype, port, max_model_len, gpus, copies, context.args)
        with serving(find_vllm(env), what, typer.echo) as server:
            typer.echo(
                f"vLLM answers at {server.url}; Ctrl-C stops it. To train with it:\n\n  {server.train_line(model)}\n"
            )
            with suppress(KeyboardInterrupt):  # a signal, SIGTERM too, is the usual end of this command
                server.process.wait()
                return
        typer.echo("stopped")


Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[OVERRIDE]...", help="As in lm=vllm lm.model=tiny-1", show_default=False),
]
OwnPrompt = Annotated[
    str | None,
    typer.Option("--prompt", help="The text to ask; by default the first state of the world.", show_default=False),
]
OwnActions = Annotated[
    list[str] | None,
    typer.Option("--action", help="An action of the menu; may be given more than once.", show_default=False),
]


@app.command("score")
def lm_score(
    overrides: Overrides = None, prompt: OwnPrompt = None, action: OwnActions = None, config_dir: ConfigDir = None
) -> None:
    """Score each action of a menu by its probability under the model."""
    with explain_errors():
        from llmrl.config.compose import compose
        from llmrl.query import score

        show(score(compose(overrides or [], config_dir), prompt, action or []))


@app.command("sample")
def lm_sample(
    overrides: Overrides = None,
    prompt: OwnPrompt = None,
    action: OwnActions = None,
    n: Annotated[int, typer.Option("--n", min=1, help="The number of answers.")] = 5,
    config_dir: ConfigDir = None,
) -> None:
    """Draw free answers of the model, and find the action that each names."""
    with explain_errors():
        from llmrl.config.compose import compose
        from llmrl.query import sample

        show(sample(compose(overrides or [], config_dir), prompt, action or [], n))


@app.command("bench")
def lm_bench(
    overrides: Overrides = None,
    states: Annotated[int, typer.Option(min=1, help="The number of different states of the world.")] = 64,
    k: Annotated[int, typer.Option("--k", min=1, help="Free answers for each.")] = 5,
    repeats: Annotated[int, typer.Option(min=1)] = 3,
    config_dir: ConfigDir = None,
) -> None:
    """Measure how fast the model scores and answers, for states of the world."""
    with explain_errors():
        from llmrl.config.compose import compose
        from llmrl.query import bench

        for line in bench(compose(overrides or [], config_dir), states, k, repeats):
            typer.echo(line)
