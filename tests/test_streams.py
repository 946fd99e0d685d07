"""Streams of unknown length, and upload sessions."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import random
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import aiofiles
import anyio
import pytest

from async_uploader import (
    Client,
    ConfigurationError,
    Progress,
    SourceError,
    SourceFailed,
    UploadFailed,
)
from async_uploader.emulator import Emulator, Fault

from .conftest import MIB, sha256

PART = 5 * MIB
SIZES = [1, PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 1]


@pytest.fixture(scope="module")
def data() -> bytes:
    return random.Random(7).randbytes(4 * PART)


def chunks(data: bytes, step: int) -> Iterator[bytes]:
    for offset in range(0, len(data), step):
        yield data[offset : offset + step]


async def async_chunks(data: bytes, step: int) -> AsyncIterator[bytes]:
    for chunk in chunks(data, step):
        yield chunk


@contextlib.contextmanager
def piped(data: bytes) -> Iterator[io.BufferedReader]:
    reading, writing = os.pipe()

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(writing, "wb") as file:
            file.write(data)

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(reading, "rb") as file:
        yield file
    writer.join()


@contextlib.contextmanager
def on_disk(data: bytes, path: Path) -> Iterator[io.BufferedReader]:
    path.write_bytes(data)
    with path.open("rb") as file:
        yield file


KINDS: dict[str, Callable[[bytes, Path], contextlib.AbstractContextManager[Any]]] = {
    "generator of small chunks": lambda data, _path: contextlib.nullcontext(chunks(data, 99_991)),
    "list of one chunk": lambda data, _path: contextlib.nullcontext([data]),
    "chunks, some of them empty": lambda data, _path: contextlib.nullcontext([b"", data[:3], b"", data[3:], b""]),
    "async generator": lambda data, _path: contextlib.nullcontext(async_chunks(data, 7 * MIB)),
    "bytes": lambda data, _path: contextlib.nullcontext(data),
    "memoryview": lambda data, _path: contextlib.nullcontext(memoryview(data)),
    "BytesIO": lambda data, _path: contextlib.nullcontext(io.BytesIO(data)),
    "open file": on_disk,
    "pipe": lambda data, _path: piped(data),
}


def kinds_and_sizes() -> Iterator[Any]:
    """Every kind with three sizes, alternately; the other combinations have the marker `soak`."""
    for number, (kind, (position, size_bytes)) in enumerate(product(KINDS, enumerate(SIZES))):
        marks = [pytest.mark.soak] if (number // len(SIZES) + position) % 2 else []
        yield pytest.param(kind, size_bytes, marks=marks)


@pytest.mark.parametrize(("kind", "size_bytes"), [*kinds_and_sizes()])
async def test_every_byte_arrives(
    emulator: Emulator, client: Client, data: bytes, tmp_path: Path, kind: str, size_bytes: int
) -> None:
    content = data[:size_bytes]
    snapshots: list[Progress] = []
    with KINDS[kind](content, tmp_path / "movie.mp4") as source:
        video = await client.upload(source, part_size=PART, concurrency=2, on_progress=snapshots.append)
    copy = await emulator.finished(video.video_id)
    assert copy.sha256 == hashlib.sha256(content).hexdigest()
    parts = -(-size_bytes // PART)
    assert copy.pieces[-1] == f"part {parts}/{parts}"
    assert (snapshots[-1].acknowledged_bytes, snapshots[-1].total_bytes, snapshots[-1].parts_total) == (
        size_bytes,
        size_bytes,
        parts,
    )
    assert all(now.acknowledged_bytes <= now.sent_bytes <= (now.total_bytes or size_bytes) for now in snapshots)
    assert client._opener._budget._free_bytes == 64 * MIB


@pytest.mark.parametrize("kind", ["bytes", "BytesIO", "open file"])
@pytest.mark.parametrize("size_bytes", SIZES)
async def test_a_source_of_known_size_can_be_uploaded_as_byte_ranges(
    emulator: Emulator, client: Client, data: bytes, tmp_path: Path, kind: str, size_bytes: int
) -> None:
    with KINDS[kind](data[:size_bytes], tmp_path / "movie.mp4") as source:
        video = await client.upload(source, part_size=PART, ranges="bytes")
    copy = await emulator.finished(video.video_id)
    assert copy.sha256 == hashlib.sha256(data[:size_bytes]).hexdigest()
    assert copy.pieces[0].startswith("bytes 0-")


@pytest.mark.parametrize("start", [0, 5])
@pytest.mark.parametrize("kind", ["BytesIO", "open file"])
async def test_a_file_object_stays_open_and_keeps_its_position(
    emulator: Emulator, client: Client, data: bytes, tmp_path: Path, kind: str, start: int
) -> None:
    with KINDS[kind](data[:PART], tmp_path / "movie.mp4") as file:
        file.seek(start)
        video = await client.upload(file)
        assert (file.tell(), file.closed) == (start, False)
    assert (await emulator.finished(video.video_id)).sha256 == hashlib.sha256(data[start:PART]).hexdigest()


async def test_an_asynchronous_file_object(
    emulator: Emulator, client: Client, make_file: Callable[..., Path]
) -> None:
    path = make_file(PART + 1)
    async with aiofiles.open(path, "rb") as file:
        video = await client.upload(file)
    assert (await emulator.finished(video.video_id)).sha256 == sha256(path)


async def test_the_file_object_of_a_socket(emulator: Emulator, client: Client, data: bytes) -> None:
    receiving, sending = socket.socketpair()

    def send() -> None:
        with sending:
            sending.sendall(data[:PART])

    sender = threading.Thread(target=send)
    sender.start()
    with receiving, receiving.makefile("rb") as file:
        video = await client.upload(file)
    sender.join()
    assert (await emulator.finished(video.video_id)).sha256 == hashlib.sha256(data[:PART]).hexdigest()


async def test_a_named_pipe(emulator: Emulator, client: Client, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "pipe.mp4"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_bytes(data[:PART]))
    writer.start()
    video = await client.upload(path)
    writer.join()
    copy = await emulator.finished(video.video_id)
    assert (copy.sha256, copy.title) == (hashlib.sha256(data[:PART]).hexdigest(), "pipe.mp4")


@pytest.mark.parametrize(
    "source",
    [[], [b"", b""], io.BytesIO(), b"", "pipe"],
    ids=["no chunks", "empty chunks", "file object", "bytes", "pipe"],
)
async def test_an_empty_source_creates_no_container(emulator: Emulator, client: Client, source: Any) -> None:
    with piped(b"") as pipe, pytest.raises(SourceError, match="is empty; there is nothing to upload"):
        await client.upload(pipe if source == "pipe" else source)
    assert not emulator.requests


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ([1, 2], "The stream returned int instead of bytes"),
        (["text"], r"returned str instead of bytes; open it in binary mode \('rb'\)"),
        (io.StringIO("text"), "returned str instead of bytes"),
    ],
    ids=["numbers", "text", "text file"],
)
async def test_a_source_that_yields_no_bytes_creates_no_container(
    emulator: Emulator, client: Client, source: Any, sentence: str
) -> None:
    with pytest.raises(SourceError, match=sentence):
        await client.upload(source)
    assert not emulator.requests


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"ranges": "bytes"}, "the size of stream is not known; use ranges='part'"),
        ({"resume": "local"}, "cannot be resumed; remove resume"),
        ({"resume": "anywhere"}, "cannot be resumed; remove resume"),
        ({"max_latency": 0}, "max_latency must be a number of seconds above 0"),
    ],
)
async def test_options_that_a_stream_refuses(client: Client, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        await client.upload(iter([b"x"]), **options)


async def test_max_latency_is_refused_for_files(client: Client, make_file: Callable[..., Path]) -> None:
    with pytest.raises(ConfigurationError, match="max_latency applies only to streams"):
        await client.upload(make_file(1), max_latency=1)


async def test_an_exception_of_the_producer_ends_the_upload(
    emulator: Emulator, client: Client, data: bytes
) -> None:
    def breaking() -> Iterator[bytes]:
        yield data[: 2 * PART]
        raise ZeroDivisionError("in the producer")

    with pytest.raises(SourceFailed, match="stream failed: ZeroDivisionError: in the producer") as caught:
        await client.upload(breaking())
    assert isinstance(caught.value.__cause__, SourceError)
    assert isinstance(caught.value.__cause__.__cause__, ZeroDivisionError)
    assert not emulator.videos
    assert client._opener._budget._free_bytes == 64 * MIB


async def test_parts_are_sent_before_the_source_ends(emulator: Emulator, client: Client, data: bytes) -> None:
    async def running() -> AsyncIterator[bytes]:
        yield data[:PART]
        yield b"more"
        await emulator.wait_for(lambda emulator: any(view.pieces for view in emulator.videos.values()))
        yield b"end"

    video = await client.upload(running())
    assert (await emulator.finished(video.video_id)).pieces == ("part 1/*", "part 2/2")


async def test_max_latency_sends_a_part_early(emulator: Emulator, client: Client, data: bytes) -> None:
    async def live() -> AsyncIterator[bytes]:
        yield data[: PART + 1]
        await asyncio.sleep(0.02)
        yield data[PART + 1 : 2 * PART]

    video = await client.upload(live(), part_size=3 * PART, max_latency=0.01)
    assert (await emulator.finished(video.video_id)).pieces == ("part 1/*", "part 2/2")


@pytest.mark.parametrize("buffer_bytes", [0, 7 * MIB, 64 * MIB])
async def test_a_slow_network_pushes_back_on_the_producer(data: bytes, buffer_bytes: int) -> None:
    """With 2 parts in flight, at most two more are read: one that waits for its slot, and one being filled."""
    produced = 0

    def producing() -> Iterator[bytes]:
        nonlocal produced
        for chunk in chunks(data * 3, MIB):
            produced += len(chunk)
            yield chunk

    async with (
        Emulator(connection_rate=20_000_000) as emulator,
        Client(api_key="local-key", base_url=emulator.url, buffer_bytes=buffer_bytes) as client,
    ):
        ahead: list[int] = []
        free: list[int] = []

        def on_progress(progress: Progress) -> None:
            ahead.append(produced - progress.acknowledged_bytes)
            free.append(client._opener._budget._free_bytes)

        video = await client.upload(producing(), part_size=PART, concurrency=2, on_progress=on_progress)
        assert (await emulator.finished(video.video_id)).sha256 == hashlib.sha256(data * 3).hexdigest()
        assert max(ahead) <= 4 * PART + 2 * MIB
        assert min(free) >= 0
        assert client._opener._budget._free_bytes == buffer_bytes


async def test_parts_of_a_fast_stream_grow_before_the_rate_limit_delays_them(data: bytes) -> None:
    async with (
        Emulator(rate_limit=10, rate_window=3.0, link_rate=30_000_000) as emulator,
        Client(api_key="local-key", base_url=emulator.url) as client,
    ):
        await client.upload(data for _ in range(6))
        parts = [record for record in emulator.requests if record.endpoint == "upload"]
    assert len(parts) < 23  # with parts of 5 MiB there would be 24
    assert max(record.body_bytes for record in parts) > 7 * MIB


@pytest.mark.parametrize(
    "fault",
    [
        "part=2,times=1:cut,when=middle",
        "part=2,times=1:cut,when=stored",
        "completing:cut",
        "part=first,times=2:status=503",
    ],
)
@pytest.mark.parametrize("buffer_bytes", [0, 64 * MIB])
async def test_a_buffered_part_is_sent_again(
    emulator: Emulator, data: bytes, fault: str, buffer_bytes: int
) -> None:
    emulator.add_fault(Fault.parse(fault))
    async with Client(api_key="local-key", base_url=emulator.url, buffer_bytes=buffer_bytes) as client:
        video = await client.upload(chunks(data, 333_333), part_size=PART)
    assert (await emulator.finished(video.video_id)).sha256 == hashlib.sha256(data).hexdigest()
    assert (emulator.statistics().bytes_again, len(emulator.videos)) == (0, 1)


async def test_a_waiting_pipe_can_be_cancelled(emulator: Emulator, client: Client) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as file, os.fdopen(writing, "wb"):
        with anyio.move_on_after(0.05):
            await client.upload(file)
        assert not [thread for thread in threading.enumerate() if "stream" in thread.name and thread.is_alive()]


# Upload sessions


async def test_each_chunk_of_a_session_is_a_part(emulator: Emulator, client: Client, data: bytes) -> None:
    async with client.upload_session(title="Recording") as session:
        await session.upload_part(data[: PART + 3])
        await session.upload_part(data[PART + 3 : 2 * PART + 10])
        video = await session.upload_last_part(data[2 * PART + 10 :])
    copy = await emulator.finished(video.video_id)
    sizes = [record.body_bytes for record in emulator.requests if record.endpoint == "upload"]
    assert (copy.sha256, copy.title) == (hashlib.sha256(data).hexdigest(), "Recording")
    assert [round(size / MIB, 1) for size in sorted(sizes)] == [5.0, 5.0, 10.0]


async def test_small_chunks_of_a_session_are_joined(emulator: Emulator, client: Client, data: bytes) -> None:
    async with client.upload_session() as session:
        for chunk in chunks(data, 3 * MIB):
            await session.upload_part(chunk)
        video = await session.upload_last_part()
    assert (await emulator.finished(video.video_id)).pieces == ("part 1/*", "part 2/*", "part 3/*", "part 4/4")


@pytest.mark.parametrize("error", [None, KeyError("raised by the caller")])
async def test_leaving_a_session_early_deletes_its_container(
    emulator: Emulator, client: Client, data: bytes, error: Exception | None
) -> None:
    with pytest.raises(KeyError) if error else contextlib.nullcontext():
        async with client.upload_session() as session:
            await session.upload_part(data[:PART])
            await session.upload_part(data[PART:])
            if error is not None:
                raise error
    assert not emulator.videos
    assert client._opener._budget._free_bytes == 64 * MIB


async def test_a_failed_session_raises_from_upload_part(emulator: Emulator, client: Client, data: bytes) -> None:
    emulator.add_fault(Fault.parse("part=1:problem=uploaded-file-invalid-file"))

    async def upload_endlessly() -> None:
        async with client.upload_session(concurrency=1) as session:
            while True:
                await session.upload_part(data[:PART])

    with pytest.raises(UploadFailed, match="Part 1"):
        await upload_endlessly()


async def test_misuse_of_a_session_raises(client: Client) -> None:
    async with client.upload_session() as session:
        await session.upload_last_part(b"x")
        with pytest.raises(RuntimeError, match=r"upload_last_part\(\) was already called"):
            await session.upload_part(b"y")
    with pytest.raises(SourceError, match="recording is empty"):
        async with client.upload_session() as session:
            await session.upload_last_part()
