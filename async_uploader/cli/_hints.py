"""Hints after the error of a request: which service it was sent to, and what to check."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from async_uploader import AuthenticationError, TransportError

_ENVIRONMENTS: Final = {"ws.api.video": "production", "sandbox.api.video": "sandbox"}

_base_url = ""


def set_service(base_url: str) -> None:
    """Set the service of this command."""
    global _base_url  # noqa: PLW0603 - a process runs one command
    _base_url = base_url


def service_host() -> str:
    """The host of the service, with its port unless it is the usual one."""
    return urlsplit(_base_url).netloc or "the service"


def hint_for(error: Exception) -> str:
    """A sentence to append to the message of an error; empty if there is none."""
    if not _base_url:
        return ""
    if isinstance(error, AuthenticationError):
        host = service_host()
        environment = _ENVIRONMENTS.get(host)
        name = f"{host} ({environment})" if environment else host
        return f"The request was sent to {name}; each environment has its own keys."
    if isinstance(error, TransportError) and error.unreachable:
        return f"Check the base URL {_base_url} and whether the service is running."
    return ""
