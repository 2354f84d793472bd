"""The `llmrl` command in processes that start quickly: each is forked from one that has loaded all and done nothing.

Reads one request a line, in JSON: {arguments, folder, environ, out, err, before}; `before` is Python that is run first,
to make things go wrong. Answers with the exit code, negative for a signal.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from typing import Any

import rich.live  # noqa: F401
import torch._dynamo  # noqa: F401  # which an optimiser loads
import typer.core  # noqa: F401

import llmrl.__main__
import llmrl.cli.main
import llmrl.cli.play_screen
import llmrl.play
import llmrl.report.compare
import llmrl.report.plots
import llmrl.training.online


def child(request: dict[str, Any]) -> None:
    os.chdir(request["folder"])
    os.environ.update(request["environ"])
    sys.path.insert(0, request["folder"])
    for number, name in enumerate((os.devnull, request["out"], request["err"])):
        file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    sys.argv = ["llmrl", *request["arguments"]]
    sys.modules["__main__"] = llmrl.__main__  # which workers load, as under `python -m llmrl`
    exec(request["before"], {})
    try:
        llmrl.__main__.main()
    except SystemExit as end:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(end.code or 0))  # to take apart all that was loaded would take longer than most commands


def serve() -> None:
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            child(json.loads(line))
            return
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    llmrl.compose()  # which loads Hydra
    gc.freeze()  # what collecting touches has to be copied for each fork
    serve()
