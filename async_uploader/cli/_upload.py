"""``upload``: check every source, send them, show and record what came of each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.to_thread

from async_uploader import events
from async_uploader._client import Client
from async_uploader._errors import UploaderError
from async_uploader._models import MARK_SOURCE, Video
from async_uploader._options import split_options
from async_uploader._types import Failed, Uploaded, UploadItem, UploadOptions, UploadResult

from ._check import check_outputs, find_problems
from ._delivery import Delivery
from ._display import Display, FileDisplay
from ._interruption import Interruption
from ._item import STDIN, Item
from ._output import LOGGER, JsonArray, say_error
from ._painting import drawn
from ._params import usage_error
from ._results import Key, Results, key_of, mark_of, opened
from ._sources import StandardInput, gather
from ._upload_flags import UploadFlags

if TYPE_CHECKING:
    from async_uploader.emulator import Emulator


async def upload(flags: UploadFlags) -> int:
    """Upload all sources of a command.

    :return: the exit code
    """
    split_options(flags.upload_options())  # once, and not for each source
    items = await anyio.to_thread.run_sync(gather, flags)
    await anyio.to_thread.run_sync(check_outputs, items, flags)
    is_alone = len(items) == 1 and not (flags.manifest or flags.chooses_files)
    if not is_alone:
        flags.refuse("several sources", "title", "video_id")
    stdin = StandardInput() if items[0].source == STDIN else None
    has_imports = flags.results is None and any(item.is_url for item in items)
    interruption = Interruption(is_stream=stdin is not None, is_local=flags.local, has_imports=has_imports)
    try:
        with events.listen(interruption):
            return await _upload(flags, items, is_alone=is_alone, stdin=stdin, interruption=interruption)
    except anyio.get_cancelled_exc_class():
        if flags.local:
            interruption.gone()
        raise


async def _upload(
    flags: UploadFlags,
    items: Sequence[Item],
    *,
    is_alone: bool,
    stdin: StandardInput | None,
    interruption: Interruption,
) -> int:
    async with AsyncExitStack() as stack:
        settings: dict[str, Any] = flags.client_options()
        emulator = None
        if flags.local:
            from . import _local

            emulator = await stack.enter_async_context(
                _local.embedded(sizes=lambda: _sizes(items), data=flags.data, api_key=_local.KEY)
            )
            settings |= {"api_key": _local.KEY, "base_url": emulator.url}
        client = await stack.enter_async_context(Client(**settings))
        if flags.wait and client.delegated:
            raise usage_error("--wait needs an API key: an upload token cannot ask how far a video is.")
        if flags.report is not None:
            from ._report import reporting

            await stack.enter_async_context(reporting(flags.report, quiet=flags.quiet))
        results = None
        if flags.results is not None:
            service = "local" if flags.local else client.base_url
            results = await stack.enter_async_context(opened(flags.results, service))
        problems = await find_problems(items, flags, client=client, stdin=stdin, results=results)
        for problem in problems:
            say_error(problem)
        if problems:
            return 2
        documents = stack.enter_context(JsonArray()) if flags.json else None
        uploads = _Uploads(
            flags,
            items,
            client=client,
            stdin=stdin,
            emulator=emulator,
            results=results,
            delivery=Delivery(documents, is_alone=is_alone, name_of=lambda number: items[number].shown),
            interruption=interruption,
            display=Display(quiet=flags.quiet, sizes=await anyio.to_thread.run_sync(_sizes, items)),
        )
        return await uploads.run(is_alone=is_alone)


def _sizes(items: Sequence[Item]) -> list[int | None]:
    """In bytes, None for what has none yet."""
    return [size for _, size, _ in map(key_of, items)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job(UploadItem):
    """An item on its way.

    :param number: its place among all
    :param key: what it was known by when it was begun
    :param file: shows its progress; None for what the service fetches by itself
    """

    number: int
    item: Item
    key: Key
    file: FileDisplay | None = None


class _Uploads:
    """The uploads of one command."""

    def __init__(
        self,
        flags: UploadFlags,
        items: Sequence[Item],
        *,
        client: Client,
        stdin: StandardInput | None,
        emulator: Emulator | None,
        results: Results | None,
        delivery: Delivery,
        interruption: Interruption,
        display: Display,
    ) -> None:
        self._flags = flags
        self._items = items
        self._client = client
        self._stdin = stdin
        self._emulator = emulator
        self._results = results
        self._display = display
        self._delivery = delivery
        self._interruption = interruption
        self._videos: list[tuple[int, str]] = []
        self._skipped = self._failed = 0
        # With results there is no need: they are a memory of what is finished.
        self._keeps_finished = flags.resume is not False and not flags.local and results is None

    async def run(self, *, is_alone: bool) -> int:
        """Upload all, show the videos, and only then have the journal forget them.

        :return: the exit code
        :raises OutputError: they could not be shown
        """
        try:
            code = await (self._one() if is_alone else self._several())
        except BaseException:
            self._delivery.say_unshown()
            raise
        if self._delivery.has_failed:
            raise self._delivery.failure(await self._kept())
        if code == 0:
            self._interruption.done()
            await self._forget()
        return code

    async def _kept(self) -> Collection[str] | None:
        """The videos that the same command shows again without uploading them."""
        if self._flags.local and self._flags.data is None:
            return None
        ids = [video_id for _, video_id in self._videos]
        if self._results is not None:
            return ids
        if not self._keeps_finished:
            return ()
        from async_uploader._resume.unfinished import finished_among  # SQLite is of no use to most commands

        try:
            return await finished_among(ids)
        except UploaderError:
            return ()

    async def _forget(self) -> None:
        if not self._keeps_finished:
            return
        from async_uploader._resume.unfinished import forget_all

        try:
            await forget_all(video_id for _, video_id in self._videos)
        except UploaderError as exc:
            LOGGER.info("Finished uploads could not be forgotten: %s", exc)

    async def _one(self) -> int:
        """Upload the only source; its failure is the command's."""
        with drawn(self._display):
            async for job in self._pending():
                try:
                    await self._client.upload(self._stdin or job.item.source, **job.options)
                except UploaderError as exc:
                    await self._record(job, error=str(exc))
                    self._display.ended(job.number)
                    raise
                self._display.ended(job.number)
            for _, video_id in self._videos if self._flags.wait else ():
                await self._wait(self._items[0], video_id)
        self._delivery.show()
        return 0

    async def _several(self) -> int:
        """Upload all, whatever becomes of each; what is done is also shown when the rest is interrupted."""
        try:
            with drawn(self._display):
                async with self._client.upload_many(
                    self._pending(), concurrency=self._flags.concurrency
                ) as results:
                    async for result in results:
                        await self._ended(result)
                for number, video_id in self._videos if self._flags.wait else ():
                    try:
                        await self._wait(self._items[number], video_id)
                    except UploaderError as exc:
                        self._fail(number, exc)
        finally:
            self._delivery.show()
        skipped = f", {self._skipped} were done before" if self._skipped else ""
        failed = f", {self._failed} failed" if self._failed else ""
        done = len(self._items) - self._skipped - self._failed
        self._display.say(f"{done} of {len(self._items)} uploaded{skipped}{failed}")
        return 1 if self._failed else 0

    async def _pending(self) -> AsyncIterator[_Job]:
        """What is still to be sent, each made only when it is its turn."""
        for number, item in enumerate(self._items):
            key = key_of(item)
            if self._results is not None and self._results.is_done(key):
                self._skipped += 1
                self._interruption.remembered()
                await self._tell(number, self._results.video(key))
                self._display.ended(number)
            elif not item.is_url:
                yield self._job_of_file(number, item, key)
            else:
                details = cast("UploadOptions", item.over(self._flags.details()))
                job = _Job(source=item.source, options=details, number=number, item=item, key=key)
                if not await self._is_ended(job):
                    yield job

    def _job_of_file(self, number: int, item: Item, key: Key) -> _Job:
        options = item.over(self._flags.upload_options(is_stream=item.is_stream))
        file = self._display.file(number, item.shown)
        job = _Job(source=item.source, options=options, number=number, item=item, key=key, file=file)
        options["on_progress"], options["on_event"] = file.on_progress, file.on_event
        options["on_video"] = partial(self._arrived, job)
        if self._keeps_finished and not item.is_stream:
            options["keep_finished"] = True
        return job

    async def _is_ended(self, job: _Job) -> bool:
        """Whether there is nothing to do for a URL: an earlier run has imported it, or nobody can tell."""
        try:
            return self._results is not None and await self._was_fetched(job, self._results)
        except UploaderError as exc:
            await self._ended(Failed(item=job, error=exc))
            return True

    async def _was_fetched(self, job: _Job, results: Results) -> bool:
        """Whether an earlier run has had the service fetch a URL, and was killed before it could record that."""
        mark = mark_of(job.item.source)
        if results.is_begun(job.key):
            for video in await self._client.list_videos(metadata={MARK_SOURCE: mark}):
                await self._ended(Uploaded(item=job, video=video))
                return True
        await self._record(job, begun=True)
        job.options["metadata"] = {**job.options.get("metadata", {}), MARK_SOURCE: mark}
        return False

    async def _ended(self, result: UploadResult) -> None:
        job = result.item
        assert isinstance(job, _Job)
        if result.error is not None:
            self._fail(job.number, result.error)
            await self._record(job, error=str(result.error))
        elif job.item.is_url and result.video is not None:
            await self._imported(job, result.video)
        self._display.ended(job.number)

    def _fail(self, number: int, error: UploaderError) -> None:
        source = self._items[number].source
        self._failed += 1
        self._delivery.error(number, {"source": source, "error": str(error)})
        say_error(error, source=source)

    async def _arrived(self, job: _Job, video: Video) -> None:
        """A file is a video; called before its upload is forgotten by the journal."""
        assert job.file is not None
        job.file.uploaded()
        if self._emulator is not None:
            from . import _local

            digest = await _local.compare(self._emulator, video.video_id, self._stdin or job.item.source)
            self._display.say(f"{job.item.shown}: the local service's copy has the same SHA-256: {digest}")
        await self._record_video(job, video.raw)
        await self._tell(job.number, video.raw)

    async def _imported(self, job: _Job, video: Video) -> None:
        """The service has taken a URL; the mark that it may carry is taken off once that is recorded."""
        kept = {each.key: each.value or "" for each in video.metadata if each.key}
        kept.pop(MARK_SOURCE, None)
        metadata = [{"key": key, "value": value} for key, value in kept.items()]
        raw = {**video.raw, "metadata": metadata}
        await self._record_video(job, raw)
        await self._tell(job.number, raw)
        if self._results is not None:
            try:
                await self._client.update_video(video.video_id, metadata=kept)
            except UploaderError as exc:
                LOGGER.warning("%s: its mark could not be removed: %s", job.item.source, exc)

    async def _record_video(self, job: _Job, video: Mapping[str, Any]) -> None:
        try:
            await self._record(job, video=video)
        except UploaderError as exc:
            raise UploaderError(f"{exc} Video {video['videoId']} is finished.") from exc
        if self._results is not None:
            self._interruption.remembered()

    async def _record(self, job: _Job, **told: object) -> None:
        if self._results is not None:
            await self._results.add(job.key, source=job.item.source, **told)

    async def _tell(self, number: int, video: Mapping[str, Any]) -> None:
        self._videos.append((number, video["videoId"]))
        await self._delivery.video(number, video)

    async def _wait(self, item: Item, video_id: str) -> None:
        with self._display.encoding(item.shown) as on_status:
            await self._client.wait_until_playable(video_id, timeout=self._flags.wait_timeout, on_status=on_status)
