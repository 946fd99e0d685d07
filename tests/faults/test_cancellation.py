"""Cancellation at every step: it ends within a second, leaves nothing, and deletes or keeps the container."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from io import FileIO
from itertools import cycle, islice
from typing import Any, Final

import anyio
import pytest

from async_uploader._limits import MIB
from async_uploader._plan import Part
from async_uploader._resume.journal import Journal
from async_uploader._sources.file import FileSource
from async_uploader.emulator import Emulator
from harness.world import (
    KEY,
    PART,
    QuickClient,
    Source,
    check_finished,
    missing_bytes,
    run_upload,
    service,
    uploads,
)

from .leaks import join_threads, no_connection_left, nothing_left
from .matrix import SEVERAL_BYTES

SourceOf = Callable[[int], Source]

# One second, and a tolerance for a loaded machine.
_SECONDS: Final = 1.3


def _fault_triggered(emulator: Emulator) -> bool:
    """Whether a fault with limited triggers was triggered."""
    return any(fault.times and count for fault, count in emulator._server.faults.counts())


def _requested(emulator: Emulator, endpoint: str, count: int = 1) -> bool:
    return [record.endpoint for record in emulator.requests].count(endpoint) >= count


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When the upload is cancelled.

    :ivar reached: whether the moment is reached
    :ivar has_container: whether a container exists then; None: either
    """

    name: str
    faults: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    reached: Callable[[Emulator], object] = _fault_triggered
    has_container: bool | None = True


MOMENTS: Final = (
    Moment(name="logging in", faults=("auth,times=9:stall=forever",), has_container=False),
    Moment(name="logging in, late", faults=("auth,times=9:stall=forever,when=stored",), has_container=False),
    Moment(name="creating", faults=("create,times=9:stall=forever",), has_container=False),
    Moment(name="created, no response", faults=("create,times=9:stall=forever,when=stored",), has_container=None),
    Moment(name="create backing off", faults=("create:status=503,retry-after=60",), has_container=False,
           reached=lambda emulator: _requested(emulator, "create")),
    Moment(name="body not read", faults=("upload,times=9:stall=forever",)),
    Moment(name="middle of the body", settings={"connection_rate": 20_000_000},
           reached=lambda emulator: emulator.statistics().bytes_received > MIB),
    Moment(name="middle of a stalled body", faults=("upload,times=9:stall=forever,when=middle",)),
    Moment(name="waiting for the response", faults=("upload,times=9:stall=forever,when=late",)),
    Moment(name="stored, no response", faults=("upload,times=9:stall=forever,when=stored",)),
    Moment(name="backing off", faults=("upload,part=last:status=503,retry-after=60",),
           reached=lambda emulator: 503 in emulator.statistics().requests_by_status),
    Moment(name="waiting for the rate limit", settings={"rate_limit": 2, "rate_window": 1.0},
           reached=lambda emulator: _requested(emulator, "upload", 2)),
    Moment(name="refreshing", faults=("upload,part=last:expire-tokens", "refresh,times=9:stall=forever")),
    Moment(name="verifying", faults=("status,times=9:stall=forever",)),
    Moment(name="verifying, not complete", faults=("status:status=200,body=html",),
           reached=lambda emulator: _requested(emulator, "status", 2)),
    Moment(name="getting the video", faults=("completing:cut", "get,times=9:stall=forever")),
    Moment(name="deleting", faults=("upload:status=413", "delete,times=9:stall=forever"), has_container=None),
)  # fmt: skip

Work = Callable[[], Awaitable[object]]


async def _by_task(work: Work, reached: Work) -> float:
    task = asyncio.create_task(_coroutine(work))
    await reached()
    began = anyio.current_time()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return anyio.current_time() - began


async def _by_scope(work: Work, reached: Work) -> float:
    began = 0.0
    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:

            async def cancel() -> None:
                nonlocal began
                await reached()
                began = anyio.current_time()
                scope.cancel()

            group.start_soon(cancel)
            await work()
        assert scope.cancel_called
    return anyio.current_time() - began


async def _by_timeout(work: Work, reached: Work) -> float:
    began = 0.0

    async def until_expired() -> None:
        async with asyncio.timeout(None) as limit:

            async def expire() -> None:
                nonlocal began
                await reached()
                began = anyio.current_time()
                limit.reschedule(began)

            group.start_soon(expire)
            await work()

    async with anyio.create_task_group() as group:
        with pytest.raises(TimeoutError):
            await until_expired()
    return anyio.current_time() - began


def _coroutine(work: Work) -> Coroutine[Any, Any, None]:
    async def run() -> None:
        await work()

    return run()


WAYS: Final = {"task.cancel": _by_task, "scope": _by_scope, "asyncio.timeout": _by_timeout}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("moment", "way", "resume"),
    [
        # Every moment in every way. Each moment is tried with and without resuming.
        pytest.param(moment, way, resume, id=f"{moment.name}, {name}, resume {resume}")
        for moment, first in zip(MOMENTS, cycle((0, 1)), strict=False)
        for (name, way), resume in zip(WAYS.items(), islice(cycle(("off", "local")), first, None), strict=False)
    ],
)
async def test_cancelled(
    moment: Moment, way: Callable[[Work, Work], Awaitable[float]], resume: str, source_of: SourceOf
) -> None:
    """Within a second, without tasks, threads, sockets or descriptors."""
    source = source_of(SEVERAL_BYTES)
    async with nothing_left(), service(*moment.faults, **moment.settings) as emulator:
        run = partial(run_upload, emulator, source, resume=resume, concurrency=2)
        seconds = await way(run, partial(emulator.wait_for, moment.reached))
        assert seconds < _SECONDS
        await no_connection_left(emulator.url)
        await join_threads()
        await _check_container(emulator, source, moment, resume)


async def _check_container(emulator: Emulator, source: Source, moment: Moment, resume: str) -> None:
    if moment.has_container is None:
        return
    if not moment.has_container or resume == "off":
        assert dict(emulator.videos) == {}
        return
    (view,) = emulator.videos.values()
    emulator.clear_faults()
    since = asyncio.get_running_loop().time()
    run = await run_upload(emulator, source, resume=resume)
    assert run.error is None, run.error
    assert run.video is not None
    assert run.video.video_id == view.video_id
    # A new client cannot know that the window is used up.
    await check_finished(emulator, source, view.video_id, limited="rate_limit" in moment.settings)
    sent = sum(record.body_bytes for record in uploads(emulator, since) if record.status != 429)
    assert sent <= missing_bytes(view, source, "part")


@pytest.mark.anyio
async def test_while_connecting(source_of: SourceOf) -> None:
    """The server does not accept the connection. The caller's timeout ends the upload."""
    async with nothing_left():
        with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
            # Fill the queue: further connections hang.
            address = server.getsockname()
            with socket.create_connection(address), _trying(address), _trying(address):
                began = anyio.current_time()
                with anyio.move_on_after(0.2) as scope:
                    async with QuickClient(api_key=KEY, base_url=f"http://127.0.0.1:{address[1]}") as client:
                        await client.upload(source_of(SEVERAL_BYTES).path, part_size=PART)
                assert scope.cancelled_caught
                assert anyio.current_time() - began < 0.2 + _SECONDS


def _trying(address: tuple[str, int]) -> socket.socket:
    trying = socket.socket()
    trying.setblocking(False)
    trying.connect_ex(address)
    return trying


@pytest.mark.anyio
@pytest.mark.parametrize("way", [_by_task, _by_scope], ids=["task.cancel", "scope"])
@pytest.mark.parametrize("step", ["find", "begin", "acknowledge", "forget"])
async def test_while_the_journal_is_written(
    way: Callable[[Work, Work], Awaitable[float]],
    step: str,
    source_of: SourceOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A disk that hangs does not delay the cancellation. The write is completed later."""
    hangs, released = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    original = getattr(Journal, step)

    def slow(*args: Any, **kwargs: Any) -> Any:
        loop.call_soon_threadsafe(hangs.set)
        released.wait(10)
        return original(*args, **kwargs)

    source = source_of(SEVERAL_BYTES)
    async with nothing_left(), service() as emulator:
        with monkeypatch.context() as patch:
            patch.setattr(Journal, step, slow)
            seconds = await way(partial(run_upload, emulator, source, resume="local"), hangs.wait)
            released.set()
            assert seconds < _SECONDS
            await join_threads()
        await no_connection_left(emulator.url)
        run = await run_upload(emulator, source, resume="local")
        assert run.video is not None, run.error
        # An upload that is cancelled in `forget` was finished, so this is another video.
        await check_finished(emulator, source, run.video.video_id, finished=int(step == "forget"))


@pytest.mark.anyio
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_while_the_source_is_opened(
    way: Callable[[Work, Work], Awaitable[float]], source_of: SourceOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A descriptor that is opened after the cancellation is closed."""
    hangs, released = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    files: list[FileIO] = []

    def slow(source: FileSource, _part: Part) -> FileIO:
        loop.call_soon_threadsafe(hangs.set)
        released.wait(10)
        files.append(source.path.open("rb", buffering=0))
        return files[-1]

    monkeypatch.setattr(FileSource, "_open_file", slow)
    async with nothing_left(), service() as emulator:
        seconds = await way(partial(run_upload, emulator, source_of(SEVERAL_BYTES)), hangs.wait)
        released.set()
        assert seconds < _SECONDS
        await join_threads()
        for _ in range(100):
            await asyncio.sleep(0)
        assert all(file.closed for file in files)


@pytest.mark.anyio
async def test_while_a_callback_runs(source_of: SourceOf) -> None:
    """A callback that never returns is cancelled with its upload."""
    source = source_of(SEVERAL_BYTES)
    called = asyncio.Event()

    async def listen(_progress: object) -> None:
        called.set()
        await anyio.sleep_forever()

    async with nothing_left(), service("upload,times=9:stall=forever") as emulator:
        seconds = await _by_task(partial(run_upload, emulator, source, on_progress=listen), called.wait)
        assert seconds < _SECONDS
        assert dict(emulator.videos) == {}


@pytest.mark.anyio
async def test_other_uploads_of_the_client_continue(source_of: SourceOf) -> None:
    """Cancelling one upload does not affect the others or the client."""
    source = source_of(SEVERAL_BYTES)
    async with (
        service("upload,part=1,attempt=1:stall=0.3", connection_rate=50_000_000) as emulator,
        QuickClient(api_key=KEY, base_url=emulator.url) as client,
    ):
        cancelled, *others = [asyncio.create_task(client.upload(source.path, part_size=PART)) for _ in range(3)]
        await emulator.wait_for(lambda emulator: emulator.statistics().uploads_in_flight >= 3)
        cancelled.cancel()
        videos = await asyncio.gather(*others)
        for video in videos:
            assert (await emulator.finished(video.video_id)).sha256 == source.sha256
        assert set(emulator.videos) == {video.video_id for video in videos}
