"""Uploads of files to the emulator over real sockets."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from async_uploader import (
    ApiError,
    AuthenticationError,
    Client,
    ConfigurationError,
    Progress,
    SourceError,
    TransportError,
    UploaderError,
    UploadFailed,
    upload,
)
from async_uploader.emulator import Emulator, Fault

from .conftest import LOOPS, MIB, sha256

KEY = "a-key-that-must-not-be-shown"
MakeFile = Callable[..., Path]


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(api_key=KEY) as emulator:
        yield emulator


@pytest.fixture
async def client(emulator: Emulator) -> AsyncIterator[Client]:
    async with Client(api_key=KEY, base_url=emulator.url) as client:
        yield client


def ranges_sent(emulator: Emulator) -> list[str | None]:
    return [record.content_range for record in emulator.requests if record.endpoint == "upload"]


@pytest.mark.parametrize("anyio_backend", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize("ranges", ["part", "bytes"])
@pytest.mark.parametrize(
    ("size_bytes", "parts"),
    [
        pytest.param(1, 1, id="one byte"),
        pytest.param(5 * MIB, 1, id="one full part"),
        pytest.param(5 * MIB + 1, 2, id="a last part of one byte"),
        pytest.param(10 * MIB - 1, 2, id="a last part one byte short"),
        pytest.param(15 * MIB, 3, id="an exact multiple"),
    ],
)
async def test_every_byte_arrives(
    emulator: Emulator,
    client: Client,
    make_file: MakeFile,
    size_bytes: int,
    parts: int,
    ranges: Literal["part", "bytes"],
) -> None:
    path = make_file(size_bytes)
    video = await client.upload(path, part_size=5 * MIB, ranges=ranges, concurrency=2)
    copy = await emulator.finished(video.video_id)
    assert (copy.sha256, copy.size_bytes) == (sha256(path), size_bytes)
    assert len(ranges_sent(emulator)) == parts
    assert video.assets.player


async def test_a_video_of_one_part_takes_two_requests(
    emulator: Emulator, client: Client, make_file: MakeFile
) -> None:
    """The response to its only part leaves no doubt that it is complete."""
    await client.upload(make_file(1))
    assert [record.endpoint for record in emulator.requests] == ["auth", "create", "upload"]


async def test_parts_are_sent_in_order_and_the_last_part_completes_the_video(
    emulator: Emulator, client: Client, make_file: MakeFile
) -> None:
    await client.upload(make_file(15 * MIB), part_size=5 * MIB, concurrency=1)
    assert ranges_sent(emulator) == ["part 1/*", "part 2/*", "part 3/3"]


async def test_the_concurrency_option_sets_the_parts_in_flight(make_file: MakeFile) -> None:
    async with Emulator(connection_rate=30_000_000) as emulator:
        await upload(
            make_file(40 * MIB), api_key="local-key", base_url=emulator.url, part_size=5 * MIB, concurrency=4
        )
        assert emulator.statistics().peak_uploads_in_flight == 4


async def test_video_details(emulator: Emulator, client: Client, make_file: MakeFile) -> None:
    video = await client.upload(
        make_file(1),
        title="Holidays",
        description="At sea",
        tags=["a", "b"],
        metadata={"where": "here"},
        public=False,
        mp4_support=False,
    )
    stored = await client.get_video(video.video_id)
    assert (stored.title, stored.description, stored.tags) == ("Holidays", "At sea", ("a", "b"))
    assert [(entry.key, entry.value) for entry in stored.metadata] == [("where", "here")]
    assert (stored.public, stored.mp4_support) == (False, False)


@pytest.mark.parametrize(
    "name", ['say "hi".mp4', "line\nbreak.mp4", "a\r\nX-Evil: 1.mp4", "été 日本.mp4", "back\\"]
)
async def test_a_file_name_cannot_inject_headers(
    emulator: Emulator, client: Client, make_file: MakeFile, name: str
) -> None:
    video = await client.upload(make_file(3, name))
    assert (await client.get_video(video.video_id)).title == name
    assert (await emulator.finished(video.video_id)).size_bytes == 3


async def test_video_id_fills_an_existing_container(
    emulator: Emulator, client: Client, make_file: MakeFile
) -> None:
    container = await client.create_video(title="Existing")
    video = await client.upload(make_file(10), video_id=container.video_id)
    assert (video.video_id, video.title) == (container.video_id, "Existing")
    assert len(emulator.videos) == 1


async def test_with_an_upload_token_the_first_part_is_sent_alone(
    emulator: Emulator, client: Client, make_file: MakeFile
) -> None:
    token = await client.create_upload_token(ttl_seconds=60)
    path = make_file(40 * MIB)
    video = await upload(path, upload_token=token.token, base_url=emulator.url, part_size=5 * MIB, concurrency=4)
    copy = await emulator.finished(video.video_id)
    assert (copy.sha256, copy.title, len(emulator.videos)) == (sha256(path), "movie.mp4", 1)
    first, *others = (record for record in emulator.requests if record.endpoint == "upload")
    assert first.content_range == "part 1/*"
    assert all(first.ended_s <= other.started_s for other in others)


@pytest.mark.parametrize(
    ("fault", "states"),
    [
        ("part=1,times=1:status=503", ["finished"]),
        ("part=1,times=1:cut,when=middle", ["finished"]),
        # An upload token cannot look for the container that the first attempt created; it stays incomplete.
        ("part=1,times=1:cut,when=stored", ["uploading", "finished"]),
        ("part=2,times=1:cut,when=stored", ["finished"]),
        ("completing:cut", ["finished"]),
    ],
)
async def test_an_upload_token_creates_one_finished_video_after_any_lost_response(
    emulator: Emulator, client: Client, make_file: MakeFile, fault: str, states: list[str]
) -> None:
    token = await client.create_upload_token()
    emulator.add_fault(Fault.parse(fault))
    path = make_file(12 * MIB)
    video = await upload(path, upload_token=token.token, base_url=emulator.url, part_size=5 * MIB, concurrency=4)
    assert (await emulator.finished(video.video_id)).sha256 == sha256(path)
    assert [view.state for view in emulator.videos.values()] == states


async def test_the_only_part_of_an_upload_token_is_not_sent_twice(
    emulator: Emulator, client: Client, make_file: MakeFile
) -> None:
    token = await client.create_upload_token()
    emulator.add_fault(Fault.parse("part=1,times=1:cut,when=stored"))
    with pytest.raises(UploadFailed, match="sending the part again could create a second video"):
        await upload(make_file(1), upload_token=token.token, base_url=emulator.url)
    assert len(emulator.videos) == 1


async def test_concurrent_uploads_share_one_bearer_token(
    emulator: Emulator, client: Client, make_file: MakeFile
) -> None:
    paths = [make_file(1000 + n, f"{n}.mp4") for n in range(20)]
    videos = await asyncio.gather(*(client.upload(path) for path in paths))
    for path, video in zip(paths, videos, strict=True):
        assert (await emulator.finished(video.video_id)).sha256 == sha256(path)
    assert emulator.statistics().logins == 1


async def test_a_bearer_token_is_renewed_before_it_expires(make_file: MakeFile) -> None:
    async with Emulator(token_ttl=1, connection_rate=8_000_000) as emulator:
        await upload(
            make_file(40 * MIB), api_key="local-key", base_url=emulator.url, part_size=5 * MIB, concurrency=4
        )
        statistics = emulator.statistics()
        assert statistics.logins == 1
        assert statistics.refreshes >= 1
        assert 401 not in statistics.requests_by_status


async def test_progress_never_decreases_and_ends_complete(
    emulator: Emulator, client: Client, make_file: MakeFile
) -> None:
    snapshots: list[Progress] = []
    emulator.add_fault(Fault.parse("part=2,attempt=1:cut,when=middle"))
    await client.upload(make_file(15 * MIB), part_size=5 * MIB, concurrency=2, on_progress=snapshots.append)
    total = 15 * MIB
    assert all(0 <= now.acknowledged_bytes <= now.sent_bytes <= total for now in snapshots)
    assert all((now.total_bytes, now.parts_total) == (total, 3) for now in snapshots)
    assert [now.acknowledged_bytes for now in snapshots] == sorted(now.acknowledged_bytes for now in snapshots)
    last = snapshots[-1]
    assert (last.acknowledged_bytes, last.parts_done, last.fraction_sent) == (total, 3, 1.0)


async def test_on_progress_can_be_asynchronous(client: Client, make_file: MakeFile) -> None:
    snapshots: list[Progress] = []

    async def on_progress(progress: Progress) -> None:
        await asyncio.sleep(0)
        snapshots.append(progress)

    await client.upload(make_file(1), on_progress=on_progress)
    assert snapshots[-1].fraction_acknowledged == 1.0


async def test_an_exception_of_a_callback_ends_the_upload(
    emulator: Emulator, client: Client, make_file: MakeFile
) -> None:
    def on_progress(_progress: Progress) -> None:
        raise ZeroDivisionError("in the callback")

    with pytest.raises(UploadFailed, match="ZeroDivisionError: in the callback") as caught:
        await client.upload(make_file(1), on_progress=on_progress)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


SOURCES: Sequence[tuple[str, Callable[[Path], Any], str]] = [
    ("missing", lambda folder: folder / "none.mp4", "none.mp4 does not exist"),
    ("directory", lambda folder: folder, "is a directory, not a file"),
    ("empty", lambda folder: _touched(folder / "empty.mp4"), "empty.mp4 is empty; there is nothing to upload"),
    ("too big", lambda folder: _sparse(folder / "big.mp4", 52_428_800_001), "at most 48.83 GiB per video"),
    ("no file", lambda _folder: "/dev/null", "is not a regular file"),
    ("NUL", lambda _folder: "a\0b", "cannot be read"),
    ("too long", lambda _folder: "a" * 5000, "cannot be read: File name too long"),
    ("line break", lambda folder: folder / "no\nsuch", r"no\\nsuch' does not exist"),
]


def _touched(path: Path) -> Path:
    path.touch()
    return path


def _sparse(path: Path, size_bytes: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size_bytes)
    return path


@pytest.mark.parametrize(("make", "sentence"), [row[1:] for row in SOURCES], ids=[row[0] for row in SOURCES])
async def test_an_invalid_source_creates_no_container(
    emulator: Emulator, client: Client, tmp_path: Path, make: Callable[[Path], Any], sentence: str
) -> None:
    with pytest.raises(SourceError, match=sentence):
        await client.upload(make(tmp_path))
    assert not emulator.requests


async def test_the_biggest_video_fits_into_parts_of_5_mib(client: Client, tmp_path: Path) -> None:
    await client.check_source(_sparse(tmp_path / "big.mp4", 52_428_800_000), part_size=5 * MIB)


async def test_a_source_of_the_wrong_type_is_a_type_error(client: Client) -> None:
    with pytest.raises(TypeError, match="source must be"):
        await client.upload(7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fault", "kind", "sentence"),
    [
        ("create:problem=invalid-attribute", ApiError, "The service responded with 400"),
        ("create:status=403", AuthenticationError, "403"),
        ("create:status=500", ApiError, "500"),
        ("create:status=200,body=html", UploaderError, "not a video; check the base URL"),
        ("create:cut", TransportError, "No response from the service: it closed the connection."),
        ("auth:problem=authentication-invalid-user-credentials", AuthenticationError, "Check the API key"),
        (
            "part=1:problem=uploaded-file-too-large",
            UploadFailed,
            r"^Part 1 of 1: The service responded with 4\d\d: ",
        ),
    ],
)
async def test_a_refusal_raises_one_typed_error(
    emulator: Emulator, make_file: MakeFile, fault: str, kind: type[UploaderError], sentence: str
) -> None:
    emulator.add_fault(Fault.parse(fault))
    with pytest.raises(UploaderError, match=sentence) as caught:
        await upload(make_file(1), api_key=KEY, base_url=emulator.url, max_attempts=2)
    assert type(caught.value) is kind
    assert KEY not in str(caught.value)


async def test_a_refused_part_cancels_the_other_parts_and_reports_what_was_stored(make_file: MakeFile) -> None:
    async with Emulator(connection_rate=10_000_000) as emulator:
        emulator.add_fault(Fault.parse("part=4:problem=uploaded-file-invalid-file"))
        with pytest.raises(UploadFailed) as caught:
            await upload(
                make_file(40 * MIB), api_key="local-key", base_url=emulator.url, part_size=5 * MIB, concurrency=4
            )
        error = caught.value
        assert isinstance(error.__cause__, ApiError)
        assert error.__cause__.slug == "uploaded-file-invalid-file"
        assert (error.part_number, error.parts_total, error.total_bytes) == (4, 8, 40 * MIB)
        assert not error.resumable
        assert str(error).startswith(f"Part 4 of 8: {error.__cause__}")
        assert str(error).endswith("The unfinished video was deleted.")
        assert not emulator.videos
        await emulator.wait_for(lambda emulator: emulator.statistics().uploads_in_flight == 0)


async def test_a_wrong_api_key_is_an_authentication_error(emulator: Emulator, make_file: MakeFile) -> None:
    with pytest.raises(AuthenticationError, match="Check the API key, and that it belongs to this environment"):
        await upload(make_file(1), api_key="wrong", base_url=emulator.url)
    assert not emulator.videos


async def test_a_refused_connection_is_a_transport_error(make_file: MakeFile) -> None:
    async with Emulator() as emulator:
        url = emulator.url
    with pytest.raises(TransportError, match=r"no connection to 127\.0\.0\.1"):
        await upload(make_file(1), api_key="k", base_url=url, max_attempts=1)


async def test_listing_with_filters_and_deleting(emulator: Emulator, client: Client) -> None:
    for number in range(103):
        await client.create_video(
            title=f"n{number:03}", tags=["odd"] if number % 2 else [], metadata={"n": str(number)}
        )
    assert len(await client.list_videos()) == 103
    assert len(await client.list_videos(limit=7)) == 7
    assert len(await client.list_videos(tags=["odd"])) == 51
    (one,) = await client.list_videos(metadata={"n": "42"})
    assert one.title == "n042"
    await client.delete_video(one.video_id)
    assert await client.list_videos(title="n042") == []
    with pytest.raises(ApiError, match="404"):
        await client.delete_video(one.video_id)


async def test_a_delete_whose_response_is_lost_succeeds(emulator: Emulator, client: Client) -> None:
    video = await client.create_video(title="t")
    emulator.add_fault(Fault.parse("delete,attempt=1:cut,when=stored"))
    await client.delete_video(video.video_id)
    assert not emulator.videos


@pytest.mark.parametrize("video_id", ["", ".", "..", "../upload-tokens", "a/b", "vi?x=1", "vi#x"])
async def test_a_video_id_cannot_change_the_path(emulator: Emulator, client: Client, video_id: str) -> None:
    with pytest.raises((ConfigurationError, ApiError), match=r"is not a valid id|404"):
        await client.get_video(video_id)


async def test_creating_reading_and_deleting_upload_tokens(emulator: Emulator, client: Client) -> None:
    created = await client.create_upload_token(ttl_seconds=60)
    assert (await client.get_upload_token(created.token)).ttl == 60
    assert [token.token for token in await client.list_upload_tokens()] == [created.token]
    await client.delete_upload_token(created.token)
    assert await client.list_upload_tokens() == []
    with pytest.raises(ConfigurationError, match="ttl_seconds must be from 0"):
        await client.create_upload_token(ttl_seconds=-1)


async def test_an_upload_token_can_only_upload(emulator: Emulator) -> None:
    async with Client(upload_token="to1", base_url=emulator.url) as client:
        with pytest.raises(ConfigurationError, match="An upload token can only upload"):
            await client.list_videos()


async def test_no_secret_is_logged(
    emulator: Emulator, make_file: MakeFile, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    emulator.add_fault(Fault.parse("part=1,times=1:cut,when=middle"))
    async with Client(api_key=KEY, base_url=emulator.url) as client:
        token = (await client.create_upload_token()).token
        await client.upload(make_file(5 * MIB))
        bearer = await client._service._login.token(stall_seconds=30)  # type: ignore[union-attr]
        shown = repr(client) + repr(client._credential) + repr(client._service) + json.dumps(caplog.messages)
    for secret in (KEY, bearer, token):
        assert secret not in shown
