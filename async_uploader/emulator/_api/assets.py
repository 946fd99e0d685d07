"""The URLs of a video's assets, and access to them.

As on the service, the URLs of a private video contain a token, in the path or (for the player) in the query. Only
the API returns these URLs. They are valid until the emulator stops.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING

from async_uploader.emulator._problems import Problem

from .attributes import DEFAULTS

if TYPE_CHECKING:
    from async_uploader.emulator._storage.store import Store
    from async_uploader.emulator._storage.video import Video


class Assets:
    """The URLs of one emulator's assets; `url` is its base URL."""

    def __init__(self, store: Store, url: str) -> None:
        self._store = store
        self._url = url
        self._secret = secrets.token_bytes(32)

    def view(self, video: Video) -> dict[str, object]:
        """The `assets` of a Video."""
        video_id = video.container.video_id
        is_public, token = bool(_detail(video, "public")), self._token(video_id)
        media = self._media_url(video)
        player = f"{self._url}/embed/vod/{video_id}" + ("" if is_public else f"?token={token}")
        frame = f'<iframe src="{player}" width="100%" height="100%" frameborder="0" allowfullscreen></iframe>'
        assets: dict[str, object] = {
            "hls": f"{media}/hls/manifest.m3u8",
            "iframe": frame,
            "player": player,
            "thumbnail": f"{media}/thumbnail.jpg",
        }
        return {**assets, "mp4": f"{media}/mp4/source.mp4"} if _detail(video, "mp4Support") else assets

    def track_url(self, video: Video, kind: str, language: str) -> str:
        """The URL of captions or chapters in a language; `kind` is `captions` or `chapters`."""
        return f"{self._media_url(video)}/{kind}/{language}.vtt"

    def _media_url(self, video: Video) -> str:
        video_id = video.container.video_id
        token = "" if _detail(video, "public") else f"/token/{self._token(video_id)}"
        return f"{self._url}/vod/{video_id}{token}"

    def find(self, video_id: str, token: str | None) -> Video:
        """Find the video of a URL.

        :raises Problem: the video does not exist, or is private and the token is wrong; the response is the same
        """
        video = self._store.video(video_id)
        is_accessible = _detail(video, "public") or hmac.compare_digest(
            (token or "").encode("utf-8", "replace"), self._token(video_id).encode()
        )
        if not is_accessible:
            raise Problem("resource-not-found", name="videoId")
        return video

    async def find_finished(self, video_id: str, token: str | None, *, mp4: bool = False) -> Video:
        """Find the video of a URL. If its parts are being joined, wait for that.

        :param mp4: whether the URL is that of the `mp4` asset
        :raises Problem: as in `find`, or the video is not uploaded, or has no `mp4` asset
        """
        video = self.find(video_id, token)
        if mp4 and not _detail(video, "mp4Support"):
            raise Problem("resource-not-found", name="videoId")
        return await self.finished(video)

    async def finished(self, video: Video) -> Video:
        """Wait while the parts of a video are being joined.

        :raises Problem: the video is not uploaded, cannot be joined, or is deleted in the meantime
        """
        await self._store.joiner.wait_until_joined(video)
        if not video.is_finished or video.is_deleted:
            raise Problem("resource-not-found", name="videoId")
        return video

    def _token(self, video_id: str) -> str:
        return hmac.new(self._secret, video_id.encode(), hashlib.sha256).hexdigest()[:32]


def _detail(video: Video, name: str) -> object:
    return video.container.details.get(name, DEFAULTS[name])
