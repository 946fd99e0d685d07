"""The public names, the cost of importing them, and the errors."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints
from unittest.mock import Mock

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

import async_uploader
import async_uploader.emulator
from async_uploader import (
    Failed,
    Progress,
    Source,
    TransportError,
    Uploaded,
    UploaderError,
    UploadFailed,
    UploadItem,
    Video,
    _errors,
)
from async_uploader._api.transport_errors import translate


def test_every_public_name_is_there() -> None:
    """``__all__`` is sorted and complete, and each name is loaded from its module."""
    assert list(async_uploader.__all__) == sorted(async_uploader.__all__)
    for name in async_uploader.__all__:
        assert getattr(async_uploader, name) is not None
    assert set(async_uploader.__all__) <= set(dir(async_uploader))


CLASSES = [
    pytest.param(value, module.__name__, id=name)
    for module in (async_uploader, async_uploader.emulator)
    for name in module.__all__
    if isinstance(value := getattr(module, name), type)
]


@pytest.mark.parametrize(("cls", "module"), CLASSES)
def test_public_classes_have_their_public_names(cls: type, module: str) -> None:
    """In tracebacks and pickles, whichever module defines them; their annotations can be evaluated."""
    assert (cls.__module__, cls.__qualname__) == (module, cls.__name__)
    assert pickle.loads(pickle.dumps(cls)) is cls
    assert get_type_hints(cls) or not getattr(cls, "__annotations__", None)
    assert cls.__doc__


def test_the_name_of_an_error_in_a_traceback() -> None:
    script = "import asyncio\nfrom async_uploader import upload\nasyncio.run(upload('nothing.mp4', api_key='x'))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "async_uploader.SourceError: nothing.mp4 does not exist."


VIDEO = Video.from_response({"videoId": "vi1", "createdAt": "2019-12-16T08:25:51Z", "tags": ["a"], "new": 1})


@pytest.mark.parametrize(
    "value",
    [
        VIDEO,
        UploadItem(source="movie.mp4", options={"title": "Holidays"}),
        Uploaded(item=UploadItem(source=b"x"), video=VIDEO),
        Progress(sent_bytes=2, acknowledged_bytes=1, total_bytes=3, parts_done=0, parts_total=1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_can_be_pickled(value: object) -> None:
    assert pickle.loads(pickle.dumps(value)) == value


def test_failures_can_be_pickled() -> None:
    error = UploadFailed("It failed.", video_id="vi1", parts_done=2)
    again = pickle.loads(pickle.dumps(Failed(item=UploadItem(source="movie.mp4"), error=error)))
    assert (again.item, again.video, str(again.error)) == (UploadItem(source="movie.mp4"), None, "It failed.")
    assert (again.error.video_id, again.error.parts_done) == ("vi1", 2)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("movie.mp4", "UploadItem(source='movie.mp4')"),
        (Path("movie.mp4"), "UploadItem(source='movie.mp4')"),
        ("https://host.example/a.mp4?signature=SECRET", "UploadItem(source='https://host.example/a.mp4')"),
        (bytes(1000), "UploadItem(source=<bytes>)"),
    ],
)
def test_repr_of_an_item(source: Source, text: str) -> None:
    """Short, without options, contents and signatures of URLs."""
    assert repr(UploadItem(source=source, options={"title": "Holidays"})) == text


def test_every_error_is_public() -> None:
    errors = {
        name
        for name, value in vars(_errors).items()
        if inspect.isclass(value) and issubclass(value, UploaderError)
    }
    assert errors <= set(async_uploader.__all__)


# What an import must not load: it costs time, or belongs to an extra.
_HEAVY = {
    "import async_uploader": "aiohttp anyio click msgspec opentelemetry pytest rich sqlite3 typer",
    "from async_uploader import Client, upload": "click filelock opentelemetry pytest rich sqlite3 typer",
    "from async_uploader import events": "aiohttp anyio opentelemetry rich",
    "import async_uploader.pytest_plugin": "aiohttp anyio msgspec opentelemetry rich sqlite3 typer",
    "import async_uploader.telemetry": "aiohttp anyio rich",
    "import async_uploader.emulator": "click opentelemetry rich typer",
    "import async_uploader.cli._upload": "filelock opentelemetry plotly pytest rich sqlite3",
}


@pytest.mark.parametrize("statement", _HEAVY)
def test_modules_that_an_import_loads(statement: str) -> None:
    """Nothing slow, nothing of an extra, and the emulator only by its own name."""
    script = f"import sys; {statement}; print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", script], text=True).split())
    assert loaded & set(_HEAVY[statement].split()) == set()
    assert ("async_uploader.emulator" in loaded) == statement.endswith("emulator")
    assert ("async_uploader.cli" in loaded) == ("async_uploader.cli" in statement)


@pytest.mark.parametrize("statement", ["import async_uploader", "import async_uploader.pytest_plugin"])
def test_an_import_is_quick(statement: str) -> None:
    """The fastest of five imports takes less than 250 ms (pytest is loaded already)."""
    script = f"import pytest, time; began = time.perf_counter(); {statement}; print(time.perf_counter() - began)"
    command = [sys.executable, "-c", script]
    assert any(float(subprocess.check_output(command)) < 0.250 for _ in range(5))


@pytest.mark.parametrize("module", ["events", "emulator", "pytest_plugin", "telemetry"])
def test_public_modules_list_their_names(module: str) -> None:
    """Their ``__all__`` is sorted and true, and every class has a docstring."""
    found = import_module(f"async_uploader.{module}")
    assert list(found.__all__) == sorted(found.__all__)
    for name in found.__all__:
        value = getattr(found, name)
        assert value.__doc__ or not inspect.isclass(value)


def _aiohttp_errors() -> list[type[Exception]]:
    return [
        value
        for value in vars(aiohttp).values()
        if inspect.isclass(value) and issubclass(value, aiohttp.ClientError)
    ]


def _made(kind: Any) -> Exception:
    key = ConnectionKey("h.example", 443, True, True, None, None, None)
    arguments: tuple[Any, ...] = ("https://h.example",)
    if kind.__name__ == "ClientConnectorCertificateError":
        arguments = (key, ValueError("self-signed"))
    elif kind.__name__ == "UnixClientConnectorError":
        arguments = ("/socket", key, OSError(111, "refused"))
    elif issubclass(kind, aiohttp.ClientConnectorError):
        arguments = (key, OSError(111, "refused"))
    elif issubclass(kind, aiohttp.ServerFingerprintMismatch):
        arguments = (b"a", b"b", "h.example", 443)
    elif issubclass(kind, aiohttp.ClientResponseError):
        arguments = (Mock(), ())
    error: Exception = kind(*arguments)
    return error


@pytest.mark.parametrize("kind", _aiohttp_errors(), ids=lambda kind: kind.__name__)
def test_every_error_of_aiohttp_has_a_sentence(kind: type[Exception]) -> None:
    ours = translate(_made(kind))
    assert isinstance(ours, TransportError)
    assert str(ours).startswith("No response from the service: ")
    assert str(ours).endswith(".")
