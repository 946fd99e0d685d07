"""Who is asking: an API key, exchanged for a bearer token, or an upload token.

A bearer token lives for an hour and can die sooner. It is renewed before it expires, once for everybody who
needs it, however many parts are in flight (contract, "Hosts and credentials").
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio

from async_uploader._errors import ApiError, AuthenticationError, ConfigurationError, is_transient
from async_uploader._limits import TOKEN_TTL_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """An account's key. Not shown by ``repr()``."""

    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegatedToken:
    """An upload token, which may upload and nothing else. Not shown by ``repr()``."""

    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPair:
    """What a login or a refresh gives."""

    access: str = field(repr=False)
    refresh: str | None = field(repr=False)
    expires_in_seconds: float = TOKEN_TTL_SECONDS


def find_credential(api_key: str | None, upload_token: str | None) -> ApiKey | DelegatedToken:
    """The credential that was given, else the environment's; there a key goes before a token.

    :raises ConfigurationError: there is none, there are two, or it cannot be one
    """
    if api_key is not None and upload_token is not None:
        raise ConfigurationError("Give an API key or an upload token, not both.")
    if "" in (api_key, upload_token):
        raise ConfigurationError("The credential that was given is empty; the environment is not asked then.")
    if api_key is None and upload_token is None:
        api_key = os.environ.get("APIVIDEO_API_KEY")
        upload_token = None if api_key else os.environ.get("APIVIDEO_UPLOAD_TOKEN")
    for secret, kind in ((api_key, ApiKey), (upload_token, DelegatedToken)):
        if secret:
            if not secret.isascii() or not secret.isprintable() or " " in secret:
                raise ConfigurationError("The credential contains characters that none has; copy it again.")
            return kind(secret=secret)
    raise ConfigurationError(
        "No credentials: set APIVIDEO_API_KEY (or APIVIDEO_UPLOAD_TOKEN), or give api_key or upload_token."
    )


class Bearer:
    """The present bearer token of an API key.

    :param log_in: exchanges the key for a pair; raises ApiError when it is refused
    :param refresh: exchanges a refresh token for a pair; likewise
    """

    def __init__(
        self,
        *,
        log_in: Callable[[], Awaitable[TokenPair]],
        refresh: Callable[[str], Awaitable[TokenPair]],
    ) -> None:
        self._log_in = log_in
        self._refresh = refresh
        self._pair: TokenPair | None = None
        self._renew_at = 0.0
        self._lock = anyio.Lock()

    async def token(self, *, refused: str | None = None) -> str:
        """A token that is good now.

        :param refused: the token that the service has just answered 401 to; only whoever comes first with it
            causes a renewal, the others get the result
        :raises AuthenticationError: the key was refused
        """
        if (good := self._good(refused)) is None:
            async with self._lock:
                if (good := self._good(refused)) is None:
                    good = await self._renew()
        return good

    def _good(self, refused: str | None) -> str | None:
        if self._pair is None or self._pair.access == refused or anyio.current_time() >= self._renew_at:
            return None
        return self._pair.access

    async def _renew(self) -> str:
        pair, self._pair = self._pair, None
        if pair is not None and pair.refresh is not None:
            try:
                return self._keep(await self._refresh(pair.refresh))
            except ApiError as exc:
                if is_transient(exc) or exc.status < 400:
                    self._pair = pair
                    raise
                # Refused, or used up by a refresh whose answer was lost: the key itself still counts.
        return self._keep(await self._log_in())

    def _keep(self, pair: TokenPair) -> str:
        self._pair = pair
        # Early enough for a request that is about to start, however short-lived the token is.
        margin_seconds = min(60.0, pair.expires_in_seconds / 5)
        self._renew_at = anyio.current_time() + pair.expires_in_seconds - margin_seconds
        return pair.access


def login_refused(exc: ApiError) -> AuthenticationError:
    """A refused login, which the service answers with 400, as what it is."""
    return AuthenticationError(
        status=exc.status,
        type=exc.type,
        title=exc.title,
        name=exc.name,
        detail=exc.detail or "Check the API key, and that it belongs to this environment",
        problems=exc.problems,
    )
