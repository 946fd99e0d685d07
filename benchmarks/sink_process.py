"""A server that discards bodies, so that mainly the client is measured.

Over plain HTTP, the kernel drops the bytes without copying them. Over TLS they are decrypted, which takes about as
much CPU time as the client's encryption. Four processes share the ports. Each connection has a thread.

    python -m benchmarks.sink_process CERTIFICATES    prints its two ports, and runs until its input ends
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from . import responses
from .units import KIB, MIB

_PROCESSES: Final = 4
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_EXPECT: Final = re.compile(rb"\r\nexpect: *100-continue", re.IGNORECASE)
# Linux: receive the bytes without copying them.
_DROP: Final = socket.MSG_TRUNC


class _Connection:
    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._block = bytearray(256 * KIB)
        self._received = b""

    def serve(self) -> None:
        with suppress(OSError), self._socket:
            while head := self._head():
                length = _LENGTH.search(head)
                if _EXPECT.search(head):
                    self._socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                self._drop(int(length[1]) if length else 0)
                self._respond(head.split(b" ", 2)[1])

    def _head(self) -> bytes:
        while b"\r\n\r\n" not in self._received:
            more = self._socket.recv(64 * KIB)
            if not more:
                return b""
            self._received += more
        head, self._received = self._received.split(b"\r\n\r\n", 1)
        return head + b"\r\n"

    def _drop(self, count_bytes: int) -> None:
        # There is no pipelining: what was received after the head belongs to this body.
        count_bytes -= len(self._received)
        self._received = b""
        is_tls = isinstance(self._socket, ssl.SSLSocket)
        while count_bytes > 0:
            if is_tls:
                count = self._socket.recv_into(self._block, min(len(self._block), count_bytes))
            else:
                count = self._socket.recv_into(self._block, min(len(self._block), count_bytes), _DROP)
            if not count:
                raise ConnectionError
            count_bytes -= count

    def _respond(self, path: bytes) -> None:
        if path == b"/auth/api-key":
            status, text = "200 OK", responses.PAIR
        elif path.endswith(b"/status"):
            status, text = "200 OK", responses.STATUS
        else:
            status, text = "201 Created", responses.VIDEO
        self._socket.sendall(
            f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(text)}\r\n\r\n{text}".encode()
        )


def _serve(listener: socket.socket, context: ssl.SSLContext | None) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_begin, args=(connection, context), daemon=True).start()


def _begin(connection: socket.socket, context: ssl.SSLContext | None) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with suppress(OSError):
        _Connection(context.wrap_socket(connection, server_side=True) if context else connection).serve()


def _listen() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * MIB)
    return listener


def main() -> None:
    """Serve until the input ends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(sys.argv[1]) / "server.pem")
    plain, tls = _listen(), _listen()
    children = []
    for _ in range(_PROCESSES):
        if not (child := os.fork()):
            threading.Thread(target=_serve, args=(plain, None), daemon=True).start()
            _serve(tls, context)
        children.append(child)
    print(json.dumps([plain.getsockname()[1], tls.getsockname()[1]]), flush=True)
    sys.stdin.read()
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
