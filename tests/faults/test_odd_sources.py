"""Sources that say one thing and do another: sizes that are wrong, and exceptions that mean something else."""

from __future__ import annotations

import asyncio
import concurrent.futures
import io
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from aiohttp import web

from async_uploader import SourceError, UploadFailed
from async_uploader._limits import MIB

from .world import KEY, PART, QuickClient, check_sentence, service

# What used to take 31 s must end at once, on a busy machine too.
_AT_ONCE_SECONDS: Final = 10


# Sizes


class Sized(io.BytesIO):
    """A file object that lies about its size: by ``off`` bytes, or whatever ``seek()`` and ``tell()`` say."""

    def __init__(self, content: bytes, *, off: int) -> None:
        super().__init__(content)
        self._off = off
        self._is_at_end = False

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._is_at_end = whence == os.SEEK_END
        return super().seek(offset, whence) + (self._off if self._is_at_end else 0)

    def tell(self) -> int:
        return super().tell() + (self._off if self._is_at_end else 0)


class Lenient:
    """A service that takes whatever it is sent, empty parts too."""

    def __init__(self) -> None:
        self.parts: list[tuple[str, int]] = []
        self.deleted = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self._serve)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    async def _serve(self, request: web.Request) -> web.Response:
        body = 0
        async for chunk in request.content.iter_any():
            body += len(chunk)
        if request.path.startswith("/auth"):
            token = {"access_token": "a", "refresh_token": "r", "token_type": "Bearer", "expires_in": 3600}
            return web.json_response(token)
        if request.method == "DELETE":
            self.deleted += 1
            return web.Response(status=204)
        if request.path.endswith("/source"):
            self.parts.append((request.headers.get("Content-Range", ""), body))
            assert len(self.parts) < 100, "it never ends"
        if request.path.endswith("/status"):
            return web.json_response({"ingest": {"status": "uploading"}, "encoding": {"playable": False}})
        return web.json_response({"videoId": "vi1", "title": "x"}, status=201)


@pytest.mark.anyio
@pytest.mark.parametrize("ranges", ["part", "bytes"])
@pytest.mark.parametrize(
    ("off", "says"),
    [
        (-1, "has more than the 11,534,335 bytes that it had when the upload began"),
        (-PART, "has more than the 6,291,456 bytes that it had when the upload began"),
        (-11 * MIB, "has more than the 0 bytes that it had when the upload began"),
        (+1, "ended after 11,534,336 of 11,534,337 bytes"),
        (+PART, "ended after 11,534,336 of 16,777,216 bytes"),
    ],
)
async def test_a_file_object_that_misstates_its_size(off: int, says: str, ranges: Any) -> None:
    """One plain error, also from a service that would take everything; its container is deleted."""
    lenient = Lenient()
    async with lenient.running() as url, QuickClient(api_key=KEY, base_url=url) as client:
        with anyio.fail_after(_AT_ONCE_SECONDS), pytest.raises(SourceError) as raised:
            await client.upload(Sized(bytes(11 * MIB), off=off), part_size=PART, ranges=ranges)
    assert says in str(raised.value)
    check_sentence(f"The {raised.value}")
    assert lenient.deleted == isinstance(raised.value, UploadFailed)
    assert all(sent > PART for _, sent in lenient.parts)


@pytest.mark.anyio
async def test_a_file_object_whose_seek_returns_nothing() -> None:
    """Some do; where they stand then says ``tell()``."""

    class Quiet(io.BytesIO):
        def seek(self, offset: int, whence: int = os.SEEK_SET) -> Any:
            super().seek(offset, whence)

    async with service() as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:
        video = await client.upload(Quiet(b"x" * (PART + 1)), part_size=PART)
        assert (await emulator.finished(video.video_id)).size_bytes == PART + 1


@pytest.mark.anyio
async def test_standard_input_that_grows(tmp_path: Path) -> None:
    """As a file that is named and grows: an error that says so, and nothing is left at the service."""
    path = tmp_path / "recording.mp4"
    async with service(connection_rate=5_000_000) as emulator:
        environment = {
            **os.environ,
            "APIVIDEO_API_KEY": KEY,
            "APIVIDEO_BASE_URL": emulator.url,
            "XDG_STATE_HOME": str(tmp_path),
        }
        command = [sys.executable, "-m", "async_uploader", "upload", "-", "--part-size=5MiB", "--concurrency=1"]
        path.write_bytes(bytes(12 * PART))
        with path.open("rb") as file:
            process = await anyio.to_thread.run_sync(
                lambda: subprocess.Popen(command, stdin=file, stderr=subprocess.PIPE, env=environment, text=True)
            )
        try:
            await emulator.wait_for(lambda emulator: emulator.statistics().bytes_received)
            with path.open("ab") as file:
                file.write(b"more")
            _, told = await anyio.to_thread.run_sync(process.communicate)
        finally:
            process.kill()
            await anyio.to_thread.run_sync(process.wait)
        assert process.returncode == 1
        assert f"stdin has more than the {12 * PART:,} bytes that it had when the upload began." in told
        assert "too small" not in told
        assert "Traceback" not in told
        assert dict(emulator.videos) == {}


# Exceptions

_ODD: Final = {
    "asyncio.CancelledError": asyncio.CancelledError,
    "concurrent.futures.CancelledError": concurrent.futures.CancelledError,
    "GeneratorExit": GeneratorExit,
    "StopIteration": StopIteration,
    "StopAsyncIteration": StopAsyncIteration,
    "ValueError": ValueError,
    "MemoryError": MemoryError,
}


class Raising:
    """Gives some bytes, and raises; as an iterable, an async iterable, or a file object of either kind."""

    def __init__(self, error: type[BaseException], *, after_bytes: int) -> None:
        self._error = error
        self._left_bytes = after_bytes

    def _next(self) -> bytes:
        if self._left_bytes <= 0:
            raise self._error
        self._left_bytes -= MIB
        return bytes(MIB)


class RaisingIterable(Raising):
    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return self._next()


class RaisingAsyncIterable(Raising):
    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return self._next()


class RaisingFile(Raising):
    def read(self, _count: int) -> bytes:
        return self._next()


class RaisingAsyncFile(Raising):
    async def read(self, _count: int) -> bytes:
        return self._next()


_KINDS: Final[dict[str, Callable[..., Any]]] = {
    "iterable": RaisingIterable,
    "async iterable": RaisingAsyncIterable,
    "file": RaisingFile,
    "async file": RaisingAsyncFile,
}
# How these say that they have ended; everybody else may not.
_ENDS: Final = {("iterable", "StopIteration"), ("async iterable", "StopAsyncIteration")}


@pytest.mark.anyio
@pytest.mark.parametrize("after_bytes", [0, 2 * PART], ids=["at once", "after two parts"])
@pytest.mark.parametrize("odd", _ODD)
@pytest.mark.parametrize("kind", _KINDS)
async def test_what_a_source_raises(kind: str, odd: str, after_bytes: int) -> None:
    """It ends the upload at once, as the source's error, and no container is left."""
    async with service() as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:
        source = _KINDS[kind](_ODD[odd], after_bytes=after_bytes)
        with anyio.fail_after(_AT_ONCE_SECONDS):
            if (kind, odd) in _ENDS and after_bytes:
                await client.upload(source, part_size=PART)
                return
            with pytest.raises(SourceError) as raised:
                await client.upload(source, part_size=PART)
        check_sentence(f"The {raised.value}")
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()
        assert dict(emulator.videos) == {}


@pytest.mark.anyio
async def test_a_task_of_the_source_is_cancelled() -> None:
    """What the source waits for, somebody else has cancelled: not this upload."""

    async def source() -> AsyncIterator[bytes]:
        yield bytes(PART + 1)
        other = asyncio.create_task(anyio.sleep_forever())
        asyncio.get_running_loop().call_soon(other.cancel)
        await other

    async with service() as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:
        with anyio.fail_after(_AT_ONCE_SECONDS), pytest.raises(UploadFailed) as raised:
            await client.upload(source())
        assert "stream ended itself with CancelledError." in str(raised.value)
        assert dict(emulator.videos) == {}


@pytest.mark.anyio
@pytest.mark.parametrize("way", ["task", "scope", "timeout"])
@pytest.mark.parametrize("primed", [False, True], ids=["before its first bytes", "later"])
async def test_a_real_cancellation_is_none_of_the_source(way: str, primed: bool) -> None:
    """It is passed on as it is, wherever the source waits."""
    waits = asyncio.Event()

    async def source() -> AsyncIterator[bytes]:
        if primed:
            yield bytes(PART + 1)
        waits.set()
        await anyio.sleep_forever()

    async with service() as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:
        if way == "task":
            upload = asyncio.create_task(client.upload(source(), concurrency=1))
            await waits.wait()
            upload.cancel()
            with pytest.raises(asyncio.CancelledError):
                await upload
        elif way == "scope":
            with anyio.CancelScope() as scope:

                async def cancel() -> None:
                    await waits.wait()
                    scope.cancel()

                async with anyio.create_task_group() as group:
                    group.start_soon(cancel)
                    await client.upload(source(), concurrency=1)
            assert scope.cancelled_caught
        else:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await client.upload(source(), concurrency=1)
        assert dict(emulator.videos) == {}


@pytest.mark.anyio
@pytest.mark.parametrize("option", ["on_progress", "on_event"])
async def test_a_callback_that_raises_cancelled_error(option: str) -> None:
    """No worker ends in silence: the upload fails at once."""

    def raising(moment: Any) -> None:
        if getattr(moment, "acknowledged_bytes", 0) or getattr(moment, "outcome", None):
            raise asyncio.CancelledError

    async with service() as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:
        options: Any = {option: raising}
        with anyio.fail_after(_AT_ONCE_SECONDS), pytest.raises(UploadFailed, match="was cancelled"):
            await client.upload(bytes(3 * PART), part_size=PART, concurrency=1, **options)
        assert dict(emulator.videos) == {}


_ENDING: Final = """
import asyncio, sys
from async_uploader import Client

class Source:
    left = {left}
    def __iter__(self): return self
    def __aiter__(self): return self
    def __next__(self):
        if not self.left:
            raise {error}
        self.left -= 1
        return bytes(6 << 20)
    async def __anext__(self):
        return self.__next__()

class Async(Source):
    __iter__ = None

class Plain(Source):
    __aiter__ = None

async def main():
    async with Client(api_key=sys.argv[1], base_url=sys.argv[2]) as client:
        await client.upload({kind}(), part_size=5 << 20)

try:
    asyncio.run(main())
except {error} as exc:
    print("ended with", type(exc).__name__)
"""


@pytest.mark.anyio
@pytest.mark.parametrize("left", [0, 3])
@pytest.mark.parametrize("kind", ["Async", "Plain"])
@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SystemExit"])
async def test_a_source_that_ends_the_program(error: str, kind: str, left: int, tmp_path: Path) -> None:
    """These mean the whole program: they come out as they are, after the container is deleted."""
    async with service() as emulator:
        program = _ENDING.format(error=error, kind=kind, left=left)
        command = [sys.executable, "-c", program, KEY, emulator.url]
        done = await anyio.to_thread.run_sync(
            lambda: subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, cwd=tmp_path)
        )
        assert done.stdout == f"ended with {error}\n", done.stderr
        assert done.returncode == 0
        await emulator.wait_for(lambda emulator: not emulator.statistics().uploads_in_flight)
        assert dict(emulator.videos) == {}
