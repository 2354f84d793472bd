"""A server with vLLM's API that takes a fixed time for each answer, to measure a client's own cost. It computes
nothing.

    python -m scripts.bench.fixed_server --latency 0.2        prints its address, and serves until its input ends

GET /busy says for how long, of the time since the last GET /busy, at least one completion was under way.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
import zlib
from typing import Any

NAME, ROOM = "fixed", 4096


class Fixed:
    def __init__(self, latency: float) -> None:
        self.latency = latency
        self.running = self.peak = self.requests = 0
        self.since = self.changed = time.perf_counter()
        self.busy = 0.0

    async def serve(self) -> None:
        server = await asyncio.start_server(self._client, "127.0.0.1", 0, backlog=1024)
        port = server.sockets[0].getsockname()[1]
        print(f"http://127.0.0.1:{port}/v1", flush=True)
        async with server:
            await asyncio.to_thread(sys.stdin.read)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                path = head.split(" ", 2)[1]
                length = next((int(h.split(":")[1]) for h in head.split("\r\n") if h.startswith("content-length:")), 0)
                body = json.loads(await reader.readexactly(length)) if length else None
                data = json.dumps(await self._answer(path, body)).encode()
                writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            writer.close()

    async def _answer(self, path: str, body: Any) -> Any:
        if path == "/v1/models":
            return {"data": [{"id": NAME}]}
        if path == "/version":
            return {"version": "fixed"}
        if path == "/busy":
            return self._busy()
        if path == "/tokenize":
            return {"tokens": _tokens(body["prompt"]), "max_model_len": ROOM}
        self._count(1)
        await asyncio.sleep(self.latency)
        self._count(-1)
        return {"choices": _scores(body) if body.get("logprobs") else _texts(body), "usage": {}}

    def _count(self, change: int) -> None:
        now = time.perf_counter()
        self.busy += (now - self.changed) * (self.running > 0)
        self.changed, self.running = now, self.running + change
        self.requests += change > 0
        self.peak = max(self.peak, self.running)

    def _busy(self) -> dict[str, float]:
        self._count(0)
        found = {"seconds": self.changed - self.since, "busy": self.busy, "requests": self.requests, "peak": self.peak}
        self.since, self.busy, self.requests, self.peak = self.changed, 0.0, 0, 0
        return found


def _tokens(text: str) -> list[int]:
    return [zlib.crc32(word.encode()) % 50_000 for word in text.split()]


def _scores(body: Any) -> list[Any]:
    rows: list[Any] = []
    for i, prompt in enumerate(body["prompt"]):
        tokens = _tokens(prompt) if isinstance(prompt, str) else prompt
        at = zlib.crc32(json.dumps(tokens).encode())
        named = {f"token_id:{token}": -8 - (at + 7919 * token) % 1000 / 500 for token in body["logprob_token_ids"]}
        rows.append({"index": i, "text": "", "finish_reason": "length", "logprobs": {"top_logprobs": [named]}})
        rows[-1]["prompt_token_ids"] = tokens
    return rows


def _texts(body: Any) -> list[Any]:
    if body.get("prompt_logprobs") is not None:
        return []  # it has no such thing
    return [{"index": i, "text": " wait here", "finish_reason": "stop"} for i in range(body["n"])]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds for a completion")
    asyncio.run(Fixed(parser.parse_args().latency).serve())
