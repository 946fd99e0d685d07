"""Sources that misstate their size, and sources and callbacks that raise unusual exceptions."""

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
from async_uploader.events import PartEnded
from harness.world import KEY, PART, QuickClient, check_sentence, service

# Long enough for a busy machine, and shorter than the backoffs of an error that is retried (31 s).
_AT_ONCE_SECONDS: Final = 10


# Sizes


class MisstatedSize(io.BytesIO):
    """A file object whose ``seek()`` and ``tell()`` report a wrong size.

    :param difference_bytes: the reported size minus the real one
    """

    def __init__(self, content: bytes, *, difference_bytes: int) -> None:
        super().__init__(content)
        self._difference_bytes = difference_bytes
        self._is_at_end = False

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._is_at_end = whence == os.SEEK_END
        return super().seek(offset, whence) + (self._difference_bytes if self._is_at_end else 0)

    def tell(self) -> int:
        return super().tell() + (self._difference_bytes if self._is_at_end else 0)


class LenientService:
    """A service that accepts every request, also empty parts.

    :ivar parts: Content-Range and body size of each received part
    :ivar deleted: number of deleted containers
    """

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
            assert len(self.parts) < 100, "the upload does not end"
        if request.path.endswith("/status"):
            return web.json_response({"ingest": {"status": "uploading"}, "encoding": {"playable": False}})
        return web.json_response({"videoId": "vi1", "title": "x"}, status=201)


@pytest.mark.anyio
@pytest.mark.parametrize("ranges", ["part", "bytes"])
@pytest.mark.parametrize(
    ("difference_bytes", "message"),
    [
        (-1, "has more than the 11,534,335 bytes it had when the upload began"),
        (-PART, "has more than the 6,291,456 bytes it had when the upload began"),
        (-11 * MIB, "has more than the 0 bytes it had when the upload began"),
        (+1, "ended after 11,534,336 of 11,534,337 bytes"),
        (+PART, "ended after 11,534,336 of 16,777,216 bytes"),
    ],
)
async def test_file_object_that_misstates_its_size(difference_bytes: int, message: str, ranges: Any) -> None:
    """The upload fails even if the service accepts everything, and its container is deleted."""
    lenient = LenientService()
    async with lenient.running() as url, QuickClient(api_key=KEY, base_url=url) as client:
        source = MisstatedSize(bytes(11 * MIB), difference_bytes=difference_bytes)
        with anyio.fail_after(_AT_ONCE_SECONDS), pytest.raises(SourceError) as raised:
            await client.upload(source, part_size=PART, ranges=ranges)
    assert message in str(raised.value)
    check_sentence(f"The {raised.value}")
    assert lenient.deleted == isinstance(raised.value, UploadFailed)
    assert all(sent > PART for _, sent in lenient.parts)


@pytest.mark.anyio
async def test_file_object_whose_seek_returns_none() -> None:
    """The size is then read with ``tell()``."""

    class SeekReturnsNone(io.BytesIO):
        def seek(self, offset: int, whence: int = os.SEEK_SET) -> Any:
            super().seek(offset, whence)

    async with service() as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:
        video = await client.upload(SeekReturnsNone(b"x" * (PART + 1)), part_size=PART)
        assert (await emulator.finished(video.video_id)).size_bytes == PART + 1


@pytest.mark.anyio
async def test_standard_input_that_grows(tmp_path: Path) -> None:
    """The upload fails as that of a named file does, and its container is deleted."""
    path = tmp_path / "recording.mp4"
    async with service(connection_rate=5_000_000) as emulator:
        environment = {
            **os.environ,
            "APIVIDEO_API_KEY": KEY,
            "APIVIDEO_BASE_URL": emulator.url,
            "XDG_STATE_HOME": str(tmp_path),
        }
        command = [sys.executable, "-m", "async_uploader", "upload", "-", "--part-size=5MiB", "--concurrency=1"]
        path.write_bytes(bytes(3 * PART))
        with path.open("rb") as file:
            process = await anyio.to_thread.run_sync(
                lambda: subprocess.Popen(command, stdin=file, stderr=subprocess.PIPE, env=environment, text=True)
            )
        try:
            await emulator.wait_for(lambda emulator: emulator.statistics().bytes_received)
            with path.open("ab") as file:
                file.write(b"more")
            _, err = await anyio.to_thread.run_sync(process.communicate)
        finally:
            process.kill()
            await anyio.to_thread.run_sync(process.wait)
        assert process.returncode == 1
        assert f"stdin has more than the {3 * PART:,} bytes it had when the upload began." in err
        assert "too small" not in err
        assert "Traceback" not in err
        assert dict(emulator.videos) == {}


# Exceptions

_EXCEPTIONS: Final = {
    "asyncio.CancelledError": asyncio.CancelledError,
    "concurrent.futures.CancelledError": concurrent.futures.CancelledError,
    "GeneratorExit": GeneratorExit,
    "StopIteration": StopIteration,
    "StopAsyncIteration": StopAsyncIteration,
    "ValueError": ValueError,
    "MemoryError": MemoryError,
}


class Raising:
    """Returns some bytes, then raises. Base class of iterables and file objects, synchronous and asynchronous."""

    def __init__(self, error: type[BaseException], *, after_bytes: int) -> None:
        self._error = error
        self._remaining_bytes = after_bytes

    def _next(self) -> bytes:
        if self._remaining_bytes <= 0:
            raise self._error
        self._remaining_bytes -= MIB
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
# With these, a source of this kind ends normally.
_NORMAL_ENDS: Final = {("iterable", "StopIteration"), ("async iterable", "StopAsyncIteration")}


@pytest.mark.anyio
@pytest.mark.parametrize("after_bytes", [0, 2 * PART], ids=["at once", "after two parts"])
@pytest.mark.parametrize("error", _EXCEPTIONS)
@pytest.mark.parametrize("kind", _KINDS)
async def test_exception_of_a_source(kind: str, error: str, after_bytes: int) -> None:
    """The upload fails at once with a SourceError, and its container is deleted."""
    async with service() as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:
        source = _KINDS[kind](_EXCEPTIONS[error], after_bytes=after_bytes)
        with anyio.fail_after(_AT_ONCE_SECONDS):
            if (kind, error) in _NORMAL_ENDS and after_bytes:
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
async def test_source_that_awaits_a_cancelled_task() -> None:
    """Its ``CancelledError`` is an error of the source, not a cancellation of the upload."""

    async def source() -> AsyncIterator[bytes]:
        yield bytes(PART + 1)
        other = asyncio.create_task(anyio.sleep_forever())
        asyncio.get_running_loop().call_soon(other.cancel)
        await other

    async with service() as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:
        with anyio.fail_after(_AT_ONCE_SECONDS), pytest.raises(UploadFailed) as raised:
            await client.upload(source())
        assert "stream raised CancelledError." in str(raised.value)
        assert dict(emulator.videos) == {}


@pytest.mark.anyio
@pytest.mark.parametrize("cancelled_by", ["task", "scope", "timeout"])
@pytest.mark.parametrize("has_bytes", [False, True], ids=["before the first bytes", "after the first bytes"])
async def test_cancellation_while_the_source_waits(cancelled_by: str, has_bytes: bool) -> None:
    """It cancels the upload, and does not become a SourceError."""
    is_waiting = asyncio.Event()

    async def source() -> AsyncIterator[bytes]:
        if has_bytes:
            yield bytes(PART + 1)
        is_waiting.set()
        await anyio.sleep_forever()

    async with service() as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:
        if cancelled_by == "task":
            upload = asyncio.create_task(client.upload(source(), concurrency=1))
            await is_waiting.wait()
            upload.cancel()
            with pytest.raises(asyncio.CancelledError):
                await upload
        elif cancelled_by == "scope":
            with anyio.CancelScope() as scope:

                async def cancel() -> None:
                    await is_waiting.wait()
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
async def test_callback_that_raises_cancelled_error(option: str) -> None:
    """No worker ends silently: the upload fails at once."""

    def raising(report: Any) -> None:
        if getattr(report, "acknowledged_bytes", 0) or isinstance(report, PartEnded):
            raise asyncio.CancelledError

    async with service() as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:
        options: Any = {option: raising}
        with anyio.fail_after(_AT_ONCE_SECONDS), pytest.raises(UploadFailed, match="was cancelled"):
            await client.upload(bytes(3 * PART), part_size=PART, concurrency=1, **options)
        assert dict(emulator.videos) == {}


_PROGRAM: Final = """
import asyncio, sys
from async_uploader import Client

class Source:
    remaining = {parts}
    def __iter__(self): return self
    def __aiter__(self): return self
    def __next__(self):
        if not self.remaining:
            raise {error}
        self.remaining -= 1
        return bytes(6 << 20)
    async def __anext__(self):
        return self.__next__()

class AsyncSource(Source):
    __iter__ = None

class SyncSource(Source):
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
@pytest.mark.parametrize("parts", [0, 3])
@pytest.mark.parametrize("kind", ["AsyncSource", "SyncSource"])
@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SystemExit"])
async def test_source_that_ends_the_program(error: str, kind: str, parts: int, tmp_path: Path) -> None:
    """These exceptions leave ``upload()`` unchanged, after the container is deleted."""
    async with service() as emulator:
        program = _PROGRAM.format(error=error, kind=kind, parts=parts)
        command = [sys.executable, "-c", program, KEY, emulator.url]
        done = await anyio.to_thread.run_sync(
            lambda: subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, cwd=tmp_path)
        )
        assert done.stdout == f"ended with {error}\n", done.stderr
        assert done.returncode == 0
        await emulator.wait_for(lambda emulator: not emulator.statistics().uploads_in_flight)
        assert dict(emulator.videos) == {}
