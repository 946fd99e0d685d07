"""The command ``async-uploader`` for shells: forks run it, in a quarter of the CPU time of a new process."""

from __future__ import annotations

import marshal
import os
import shlex
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from . import launcher
from .forking import Forks

_MAX_REQUEST_BYTES: Final = 192 * 1024


@contextmanager
def commands_for_shells(forks: Forks, directory: Path) -> Iterator[dict[str, str]]:
    """Make the command in a directory.

    :returns: the variables that a shell needs: ``PATH`` and the address of this process
    """
    command, address = directory / "async-uploader", directory / "forks"
    start = shlex.join([sys.executable, "-IS", launcher.__file__])
    command.write_text(f'#!/bin/sh\nexec {start} "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    path = os.pathsep.join((str(directory), str(Path(sys.executable).parent), os.environ["PATH"]))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(address))
        listener.listen()
        thread = threading.Thread(target=_accept, args=(forks, listener))
        thread.start()
        yield {"PATH": path, "FORKS_ADDRESS": str(address)}
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def _accept(forks: Forks, listener: socket.socket) -> None:
    with suppress(OSError):  # the listener was shut down
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_run, args=(forks, connection), daemon=True).start()


def _run(forks: Forks, connection: socket.socket) -> None:
    """Run one command: start it, return its process id, and then its exit code."""
    with connection, suppress(OSError):  # the shell was killed
        request, streams, *_ = socket.recv_fds(connection, _MAX_REQUEST_BYTES, 3)
        words, directory, environment = marshal.loads(request)
        stdin, stdout, stderr = streams
        process = forks.python(
            *("-m", "async_uploader", *words),
            cwd=directory, env=environment, stdin=stdin, stdout=stdout, stderr=stderr,
        )  # fmt: skip
        for descriptor in streams:
            os.close(descriptor)
        connection.send(b"%d" % process.pid)
        connection.send(b"%d" % process.wait())
