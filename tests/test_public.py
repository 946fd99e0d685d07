"""The public face: its names, its weight, its errors."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

import async_uploader
from async_uploader import TransportError, UploaderError, _errors
from async_uploader._api.transport_errors import translate


def test_every_public_name_is_there() -> None:
    assert list(async_uploader.__all__) == sorted(async_uploader.__all__)
    for name in async_uploader.__all__:
        assert getattr(async_uploader, name) is not None
    assert set(async_uploader.__all__) <= set(dir(async_uploader))


def test_every_error_is_public() -> None:
    errors = {
        name
        for name, value in vars(_errors).items()
        if inspect.isclass(value) and issubclass(value, UploaderError)
    }
    assert errors <= set(async_uploader.__all__)


# What an import must not bring along: each costs time, or belongs to those only who use it.
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
def test_what_an_import_loads(statement: str) -> None:
    """Nothing heavy, nothing of an extra, and the emulator only by its own name."""
    script = f"import sys; {statement}; print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", script], text=True).split())
    assert loaded & set(_HEAVY[statement].split()) == set()
    assert ("async_uploader.emulator" in loaded) == statement.endswith("emulator")
    assert ("async_uploader.cli" in loaded) == ("async_uploader.cli" in statement)


@pytest.mark.parametrize("statement", ["import async_uploader", "import async_uploader.pytest_plugin"])
def test_an_import_is_quick(statement: str) -> None:
    """The best of some runs takes less than 250 ms more than Python itself (pytest is there already)."""
    script = f"import pytest, time; began = time.perf_counter(); {statement}; print(time.perf_counter() - began)"
    command = [sys.executable, "-c", script]
    assert min(float(subprocess.check_output(command)) for _ in range(5)) < 0.250


@pytest.mark.parametrize("module", ["events", "emulator", "pytest_plugin", "telemetry"])
def test_public_modules_say_what_is_public(module: str) -> None:
    """Their ``__all__`` is sorted and true, and all of it is documented."""
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
    assert str(ours).startswith("No answer from the service: ")
    assert str(ours).endswith(".")
