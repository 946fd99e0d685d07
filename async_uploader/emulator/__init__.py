"""A local api.video to test uploaders in any language.

    async with Emulator(faults=[Fault.parse("completing:cut")]) as emulator:
        ...  # use any client with the base URL emulator.url and the API key "local-key"
        view = await emulator.finished(video_id)
        assert view.sha256 == expected
        assert emulator.statistics().bodies_into_429 == 0

The way of a request: `_http` accepts the connection, `_server` checks the request, `_api` has the endpoints,
`_rules` decides which parts an upload accepts, and `_storage` stores them and joins them. `_web` serves the page
that shows this in a browser.
"""

from __future__ import annotations

from typing import get_type_hints

from ._config import EmulatorOptions
from ._emulator import Emulator
from ._faults import Fault
from ._records import RequestRecord, Statistics
from ._storage.disk_space import Shortage
from ._video_view import VideoView
from ._webhook_sender import Delivery

__all__ = [
    "Delivery",
    "Emulator",
    "EmulatorOptions",
    "Fault",
    "RequestRecord",
    "Shortage",
    "Statistics",
    "VideoView",
]

# Tracebacks and `repr()` name the classes as users import them. There, annotations could no longer be evaluated.
for _each in (Delivery, Emulator, EmulatorOptions, Fault, RequestRecord, Shortage, Statistics, VideoView):
    _each.__annotations__ = get_type_hints(_each)
    _each.__module__ = __name__
del _each
