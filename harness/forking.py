"""Start Python programs without the 0.4 s of CPU time that Python and the package's imports take.

One process imports everything and then waits for requests. For each request it forks, and the fork becomes the
program. The program behaves like any other process: it has its own environment, directory and descriptors, and its
starter waits for it and can kill it. This works because the intermediate process ends at once and the starter
adopts the orphaned fork (``PR_SET_CHILD_SUBREAPER``).
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import inspect
import json
import os
import pkgutil
import runpy
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Self

_MAX_REQUEST_BYTES: Final = 256 * 1024
_PR_SET_CHILD_SUBREAPER: Final = 36
#: Prefixes of variables that Python or a library reads only while it starts.
_READ_AT_START: Final = ("PYTHON", "SSL_", "LC_", "LANG", "DASK_")
_HIDDEN: Final = ("APIVIDEO_", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
#: What most programs import while they run, in addition to everything in `async_uploader`.
_NEEDED: Final = ("anyio._backends._asyncio", "click._textwrap", "pytest", "tenacity.asyncio")
#: Modules that Python uses while it ends: to write streams, and to print warnings and exceptions.
_USED_AT_THE_END: Final = {*sys.builtin_module_names, "codecs", "io", "linecache", "os", "traceback", "warnings"}
#: Modules that run a program, import pytest's or OpenTelemetry's, or import Dask, which few programs need.
_NOT_IMPORTED: Final = {f"async_uploader.{name}" for name in ("__main__", "fleet", "pytest_plugin", "telemetry")}


class Forks:
    """The process that forks on request. Use as a context manager.

    :param modules: what it imports in addition to what most programs need
    """

    def __init__(self, *modules: str) -> None:
        self._modules = modules

    def __enter__(self) -> Self:
        self._environment = dict(os.environ)
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._lock = threading.Lock()
        self._requests, far_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with far_end:
            self._process = subprocess.Popen(
                # -P: no module of this directory hides another one.
                [sys.executable, "-P", __file__, str(far_end.fileno()), *self._modules],
                pass_fds=[far_end.fileno()],
                env=os.environ | {"PYTHONWARNINGS": "error"},
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._requests.close()
        self._process.wait()

    def start(self, request: dict[str, Any], descriptors: list[int]) -> int:
        """Start a program and return its process id."""
        with self._lock:
            socket.send_fds(self._requests, [json.dumps(request).encode()], descriptors)
            return int(self._requests.recv(64))

    def command(
        self, arguments: Iterable[object], directory: Path, environment: Mapping[str, str], **options: Any
    ) -> subprocess.Popen[Any]:
        """Start the command line in a directory. It inherits no settings of the uploader from this process."""
        options |= {"cwd": directory, "env": {**command_environment(directory), **environment}}
        return self.python("-m", "async_uploader", *map(str, arguments), **options)

    def python(
        self, *words: str, cwd: Path, env: Mapping[str, str], closed: Collection[int] = (), **options: Any
    ) -> subprocess.Popen[Any]:
        """Start ``python -W error -c PROGRAM …``, ``-m MODULE …`` or ``FILE …``.

        :param closed: standard streams that are closed, as with ``<&- >&- 2>&-`` in a shell
        :param options: options of ``Popen``
        """
        command = [sys.executable, "-W", "error", *words]
        if _read_at_start(env) != _read_at_start(self._environment):
            assert not closed
            return subprocess.Popen(command, cwd=cwd, env=env, **options)
        return Forked(self, command, closed, cwd=cwd, env=env, **options)

    def run(self, *words: str, timeout: float = 30, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program like :meth:`python` until it ends, and capture its output as text."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        with self.python(*words, text=True, **options) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            finally:
                process.kill()
        return subprocess.CompletedProcess(words, process.returncode, out, err)


def command_environment(directory: Path) -> dict[str, str]:
    """The environment of a command: no settings of this process, state and configuration in a directory.

    Terminal settings are removed, too: pytest's workers set ``COLUMNS``, which would hide a terminal's width.
    """
    variables = {name: value for name, value in os.environ.items() if not name.startswith(_HIDDEN)}
    return variables | {
        "XDG_STATE_HOME": str(directory / "state"),
        "XDG_CONFIG_HOME": str(directory / "config"),
        "PYTHONWARNINGS": "error",
    }


class Forked(subprocess.Popen[Any]):
    """A fork that becomes a Python program. Everything else works as in ``Popen``."""

    def __init__(self, forks: Forks, words: list[str], closed: Collection[int], **options: Any) -> None:
        self._forks = forks
        self._closed = list(closed)
        super().__init__(words, **options)

    def _execute_child(self, *arguments: Any) -> None:
        given = inspect.signature(super()._execute_child).bind(*arguments).arguments  # type: ignore[misc]
        ends = [given[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        request = {
            "words": given["args"][3:], "cwd": str(given["cwd"]), "environment": dict(given["env"]),
            "closed": self._closed,
        }  # fmt: skip
        self.pid = self._forks.start(request, [number if end < 0 else end for number, end in enumerate(ends)])
        self._child_created = True
        self._close_pipe_fds(*(given[name] for name in _PIPES))  # type: ignore[attr-defined]


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that a fork would not notice. Warnings are errors in any case."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(_READ_AT_START) and name != "PYTHONWARNINGS"
    }


_PIPES: Final = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")


def _wait_for_requests(requests: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Fork at each request.

    :returns: in a fork: the request and the descriptors; in this process: None, once nobody can send requests
    """
    while True:
        text, descriptors, _, _ = socket.recv_fds(requests, _MAX_REQUEST_BYTES, 3)
        if not text:
            return None
        reader, writer = os.pipe()
        intermediate = os.fork()
        if not intermediate:
            if number := os.fork():
                os.write(writer, str(number).encode())
                os._exit(0)
            os.close(reader)
            os.close(writer)
            return json.loads(text), descriptors
        os.close(writer)
        os.waitpid(intermediate, 0)  # now the starter has adopted the fork
        requests.send(os.read(reader, 64))
        for descriptor in (reader, *descriptors):
            os.close(descriptor)


def _become(request: dict[str, Any], descriptors: list[int]) -> None:
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    _open_streams(request["closed"])
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    kind, *words = request["words"]
    if kind == "-m":
        name, *sys.argv[1:] = words
        sys.path.insert(0, request["cwd"])
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


def _open_streams(closed: Collection[int]) -> None:
    """Open the standard streams as Python does when it starts: a closed one is None."""
    out: dict[str, Any] = {"mode": "w", "encoding": "utf-8", "closefd": False}
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, **out)  # noqa: SIM115
    sys.stderr = open(2, **out, errors="backslashreplace", buffering=1)  # noqa: SIM115
    for number in closed:
        setattr(sys, ("stdin", "stdout", "stderr")[number], None)
        os.close(number)


def _leave_modules(names: Iterable[str]) -> None:
    """Hide modules from Python's finalization, which would clear them, and thereby copy their memory to the fork.

    The program's own modules and objects are still finalized.
    """
    for name in names:
        if (module := sys.modules.pop(name, None)) is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(module))


def _import_all(name: str) -> None:
    """Import a package and everything in it that most programs need."""
    for module in pkgutil.iter_modules(importlib.import_module(name).__path__, f"{name}."):
        if module.name not in _NOT_IMPORTED:
            (_import_all if module.ispkg else importlib.import_module)(module.name)


def main() -> None:
    """Import everything, then wait for requests."""
    shared: set[str] = set()
    atexit.register(_leave_modules, shared)  # the first one is called last
    _import_all("async_uploader")
    for name in (*_NEEDED, *sys.argv[2:]):
        importlib.import_module(name)
    shared |= {*sys.modules} - {"__main__", *_USED_AT_THE_END}
    gc.collect()
    gc.freeze()  # otherwise each fork would traverse, and thereby copy, all of this when it ends
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        request = _wait_for_requests(requests)
    if request is not None:
        _become(*request)


if __name__ == "__main__":
    main()
