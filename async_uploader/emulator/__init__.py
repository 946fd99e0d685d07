"""A strict local api.video: a product of its own, for testing uploaders in any language.

    async with Emulator(faults=[Fault.parse("completing:cut")]) as emulator:
        ...  # let any client talk to emulator.url with the API key "local-key"
        view = await emulator.finished(video_id)
        assert view.sha256 == expected
        assert emulator.statistics().bodies_into_429 == 0

From a request to a finished source: `_server` lets it in or refuses it, `_handlers` knows the endpoints,
`_uploads` takes a body apart as it comes, `_rules` judges it, `_store` keeps it, `_source` joins the pieces.
A browser that opens `emulator.url` sees it all happen: `_page`.
"""

from __future__ import annotations

from ._emulator import Emulator, VideoView
from ._faults import Fault
from ._records import RequestRecord, Statistics

__all__ = ["Emulator", "Fault", "RequestRecord", "Statistics", "VideoView"]
