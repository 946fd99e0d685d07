"""The command ``watch``: uploads the files of a directory as they become complete."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Final, NoReturn

import anyio
import anyio.to_thread

from async_uploader import (
    AuthenticationError,
    Client,
    Failed,
    SourceError,
    UploaderError,
    UploadResult,
    events,
)
from async_uploader._catalogue.item import Item
from async_uploader._catalogue.os_errors import describe_os_error
from async_uploader._catalogue.results import open_results, source_key
from async_uploader._clock import current_time
from async_uploader._options import split_options

from ._directory_changes import DirectoryChanges
from ._display import Display
from ._finished_uploads import find_kept
from ._hints import set_service
from ._interrupt_advice import InterruptAdvice
from ._listing import Sources
from ._recorder import Job, ResultRecorder
from ._rendering import render_progress
from ._settled_files import FileState, SettledFiles
from ._signals import set_interrupt_advice
from ._sources import files_in
from ._upload_context import UploadContext
from ._upload_flags import UploadFlags
from ._upload_jobs import JobQueue
from ._video_output import VideoOutput
from ._watch_flags import WatchFlags

# What programs append to a name until a file is complete; they rename it then. --include overrides this.
_INCOMPLETE_SUFFIXES: Final = (".part", ".partial", ".crdownload", ".download", ".filepart", ".tmp", ".temp", "~")


async def watch(flags: WatchFlags) -> NoReturn:
    """Upload the files of a directory until the task is cancelled.

    :raises SourceError: the directory cannot be read; nothing was sent
    :raises AuthenticationError: the service refuses the credentials
    :raises UploaderError: the directory has disappeared
    """
    upload_flags = flags.upload_flags()
    split_options(upload_flags.upload_options())
    try:
        os.scandir(flags.directory).close()
    except OSError as exc:
        raise SourceError(f"Cannot watch {flags.directory}: {describe_os_error(exc)}.") from exc
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(**upload_flags.client_options()))
        set_service(client.base_url)
        results = None
        if flags.results is not None:
            results = await stack.enter_async_context(open_results(flags.results, client.base_url))
        context = UploadContext(
            flags=upload_flags,
            sources=Sources([]),
            client=client,
            display=Display(quiet=flags.quiet, sizes=()),
            interrupt_advice=InterruptAdvice(is_stream=False, is_local=False, has_imports=False),
            results=results,
        )
        output = VideoOutput(None, is_single=False, is_endless=True)
        await Watch(context, output, settle_seconds=flags.settle).run()


class Watch:
    """Uploads the files of one directory."""

    def __init__(self, context: UploadContext, output: VideoOutput, *, settle_seconds: float) -> None:
        assert context.flags.sources
        (self._directory,) = context.flags.sources
        self._context = context
        self._output = output
        self._recorder = ResultRecorder(context, output)
        self._jobs = JobQueue(context, self._recorder)
        self._files = SettledFiles(settle_seconds)
        self._changes = DirectoryChanges(
            self._directory, is_recursive=context.flags.recursive, settle_seconds=settle_seconds
        )

    async def run(self) -> NoReturn:
        """Upload files until the task is cancelled."""
        self._update_advice()
        self._context.display.print(f"Watching {self._directory} for files to upload. Press Ctrl-C to stop.")
        try:
            with render_progress(self._context.display):
                async with anyio.create_task_group() as group:
                    group.start_soon(self._receive_changes)
                    await self._upload_files()
        except BaseExceptionGroup as errors:
            # One task raised; the other one was only cancelled.
            raise _first_of(errors) from None
        finally:
            self._update_advice()
        raise AssertionError("the directory is watched until the command is interrupted")

    async def _receive_changes(self) -> None:
        await self._changes.run()
        self._context.display.print(
            f"{self._directory} is checked every {self._changes.poll_seconds:g} s, because {self._changes.reason}."
        )

    async def _upload_files(self) -> None:
        concurrency = self._context.flags.concurrency
        async with self._context.client.upload_many(self._complete_files(), concurrency=concurrency) as results:
            async for result in results:
                await self._record(result)

    async def _complete_files(self) -> AsyncIterator[Job]:
        scan = partial(scan_directory, self._directory, self._context.flags)
        while True:
            now = current_time()
            for path in self._files.update(now, await anyio.to_thread.run_sync(scan)):
                if (job := self._job(path)) is not None:
                    yield job
            await self._changes.wait(self._files.wait_seconds(current_time()))

    def _job(self, path: str) -> Job | None:
        """The job of a complete file; None if an earlier run has uploaded it."""
        item = Item(source=path)
        key = source_key(item)
        if self._context.results is not None and self._context.results.is_finished(key):
            self._files.release(path, is_uploaded=True)
            return None
        job = self._jobs.file_job(self._context.display.add_source(key[1]), item, key)
        assert job.progress is not None
        job.options["on_event"] = partial(self._on_event, path, job.progress.on_event)
        self._update_advice()
        return job

    def _on_event(self, path: str, on_event: events.OnEvent, event: events.UploadEvent) -> None:
        if isinstance(event, events.UploadBegan):
            with suppress(OSError):
                self._files.begin(path, _state_of(path))
        on_event(event)

    async def _record(self, result: UploadResult) -> None:
        job = result.item
        assert isinstance(job, Job)
        if isinstance(result.error, AuthenticationError):
            raise result.error  # no other file would be accepted
        await self._recorder.record_result(result)
        if self._output.has_failed:
            raise self._output.failure(await find_kept(self._context, self._output.unprinted_ids))
        self._update_advice()
        self._files.release(job.item.source, is_uploaded=not isinstance(result, Failed))
        self._changes.wake()  # the file may have changed during its upload

    def _update_advice(self) -> None:
        """Prepare what an interruption prints."""
        uploaded = self._recorder.finished
        counts = [f"{uploaded} file{'' if uploaded == 1 else 's'} uploaded"]
        if self._recorder.failed:
            counts.append(f"{self._recorder.failed} failed")
        if unfinished := self._context.display.count - uploaded - self._recorder.failed:
            counts.append(f"{unfinished} unfinished")
        advice = " Run the same command again to resume." if unfinished else ""
        set_interrupt_advice(f"{', '.join(counts)}.{advice}")


def scan_directory(directory: str, flags: UploadFlags) -> dict[str, FileState]:
    """The files to upload, with what changes when they are written.

    :raises UploaderError: the directory itself can no longer be read
    """

    def on_error(error: OSError) -> None:
        if error.filename == directory:
            raise UploaderError(f"Cannot watch {directory} any longer: {describe_os_error(error)}.") from error

    states = {}
    for path in files_in(directory, flags, on_error=on_error):
        if flags.include or not path.lower().endswith(_INCOMPLETE_SUFFIXES):
            with suppress(OSError):  # the file was deleted or renamed in the meantime
                states[path] = _state_of(path)
    return states


def _state_of(path: str) -> FileState:
    status = os.stat(path)
    return FileState(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _first_of(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error = errors.exceptions[0]
    return _first_of(error) if isinstance(error, BaseExceptionGroup) else error
