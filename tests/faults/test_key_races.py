"""Races of uploads with the same idempotency key, or with the same marks."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from async_uploader import Client, ConflictError, UploadItem, Video, VideoStatus
from async_uploader._limits import MIB
from async_uploader._resume.containers import RemoteContainers, SettlingPolicy
from async_uploader._resume.shared_containers import SharedContainers
from async_uploader.emulator import Emulator, Fault
from harness.world import AUTH_HEADERS, KEY, PART, QuickClient, Source, make_source, service, uploads

from .test_keys import PatientClient, check_only_video, upload, writes

pytestmark = pytest.mark.anyio

SourceOf = Callable[[int], Source]
SEVERAL = 4 * PART + MIB
SECOND = "2026-01-02T03:04:05+00:00"
COMPLETE = {"ingest": {"status": "uploaded", "filesize": 7}}


class Containers:
    """Containers of a service that lists each one, and each deletion, after a delay."""

    settling = SettlingPolicy(creation_seconds=0.2, max_lag_seconds=1.0, poll_seconds=0.02)

    def __init__(self, lag_seconds: float = 0.0) -> None:
        self._lag_seconds = lag_seconds
        self._listed_at: dict[str, float] = {}
        self._deleted_at: dict[str, float] = {}
        self.statuses: dict[str, Any] = {}

    def create(self, video_id: str, status: Any = None, *, lag_seconds: float | None = None) -> None:
        self._listed_at[video_id] = self._now() + (self._lag_seconds if lag_seconds is None else lag_seconds)
        self.statuses[video_id] = status or {}

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def find(self, **_: str) -> list[Video]:
        now = self._now()
        is_listed = {name: at <= now for name, at in self._listed_at.items()}
        is_listed |= {name: False for name, at in self._deleted_at.items() if at + self._lag_seconds <= now}
        return [self._video(name) for name, listed in is_listed.items() if listed]

    async def get(self, video_id: str) -> Video | None:
        return self._video(video_id) if video_id in self.statuses else None

    async def status(self, video_id: str) -> VideoStatus | None:
        await asyncio.sleep(0.01)
        status = self.statuses.get(video_id)
        return None if status is None else VideoStatus.from_response(status)

    async def delete(self, video_id: str) -> None:
        self.statuses.pop(video_id, None)
        self._deleted_at[video_id] = self._now()

    def _video(self, video_id: str) -> Video:
        metadata = [{"key": "k", "value": "v"}]
        return Video.from_response({"videoId": video_id, "createdAt": SECOND, "metadata": metadata})

    def shared(self, total_bytes: int = 1) -> SharedContainers:
        return SharedContainers(cast("RemoteContainers", self), key="k", value="v", total_bytes=total_bytes)

    async def settled(self, video_id: str) -> str | None:
        self.create(video_id)
        found = await self.shared().settle(video_id)
        return found.video.video_id if found else None

    async def found(self) -> str | None:
        found = await self.shared().find()
        return found.video.video_id if found else None


@pytest.mark.parametrize("lag_seconds", [0.0, 0.15, 0.4])
async def test_a_container_that_is_created_later_in_the_same_second_is_seen(lag_seconds: float) -> None:
    """Its id is smaller, so it wins. Without the second wait, the first process would not see it in time."""
    containers = Containers(lag_seconds)
    first = asyncio.create_task(containers.settled("b"))
    await asyncio.sleep(0.1)
    second = asyncio.create_task(containers.settled("a"))
    assert (await first, await second) == ("a", "a")
    assert set(containers.statuses) == {"a"}


async def test_a_process_that_finds_a_new_container_waits_until_its_creator_has_settled() -> None:
    containers = Containers()
    first = asyncio.create_task(containers.settled("b"))
    await asyncio.sleep(0.05)
    joining = asyncio.create_task(containers.found())
    await asyncio.sleep(0.05)
    second = asyncio.create_task(containers.settled("a"))
    assert {await first, await second, await joining} == {"a"}


async def test_a_deleted_container_that_is_still_listed_does_not_win() -> None:
    containers = Containers(lag_seconds=0.0)
    containers.create("a")
    await containers.delete("a")
    containers._deleted_at.clear()  # listed forever
    assert await containers.found() is None
    assert await containers.settled("b") == "b"
    assert set(containers.statuses) == {"b"}


async def test_a_finished_video_of_another_source_is_never_deleted() -> None:
    containers = Containers()
    containers.create("a")
    containers.create("b", COMPLETE)
    found = await containers.shared(total_bytes=8).find()
    assert found is not None
    assert found.video.video_id == "b"
    assert set(containers.statuses) == {"b"}


PARTS = {"ingest": {"status": "uploading", "receivedParts": {"parts": [1], "total": 4}}}


async def test_a_container_that_is_being_filled_wins_over_an_older_one_that_was_listed_late() -> None:
    containers = Containers()
    containers.create("a", lag_seconds=0.4)
    assert await containers.settled("b") == "b"
    containers.statuses["b"] = PARTS
    await asyncio.sleep(0.3)
    assert await containers.settled("c") == await containers.found() == "b"
    assert set(containers.statuses) == {"b"}


async def test_a_process_that_loses_also_deletes_a_container_that_is_being_filled() -> None:
    """The creator of the winner may have been killed."""
    containers = Containers()
    containers.create("a", COMPLETE)
    containers.create("b", PARTS)
    assert await containers.settled("c") == "a"
    assert set(containers.statuses) == {"a"}


async def test_many_processes_delete_each_container_once_or_twice() -> None:
    """Deletions are writes, which are limited."""
    containers = Containers()
    deleted: list[str] = []
    delete = containers.delete

    async def count(video_id: str) -> None:
        deleted.append(video_id)
        await delete(video_id)

    containers.delete = count  # type: ignore[method-assign]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(containers.settled(f"{number:02}")) for number in range(10)]
    assert {task.result() for task in tasks} == {"00"}
    assert len(deleted) <= 2 * 9


async def test_the_oldest_of_many_containers_is_found() -> None:
    """Without a sort order, the service lists the 25 newest."""
    async with service() as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:
        videos = [await client.create_video(title=str(number), metadata={"k": "v"}) for number in range(30)]
        containers = RemoteContainers(client._service, client._retries, SettlingPolicy())
        found = await containers.find(key="k", value="v")
        assert [video.video_id for video in found] == [video.video_id for video in videos]


async def test_a_discarded_video_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    async with service() as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:
        discarded = Video.from_response({"videoId": "a", "discarded": True})

        async def list_videos(_: object) -> tuple[list[Video], int]:
            return [discarded], 1

        async def get_video(_: str) -> Video:
            return discarded

        monkeypatch.setattr(client._service, "list_videos", list_videos)
        monkeypatch.setattr(client._service, "get_video", get_video)
        containers = RemoteContainers(client._service, client._retries, SettlingPolicy())
        assert await containers.find(key="k", value="v") == []
        assert await containers.get("a") is None


async def test_one_key_with_two_sources_at_once(source_of: SourceOf, tmp_path: Path) -> None:
    """Both create a container. One is refused like a later one, and its container is deleted."""
    sources = [source_of(SEVERAL), make_source(tmp_path / "other.mp4", SEVERAL + 1)]
    async with service(listing_lag=0.5) as emulator:
        results = await asyncio.gather(*(upload(emulator, each) for each in sources), return_exceptions=True)
        (number,) = (number for number, result in enumerate(results) if isinstance(result, Video))
        refusal = results[1 - number]
        assert isinstance(refusal, ConflictError)
        assert "belongs to another source" in str(refusal)
        assert writes(emulator).count("create") == 2
        assert not hasattr(refusal, "__notes__")
        await check_only_video(emulator, sources[number])


async def _upload_after_a_failed_creation(
    emulator: Emulator, first: Source, second: Source, **options: Any
) -> Video:
    """Upload ``second``, whose first creation fails; the container of ``first`` is listed before the retry."""
    emulator.add_fault(Fault.parse("upload:stall=forever,when=early"))
    async with PatientClient(api_key=KEY, base_url=emulator.url) as client:
        other = asyncio.create_task(client.upload(first.path, part_size=PART, **options))
        await emulator.wait_for(lambda emulator: any(one.endpoint == "create" for one in emulator.requests))
        emulator.add_fault(Fault.parse("create,times=1:status=503,retry-after=2"))
        async with PatientClient(api_key=KEY, base_url=emulator.url) as second_client:
            uploading = asyncio.create_task(second_client.upload(second.path, part_size=7 * MIB, **options))
            await emulator.wait_for(lambda emulator: any(one.status == 503 for one in emulator.requests))
            other.cancel()
            await asyncio.gather(other, return_exceptions=True)
            emulator.clear_faults()
            return await uploading


async def test_a_container_of_another_source_is_not_filled_after_a_lost_response(
    source_of: SourceOf, tmp_path: Path
) -> None:
    other = make_source(tmp_path / "other.mp4", SEVERAL)
    async with service(listing_lag=1.0) as emulator:
        with pytest.raises(ConflictError, match="belongs to another source"):
            await _upload_after_a_failed_creation(
                emulator, source_of(SEVERAL), other, idempotency_key="catalogue-42"
            )
        (view,) = emulator.videos.values()
        assert not view.pieces
        await upload(emulator, source_of(SEVERAL))
        await check_only_video(emulator, source_of(SEVERAL))


@pytest.mark.parametrize("options", [{"idempotency_key": "catalogue-42"}, {"resume": "anywhere"}], ids=str)
async def test_a_container_with_other_part_sizes_is_continued_after_a_lost_response(
    options: dict[str, Any], source_of: SourceOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(SEVERAL)
    copy = Source(
        path=Path(shutil.copy(source.path, tmp_path / "copy.mp4")),
        size_bytes=source.size_bytes,
        sha256=source.sha256,
    )
    async with service(listing_lag=1.0) as emulator:
        await _upload_after_a_failed_creation(emulator, source, copy, **options)
        await check_only_video(emulator, source)
        ranges = {record.content_range for record in uploads(emulator) if record.status == 201}
        assert ranges == {source.content_range(number, "part") for number in range(1, source.parts_total + 1)}


@pytest.mark.parametrize("options", [{"idempotency_key": "catalogue-42"}, {"resume": "anywhere"}], ids=str)
async def test_a_creator_that_settles_late_does_not_send_what_another_machine_has_sent(
    options: dict[str, Any], source_of: SourceOf, tmp_path: Path
) -> None:
    source = source_of(2 * PART)
    copy = tmp_path / "copy.mp4"
    shutil.copy(source.path, copy)

    class LateClient(PatientClient):
        _settling_policy = SettlingPolicy(creation_seconds=3.0)

    async with (
        service("upload,part=last,times=1:stall=3") as emulator,
        LateClient(api_key=KEY, base_url=emulator.url) as late,
        PatientClient(api_key=KEY, base_url=emulator.url) as client,
    ):
        creating = asyncio.create_task(late.upload(source.path, part_size=PART, **options))
        await emulator.wait_for(lambda emulator: any(one.endpoint == "create" for one in emulator.requests))
        joining = asyncio.create_task(client.upload(copy, part_size=PART, concurrency=1, **options))
        videos = await asyncio.gather(creating, joining)
        assert {video.video_id for video in videos} == {await check_only_video(emulator, source)}
        stored = [record.content_range for record in uploads(emulator) if record.body_bytes > MIB]
        assert stored.count("part 1/*") == 1


async def test_a_key_many_times_in_a_batch_creates_one_container(source_of: SourceOf) -> None:
    source = source_of(SEVERAL)
    async with service() as emulator, PatientClient(api_key=KEY, base_url=emulator.url) as client:
        items = [UploadItem(source=source.path, idempotency_key="a") for _ in range(20)]
        async with client.upload_many(items) as results:
            ids = {result.video.video_id for result in [each async for each in results] if result.video}
        assert ids == {await check_only_video(emulator, source)}
        assert writes(emulator).count("create") == 1
        assert "delete" not in writes(emulator)
        assert emulator.statistics().bytes_again == 0


async def test_an_import_many_times_at_once_creates_one_container() -> None:
    async with service() as emulator, PatientClient(api_key=KEY, base_url=emulator.url) as client:
        url = "http://127.0.0.1:9/a.mp4"
        videos = await asyncio.gather(*(client.import_video(url, idempotency_key="a") for _ in range(5)))
        assert {video.video_id for video in videos} == set(emulator.videos)
        assert writes(emulator).count("create") == len(emulator.videos) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [({"part_size": PART}, {"part_size": 7 * MIB}), ({"ranges": "part"}, {"ranges": "bytes"})],
    ids=str,
)
async def test_different_plans_at_once(first: dict[str, Any], second: dict[str, Any], source_of: SourceOf) -> None:
    source = source_of(SEVERAL)
    async with service(connection_rate=20 * MIB) as emulator:
        videos = await asyncio.gather(upload(emulator, source, **first), upload(emulator, source, **second))
        assert {video.video_id for video in videos} == {await check_only_video(emulator, source)}


@pytest.mark.parametrize("listing_lag", [0.0, 1.0])
async def test_a_key_is_free_again_when_its_video_was_deleted(listing_lag: float, source_of: SourceOf) -> None:
    source = source_of(1)
    async with service(listing_lag=listing_lag) as emulator:
        first = await upload(emulator, source)
        async with aiohttp.ClientSession(emulator.url, headers=AUTH_HEADERS) as session:
            await session.delete(f"/videos/{first.video_id}")
        assert (await upload(emulator, source)).video_id != first.video_id
        await check_only_video(emulator, source)


def _change(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"changed")


@pytest.mark.parametrize("fault", ["upload,part=2:status=500", ""])
async def test_a_file_that_changed_between_two_runs_is_refused(
    fault: str, source_of: SourceOf, tmp_path: Path
) -> None:
    original = source_of(SEVERAL)
    changed = Path(shutil.copy(original.path, tmp_path / "changed.mp4"))
    source = Source(path=changed, size_bytes=original.size_bytes, sha256=original.sha256)
    async with service(*filter(None, [fault])) as emulator:
        await asyncio.gather(upload(emulator, source, max_attempts=1), return_exceptions=True)
        emulator.clear_faults()
        await emulator.wait_for(lambda emulator: not emulator.statistics().uploads_in_flight)
        _change(changed)
        since = len(emulator.requests)
        with pytest.raises(ConflictError, match="belongs to another source"):
            await upload(emulator, source)
        assert set(writes(emulator, since)) == {"auth"}
        assert (await upload(emulator, original)).video_id == await check_only_video(emulator, original)


async def test_cancellation_while_settling_says_how_to_resume(source_of: SourceOf) -> None:
    source = source_of(SEVERAL)
    async with service() as emulator:
        uploading = asyncio.create_task(upload(emulator, source))
        await emulator.wait_for(lambda emulator: any(one.endpoint == "create" for one in emulator.requests))
        await asyncio.sleep(0.3)
        assert not uploads(emulator)
        uploading.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await uploading
        assert caught.value.__notes__ == ["Upload it again to resume."]
        (video_id,) = emulator.videos
        assert (await upload(emulator, source)).video_id == video_id == await check_only_video(emulator, source)


async def test_a_loser_that_cannot_be_deleted_is_deleted_by_the_next_upload(
    source_of: SourceOf, caplog: pytest.LogCaptureFixture
) -> None:
    source = source_of(SEVERAL)
    # The lag keeps either upload from finding the container of the other before it has created its own.
    async with service("delete:status=500", listing_lag=1.0) as emulator:
        await asyncio.gather(upload(emulator, source), upload(emulator, source))
        assert len(emulator.videos) == 2
        assert "could not be deleted" in caplog.text
        emulator.clear_faults()
        await upload(emulator, source)
        await check_only_video(emulator, source)


async def test_the_limit_of_writes_is_waited_for(source_of: SourceOf) -> None:
    """The sandbox allows two writes for each upload. Three machines need more of them for the same key."""
    source = source_of(1)
    async with service(rate_limit=2, rate_window=2.0) as emulator:
        videos = await asyncio.gather(*(upload(emulator, source) for _ in range(3)))
        assert {video.video_id for video in videos} == {await check_only_video(emulator, source)}


async def test_a_client_can_use_a_key_in_on_video_of_another(source_of: SourceOf) -> None:
    async with service() as emulator, Client(api_key=KEY, base_url=emulator.url) as client:

        async def upload_again(_: Video) -> None:
            await client.upload(source_of(1).path, idempotency_key="b")

        await client.upload(source_of(1).path, idempotency_key="a", on_video=upload_again)
        assert len(emulator.videos) == 2
