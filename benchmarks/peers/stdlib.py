"""A lower bound for Python: sockets and threads of the standard library, with ``sendfile`` or ``ssl``.

It does not log in, reads only the status of a response, and does not retry.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from mmap import mmap
from pathlib import Path
from queue import Empty, SimpleQueue
from urllib.parse import urlsplit

from benchmarks.units import MIB

from .task import Task, read_task, report

Extent = tuple[int, int, int]


class Connection:
    """A connection that a thread uses for all its parts."""

    def __init__(self, task: Task) -> None:
        address = urlsplit(task.url)
        host, port = address.hostname or "", address.port or 443
        self._host = f"{host}:{port}"
        self._socket = socket.create_connection((host, port))
        self._block: memoryview | None = None
        if address.scheme == "https":
            context = ssl.create_default_context(cafile=task.ca)
            self._socket = context.wrap_socket(self._socket, server_hostname=host)
            self._block = memoryview(mmap(-1, MIB))

    def send(self, file: int, extent: Extent, *, content_range: str) -> None:
        """Send one part, and check that it was accepted."""
        _, offset, size_bytes = extent
        head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
        tail = b"\r\n--b--\r\n"
        request = (
            f"POST /videos/vi0/source HTTP/1.1\r\nHost: {self._host}\r\nContent-Range: {content_range}\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\n"
            f"Content-Length: {len(head) + size_bytes + len(tail)}\r\n\r\n"
        )
        self._socket.sendall(request.encode() + head)
        if self._block is None:
            self._send_plain(file, offset, size_bytes)
        else:
            self._send_blocks(file, offset, size_bytes, self._block)
        self._socket.sendall(tail)
        response = self._socket.recv(65536)
        if not response.startswith(b"HTTP/1.1 2"):
            raise SystemExit(f"refused: {response[:200]!r}")

    def _send_plain(self, file: int, offset: int, size_bytes: int) -> None:
        end = offset + size_bytes
        while offset < end:
            offset += os.sendfile(self._socket.fileno(), file, offset, end - offset)

    def _send_blocks(self, file: int, offset: int, size_bytes: int, block: memoryview) -> None:
        end = offset + size_bytes
        while offset < end:
            count = os.preadv(file, [block[: end - offset]], offset)
            self._socket.sendall(block[:count])
            offset += count


def upload(task: Task, path: Path) -> None:
    """Send all parts of a file over a fixed number of connections."""
    waiting: SimpleQueue[Extent] = SimpleQueue()
    extents = task.extents(path)
    for number, (offset, size_bytes) in enumerate(extents, 1):
        waiting.put((number, offset, size_bytes))
    file = os.open(path, os.O_RDONLY)

    def work() -> None:
        connection = Connection(task)
        while True:
            try:
                extent = waiting.get_nowait()
            except Empty:
                return
            connection.send(file, extent, content_range=f"part {extent[0]}/{len(extents)}")

    connections = task.connections or 4
    with ThreadPoolExecutor(connections) as threads:
        for one in [threads.submit(work) for _ in range(connections)]:
            one.result()
    os.close(file)


def main() -> None:
    """Do the task."""
    task = read_task()
    started = time.perf_counter()
    for path in task.files:
        upload(task, path)
    report(seconds=time.perf_counter() - started)


if __name__ == "__main__":
    main()
