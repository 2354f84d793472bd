"""`lm.serve=MODEL`: vLLM runs for as long as the run, or the several runs, that ask it.

A run asks its model within `serve_for_block`. Several runs, in this process or others, share a server in `served_for`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from llmrl.lm.vllm import Server

URLS = "LLMRL_SERVERS"  # how a sweep tells its cells where its servers are: JSON, what is served -> address
PROCESSES = "LLMRL_SERVER_PROCESSES"  # and what they are: JSON, address -> process id and log


@contextmanager
def serve_for_block(cfg: DictConfig, say: Callable[[str], None]) -> Iterator[DictConfig]:
    """`cfg` with the address of its server: one of `served_for`, or one that runs for this block.

    As it is, where no server is to be started for it.
    """
    if not _wants(cfg):
        yield cfg
        return
    from llmrl.lm.vllm import watch

    known = json.loads(os.environ.get(URLS, "{}"))
    if (key := served_by(cfg)) in known:
        pid, log = json.loads(os.environ.get(PROCESSES, "{}"))[known[key]]
        how = f"its vLLM ended by itself: its log is {log}"
        with watch(known[key], lambda: None if _runs(pid) else how):
            yield _with_url(cfg, known[key])
        return
    with _start(cfg, say) as server:
        yield _with_url(cfg, server.url)


@contextmanager
def served_for(cfgs: Sequence[DictConfig], say: Callable[[str], None]) -> Iterator[None]:
    """Servers for all that `cfgs` ask for, each once.

    `serve_for_block` finds them, here and in processes begun in this block.

    They are told by the environment.
    """
    urls: dict[str, str] = json.loads(os.environ.get(URLS, "{}"))
    processes: dict[str, tuple[int, str]] = json.loads(os.environ.get(PROCESSES, "{}"))
    with ExitStack() as stack:
        for cfg in cfgs:
            if _wants(cfg) and served_by(cfg) not in urls:
                server = stack.enter_context(_start(cfg, say))
                urls[served_by(cfg)] = server.url
                processes[server.url] = (server.process.pid, str(server.log))
        with _environment({URLS: json.dumps(urls), PROCESSES: json.dumps(processes)} if urls else {}):
            yield


@contextmanager
def _environment(more: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in more}
    os.environ.update(more)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _start(cfg: DictConfig, say: Callable[[str], None]) -> Iterator[Server]:
    from llmrl.lm.vllm import Serving, find_vllm, serving

    what = Serving(cfg.lm.serve, cfg.lm.revision, cfg.lm.dtype)
    with serving(find_vllm(cfg.lm.serve_env), what, say, needed=False) as server:
        yield server


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _wants(cfg: DictConfig) -> bool:
    return cfg.lm is not None and cfg.lm.get("serve") is not None and not cfg.cached_only


def served_by(cfg: DictConfig) -> str:
    """Names the server that it asks for: configs with the same one share it."""
    return json.dumps([cfg.lm[name] for name in ("serve", "revision", "dtype", "serve_env")])


def _with_url(cfg: DictConfig, url: str) -> DictConfig:
    cfg = cfg.copy()
    OmegaConf.set_readonly(cfg, False)
    cfg.lm.url = url
    OmegaConf.set_readonly(cfg, True)
    return cfg
