"""Bearer tokens and upload tokens, in memory and on disk."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from async_uploader.emulator._credentials import Bearers, UploadToken

from .data_directory import replace_file
from .ids import new_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from async_uploader.emulator._clock import Clock

    from .data_directory import DataDirectory
    from .workers import Workers


class TokenStore:
    """`bearers` are the current bearer tokens, `upload_tokens` the upload tokens by their value."""

    def __init__(self, directory: DataDirectory, workers: Workers, clock: Clock) -> None:
        self.bearers = Bearers()
        self.upload_tokens: dict[str, UploadToken] = {}
        self._directory = directory
        self._workers = workers
        self._clock = clock

    def load(self, bearers: Bearers, upload_tokens: Iterable[UploadToken]) -> None:
        """Take over the tokens of an earlier emulator."""
        self.bearers = bearers
        self.upload_tokens = {token.token: token for token in upload_tokens}

    async def clear(self) -> None:
        """Revoke all tokens."""
        self.bearers.expires_s.clear()
        self.bearers.refreshable_s.clear()
        upload_tokens = list(self.upload_tokens.values())
        self.upload_tokens.clear()
        for token in upload_tokens:
            await self._workers.run_small(
                partial(self._directory.upload_token_path(token).unlink, missing_ok=True)
            )
        await self.save_bearers()

    async def save_bearers(self) -> None:
        content = msgspec.json.encode(self.bearers)
        await self._workers.run_small(replace_file, self._directory.bearers_path, content)

    async def create_upload_token(self, ttl_s: int) -> UploadToken:
        token = UploadToken(new_id("to"), ttl_s, self._clock.now())
        path = self._directory.upload_token_path(token)
        await self._workers.run_small(replace_file, path, msgspec.json.encode(token))
        self.upload_tokens[token.token] = token
        return token

    async def delete_upload_token(self, token: UploadToken) -> None:
        del self.upload_tokens[token.token]
        await self._workers.run_small(self._directory.upload_token_path(token).unlink)

    def find_upload_token(self, value: str) -> UploadToken | None:
        """The upload token with this value; None if it does not exist or has expired."""
        token = self.upload_tokens.get(value)
        return token if token is not None and token.is_live(self._clock.now()) else None
