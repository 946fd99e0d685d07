"""Python without the 0.4 s that it and its imports take: nearly all that a short command costs.

A process that has imported everything waits for orders, forks, and the fork becomes the command. It is one
like any other: with an environment, a directory and descriptors of its own, waited for and killed by its
starter. For that, the one between the two ends at once, and the starter adopts its child
(``PR_SET_CHILD_SUBREAPER``).
"""

from __future__ import annotations

import ctypes
import gc
import inspect
import json
import os
import runpy
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Self

_MOST_BYTES: Final = 256 * 1024
_PR_SET_CHILD_SUBREAPER: Final = 36
#: What Python or a library reads while it starts, and never again.
_READ_AT_START: Final = ("PYTHON", "SSL_", "LC_", "LANG")
_HIDDEN: Final = ("APIVIDEO_", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")


class Forks:
    """The process that waits for orders. Use as a context manager."""

    def __enter__(self) -> Self:
        self._environment = dict(os.environ)
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._turn = threading.Lock()
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    __file__,
                    str(theirs.fileno()),
                ],  # no module here replaces another
                pass_fds=[theirs.fileno()],
                env=os.environ | {"PYTHONWARNINGS": "error"},
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._orders.close()
        self._process.wait()

    def start(self, order: dict[str, Any], descriptors: list[int]) -> int:
        """Have a command started; returns its process number."""
        with self._turn:
            socket.send_fds(self._orders, [json.dumps(order).encode()], descriptors)
            return int(self._orders.recv(64))

    def command(
        self, arguments: Iterable[object], directory: Path, environment: Mapping[str, str], **options: Any
    ) -> subprocess.Popen[Any]:
        """Start our command line in a directory, with nothing of this process's settings but these."""
        surroundings = {name: value for name, value in os.environ.items() if not name.startswith(_HIDDEN)}
        surroundings |= {
            "XDG_STATE_HOME": str(directory / "state"),
            "XDG_CONFIG_HOME": str(directory / "config"),
            "PYTHONWARNINGS": "error",
        }
        options |= {"cwd": directory, "env": {**surroundings, **environment}}
        return self.python("-m", "async_uploader", *map(str, arguments), **options)

    def python(self, *words: str, cwd: Path, env: Mapping[str, str], **options: Any) -> subprocess.Popen[Any]:
        """Start ``python -W error -c PROGRAM …``, ``-m MODULE …`` or ``FILE …``.

        :param options: those of ``Popen``
        """
        command = [sys.executable, "-W", "error", *words]
        if _read_at_start(env) != _read_at_start(self._environment):
            return subprocess.Popen(command, cwd=cwd, env=env, **options)
        return Forked(self, command, cwd=cwd, env=env, **options)

    def run(self, *words: str, timeout: float = 30, **options: Any) -> subprocess.CompletedProcess[str]:
        """The same to its end, with what it says as text."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        with self.python(*words, text=True, **options) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            finally:
                process.kill()
        return subprocess.CompletedProcess(words, process.returncode, out, err)


class Forked(subprocess.Popen[Any]):
    """A fork that becomes a Python program, with everything else that ``Popen`` does."""

    def __init__(self, forks: Forks, words: list[str], **options: Any) -> None:
        self._forks = forks
        super().__init__(words, **options)

    def _execute_child(self, *arguments: Any) -> None:
        given = inspect.signature(super()._execute_child).bind(*arguments).arguments  # type: ignore[misc]
        ends = [given[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        order = {"words": given["args"][3:], "cwd": str(given["cwd"]), "environment": dict(given["env"])}
        self.pid = self._forks.start(order, [number if end < 0 else end for number, end in enumerate(ends)])
        self._child_created = True
        self._close_pipe_fds(*(given[name] for name in _PIPES))  # type: ignore[attr-defined]


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    """Of these, what a fork would not notice; warnings are errors in any case."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(_READ_AT_START) and name != "PYTHONWARNINGS"
    }


_PIPES: Final = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")


def _wait_for_orders(orders: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Fork at each; returns in the forks with what to be, and here when nobody orders any more."""
    while True:
        text, descriptors, _, _ = socket.recv_fds(orders, _MOST_BYTES, 3)
        if not text:
            return None
        reader, writer = os.pipe()
        between = os.fork()
        if not between:
            if number := os.fork():
                os.write(writer, str(number).encode())
                os._exit(0)
            os.close(reader)
            os.close(writer)
            return json.loads(text), descriptors
        os.close(writer)
        os.waitpid(between, 0)  # from here on the fork is a child of who ordered it
        orders.send(os.read(reader, 64))
        for descriptor in (reader, *descriptors):
            os.close(descriptor)


def _become(order: dict[str, Any], descriptors: list[int]) -> None:
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environment"])
    kind, *words = order["words"]
    if kind == "-m":
        name, *sys.argv[1:] = words
        sys.path.insert(0, order["cwd"])
        runpy.run_module(name, run_name="__main__", alter_sys=True)
        return
    program = sys.modules["__main__"] = types.ModuleType("__main__")
    if kind == "-c":
        text, *words = words
        sys.path.insert(0, "")
    else:
        text = Path(kind).read_text(encoding="utf-8")
        program.__file__ = kind
        sys.path.insert(0, str(Path(kind).resolve().parent))
    sys.argv = [kind, *words]
    exec(compile(text, "<string>" if kind == "-c" else kind, "exec", dont_inherit=True), program.__dict__)


def main() -> None:
    """Import, and wait."""
    import importlib
    import pkgutil

    import pytest  # noqa: F401 - for runs of it

    import async_uploader
    import async_uploader.cli
    import async_uploader.emulator

    for package in (async_uploader, async_uploader.cli):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if module.name.rpartition(".")[2] not in ("__main__", "telemetry", "pytest_plugin"):
                importlib.import_module(module.name)
    gc.collect()
    gc.freeze()  # or each fork would look through all of this at its end, and copy every page by that
    with socket.socket(fileno=int(sys.argv[1])) as orders:
        order = _wait_for_orders(orders)
    if order is not None:
        _become(*order)


if __name__ == "__main__":
    main()
