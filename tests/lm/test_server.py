"""Starting and stopping vLLM: a stand-in that does what its command line says. tests/vllm starts the real one."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import urllib.request
from pathlib import Path

import pytest

from llmrl.config.compose import compose
from llmrl.lm import vllm as module
from llmrl.lm.http import connection
from llmrl.lm.language_model import Outage
from llmrl.lm.openai_lm import VllmLM
from llmrl.lm.serve import PROCESSES, URLS, serve_for_block, served_for
from llmrl.lm.vllm import Server, ServerError, Serving, Vllm, command, find_vllm, serving
from llmrl.run.identity import identify_run

FAKE = """
import http.server, json, os, signal, subprocess, sys

if sys.argv[1] == "-c":
    print("a warning")
    print(json.dumps({"vllm": "9.9", "cuda": os.environ.get("FAKE_CUDA") == "1"}))
    raise SystemExit
words = dict(zip(sys.argv[3::2], sys.argv[4::2]))
print("serving", words["--served-model-name"], flush=True)
if os.environ.get("FAKE_FAILS"):
    print("ValueError: there is no room for the weights")
    print("the end")
    raise SystemExit(3)
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print("child", child.pid, flush=True)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        data = json.dumps({"data": [{"id": words["--served-model-name"]}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
http.server.HTTPServer(("127.0.0.1", int(words["--port"])), Handler).serve_forever()
"""


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(module, "LOOKS_EVERY", 0.01)
    python = tmp_path / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    (tmp_path / "fake.py").write_text(FAKE)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path / "fake.py"} "$@"\n')
    python.chmod(0o755)
    return str(tmp_path / "env")


def ends(pid: int) -> bool:
    """Whether a process that was killed ends: on a busy machine it may live for a moment longer."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with os.fdopen(handle):
        return bool(select.select([handle], [], [], 60)[0])


def served_models(server: Server) -> list[str]:
    with urllib.request.urlopen(f"{server.url}/models") as answer:
        return [model["id"] for model in json.load(answer)["data"]]


def test_a_server_runs_for_as_long_as_its_block_with_all_that_it_started(environment: str) -> None:
    said: list[str] = []
    with serving(find_vllm(environment), Serving("tiny-1"), said.append) as server:
        assert served_models(server) == ["tiny-1"]
        assert (
            server.train_line("tiny-1") == f"llmrl train lm=vllm lm.model=tiny-1 lm.dtype=float32 lm.url={server.url}"
        )
        child = int(server.log.read_text().split("child ")[1].split()[0])
        assert str(server.log) in said[0]
    assert server.process.returncode is not None
    assert ends(child)
    assert not server.log.parent.exists()


def test_one_that_does_not_start_says_why(environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FAILS", "1")
    with (
        pytest.raises(
            ServerError, match=r"did not start \(exit code 3\)(.|\n)*ValueError: there is no room(.|\n)*the end"
        ),
        serving(find_vllm(environment), Serving("tiny-1")),
    ):
        pass


def test_one_that_ends_by_itself_is_no_success(environment: str) -> None:
    def killed() -> None:
        with serving(find_vllm(environment), Serving("tiny-1")) as server:
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.wait()

    with pytest.raises(ServerError, match="ended by itself"):
        killed()


def test_whoever_asks_is_told_that_it_has_ended_and_whoever_is_done_is_only_told(environment: str) -> None:
    said: list[str] = []
    with serving(find_vllm(environment), Serving("tiny-1"), said.append, needed=False) as server:
        assert connection.ended[server.url]() is None
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        lm = VllmLM("tiny-1", url=server.url, patience_s=1e6)
        with pytest.raises(Outage, match=rf"ended by itself \(exit code -9\): its log is {server.log}"):
            lm.probe()
        lm.close()
    assert "all is done, and before that vLLM ended by itself" in said[-1]
    assert server.log.exists()
    assert server.url not in connection.ended


def test_a_port_that_is_taken_and_a_model_that_is_none_are_named(environment: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(ValueError, match=f"port {port} is taken"),
            serving(find_vllm(environment), Serving("tiny-1", port=port)),
        ):
            pass
    with (
        pytest.raises(ValueError, match="holds no model"),
        serving(find_vllm(environment), Serving(str(tmp_path))),
    ):
        pass


def test_vllm_is_found_on_path_or_where_it_is_said_to_be(
    environment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match=r"there is no vLLM in PATH: .*lm\.serve_env=vllm-env"):
        find_vllm()
    with pytest.raises(ValueError, match=f"there is no vLLM in {tmp_path}"):
        find_vllm(str(tmp_path))
    program = Path(environment) / "bin" / "vllm"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/bin:/usr/bin")
    assert find_vllm() == Vllm(Path(environment) / "bin" / "python", "9.9", False)
    monkeypatch.setenv("FAKE_CUDA", "1")
    assert find_vllm(environment).cuda


def test_the_command_line() -> None:
    cpu, gpu = (Vllm(Path("/env/bin/python"), "9.9", cuda) for cuda in (False, True))

    def words(vllm: Vllm, what: Serving) -> str:
        return " ".join(command(vllm, what, 8000))

    here = words(cpu, Serving("tiny-1"))
    assert "--host 127.0.0.1 --port 8000 --dtype float32 --generation-config vllm" in here
    assert "--block-size 32" in here
    assert "lm/tiny/tiny-1 --served-model-name tiny-1" in here
    there = words(gpu, Serving("Qwen/Qwen2.5-7B", revision="abc", gpus=2, copies=4, more=["--seed", "1"]))
    assert "--model Qwen/Qwen2.5-7B --served-model-name Qwen/Qwen2.5-7B" in there
    assert "--dtype bfloat16" in there
    assert "--revision abc --tokenizer-revision abc --tensor-parallel-size 2 --data-parallel-size 4" in there
    assert there.endswith("--enable-prefix-caching --disable-uvicorn-access-log --seed 1")
    assert "--block-size" not in there


def test_a_run_and_a_sweep_have_their_server_started(environment: str) -> None:
    cfg = compose(["lm=vllm", "lm.serve=tiny-1", "lm.dtype=float32", f"lm.serve_env={environment}"])
    assert cfg.lm.model == "tiny-1"
    said: list[str] = []
    with serve_for_block(cfg, said.append) as ready:
        with urllib.request.urlopen(f"{ready.lm.url}/models") as answer:
            assert answer.status == 200
        assert identify_run(ready).id == identify_run(cfg).id
    other = compose(["lm=vllm", "lm.serve=tiny-1", "lm.dtype=bfloat16", f"lm.serve_env={environment}"])
    plain = compose([])
    with served_for([cfg, plain, cfg, other], said.append):
        assert len(said) == 3  # one of the run, two of the sweep
        urls = set(json.loads(os.environ[URLS]).values())
        assert len(urls) == 2
        with (
            served_for([other, cfg], said.append),
            serve_for_block(cfg, said.append) as first,
            serve_for_block(other, said.append) as second,
        ):
            assert {first.lm.url, second.lm.url} == urls
            assert [connection.ended[url]() for url in urls] == [None, None]
            pid, log = json.loads(os.environ[PROCESSES])[first.lm.url]
            os.kill(pid, signal.SIGKILL)
            while (how := connection.ended[first.lm.url]()) is None:
                os.sched_yield()
            assert how.endswith(log)
            assert connection.ended[second.lm.url]() is None
        assert len(said) == 3
    assert not {URLS, PROCESSES} & set(os.environ)
    with served_for([plain], said.append):
        assert not {URLS, PROCESSES} & set(os.environ)
