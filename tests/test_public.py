"""The public face: its names, its weight, its errors."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

import async_uploader
from async_uploader import TransportError, UploaderError, _errors
from async_uploader._http import translated


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


def test_importing_the_package_loads_nothing_heavy() -> None:
    script = (
        "import sys, async_uploader; "
        "heavy = {'aiohttp', 'anyio', 'rich', 'typer', 'sqlite3', 'msgspec', 'async_uploader.emulator'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "[]"


def test_uploading_loads_neither_the_terminal_nor_the_emulator() -> None:
    script = (
        "import sys; from async_uploader import upload, Client; "
        "heavy = {'rich', 'typer', 'sqlite3', 'filelock', 'aiohttp.web', 'async_uploader.emulator'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    loaded = subprocess.check_output([sys.executable, "-c", script], text=True).strip()
    assert loaded in ("[]", "['aiohttp.web']")


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
    ours = translated(_made(kind))
    assert isinstance(ours, TransportError)
    assert str(ours).startswith("No answer from the service: ")
    assert str(ours).endswith(".")
