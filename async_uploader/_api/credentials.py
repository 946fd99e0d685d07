"""Credentials: an API key, which is exchanged for bearer tokens, or an upload token.

A bearer token is valid for an hour, and may be revoked sooner. It is renewed before it expires, with one request
for all callers that wait for it (contract, "Hosts and credentials").
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio

from async_uploader._clock import current_time
from async_uploader._errors import ApiError, AuthenticationError, ConfigurationError, is_transient
from async_uploader._limits import TOKEN_TTL_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """The key of an account. Hidden in ``repr()``."""

    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegatedToken:
    """An upload token, which permits uploads only. Hidden in ``repr()``."""

    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPair:
    """A bearer token and its refresh token, from a login or a refresh."""

    access: str = field(repr=False)
    refresh: str | None = field(repr=False)
    expires_in_seconds: float = TOKEN_TTL_SECONDS


class MissingCredentialError(ConfigurationError):
    """There is neither an API key nor an upload token."""


def find_credential(api_key: str | None, upload_token: str | None) -> ApiKey | DelegatedToken:
    """The given credential, or else ``APIVIDEO_API_KEY`` or ``APIVIDEO_UPLOAD_TOKEN``, in this order.

    :raises ConfigurationError: no credential, two of them, or an invalid one
    """
    if api_key is not None and upload_token is not None:
        raise ConfigurationError("Pass an API key or an upload token, not both.")
    if "" in (api_key, upload_token):
        raise ConfigurationError("The given credential is empty. Omit it to use the one from the environment.")
    if api_key is None and upload_token is None:
        api_key = os.environ.get("APIVIDEO_API_KEY")
        upload_token = None if api_key else os.environ.get("APIVIDEO_UPLOAD_TOKEN")
    for secret, kind in ((api_key, ApiKey), (upload_token, DelegatedToken)):
        if secret:
            if not secret.isascii() or not secret.isprintable() or " " in secret:
                raise ConfigurationError("The credential contains invalid characters; copy it again.")
            return kind(secret=secret)
    raise MissingCredentialError(
        "No credentials: set APIVIDEO_API_KEY (or APIVIDEO_UPLOAD_TOKEN), or pass api_key or upload_token."
    )


class BearerToken:
    """The current bearer token of an API key.

    :param log_in: exchanges the key for a pair; raises ApiError if it is refused
    :param refresh: exchanges a refresh token for a pair; raises ApiError if it is refused
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

    async def get(self, *, refused: str | None = None) -> str:
        """Return a valid token; renew it if necessary.

        :param refused: a token that the service has refused with 401. The first caller that passes it renews the
            token, the others get the new one
        :raises AuthenticationError: the key was refused
        """
        async with self._lock:
            return self.valid(refused) or await self._renew()

    def valid(self, refused: str | None) -> str | None:
        """The current token; None if it was refused or has to be renewed."""
        if self._pair is None or self._pair.access == refused or current_time() >= self._renew_at:
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
                # The refresh token has expired, or an earlier refresh used it and its response was lost.
        return self._keep(await self._log_in())

    def _keep(self, pair: TokenPair) -> str:
        self._pair = pair
        # Enough for a request that is about to start; less for tokens that are valid for a short time.
        margin_seconds = min(60.0, pair.expires_in_seconds / 5)
        self._renew_at = current_time() + pair.expires_in_seconds - margin_seconds
        return pair.access


def login_refused(exc: ApiError) -> AuthenticationError:
    """The error for a refused login, to which the service responds with 400."""
    return AuthenticationError(
        status=exc.status,
        type=exc.type,
        title=exc.title,
        name=exc.name,
        detail=exc.detail or "Check the API key, and that it belongs to this environment",
        problems=exc.problems,
    )
