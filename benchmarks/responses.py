"""The service's responses to an upload without faults. They are always the same."""

from __future__ import annotations

import json
from typing import Final

_VIDEO: Final = {
    "videoId": "vi0000000000000000000000",
    "title": "benchmark",
    "assets": {
        "hls": "https://cdn.example/hls.m3u8",
        "player": "https://cdn.example/player",
        "thumbnail": "https://cdn.example/thumbnail.jpg",
    },
}
_PAIR: Final = {"token_type": "Bearer", "expires_in": 3600, "access_token": "access", "refresh_token": "refresh"}
_STATUS: Final = {"ingest": {"status": "uploaded", "filesize": None}, "encoding": {"playable": False}}

VIDEO: Final = json.dumps(_VIDEO)
PAIR: Final = json.dumps(_PAIR)
STATUS: Final = json.dumps(_STATUS)
