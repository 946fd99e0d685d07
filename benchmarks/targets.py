"""Where a run sends to: an address for its time, and what the other side has counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Statistics = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A service to upload to.

    :param ca: the certificate to trust; None for plain HTTP
    """

    url: str
    ca: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a client of ours needs to know of it."""
        trusted = {} if self.ca is None else {"SSL_CERT_FILE": str(self.ca)}
        return {"APIVIDEO_API_KEY": "local-key", "APIVIDEO_BASE_URL": self.url, **trusted}


class Target(Protocol):
    """A service that is there inside its context. It is entered once for each run."""

    def __enter__(self) -> Address: ...

    def __exit__(self, *_: object) -> None: ...

    def statistics(self) -> Statistics:
        """What it counted in the run that has ended last."""
        ...


class Fixed:
    """A target that is there all the time, and keeps no statistics."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def __enter__(self) -> Address:
        return self._address

    def __exit__(self, *_: object) -> None:
        """Runs leave nothing behind."""

    def statistics(self) -> Statistics:
        """None."""
        return {}
