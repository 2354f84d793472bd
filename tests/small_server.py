"""A small server that speaks vLLM's completions API, answers from a model in this process, and misbehaves on request.

    with SmallServer(TransformersLM(folder)) as server:
        server.misbehave("reset", times=2)
        VllmLM(folder, url=server.url).score(...)

It listens on 127.0.0.1, on a port of the system's choice. Faults are for completions alone, unless `everywhere`.
"""

from __future__ import annotations

import json
import math
import socket
import struct
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

import torch

from llmrl.lm.language_model import Sampling, stopping
from llmrl.lm.transformers_lm import TransformersLM

# What may go wrong with one request. "swap" and "gone" are for the whole server: see `SmallServer`.
FAULTS = (
    "reset", "stall", "404", "429", "500", "503", "half", "malformed", "not an object", "nan", "null logprob",
    "positive", "no logprobs", "missing token", "too few", "too likely", "abort",
)  # fmt: skip


class Backend(Protocol):
    """What stands behind the server."""

    name: str
    room: int

    def tokenize(self, text: str, special: bool) -> list[int]: ...
    def converse(self, messages: Sequence[dict[str, str]], generate: bool) -> list[int]: ...
    def next_logprobs(self, rows: Sequence[Sequence[int]], ids: Sequence[int]) -> list[dict[int, float]]: ...
    def own_logprobs(self, row: Sequence[int]) -> list[float]: ...  # of each token but the first, given those before it
    def generate(self, prompt: Sequence[int] | str, seeds: Sequence[int], sampling: Sampling) -> list[str]: ...


class ModelBackend:
    """A TransformersLM."""

    def __init__(self, lm: TransformersLM, name: str = "") -> None:
        self.lm, self.name, self.room = lm, name or lm.identity.model, 1024
        self._lock = threading.Lock()
        self._next = lru_cache(4096)(lambda row: self._logprobs(row)[-1].clone())  # tests ask the same again and again

    def tokenize(self, text: str, special: bool) -> list[int]:
        with self._lock:
            return list(self.lm.tokenizer(text, add_special_tokens=special)["input_ids"])

    def converse(self, messages: Sequence[dict[str, str]], generate: bool) -> list[int]:
        with self._lock:
            return list(self.lm.tokenizer.apply_chat_template(messages, add_generation_prompt=generate)["input_ids"])

    def next_logprobs(self, rows: Sequence[Sequence[int]], ids: Sequence[int]) -> list[dict[int, float]]:
        found = [self._next(tuple(row))[list(ids)].tolist() for row in rows]
        return [dict(zip(ids, values, strict=True)) for values in found]

    def own_logprobs(self, row: Sequence[int]) -> list[float]:
        return [float(x) for x in self._logprobs(row)[range(len(row) - 1), list(row[1:])]]

    def _logprobs(self, row: Sequence[int]) -> torch.Tensor:
        with self._lock, torch.inference_mode():
            return self.lm.network(torch.tensor([list(row)])).logits[0].float().log_softmax(-1)

    def generate(self, prompt: Sequence[int] | str, seeds: Sequence[int], sampling: Sampling) -> list[str]:
        with self._lock:
            ids = self.lm.texts.prompts([prompt])[0] if isinstance(prompt, str) else list(prompt)
            return self.lm.generate([ids], [seeds], sampling)[0]


class SmallServer:
    """`url` ends with /v1. `requests` counts what was asked, by path; `seen` holds the bodies of completions.

    key: what a client has to show. without: parts of vLLM's API that this server does not have ("tokenize",
    "logprob_token_ids", "return_token_ids", "prompt_logprobs", "version", "n", "models"). lacks: path -> how that is
    said: a status, or "html". spoil: says what goes wrong with a request, besides. close_after: the next answer is its
    connection's last. instead: status and JSON of what another server would say; None: this one answers.
    """

    def __init__(self, backend: Backend | TransformersLM) -> None:
        self.backend: Backend = ModelBackend(backend) if isinstance(backend, TransformersLM) else backend
        self.key: str | None = None
        self.without: frozenset[str] = frozenset()
        self.requests: Counter[str] = Counter()
        self.seen: list[dict[str, Any]] = []
        self.faulted: Counter[str] = Counter()
        self.headers: Mapping[str, str] = {}  # of the last request
        self.lacks: Mapping[str, str] = {}
        self.close_after = False
        self.on_stall: Callable[[], None] = lambda: None
        self.spoil: Callable[[str, dict[str, Any] | None], str] = lambda path, body: ""
        self.instead: Callable[[str, dict[str, Any] | None], tuple[int, Any] | None] = lambda path, body: None
        self._faults: deque[str] = deque()
        self._everywhere = False
        self._lock = threading.Lock()
        self._released = threading.Event()  # those who stall go on, and end
        self._http: _Http | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def misbehave(self, fault: str, times: int = 1, everywhere: bool = False, after: int = 0) -> None:
        """The next `times` requests fail, when `after` were answered."""
        assert fault in FAULTS
        with self._lock:
            self._faults.extend([""] * after + [fault] * times)
            self._everywhere = everywhere

    def behave(self) -> None:
        """Nothing fails any more."""
        with self._lock:
            self._faults.clear()

    def start(self) -> SmallServer:
        """On the same port as before, if it was up before."""
        self._released.clear()
        self._http = _Http(("127.0.0.1", self.port), _handler(self))
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Nobody listens any more, and every connection is cut."""
        if self._http is not None:
            self._released.set()
            self._http.shutdown()
            self._http.cut()
            self._http.server_close()
            self._http = None

    __enter__ = start

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ---- answers -----------------------------------------------------------------------------------------------------

    def fault(self, path: str) -> str:
        with self._lock:
            if not self._faults or not (self._everywhere or path.endswith("/completions")):
                return ""
            fault = self._faults.popleft()
            self.faulted[fault] += bool(fault)
            return fault

    def answer(self, path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        """Status and JSON."""
        with self._lock:
            self.requests[path] += 1
        backend = self.backend
        if path == "/v1/models" and "models" not in self.without:
            return 200, {"object": "list", "data": [{"id": backend.name, "object": "model"}]}
        if path == "/version" and "version" not in self.without:
            return 200, {"version": "0.0.small"}
        if body is not None and body.get("model") != backend.name:
            return 404, {"error": {"message": f"The model `{body.get('model')}` does not exist.", "code": 404}}
        if path == "/tokenize" and body is not None and "tokenize" not in self.without:
            if "messages" in body:
                tokens = backend.converse(body["messages"], body.get("add_generation_prompt", True))
            else:
                tokens = backend.tokenize(body["prompt"], body.get("add_special_tokens", True))
            return 200, {"tokens": tokens, "count": len(tokens), "max_model_len": backend.room}
        if path in ("/v1/completions", "/v1/chat/completions") and body is not None:
            with self._lock:
                self.seen.append(body)
            if path == "/v1/completions":
                return 200, self._completions(body)
            answer = self._completions({**body, "prompt": backend.converse(body["messages"], True)})
            for choice in answer["choices"]:
                choice["message"] = {"role": "assistant", "content": choice.pop("text")}
            return 200, answer
        return 404, {"detail": "Not Found"}

    def _completions(self, body: dict[str, Any]) -> dict[str, Any]:
        prompt = body["prompt"]
        if body.get("prompt_logprobs") is not None or body.get("logprobs") is not None:
            rows = [self.backend.tokenize(row, True) if isinstance(row, str) else row for row in prompt]
            return self._scored(rows, body)
        n = 1 if "n" in self.without else body.get("n", 1)
        stop = stopping(body.get("stop") or [])
        sampling = Sampling(body["max_tokens"], body["temperature"], body.get("top_p", 1.0), stop)
        texts = self.backend.generate(prompt, [body["seed"] + i for i in range(n)], sampling)
        choices = [
            {"index": i, "text": text, "finish_reason": "stop", "logprobs": None} for i, text in enumerate(texts)
        ]
        tokens = sum(len(self.backend.tokenize(text, False)) for text in texts)
        return {"choices": choices, "usage": {"prompt_tokens": len(prompt), "completion_tokens": tokens}}

    def _scored(self, rows: Sequence[list[int]], body: dict[str, Any]) -> dict[str, Any]:
        choices: list[dict[str, Any]] = []
        if body.get("prompt_logprobs") is not None:
            for i, row in enumerate(rows):
                values = zip(row[1:], self.backend.own_logprobs(row), strict=True)
                logprobs = [None, *({str(token): {"logprob": value, "rank": 1}} for token, value in values)]
                choices.append({"index": i, "text": "", "finish_reason": "length"})
                if "prompt_logprobs" not in self.without:
                    choices[-1]["prompt_logprobs"] = logprobs
        else:
            known = "logprob_token_ids" not in self.without
            ids = body.get("logprob_token_ids", []) if known else [0]
            assert len(ids) <= 128
            for i, found in enumerate(self.backend.next_logprobs(rows, ids)):
                named = {f"token_id:{token}": value for token, value in found.items()}
                top = {"top_logprobs": [named]}
                choices.append({"index": i, "text": "", "finish_reason": "length", "logprobs": top})
                if body.get("return_token_ids") and "return_token_ids" not in self.without:
                    choices[-1]["prompt_token_ids"] = rows[i]
        return {"choices": choices, "usage": {"prompt_tokens": sum(map(len, rows)), "completion_tokens": len(rows)}}


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 512

    def __init__(self, *args: Any) -> None:
        self.connections: set[socket.socket] = set()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def cut(self) -> None:
        for connection in list(self.connections):
            with suppress(OSError):  # it is closed already
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are what is being tested."""


def _handler(server: SmallServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

        def _answer(self, body: dict[str, Any] | None) -> None:
            server.headers = dict(self.headers.items())
            if server.key is not None and self.headers.get("authorization") != f"Bearer {server.key}":
                shown = self.headers.get("authorization", "")
                self._send(401, {"error": {"message": f"Incorrect API key provided: {shown}"}})
                return
            fault = server.spoil(self.path, body) or server.fault(self.path)
            if fault == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
            elif fault == "stall":
                server.on_stall()
                server._released.wait()
                self.close_connection = True
            elif (lack := server.lacks.get(self.path)) is not None:
                self._send(int(lack) if lack.isdecimal() else 200, {}, html=lack == "html")
            elif fault.isdecimal():
                self._send(int(fault), {"error": {"message": "not now"}}, {"Retry-After": "7"})
            else:
                status, answer = server.instead(self.path, body) or server.answer(self.path, body)
                last, server.close_after = server.close_after, False
                headers = {"Connection": "close"} if last else {}
                self._send(
                    status, _spoilt(answer, fault), headers, half=fault == "half", malformed=fault == "malformed"
                )

        def _send(
            self,
            status: int,
            answer: Any,
            headers: Mapping[str, str] | None = None,
            half: bool = False,
            malformed: bool = False,
            html: bool = False,
        ) -> None:
            data = b"<html>Welcome</html>" if html else json.dumps(answer).encode()
            if malformed:
                data = data[:-3] + b"}}}"
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if html else "application/json")
            self.send_header("Content-Length", str(len(data)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if half else data)
            self.close_connection = self.close_connection or half

        def log_message(self, *_: Any) -> None:
            return

    return Handler


def _spoilt(answer: Any, fault: str) -> Any:
    """An answer that is none."""
    if fault == "not an object":
        return [answer]
    if fault == "too few":
        return {**answer, "choices": answer["choices"][:-1]}
    if fault == "abort":
        answer["choices"][-1]["finish_reason"] = "abort"
    if fault in ("nan", "null logprob", "positive", "no logprobs", "missing token", "too likely"):
        choice = answer["choices"][-1]
        logprobs = choice.get("logprobs")
        if logprobs is None:  # a generation
            choice["text"] = None
        elif fault == "no logprobs":
            choice["logprobs"] = None
        else:
            named = logprobs["top_logprobs"][0]
            token = next(iter(named))
            if fault == "missing token":
                del named[token]
            elif fault == "too likely":
                named.update(dict.fromkeys([*named, "token_id:0"], -0.01))
            else:
                named[token] = {"nan": math.nan, "null logprob": None, "positive": 1.5}[fault]
    return answer
