"""Credentials: the API key, bearer tokens with their refresh tokens, and upload tokens.

Times are wall-clock seconds, because tokens outlive the process. Nothing here is written to disk: `TokenStore`
does that.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Final

from ._problems import Problem

MAX_REFRESH_TOKENS: Final = 10_000  # they never expire, so the oldest are dropped


@dataclass(slots=True)
class Bearers:
    """The issued tokens, and the content of `bearers.json`.

    `expires_s` is when each access token expires, `refreshable_s` when each refresh token was issued.
    """

    expires_s: dict[str, float] = field(default_factory=dict, repr=False)
    refreshable_s: dict[str, float] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class UploadToken:
    """A token for uploads; a `ttl_s` of 0 means that it never expires."""

    token: str = field(repr=False)
    ttl_s: int
    created_s: float

    @property
    def expires_s(self) -> float | None:
        return self.created_s + self.ttl_s if self.ttl_s else None

    def is_live(self, now: float) -> bool:
        return self.expires_s is None or now < self.expires_s


class Credentials:
    """Checks the credentials of requests, and issues bearer tokens."""

    def __init__(self, api_key: str, ttl_s: float, bearers: Bearers) -> None:
        self._api_key = api_key
        self._ttl_s = ttl_s
        self.bearers = bearers

    def check_authorization(self, header: str | None, now: float) -> None:
        """Accept Basic, with the API key as the user and no password, or a live bearer token.

        :raises Problem: the header has neither
        """
        if header is None:
            raise Problem("authentication-missing-authorization-header")
        scheme, _, value = header.partition(" ")
        if scheme.lower() == "basic":
            if not self._is_api_key(_basic_user(value.strip())):
                raise Problem("authentication-invalid-api-key")
        elif scheme.lower() == "bearer" and value.strip():
            if self.bearers.expires_s.get(value.strip(), 0.0) <= now:
                raise Problem("authentication-invalid-access-token")
        else:
            raise Problem("authentication-invalid-authorization-header-value")

    def login(self, api_key: str, now: float) -> dict[str, object]:
        if not self._is_api_key(api_key):
            raise Problem("authentication-invalid-user-credentials", name="apiKey")
        return self._issue(now)

    def refresh(self, refresh_token: str, now: float) -> dict[str, object]:
        """Exchange a refresh token for a new pair. The earlier access token remains valid until it expires."""
        if self.bearers.refreshable_s.pop(refresh_token, None) is None:
            raise Problem("authentication-invalid-user-credentials", name="refreshToken")
        return self._issue(now)

    def expire_access_tokens(self) -> None:
        self.bearers.expires_s.clear()

    def revoke_refresh_tokens(self) -> None:
        self.bearers.refreshable_s.clear()

    def live_count(self, now: float) -> int:
        return sum(expires_s > now for expires_s in self.bearers.expires_s.values())

    def _issue(self, now: float) -> dict[str, object]:
        bearers = self.bearers
        bearers.expires_s = {token: expires for token, expires in bearers.expires_s.items() if expires > now}
        while len(bearers.refreshable_s) >= MAX_REFRESH_TOKENS:
            del bearers.refreshable_s[next(iter(bearers.refreshable_s))]
        access, refresh = secrets.token_urlsafe(48), secrets.token_urlsafe(48)
        bearers.expires_s[access] = now + self._ttl_s
        bearers.refreshable_s[refresh] = now
        return {
            "token_type": "Bearer",
            "expires_in": max(int(self._ttl_s), 1),
            "access_token": access,
            "refresh_token": refresh,
        }

    def _is_api_key(self, candidate: str) -> bool:
        return hmac.compare_digest(candidate.encode("utf-8", "replace"), self._api_key.encode())


def _basic_user(encoded: str) -> str:
    try:
        user, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, ValueError) as error:
        raise Problem("authentication-invalid-authorization-header-value") from error
    if not colon or password:
        raise Problem("authentication-invalid-authorization-header-value")
    return user
