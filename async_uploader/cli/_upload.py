"""``upload``: check every source, send one after another, show what came of each."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from async_uploader._client import Client
from async_uploader._errors import UploaderError
from async_uploader._models import Video
from async_uploader._options import UploadOptions

from ._display import Display
from ._flags import UploadFlags
from ._output import say_error, show, show_json
from ._params import usage_error

if TYPE_CHECKING:
    from async_uploader.emulator import Emulator


async def upload(flags: UploadFlags) -> int:
    """Upload all sources of a command.

    :return: the exit code
    """
    options = flags.upload_options()
    async with AsyncExitStack() as stack:
        settings: dict[str, Any] = flags.client_options()
        emulator = None
        if flags.local:
            from . import _local

            emulator = await stack.enter_async_context(_local.running(data=flags.data, api_key=_local.KEY))
            settings = {"api_key": _local.KEY, "base_url": emulator.url}
        client = await stack.enter_async_context(Client(**settings))
        if flags.wait and client.delegated:
            raise usage_error("--wait needs an API key: an upload token cannot ask how far a video is.")
        for source in flags.sources:
            await client.check_source(source, **options)
        uploads = _Uploads(flags, options, client=client, emulator=emulator)
        return await (uploads.one(*flags.sources) if len(flags.sources) == 1 else uploads.several())


class _Uploads:
    """The uploads of one command."""

    def __init__(
        self, flags: UploadFlags, options: UploadOptions, *, client: Client, emulator: Emulator | None
    ) -> None:
        self._flags = flags
        self._options = options
        self._client = client
        self._emulator = emulator
        self._display = Display(quiet=flags.quiet)

    async def one(self, source: str) -> int:
        """Upload the only source; its failure is the command's."""
        with self._display.drawn():
            video = await self._send(source)
        if self._flags.json:
            show_json(video.raw)
        else:
            _show(video, source)
        return 0

    async def several(self) -> int:
        """Upload all, whatever becomes of each; what is done is also shown when the rest is interrupted."""
        results: list[object] = []
        failures = 0
        try:
            with self._display.drawn():
                for source in self._flags.sources:
                    try:
                        video = await self._send(source)
                    except UploaderError as exc:
                        failures += 1
                        results.append({"source": source, "error": str(exc)})
                        say_error(exc, source=source)
                    else:
                        results.append(video.raw)
                        if not self._flags.json:
                            _show(video, source)
        finally:
            if self._flags.json:
                show_json(results)
        return 1 if failures else 0

    async def _send(self, source: str) -> Video:
        with self._display.of(source) as progress:
            options: UploadOptions = {**self._options, "on_progress": progress}
            video = await self._client.upload(source, **options)
        if self._emulator is not None:
            from . import _local

            await _local.compare(self._emulator, video.video_id, source)
            if not self._flags.quiet:
                _local.tell(self._emulator, video.video_id)
        if self._flags.wait:
            await self._client.wait_until_playable(video.video_id)
        return video


def _show(video: Video, source: str) -> None:
    show(f"{video.video_id}  {video.assets.player or '-'}  {source}")
