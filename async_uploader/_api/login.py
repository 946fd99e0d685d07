"""Exchanges an API key for bearer tokens, with one request for all callers that need one."""

from __future__ import annotations

import math
from collections.abc import Mapping

from async_uploader._errors import ApiError

from .credentials import ApiKey, BearerToken, TokenPair, login_refused
from .http import Http
from .responses import read_token_pair
from .stall import StallDetector


class Login:
    """The bearer token of an API key.

    One request serves all callers that wait for a token. Each caller has its own stall timeout; any byte of the
    login restarts the timeouts of all.
    """

    def __init__(self, http: Http, api_key: ApiKey) -> None:
        self._http = http
        self._api_key = api_key
        self._bearer = BearerToken(log_in=self._log_in, refresh=self._refresh)
        self._waiting: set[StallDetector] = set()

    async def token(self, *, stall_seconds: float, refused: str | None = None) -> str:
        """Return a valid bearer token; log in or renew it if necessary.

        :param stall_seconds: give up after this time without movement
        :param refused: a token that the service has refused with 401
        :raises AuthenticationError: the key was refused
        :raises TransportError: there was no usable response
        """
        if (valid := self._bearer.valid(refused)) is not None:
            return valid
        detector = StallDetector(stall_seconds)
        self._waiting.add(detector)
        try:
            with detector:
                return await self._bearer.get(refused=refused)
        finally:
            self._waiting.discard(detector)

    async def _log_in(self) -> TokenPair:
        try:
            return await self._request("auth/api-key", {"apiKey": self._api_key.secret})
        except ApiError as exc:
            raise (login_refused(exc) if exc.status in (400, 401, 403) else exc) from exc

    async def _refresh(self, token: str) -> TokenPair:
        return await self._request("auth/refresh", {"refreshToken": token})

    async def _request(self, path: str, body: Mapping[str, str]) -> TokenPair:
        response = await self._http.exchange(
            "POST",
            path,
            json_body=body,
            stall_seconds=math.inf,  # the waiting callers have limits of their own
            on_moved=self._moved,
            secrets=tuple(body.values()),
        )
        return read_token_pair(response.raise_for_status())

    def _moved(self) -> None:
        for detector in self._waiting:
            detector.moved()
