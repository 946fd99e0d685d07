"""The emulator's options, validated where they enter."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from async_uploader._limits import RATE_WINDOW_SECONDS, TOKEN_TTL_SECONDS

from ._hosts import name_of

if TYPE_CHECKING:
    from pathlib import Path

    from ._faults import Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What an `Emulator` is told.

    `data` is a directory that outlives the emulator; None is a temporary one that does not. `rate_limit` is the
    uploads allowed in a window of `rate_window` seconds (writes get twice, reads five times as many, as in the
    contract); None refuses nothing. `connection_rate` and `link_rate` are bytes a second that each connection, and
    all of them together, may bring in; `latency` is seconds before every answer; `token_ttl` the seconds that a
    bearer token lives. `allowed_hosts` are host names that it serves beside `localhost`, loopback addresses,
    `host` and the address that a connection arrived at; requests for any other `Host` are refused with 421.
    """

    host: str = "127.0.0.1"
    port: int = 0
    data: Path | None = None
    api_key: str = field(default="local-key", repr=False)
    rate_limit: int | None = None
    rate_window: float = RATE_WINDOW_SECONDS
    connection_rate: float | None = None
    link_rate: float | None = None
    latency: float = 0.0
    token_ttl: float = TOKEN_TTL_SECONDS
    faults: tuple[Fault, ...] = ()
    allowed_hosts: tuple[str, ...] = ()

    @property
    def line_rate(self) -> float | None:
        """The most that one connection can bring in; None is as much as it can."""
        return min((rate for rate in (self.connection_rate, self.link_rate) if rate is not None), default=None)

    def __post_init__(self) -> None:
        checks = {
            "The host must not be empty.": bool(self.host),
            "The port must be between 0 and 65535.": 0 <= self.port <= 65535,
            "The API key must not be empty.": bool(self.api_key),
            "The rate limit must be at least 1 upload a window.": self.rate_limit is None or self.rate_limit >= 1,
            "The rate window must be longer than 0 seconds.": self.rate_window > 0,
            "The connection rate must be above 0 bytes a second.": _positive(self.connection_rate),
            "The link rate must be above 0 bytes a second.": _positive(self.link_rate),
            "The latency must not be negative.": self.latency >= 0,
            "The lifetime of tokens must be longer than 0 seconds.": self.token_ttl > 0,
        }
        for sentence, holds in checks.items():
            if not holds:
                raise ValueError(sentence)
        for host in self.allowed_hosts:
            if name_of(host) is None:
                raise ValueError(f"An allowed host is a name or an IP address without a port, not {host!r}.")


def _positive(rate: float | None) -> bool:
    return rate is None or rate > 0
