"""Idempotency keys: uploads with the same key result in one video, from any machine and at any time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from async_uploader import (
    Client,
    ConfigurationError,
    ConflictError,
    UploadFailed,
    UploadItem,
    Video,
)
from async_uploader._limits import MIB
from async_uploader._resume.containers import RemoteContainers, SettlingPolicy
from async_uploader._resume.shared_containers import SharedContainers
from async_uploader.emulator import Emulator, Fault
from harness.world import (
    AUTH_HEADERS,
    KEY,
    PART,
    QuickClient,
    Source,
    check_sentence,
    make_source,
    missing_bytes,
    run_upload,
    service,
    uploads,
)

from .conftest import StartUpload

pytestmark = pytest.mark.anyio

SourceOf = Callable[[int], Source]
SEVERAL = 4 * PART + MIB


class PatientClient(QuickClient):
    """Settles as in production: times of creation have a resolution of a second."""

    _settling_policy = SettlingPolicy(poll_seconds=0.1)


async def upload(emulator: Emulator, source: Source, **options: Any) -> Video:
    """Upload on a machine of its own: no two calls share anything but the service."""
    options = {"idempotency_key": "catalogue-42", "part_size": PART, **options}
    async with PatientClient(api_key=KEY, base_url=emulator.url) as client:
        return await client.upload(source.path, **options)


async def check_only_video(emulator: Emulator, source: Source) -> str:
    """The only video is finished and has the bytes of the source.

    :returns: its id
    """
    (video_id,) = emulator.videos
    view = await emulator.finished(video_id)
    assert (view.sha256, view.size_bytes) == (source.sha256, source.size_bytes)
    return video_id


def writes(emulator: Emulator, since: int = 0) -> list[str]:
    return [one.endpoint for one in emulator.requests[since:] if one.method in ("POST", "PATCH", "DELETE")]


async def test_a_finished_video_is_returned_without_a_write(source_of: SourceOf) -> None:
    source = source_of(SEVERAL)
    async with service() as emulator:
        first = await upload(emulator, source)
        assert writes(emulator).count("create") == 1
        assert not {"update", "delete"} & set(writes(emulator))
        since = len(emulator.requests)
        second = await upload(emulator, source, title="ignored")
        assert second.video_id == first.video_id == await check_only_video(emulator, source)
        assert set(writes(emulator, since)) == {"auth"}
        assert {entry.key: entry.value for entry in second.metadata}["async-uploader-key"] == "catalogue-42"


async def test_the_metadata_of_the_caller_is_kept(source_of: SourceOf) -> None:
    async with service() as emulator:
        video = await upload(emulator, source_of(1), metadata={"place": "Paris"})
        assert {entry.key: entry.value for entry in video.metadata}["place"] == "Paris"


@pytest.mark.parametrize("listing_lag", [0.0, 1.5])
async def test_machines_that_start_at_once_fill_one_container(listing_lag: float, source_of: SourceOf) -> None:
    source = source_of(SEVERAL)
    async with service(listing_lag=listing_lag, connection_rate=20 * MIB) as emulator:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(upload(emulator, source)) for _ in range(3)]
        assert {task.result().video_id for task in tasks} == {await check_only_video(emulator, source)}


async def test_a_machine_that_joins_sends_other_parts(source_of: SourceOf) -> None:
    """One connection each: a part is sent twice only if both machines have chosen it at the same moment."""
    source = source_of(12 * PART)
    async with service(connection_rate=10 * MIB) as emulator, asyncio.TaskGroup() as group:
        first = group.create_task(upload(emulator, source, concurrency=1))
        await emulator.wait_for(lambda emulator: emulator.statistics().bytes_received > PART)
        second = group.create_task(upload(emulator, source, concurrency=1))
        videos = await asyncio.gather(first, second)
        assert {video.video_id for video in videos} == {await check_only_video(emulator, source)}
        assert emulator.statistics().bytes_again < source.size_bytes / 2


async def test_another_machine_continues_and_sends_only_what_is_missing(source_of: SourceOf) -> None:
    source = source_of(SEVERAL)
    async with service("upload,part=4:stall=forever,when=early") as emulator:
        first = asyncio.create_task(upload(emulator, source, concurrency=2))
        await emulator.wait_for(lambda emulator: any(len(v.pieces) == 4 for v in emulator.videos.values()))
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        emulator.clear_faults()
        (view,) = emulator.videos.values()
        since_s = asyncio.get_running_loop().time()
        await upload(emulator, source, part_size=7 * MIB)  # the part size of the first upload holds
        await check_only_video(emulator, source)
        sent = sum(record.body_bytes for record in uploads(emulator, since_s))
        assert sent <= missing_bytes(view, source, "part")


async def test_another_source_is_refused_and_changes_nothing(source_of: SourceOf, tmp_path: Path) -> None:
    source = source_of(SEVERAL)
    other = make_source(tmp_path / "other.mp4", SEVERAL)
    async with service() as emulator:
        await upload(emulator, source)
        since = len(emulator.requests)
        with pytest.raises(ConflictError, match="belongs to another source") as caught:
            await upload(emulator, other)
        check_sentence(str(caught.value))
        assert set(writes(emulator, since)) == {"auth"}
        await check_only_video(emulator, source)


async def test_two_keys_make_two_videos_of_the_same_file(source_of: SourceOf) -> None:
    source = source_of(SEVERAL)
    async with service() as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:
        items = [UploadItem(source=source.path, idempotency_key=key) for key in ("a", "b", "a")]
        results = [result async for result in client.upload_many(items)]
        ids = {result.item.idempotency_key: result.video.video_id for result in results if result.video}
        assert len(results) == 3 == sum(result.error is None for result in results)
        assert set(ids.values()) == set(emulator.videos)
        assert len(ids) == len(emulator.videos) == 2


@pytest.mark.parametrize(
    "fault",
    [
        "create,times=1:cut,when=stored",
        "create,times=2:status=503,when=stored",
        "list,times=2:cut",
        "delete:status=500",
        "upload,part=last,times=1:cut,when=stored",
    ],
)
async def test_faults(fault: str, source_of: SourceOf) -> None:
    source = source_of(SEVERAL)
    async with service(fault) as emulator:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(upload(emulator, source)) for _ in range(2)]
        (video_id,) = {task.result().video_id for task in tasks}
        emulator.clear_faults()
        assert (await upload(emulator, source)).video_id == video_id == await check_only_video(emulator, source)


async def test_a_container_that_is_deleted_during_the_upload_is_replaced(source_of: SourceOf) -> None:
    source = source_of(SEVERAL)
    async with service(connection_rate=20 * MIB) as emulator:
        uploading = asyncio.create_task(upload(emulator, source, concurrency=1))
        await emulator.wait_for(lambda emulator: any(view.pieces for view in emulator.videos.values()))
        (deleted,) = emulator.videos
        async with aiohttp.ClientSession(emulator.url, headers=AUTH_HEADERS) as session:
            await session.delete(f"/videos/{deleted}")
        assert (await uploading).video_id != deleted
        await check_only_video(emulator, source)


async def test_a_listing_that_never_shows_the_container_is_reported(
    source_of: SourceOf, caplog: pytest.LogCaptureFixture
) -> None:
    async with service(listing_lag=3600.0) as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:
        policy = SettlingPolicy(creation_seconds=0.01, max_lag_seconds=0.2, poll_seconds=0.05)
        containers = RemoteContainers(client._service, client._retries, policy)
        video = await client.create_video(title="x", metadata={"k": "v"})
        shared = SharedContainers(containers, key="k", value="v", total_bytes=1)
        winner = await shared.settle(video.video_id)
        assert winner is not None
        assert winner.video.video_id == video.video_id
        assert "there may be two videos" in caplog.text


async def test_a_key_that_fails_keeps_its_container_for_the_next_attempt(source_of: SourceOf) -> None:
    source = source_of(SEVERAL)
    async with service("upload,part=3:status=500") as emulator:
        with pytest.raises(UploadFailed) as caught:
            await upload(emulator, source, max_attempts=2)
        assert caught.value.resumable
        emulator.clear_faults()
        assert (await upload(emulator, source)).video_id == caught.value.video_id
        await check_only_video(emulator, source)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"idempotency_key": ""}, "1 to 200 printable characters"),
        ({"idempotency_key": "x" * 201}, "1 to 200 printable characters"),
        ({"idempotency_key": "a\nb"}, "1 to 200 printable characters"),
        ({"idempotency_key": 42}, "1 to 200 printable characters"),
        ({"video_id": "vi1"}, "video_id; remove one"),
    ],
)
async def test_impossible_options_are_refused_before_any_request(
    options: dict[str, Any], words: str, source_of: SourceOf
) -> None:
    async with service() as emulator:
        with pytest.raises(ConfigurationError, match=words):
            await upload(emulator, source_of(1), **options)
        assert not emulator.requests


@pytest.mark.parametrize("key", ["x" * 200, "ключ 🎬", "a&b=c[d]/?#%", " "])
async def test_every_printable_key_is_found_again(key: str, source_of: SourceOf) -> None:
    source = source_of(1)
    async with service() as emulator:
        for _ in range(2):
            await upload(emulator, source, idempotency_key=key)
        await check_only_video(emulator, source)


async def test_a_stream_has_no_key(source_of: SourceOf) -> None:
    async with service() as emulator:
        run = await run_upload(emulator, source_of(1), as_stream=True, idempotency_key="a")
        assert isinstance(run.error, ConfigurationError)
        assert not emulator.requests


async def test_an_upload_token_has_no_key(source_of: SourceOf) -> None:
    async with service() as emulator, Client(upload_token="to1", base_url=emulator.url) as client:
        with pytest.raises(ConfigurationError, match="idempotency_key needs an API key"):
            await client.upload(source_of(1).path, idempotency_key="a")
        assert not emulator.requests


@pytest.mark.parametrize("key", [None, "a"])
@pytest.mark.parametrize("fault", ["cut,when=stored", "status=500,when=stored"])
@pytest.mark.parametrize("listing_lag", [0.0, 0.5])
async def test_a_lost_response_to_an_import_makes_no_second_video(
    key: str | None, fault: str, listing_lag: float, source_of: SourceOf
) -> None:
    async with service(listing_lag=listing_lag) as emulator:
        original = await upload(emulator, source_of(1), idempotency_key="original")
        emulator.add_fault(Fault.parse(f"create,times=1:{fault}"))
        async with PatientClient(api_key=KEY, base_url=emulator.url) as client:
            clone = await client.import_video(original.video_id, idempotency_key=key, metadata={"place": "Paris"})
        assert set(emulator.videos) == {original.video_id, clone.video_id}
        keys = {entry.key for entry in clone.metadata}
        assert keys == {"place"} if key is None else {"place", "async-uploader-key"} < keys


async def test_imports_with_a_key(source_of: SourceOf) -> None:
    async with service() as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:
        first = await client.import_video(
            "http://127.0.0.1:9/a.mp4?id=1&X-Amz-Signature=secret", idempotency_key="a"
        )
        again = await client.import_video(
            "http://127.0.0.1:9/a.mp4?id=1&X-Amz-Signature=other", idempotency_key="a"
        )
        assert first.video_id == again.video_id
        assert "secret" not in str(first.metadata)
        with pytest.raises(ConflictError, match="belongs to another source"):
            await client.import_video("http://127.0.0.1:9/a.mp4?id=2", idempotency_key="a")
        assert len(emulator.videos) == 1


@pytest.mark.parametrize("flags", [("--idempotency-key", "catalogue-42"), ("--resume",)], ids=["key", "marks"])
async def test_two_machines_at_once(
    flags: tuple[str, ...], command: StartUpload, source_of: SourceOf, tmp_path: Path
) -> None:
    source = source_of(SEVERAL)
    async with service(connection_rate=20 * MIB) as emulator:
        async with (
            command(emulator, source, tmp_path / "machine 1", *flags) as first,
            command(emulator, source, tmp_path / "machine 2", *flags) as second,
        ):
            outputs = [await process.wait() for process in (first, second)]
            assert [first.returncode, second.returncode] == [0, 0], outputs
        video_id = await check_only_video(emulator, source)
        assert all(video_id in out for out, _ in outputs)


async def _wait_for_requests(emulator: Emulator, count: int) -> None:
    until = len(emulator.requests) + count
    await emulator.wait_for(lambda emulator: len(emulator.requests) >= until or _is_finished(emulator))


def _is_finished(emulator: Emulator) -> bool:
    return any(view.state == "finished" for view in emulator.videos.values())


@pytest.mark.parametrize("kills", [3, pytest.param(40, marks=[pytest.mark.soak, pytest.mark.timeout(900)])])
async def test_kills_on_one_machine_after_another(
    kills: int, command: StartUpload, source_of: SourceOf, tmp_path: Path
) -> None:
    """Each command is killed at a random moment, and the next one runs on another machine."""
    rng = random.Random(6)
    for number in range(max(1, kills // 4)):
        source = source_of((40 if kills > 3 else 8) * PART)
        flags = ("--idempotency-key", f"key {number}")
        async with service(connection_rate=20 * MIB, latency=0.02) as emulator:
            for machine in range(min(kills, 4)):
                async with command(emulator, source, tmp_path / f"{number}-{machine}", *flags) as process:
                    await _wait_for_requests(emulator, rng.randrange(1, 25 if kills > 3 else 10))
                    process.kill()
                    await process.wait()
            async with command(emulator, source, tmp_path / "last", *flags) as process:
                _, err = await process.wait()
                assert process.returncode == 0, err
            await check_only_video(emulator, source)
            stored = [record.content_range for record in uploads(emulator) if record.status == 201]
            assert len(stored) == len(set(stored))


async def test_a_machine_that_is_lost_in_on_video_leaves_no_second_video(
    source_of: SourceOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(SEVERAL)
    options: dict[str, Any] = {"idempotency_key": None, "resume": "anywhere"}

    def lost(_: Video) -> None:
        raise RuntimeError

    async with service() as emulator:
        with pytest.raises(RuntimeError):
            await upload(emulator, source, on_video=lost, **options)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another machine"))
        delivered: list[Video] = []
        video = await upload(emulator, source, on_video=delivered.append, **options)
        assert [each.video_id for each in delivered] == [video.video_id]
        assert delivered[0].metadata == video.metadata == ()
        await check_only_video(emulator, source)


@pytest.mark.parametrize("part_size", [None, 7 * MIB])
async def test_a_named_container_is_continued_on_another_machine(
    part_size: int | None, source_of: SourceOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(SEVERAL)
    async with service(connection_rate=20 * MIB) as emulator:
        async with QuickClient(api_key=KEY, base_url=emulator.url) as client:
            video = await client.create_video(title="x", metadata={"place": "Paris"})
        options: dict[str, Any] = {
            "idempotency_key": None,
            "resume": "anywhere",
            "video_id": video.video_id,
            "part_size": part_size,
        }
        interrupted = asyncio.create_task(upload(emulator, source, concurrency=1, **options))
        await emulator.wait_for(lambda emulator: any(view.pieces for view in emulator.videos.values()))
        interrupted.cancel()
        await asyncio.gather(interrupted, return_exceptions=True)
        (view,) = emulator.videos.values()
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another machine"))
        since_s = asyncio.get_running_loop().time()
        finished = await upload(emulator, source, concurrency=random.Random(1).randrange(1, 9), **options)
        assert finished.video_id == video.video_id == await check_only_video(emulator, source)
        assert [(entry.key, entry.value) for entry in finished.metadata] == [("place", "Paris")]
        assert view.pieces
        sent = sum(record.body_bytes for record in uploads(emulator, since_s))
        assert sent <= missing_bytes(view, replace(source, part_bytes=part_size or PART), "part")


async def test_a_named_container_that_holds_something_else_is_refused_at_once(source_of: SourceOf) -> None:
    async with service() as emulator:
        other = await upload(emulator, source_of(PART + 1), idempotency_key=None)
        options = {"idempotency_key": None, "resume": "anywhere", "video_id": other.video_id}
        async with asyncio.timeout(5):
            with pytest.raises(UploadFailed) as caught:
                await upload(emulator, source_of(SEVERAL), **options)
        assert caught.value.video_id == other.video_id
