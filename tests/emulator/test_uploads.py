"""Uploads: in any way and order, concurrent, refused early, and interrupted."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator

import aiohttp
import pytest

from async_uploader.emulator import Emulator

from .conftest import MIB, PART, Api, content, form
from .raw import Raw, upload_head

pytestmark = pytest.mark.anyio

ALREADY_SENT = "video-content-range-by-part-part-already-sent"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("size", [1, 3 * MIB, 20 * MIB + 1])
async def test_whole(api: Api, emulator: Emulator, size: int) -> None:
    """A whole file in one request."""
    data, video_id = content(size), await api.create()
    assert (await api.send(video_id, data, expect=201)).json["videoId"] == video_id
    view = await emulator.finished(video_id)
    assert (view.sha256, view.size_bytes, view.pieces) == (sha256(data), size, ("whole",))


@pytest.mark.parametrize("style", ["N/*", "N/TOTAL", "bytes", "bytes/*"])
async def test_ranges_in_any_order(api: Api, emulator: Emulator, style: str) -> None:
    """Concurrent parts of different sizes, in any order, are joined in the order of the file."""
    sizes = [PART, PART + 1, 2 * PART, PART, 7]
    data, video_id = content(sum(sizes)), await api.create()
    requests = []
    for number, size in enumerate(sizes, start=1):
        start = sum(sizes[: number - 1])
        is_last = number == len(sizes)
        total: object = {"N/*": len(sizes), "N/TOTAL": len(sizes)}.get(style, len(data))
        if style.endswith("*") and not is_last:
            total = "*"
        position = f"bytes {start}-{start + size - 1}" if style.startswith("bytes") else f"part {number}"
        requests.append((data[start : start + size], f"{position}/{total}"))
    random.Random(style).shuffle(requests)
    replies = await asyncio.gather(*(api.send(video_id, part, header, expect=201) for part, header in requests))
    assert sum("assets" in reply.json for reply in replies) == 1
    assert all(reply.json["videoId"] == video_id for reply in replies)
    view = await emulator.finished(video_id)
    assert (view.sha256, view.size_bytes) == (sha256(data), len(data))
    assert view.source_path is not None
    assert view.source_path.read_bytes() == data


async def test_status_during_an_upload(api: Api, emulator: Emulator) -> None:
    """The status lists received parts, from an empty container to a playable video."""
    video_id = await api.create()
    assert (await api.status(video_id))["ingest"] == {
        "status": "uploading",
        "filesize": None,
        "receivedBytes": [],
        "receivedParts": {"parts": [], "total": None},
    }
    await api.send(video_id, content(PART), "part 2/*", expect=201)
    await api.send(video_id, content(PART), "part 1/*", expect=201)
    assert (await api.status(video_id))["ingest"]["receivedParts"] == {"parts": [1, 2], "total": None}
    await api.send(video_id, b"end", "part 3/3", expect=201)
    ingest = (await api.status(video_id))["ingest"]
    assert (ingest["status"], ingest["filesize"]) == ("uploaded", 2 * PART + 3)
    assert ingest["receivedParts"] == {"parts": [1, 2, 3], "total": 3}
    await emulator.finished(video_id)
    encoding = (await api.status(video_id))["encoding"]
    assert encoding["playable"]
    assert [quality["status"] for quality in encoding["qualities"]] == ["encoded"]


async def test_status_of_byte_ranges(api: Api) -> None:
    """The status lists received byte ranges, in the order of the file."""
    video_id = await api.create()
    await api.send(video_id, b"end", f"bytes {PART}-{PART + 2}/{PART + 3}", expect=201)
    assert (await api.status(video_id))["ingest"]["receivedBytes"] == [
        {"from": PART, "to": PART + 2, "total": PART + 3}
    ]


@pytest.mark.parametrize(
    ("content_range", "data", "slug"),
    [
        ("nonsense", b"x", "video-content-range-malformed"),
        ("part 0/*", b"x", "video-content-range-by-part-part-zero"),
        ("part 1/*", b"x", "video-content-range-by-part-uploaded-file-too-small"),
        ("part 1/*", b"x" * (PART - 1), "video-content-range-by-part-uploaded-file-too-small"),
        ("bytes 0-9/10", b"x", "video-content-range-by-bytes-range-mismatch"),
        ("bytes 0-9/10", b"x" * 11, "video-content-range-by-bytes-range-mismatch"),
        ("bytes 0-9/10", b"x" * 1_000_000, "video-content-range-by-bytes-range-mismatch"),
        (None, b"", "uploaded-file-empty"),
    ],
)
async def test_refused_parts(
    api: Api, emulator: Emulator, content_range: str | None, data: bytes, slug: str
) -> None:
    """A refused part leaves nothing behind."""
    video_id = await api.create()
    assert (await api.send(video_id, data, content_range, expect=400)).slug == slug
    assert emulator.videos[video_id].state == "empty"
    await api.send(video_id, b"still works", expect=201)


@pytest.mark.parametrize(
    ("body", "content_type", "slug"),
    [
        (b"bytes", "video/mp4", "uploaded-file-no-file"),
        (b"bytes", "multipart/form-data", "uploaded-file-no-file"),
        (b"", "multipart/form-data; boundary=XX", "uploaded-file-invalid-file"),
        (b"garbage", "multipart/form-data; boundary=XX", "uploaded-file-invalid-file"),
        (b"--XX--", "multipart/form-data; boundary=XX", "uploaded-file-no-file"),
        (
            b'--XX\r\nContent-Disposition: form-data; name="file"\r\n\r\nno file name\r\n--XX--',
            "multipart/form-data; boundary=XX",
            "uploaded-file-no-file",
        ),
        (
            b'--XX\r\nContent-Disposition: form-data; name="file"; filename=""\r\n\r\n\r\n--XX--',
            "multipart/form-data; boundary=XX",
            "uploaded-file-no-file",
        ),
        (
            b'--XX\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nno end',
            "multipart/form-data; boundary=XX",
            "uploaded-file-invalid-file",
        ),
        (
            b'--XX\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"x" * 5000 + b"\r\n--XX--",
            "multipart/form-data; boundary=XX",
            "uploaded-file-invalid-file",
        ),
    ],
)
async def test_refused_forms(api: Api, body: bytes, content_type: str, slug: str) -> None:
    """A body that is not a form with one file is refused."""
    video_id = await api.create()
    headers = {"Content-Type": content_type}
    reply = await api.post(f"/videos/{video_id}/source", data=body, headers=headers, expect=400)
    assert reply.slug == slug


async def test_two_files(api: Api) -> None:
    """A form has exactly one file, in a field with any name."""
    video_id = await api.create()
    writer = form(b"one")
    writer.append(b"two").set_content_disposition("form-data", name="other", filename="b.mp4")
    reply = await api.post(f"/videos/{video_id}/source", data=writer, expect=400)
    assert reply.slug == "uploaded-file-multiple-files"
    writer = aiohttp.MultipartWriter("form-data")
    writer.append(b"one").set_content_disposition("form-data", name="movie.mp4", filename="movie.mp4")
    await api.post(f"/videos/{video_id}/source", data=writer, expect=201)


async def test_duplicates_in_flight(api: Api, emulator: Emulator) -> None:
    """Of concurrent requests for the same part, the first to finish is stored, and the others are refused."""
    video_id = await api.create()
    replies = await asyncio.gather(*(api.send(video_id, content(PART, n), "part 1/*") for n in range(4)))
    assert sorted(reply.status for reply in replies) == [201, 400, 400, 400]
    assert {reply.slug for reply in replies if reply.status == 400} == {ALREADY_SENT}
    winner = next(n for n, reply in enumerate(replies) if reply.status == 201)
    await api.send(video_id, b"end", "part 2/2", expect=201)
    assert (await emulator.finished(video_id)).sha256 == sha256(content(PART, winner) + b"end")
    assert emulator.statistics().bytes_again > 0
    assert emulator.statistics().peak_uploads_in_flight == 4


async def test_two_completing_requests(api: Api) -> None:
    """Of two concurrent last requests, exactly one completes the upload."""
    for _ in range(5):
        video_id = await api.create()
        replies = await asyncio.gather(
            api.send(video_id, content(PART), "part 1/*", expect=201),
            api.send(video_id, b"x", "part 2/2", expect=201),
        )
        assert sum("assets" in reply.json for reply in replies) == 1


async def test_delete_while_uploading(api: Api, emulator: Emulator) -> None:
    """A part of a video that is deleted during the request gets 404, and leaves no file."""
    video_id = await api.create()
    async with Raw(emulator.url) as raw:
        await raw.send(upload_head(video_id, "part 1/*", PART) + content(PART // 2))
        await emulator.wait_for(lambda e: e.statistics().bytes_received > MIB)
        await api.delete(f"/videos/{video_id}", expect=204)
        await raw.send(content(PART - PART // 2) + b"\r\n--XX--\r\n")
        assert (await raw.response()).slug == "resource-not-found"
    assert len(emulator.videos) == 0


async def test_interrupted_body_is_not_stored(api: Api, emulator: Emulator) -> None:
    """A client that disconnects causes no error, and can send its part again."""
    video_id = await api.create()
    async with Raw(emulator.url) as raw:
        await raw.send(upload_head(video_id, "part 1/*", PART) + content(PART // 2))
        await emulator.wait_for(lambda e: e.statistics().bytes_received > MIB)
    await emulator.wait_for(lambda e: e.statistics().uploads_in_flight == 0)
    assert emulator.requests[-1].status is None
    assert emulator.videos[video_id].state == "empty"
    await api.send(video_id, content(PART), "part 1/*", expect=201)
    assert emulator.requests[-1].attempt == 2


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (upload_head("viUnknown", "part 1/*", PART), 404),
        (upload_head("viUnknown", "part 1/*", PART, authorization="Bearer no"), 401),
        (upload_head("VIDEO", "part 0/*", PART), 400),
        (upload_head("VIDEO", "part 1/*", 1000), 400),
        (upload_head("VIDEO", None, 300 * MIB), 400),
        (b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n", 404),
    ],
)
async def test_early_refusal(api: Api, emulator: Emulator, head: bytes, status: int) -> None:
    """Invalid headers are refused before the body is read, and the connection is closed."""
    head = head.replace(b"VIDEO", (await api.create()).encode())
    async with Raw(emulator.url) as raw:
        await raw.send(head.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
        response = await raw.response()
        assert response.status == status
        assert response.headers["connection"] == "close"
    await emulator.wait_for(lambda e: e.requests[-1].status == status)
    assert emulator.requests[-1].body_bytes == 0


async def test_refused_client_that_keeps_sending_reads_its_response(api: Api, emulator: Emulator) -> None:
    """The rest of the body is read and dropped, so that no reset overtakes the response."""
    async with Raw(emulator.url) as raw:
        await raw.send(upload_head("viUnknown", "part 1/*", PART) + content(PART) + b"\r\n--XX--\r\n")
        assert (await raw.response()).status == 404
    await emulator.wait_for(lambda e: e.statistics().bytes_discarded > PART)
    assert emulator.requests[-1].body_bytes > PART


async def test_expect_continue(api: Api, emulator: Emulator) -> None:
    """100 is sent only if the headers are valid."""
    video_id = await api.create()
    async with Raw(emulator.url) as raw:
        await raw.send(upload_head(video_id, "part 2/2", 3, "Expect: 100-continue\r\n"))
        assert (await raw.response()).status == 100
        await raw.send(b"end\r\n--XX--\r\n")
        assert (await raw.response()).status == 201
    async with Raw(emulator.url) as raw:
        await raw.send(
            upload_head(video_id, "part 2/2", 3, "Expect: 100-continue\r\n").partition(b"\r\n\r\n")[0]
            + b"\r\n\r\n"
        )
        assert (await raw.response()).slug == ALREADY_SENT


async def test_chunked_body(api: Api, emulator: Emulator) -> None:
    """A body of unknown length is accepted."""
    video_id = await api.create()

    async def chunks() -> AsyncIterator[bytes]:
        yield b'--XX\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\n'
        for start in range(0, PART, 100_000):
            yield content(PART)[start : start + 100_000]
        yield b"\r\n--XX--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=XX", "Content-Range": "part 1/1"}
    await api.post(f"/videos/{video_id}/source", data=chunks(), headers=headers, expect=201)
    assert (await emulator.finished(video_id)).sha256 == sha256(content(PART))


async def test_no_temporary_files_remain(api: Api, emulator: Emulator) -> None:
    """After refused and finished parts, only the source remains."""
    video_id = await api.create()
    await api.send(video_id, b"x" * MIB, "part 1/*", expect=400)
    await api.send(video_id, content(PART), "part 1/*", expect=201)
    await api.send(video_id, content(PART), "part 1/*", expect=400)
    await api.send(video_id, b"end", "part 2/2", expect=201)
    view = await emulator.finished(video_id)
    assert view.source_path is not None
    directory = view.source_path.parent
    assert {file.name for file in directory.iterdir()} == {"source", "merged", "video.json"}
    assert list((directory.parent.parent / "tmp").iterdir()) == []
