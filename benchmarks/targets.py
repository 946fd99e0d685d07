"""Servers to upload to, and what they count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Statistics = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """The address of a service.

    :param ca: the certificate to trust; None for plain HTTP
    """

    url: str
    ca: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables for the uploader."""
        trusted = {} if self.ca is None else {"SSL_CERT_FILE": str(self.ca)}
        return {"APIVIDEO_API_KEY": "local-key", "APIVIDEO_BASE_URL": self.url, **trusted}


class Target(Protocol):
    """A service. Its context is entered once per run."""

    def __enter__(self) -> Address: ...

    def __exit__(self, *_: object) -> None: ...

    def statistics(self) -> Statistics:
        """What the service counted in the last run."""
        ...


class Fixed:
    """A target that runs permanently and has no statistics."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def __enter__(self) -> Address:
        return self._address

    def __exit__(self, *_: object) -> None:
        """Nothing to clean up."""

    def statistics(self) -> Statistics:
        """Empty."""
        return {}
