"""The options of an emulator."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, TypedDict

from async_uploader._limits import RATE_WINDOW_SECONDS, TOKEN_TTL_SECONDS

from ._faults import Fault
from ._http.hosts import parse_name
from ._http.tls import check_tls


class EmulatorOptions(TypedDict, total=False):
    """The options of an `Emulator`, which are those of the command `emulator`.

    :param host: the address to listen on (default: 127.0.0.1)
    :param port: the port; 0 is any free port (default)
    :param data: a directory that is kept; None is a temporary directory, which is removed (default)
    :param api_key: the API key that is accepted (default: `local-key`)
    :param rate_limit: uploads allowed in a window. Writes are limited to twice, reads to five times this number,
        as in the contract. None limits nothing (default)
    :param rate_window: length of the window in seconds (default: 60)
    :param connection_rate: bytes per second that each connection can send (default: unlimited)
    :param link_rate: bytes per second that all connections together can send (default: unlimited)
    :param latency: seconds before each response (default: 0)
    :param listing_lag: seconds until a new video appears in listings (default: 0)
    :param token_ttl: lifetime of a bearer token in seconds (default: 3600)
    :param faults: faults to inject (default: none)
    :param allowed_hosts: more host names to serve, besides `localhost`, loopback addresses, `host` and the address
        of the connection; requests for any other `Host` get status 421
    :param tls: serve HTTPS, with a certificate of a new certificate authority (default: false). Needs the extra
        `tls`
    :param video_restore: keep deleted videos for 90 days, so that they can be restored; an optional feature of the
        service (default: false)
    """

    host: str
    port: int
    data: str | PathLike[str] | None
    api_key: str
    rate_limit: int | None
    rate_window: float
    connection_rate: float | None
    link_rate: float | None
    latency: float
    listing_lag: float
    token_ttl: float
    faults: Iterable[Fault]
    allowed_hosts: Iterable[str]
    tls: bool
    video_restore: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The options of one emulator, checked; `EmulatorOptions` describes them.

    :raises ValueError: an option is impossible; the message is one sentence
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
    listing_lag: float = 0.0
    token_ttl: float = TOKEN_TTL_SECONDS
    faults: tuple[Fault, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    tls: bool = False
    video_restore: bool = False

    @classmethod
    def of(cls, options: EmulatorOptions) -> Config:
        """Check and normalize the options of a caller.

        :raises ValueError: an option is impossible
        :raises TypeError: an option is unknown
        """
        values: dict[str, Any] = dict(options)
        values |= {name: tuple(values[name]) for name in ("faults", "allowed_hosts") if name in values}
        if values.get("data") is not None:
            values["data"] = Path(values["data"])
        return cls(**values)

    @property
    def max_rate(self) -> float | None:
        """The most bytes per second that one connection can send; None if unlimited."""
        return min((rate for rate in (self.connection_rate, self.link_rate) if rate is not None), default=None)

    def __post_init__(self) -> None:
        checks = {
            "The host must not be empty.": bool(self.host),
            "The port must be between 0 and 65535.": 0 <= self.port <= 65535,
            "The API key must not be empty.": bool(self.api_key),
            "The rate limit must be at least 1 upload per window.": self.rate_limit is None
            or self.rate_limit >= 1,
            "The rate window must be longer than 0 seconds.": self.rate_window > 0,
            "The connection rate must be above 0 bytes per second.": _is_positive(self.connection_rate),
            "The link rate must be above 0 bytes per second.": _is_positive(self.link_rate),
            "The latency must not be negative.": self.latency >= 0,
            "The listing lag must not be negative.": self.listing_lag >= 0,
            "The lifetime of tokens must be longer than 0 seconds.": self.token_ttl > 0,
        }
        for sentence, holds in checks.items():
            if not holds:
                raise ValueError(sentence)
        if self.tls:
            check_tls()
        for host in self.allowed_hosts:
            if parse_name(host) is None:
                raise ValueError(f"An allowed host must be a name or an IP address without a port, not {host!r}.")


def _is_positive(rate: float | None) -> bool:
    return rate is None or rate > 0
