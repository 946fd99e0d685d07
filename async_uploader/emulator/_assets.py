"""Where a video's assets are, and who may have them.

A private video's URLs carry a token, in the path or (for the player) in the query, as the service's do. Only the
API gives them out; they are good until the emulator stops.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING

from ._containers import DEFAULTS
from ._problems import Problem

if TYPE_CHECKING:
    from ._store import Store, Video


class Assets:
    """The URLs of one emulator's assets; `url` is its base URL."""

    def __init__(self, store: Store, url: str) -> None:
        self._store = store
        self._url = url
        self._secret = secrets.token_bytes(32)

    def view(self, video: Video) -> dict[str, object]:
        """A Video's `assets`. There is no HLS manifest behind `hls`: the emulator does not encode."""
        video_id = video.container.video_id
        is_public, token = bool(_detail(video, "public")), self._token(video_id)
        media = f"{self._url}/vod/{video_id}" + ("" if is_public else f"/token/{token}")
        player = f"{self._url}/embed/vod/{video_id}" + ("" if is_public else f"?token={token}")
        frame = f'<iframe src="{player}" width="100%" height="100%" frameborder="0" allowfullscreen></iframe>'
        assets: dict[str, object] = {
            "hls": f"{media}/hls/manifest.m3u8",
            "iframe": frame,
            "player": player,
            "thumbnail": f"{media}/thumbnail.jpg",
        }
        return {**assets, "mp4": f"{media}/mp4/source.mp4"} if _detail(video, "mp4Support") else assets

    def find(self, video_id: str, token: str | None, *, mp4: bool = False) -> Video:
        """The finished video that a URL asks for.

        :raises Problem: there is none, it is not finished, it is private and the token is not its own, or `mp4` is
            asked of a video that was created without; none of these can be told from another.
        """
        video = self._store.video(video_id)
        may_see = _detail(video, "public") or hmac.compare_digest(
            (token or "").encode("utf-8", "replace"), self._token(video_id).encode()
        )
        if not (video.is_finished and may_see and (not mp4 or _detail(video, "mp4Support"))):
            raise Problem("resource-not-found", name="videoId")
        return video

    def _token(self, video_id: str) -> str:
        return hmac.new(self._secret, video_id.encode(), hashlib.sha256).hexdigest()[:32]


def _detail(video: Video, name: str) -> object:
    return video.container.details.get(name, DEFAULTS[name])
