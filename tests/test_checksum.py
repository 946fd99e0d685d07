"""`checksum`: the SHA-256 of the bytes that were sent, computed meanwhile, and recorded in the metadata."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from async_uploader import (
    Client,
    ConfigurationError,
    SourceFailed,
    UploadFailed,
    UploadItem,
    UploadOptions,
    Video,
)
from async_uploader.emulator import Emulator
from async_uploader.events import PartEnded, UploadEvent
from harness.range_server import RangeServer, SourceFault
from harness.world import KEY, PART, QuickClient, service

from .conftest import LOOPS, sha256

pytestmark = pytest.mark.anyio
MakeFile = Callable[..., Path]

FAULTS = ("part=2,attempt=1:cut,when=middle", "part=3,attempt=1:cut,when=stored", "part=1,attempt=1:status=503",
          "part=4,attempt=1:expire-tokens,status=401")  # fmt: skip


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    """Chunks below and above the size from which a thread hashes them."""
    for offset in range(0, len(content), 300_000):
        yield content[offset : offset + 1000]
        yield content[offset + 1000 : offset + 300_000]


async def check(emulator: Emulator, client: Client, video: Video, expected: str) -> None:
    """The returned video, the stored one and the received bytes have the same SHA-256; other entries are kept."""
    assert (await emulator.finished(video.video_id)).sha256 == expected
    stored = await client.get_video(video.video_id)
    assert video.sha256 == stored.sha256 == expected
    entries = {entry.key: entry.value for entry in stored.metadata}
    assert {key: entries[key] for key in entries if not str(key).startswith("async-uploader-")} == {
        "place": "Crete",
        "sha256": expected,
    }


OPTIONS: Any = {"checksum": True, "part_size": PART, "concurrency": 3, "metadata": {"place": "Crete"}}

KINDS: dict[str, tuple[Callable[[Path], Any], UploadOptions]] = {
    "file": (lambda path: path, {}),
    "file with ranges of bytes": (lambda path: path, {"ranges": "bytes"}),
    "file that can be resumed": (lambda path: path, {"resume": "local"}),
    "file that any machine can resume": (lambda path: path, {"resume": "anywhere"}),
    "file with a key": (lambda path: path, {"idempotency_key": "catalogue-42"}),
    "file object": (lambda path: io.BytesIO(path.read_bytes()), {}),
    "bytes": (lambda path: path.read_bytes(), {}),
    "stream": (lambda path: pieces(path.read_bytes()), {}),
}


def kinds_and_loops() -> Iterator[Any]:
    """Every kind with asyncio, and with uvloop those that differ in where the bytes come from."""
    for (kind, (source, options)), (loop, backend) in product(KINDS.items(), LOOPS.items()):
        marks = [pytest.mark.soak] if options and loop != "asyncio" else []
        yield pytest.param(source, options, backend, id=f"{loop}-{kind}", marks=marks)


@pytest.mark.parametrize(("source", "options", "anyio_backend"), [*kinds_and_loops()])
async def test_despite_faults(source: Callable[[Path], Any], options: UploadOptions, make_file: MakeFile) -> None:
    """Parts are sent at the same time and again, but each byte is hashed once, in order."""
    path = make_file(4 * PART + 7)
    async with service(*FAULTS) as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:
        video = await client.upload(source(path), **{**OPTIONS, **options})
        await check(emulator, client, video, sha256(path))


async def test_a_session(make_file: MakeFile) -> None:
    path = make_file(PART + 7)
    async with service() as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:
        async with client.upload_session(checksum=True, metadata={"place": "Crete"}) as session:
            await session.upload_part(path.read_bytes()[:PART])
            video = await session.upload_last_part(path.read_bytes()[PART:])
        await check(emulator, client, video, sha256(path))


@pytest.mark.parametrize("mode", ["local", "anywhere"])
async def test_resumed(mode: Any, make_file: MakeFile) -> None:
    """The parts that an earlier run has sent are part of the checksum, and not sent again."""
    path = make_file(5 * PART)
    options = {**OPTIONS, "resume": mode, "concurrency": 1}
    faults = ("part=4,times=1:status=403",)
    async with service(*faults) as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:
        with pytest.raises(UploadFailed, match="Upload it again to resume"):
            await client.upload(path, **options)
        video = await client.upload(path, **options)
        await check(emulator, client, video, sha256(path))
        assert sum(record.endpoint == "upload" for record in emulator.requests) == 6


@pytest.mark.parametrize(
    "options", [{"resume": "local"}, {"resume": "anywhere"}, {"idempotency_key": "catalogue-42"}]
)
async def test_that_could_not_be_recorded(options: Any, make_file: MakeFile) -> None:
    """The error names the video; the same upload then records the checksum, and sends nothing."""
    path = make_file(2 * PART)
    faults = ("update,times=1:status=403",)
    async with service(*faults) as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:
        with pytest.raises(UploadFailed, match=f"{sha256(path)} could not be recorded") as caught:
            await client.upload(path, **OPTIONS, **options)
        assert "Upload it again to record only that." in str(caught.value)
        video = await client.upload(path, **OPTIONS, **options)
        await check(emulator, client, video, sha256(path))
        assert video.video_id == caught.value.video_id
        assert sum(record.endpoint == "upload" for record in emulator.requests) == 2


async def test_a_file_that_changes_between_both_reads(make_file: MakeFile) -> None:
    """The upload fails: no checksum is recorded of bytes that were not sent."""
    path = make_file(4 * PART)

    def change(event: UploadEvent) -> None:
        if isinstance(event, PartEnded) and event.part_number == 2:
            status = path.stat()
            with path.open("r+b") as file:
                file.write(b"other")
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    async with service() as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:
        with pytest.raises(SourceFailed, match="its contents differ"):
            await client.upload(path, **{**OPTIONS, "concurrency": 1}, on_event=change)
        assert not emulator.videos


async def test_an_object_on_the_web(make_file: MakeFile) -> None:
    """Both reads are retried. A server that states no version is refused, as a change could not be noticed."""
    path = make_file(3 * PART)
    faults = [SourceFault(skip=skip, cut_after=0.5) for skip in (1, 2, 5)]
    async with service() as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:
        async with RangeServer(path.read_bytes(), *faults) as server:
            video = await client.upload(server.url(), fetch="here", **OPTIONS)
            await check(emulator, client, video, sha256(path))
            assert len(server.requests) > 2 * 3
        async with RangeServer(b"x", headers={"ETag": None, "Last-Modified": None}) as server:
            with pytest.raises(ConfigurationError, match="no version"):
                await client.upload(server.url(), fetch="here", checksum=True)
        (result,) = [
            result
            async for result in client.upload_many([UploadItem(source=server.url(), options={"checksum": True})])
        ]
        assert "checksum does not apply to a URL" in str(result.error)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"checksum": 1}, "checksum must be True or False, not 1"),
        ({"checksum": True, "metadata": {"sha256": "x"}}, "checksum sets the metadata entry 'sha256'"),
    ],
)
async def test_invalid_options(options: Any, message: str) -> None:
    async with QuickClient(api_key=KEY, base_url="http://127.0.0.1:1") as client:
        with pytest.raises(ConfigurationError, match=message):
            await client.upload(b"x", **options)


async def test_an_upload_token_cannot_record_it() -> None:
    async with Client(upload_token="to1", base_url="http://127.0.0.1:1") as client:
        with pytest.raises(ConfigurationError, match="checksum needs an API key"):
            await client.upload(b"x", checksum=True)
