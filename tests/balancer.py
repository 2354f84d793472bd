"""A TCP balancer: each connection goes to one of several servers, and stays there."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress


class Balancer:
    """`pick` says to which port the n-th connection goes. `url` ends with /v1."""

    def __init__(self, ports: Sequence[int], pick: Callable[[int], int]) -> None:
        self._ports, self._pick = ports, pick
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.connections = 0
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    def __enter__(self) -> Balancer:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._ports[self._pick(self.connections)]))
                self.connections += 1
                for way in ((client, server), (server, client)):
                    threading.Thread(target=_pump, args=way, daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
