"""`lm.serve=MODEL`: vLLM runs for as long as the run or the sweep that asks it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from omegaconf import DictConfig, OmegaConf

from llmrl.lm.vllm import Serving, find_vllm, serving, watched

URLS = "LLMRL_SERVERS"  # how a sweep tells its cells where its servers are: JSON, what is served -> address
PROCESSES = "LLMRL_SERVER_PROCESSES"  # and what they are: JSON, address -> process id and log


@contextmanager
def served(cfg: DictConfig, say: Callable[[str], None]) -> Iterator[DictConfig]:
    """`cfg` with the address of its server: one that the sweep has started, or one that runs for this block.

    As it is, where no server is to be started for it.
    """
    if not wants(cfg):
        yield cfg
        return
    known = json.loads(os.environ.get(URLS, "{}"))
    if (key := served_by(cfg)) in known:
        pid, log = json.loads(os.environ.get(PROCESSES, "{}"))[known[key]]
        how = f"its vLLM ended by itself: its log is {log}"
        with watched(known[key], lambda: None if _runs(pid) else how):
            yield with_url(cfg, known[key])
        return
    with serving(find_vllm(cfg.lm.serve_env), _what(cfg), say, needed=False) as server:
        yield with_url(cfg, server.url)


@contextmanager
def served_for(cfgs: Sequence[DictConfig], say: Callable[[str], None]) -> Iterator[Mapping[str, str]]:
    """Servers for all that `cfgs` ask for, each once; what is to be put into the environment of their runs."""
    with ExitStack() as stack:
        urls: dict[str, str] = {}
        processes: dict[str, tuple[int, str]] = {}
        for cfg in cfgs:
            if wants(cfg) and served_by(cfg) not in urls:
                server = stack.enter_context(serving(find_vllm(cfg.lm.serve_env), _what(cfg), say, needed=False))
                urls[served_by(cfg)] = server.url
                processes[server.url] = (server.process.pid, str(server.log))
        yield {URLS: json.dumps(urls), PROCESSES: json.dumps(processes)} if urls else {}


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wants(cfg: DictConfig) -> bool:
    return cfg.lm is not None and cfg.lm.get("serve") is not None and not cfg.cached_only


def _what(cfg: DictConfig) -> Serving:
    return Serving(cfg.lm.serve, cfg.lm.revision, cfg.lm.dtype)


def served_by(cfg: DictConfig) -> str:
    """Names the server that it asks for: configs with the same one share it."""
    return json.dumps([cfg.lm[name] for name in ("serve", "revision", "dtype", "serve_env")])


def with_url(cfg: DictConfig, url: str) -> DictConfig:
    cfg = cfg.copy()
    OmegaConf.set_readonly(cfg, False)
    cfg.lm.url = url
    OmegaConf.set_readonly(cfg, True)
    return cfg
