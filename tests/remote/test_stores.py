"""Objects of a real counterpart of S3, uploaded by the library."""

from __future__ import annotations

import hashlib
import logging
from typing import Any
from urllib.parse import quote

import fsspec
import obstore.store
import pytest

from async_uploader import (
    Client,
    ConfigurationError,
    ConflictError,
    RemoteFile,
    SourceError,
    SourceFailed,
    SourceUnavailable,
    UploadFailed,
    UploadItem,
    UploadOptions,
)
from async_uploader._limits import MIB
from async_uploader._sources import remote
from async_uploader._sources.store import store_of, translate_error
from async_uploader.emulator import Emulator
from async_uploader.events import RequestKind
from harness.range_server import RangeServer, SourceFault, s3_environment
from harness.world import KEY, PART, QuickClient, service

from .counterparts import SECRETS, SIGNATURE, Bucket

pytestmark = pytest.mark.anyio


def client_of(emulator: Emulator) -> Client:
    """A client that retries quickly."""
    return QuickClient(api_key=KEY, base_url=emulator.url)


def digest(content: bytes) -> str:
    """A SHA-256 as the emulator states it."""
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("key", ["movie.mp4", "a b/ü?#%41.mp4", "2026/01/01/dog's.mp4"])
async def test_an_object_of_s3(key: str, bucket: Bucket) -> None:
    url = bucket.put(key, b"content")
    async with service() as emulator, client_of(emulator) as client:
        video = await client.upload(url)
        assert video.title == key.rpartition("/")[2]
        assert (await emulator.finished(video.video_id)).sha256 == digest(b"content")


def test_objects_share_the_connections_of_their_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the environment changes, which may have new credentials."""
    for name, value in s3_environment("http://127.0.0.1:1").items():
        monkeypatch.setenv(name, value)
    shared = store_of("s3", "films")
    assert store_of("s3", "films") is shared
    assert store_of("s3", "other") is not shared
    monkeypatch.setenv("AWS_SESSION_TOKEN", "renewed")
    assert store_of("s3", "films") is not shared


async def test_an_object_of_a_store_that_the_caller_configured(bucket: Bucket, content: bytes) -> None:
    bucket.put("films/movie.mp4", content)
    store = obstore.store.S3Store(bucket.name, client_options={"allow_http": True})
    async with service() as emulator, client_of(emulator) as client:
        video = await client.upload(RemoteFile(store, "films/movie.mp4"))
        assert video.title == "movie.mp4"
        assert (await emulator.finished(video.video_id)).sha256 == digest(content)
        with pytest.raises(SourceError, match=r"films/other\.mp4 does not exist\."):
            await client.upload(RemoteFile(store, "films/other.mp4"))


async def test_a_presigned_url(bucket: Bucket, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "async_uploader")
    bucket.put("movie.mp4", content)
    events: list[object] = []
    async with service() as emulator, client_of(emulator) as client:
        url = bucket.presigned("movie.mp4")
        video = await client.upload(url, fetch="here", on_event=events.append)
        assert video.title == "movie.mp4"
        assert (await emulator.finished(video.video_id)).sha256 == digest(content)
        for text in (repr(events), caplog.text, repr(video.raw), repr(emulator.requests)):
            assert not [secret for secret in SECRETS if secret in text]


async def test_an_open_file_of_fsspec_is_a_stream(content: bytes) -> None:
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe("/films/movie.mp4", content)
    with filesystem.open("/films/movie.mp4", "rb") as file:
        async with service() as emulator, client_of(emulator) as client:
            video = await client.upload(file, part_size=PART)
            assert (await emulator.finished(video.video_id)).sha256 == digest(content)


async def test_an_upload_token_uploads_an_object(bucket: Bucket, content: bytes) -> None:
    url = bucket.put("movie.mp4", content)
    async with service() as emulator:
        async with client_of(emulator) as client:
            token = (await client.create_upload_token()).token
        async with QuickClient(upload_token=token, base_url=emulator.url) as client:
            video = await client.upload(url, part_size=PART)
        assert (await emulator.finished(video.video_id)).sha256 == digest(content)


async def test_a_key_belongs_to_one_version(bucket: Bucket) -> None:
    url = bucket.put("movie.mp4", b"first")
    async with service() as emulator, client_of(emulator) as client:
        video = await client.upload(url, idempotency_key="catalogue-42")
        again = await client.upload(url, idempotency_key="catalogue-42")
        assert again.video_id == video.video_id
        bucket.put("movie.mp4", b"other")
        with pytest.raises(ConflictError, match="belongs to another source"):
            await client.upload(url, idempotency_key="catalogue-42")
        assert len(emulator.videos) == 1


async def test_keys_from_sources(bucket: Bucket) -> None:
    urls = [bucket.put("a.mp4", b"content"), bucket.put("b.mp4", b"content")]
    options: UploadOptions = {"key_from_source": True}
    async with service() as emulator, client_of(emulator) as client:
        for _ in range(2):
            for url in urls:
                await client.upload(url, **options)
        assert len(emulator.videos) == 2
        bucket.put("a.mp4", b"other")
        await client.upload(urls[0], **options)
        assert len(emulator.videos) == 3
        for number in range(2):  # signed at another time
            url = f"{bucket.presigned('a.mp4')}&Expires={number}"
            await client.upload(url, fetch="here", key_from_source=True)
        assert len(emulator.videos) == 4
        named = UploadItem(source=urls[0], options=options, idempotency_key="catalogue-42")
        async with client.upload_many([named]) as results:
            assert [result.error async for result in results] == [None]
        assert len(emulator.videos) == 5


@pytest.mark.parametrize("source", [b"content", "/dev/null"])
async def test_other_sources_have_no_key(source: bytes | str) -> None:
    async with service() as emulator, client_of(emulator) as client:
        with pytest.raises((ConfigurationError, SourceError)):
            await client.upload(source, key_from_source=True)
        assert not emulator.requests


async def test_a_key_needs_a_version() -> None:
    headers = {"ETag": None, "Last-Modified": None}
    async with RangeServer(b"content", headers=headers) as server, service() as emulator:
        async with client_of(emulator) as client:
            with pytest.raises(SourceError, match="remove the key"):
                await client.upload(server.url(), fetch="here", idempotency_key="catalogue-42")
        assert not emulator.videos


async def test_without_a_version_an_upload_is_not_resumed(
    content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"ETag": None, "Last-Modified": None}
    async with RangeServer(content, headers=headers) as server, service("upload,part=last:status=500") as emulator:
        async with client_of(emulator) as client:
            with pytest.raises(Exception, match="The unfinished video was deleted"):
                await client.upload(server.url(), fetch="here", part_size=PART, resume="anywhere", max_attempts=2)
        assert not emulator.videos
    assert "this upload cannot be resumed" in caplog.text


async def test_check_source_requests_the_object(bucket: Bucket) -> None:
    url = bucket.put("movie.mp4", b"content")
    async with service() as emulator, client_of(emulator) as client:
        await client.check_source(url)
        with pytest.raises(SourceError, match="does not exist"):
            await client.check_source(bucket.url("other.mp4"))
        with pytest.raises(ConfigurationError, match="fetch='here'"):
            await client.check_source("https://example.com/movie.mp4?secret")
        assert not emulator.requests


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3:///key", "names no bucket"),
        ("s3://bucket", "names no object"),
        ("s3://bucket/", "names no object"),
        (f"s3://KEY:{SIGNATURE}@bucket/key", "credentials in the URL are not supported"),
        (f"http://[/movie.mp4?{SIGNATURE}", "The URL of the source is invalid"),
        (f"https:///movie.mp4?{SIGNATURE}", "The URL of the source is invalid"),
    ],
)
async def test_impossible_urls(url: str, words: str) -> None:
    async with service() as emulator, client_of(emulator) as client:
        with pytest.raises(ConfigurationError, match=words) as caught:
            await client.upload(url, fetch="here")
        assert SIGNATURE not in str(caught.value)


async def test_credentials_in_a_url_are_used_and_not_shown() -> None:
    async with RangeServer(b"content") as server, service() as emulator, client_of(emulator) as client:
        url = server.url().replace("http://", f"http://user:{SIGNATURE}@")
        events: list[object] = []
        await client.upload(url, fetch="here", on_event=events.append)
        assert all(request.headers["authorization"].startswith("Basic ") for request in server.requests)
        assert SIGNATURE not in repr(events)
        assert SIGNATURE not in repr(UploadItem(source=url, options=UploadOptions(fetch="here")))


def test_the_query_is_not_in_the_repr_of_an_item() -> None:
    item = UploadItem(source=f"https://h/a.mp4?X={quote(SIGNATURE)}", options=UploadOptions(fetch="here"))
    assert repr(item) == "UploadItem(source='https://h/a.mp4')"


async def test_a_slow_source_is_not_a_stall(content: bytes) -> None:
    """The part takes longer than the stall timeout, but no gap between its blocks is that long."""
    fault = SourceFault(bytes_per_second=4 * 1024 * 1024)
    async with RangeServer(content[:PART], fault) as server, service() as emulator:
        assert await _failed_attempts(emulator, server, stall_timeout=1.0) == []
        assert len(emulator.videos) == 1


async def test_the_rest_of_a_broken_response_is_requested(content: bytes) -> None:
    """The attempt continues, so no byte is sent to the service again."""
    async with RangeServer(content, SourceFault(times=2, cut_after=0.5)) as server, service() as emulator:
        assert await _failed_attempts(emulator, server, concurrency=1) == []
        ranges = [request.headers["range"] for request in server.requests]
        assert len(ranges) == 1 + 3 + 2
        assert len(set(ranges)) == len(ranges)
        (view,) = emulator.videos.values()
        assert view.sha256 == digest(content)


async def test_a_store_whose_timeout_is_shorter_than_a_part(
    content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """obstore's default of 30 s covers a whole response."""
    fault = SourceFault(times=None, bytes_per_second=6 * 1024 * 1024)
    async with RangeServer(content[:PART], fault) as server, service() as emulator, client_of(emulator) as client:
        for name, value in server.s3_environment.items():
            monkeypatch.setenv(name, value)
        store = obstore.store.S3Store("films", client_options={"allow_http": True, "timeout": "600ms"})
        video = await client.upload(RemoteFile(store, "movie.mp4"))
        assert (await emulator.finished(video.video_id)).sha256 == digest(content[:PART])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Error performing PUT http://169.254.169.254/latest/api/token in 1 s", "set AWS_ACCESS_KEY_ID and AWS_"),
        ("HTTP error: builder error … BadScheme", "plain HTTP is not allowed; set AWS_ALLOW_HTTP to true."),
        ("InvalidCertificate(UnknownIssuer)", "its certificate is not trusted; set SSL_CERT_FILE to"),
    ],
)
def test_wrong_configurations_are_not_retried(text: str, reason: str) -> None:
    error = translate_error(obstore.exceptions.GenericError(f"{text} ?{SIGNATURE}"), "s3://films/movie.mp4")
    assert reason in str(error)
    assert not isinstance(error, SourceUnavailable)
    assert SIGNATURE not in str(error)


@pytest.mark.parametrize(
    ("endpoint", "allow_http", "reason"),
    [
        ("http://127.0.0.1:1", "true", "the connection was refused"),
        ("http://127.0.0.1:1", "false", "plain HTTP is not allowed; set AWS_ALLOW_HTTP to true"),
        ("http://no-such-host.invalid", "true", "its host name cannot be resolved"),
    ],
)
async def test_endpoints_without_a_store(
    endpoint: str, allow_http: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (s3_environment(endpoint) | {"AWS_ALLOW_HTTP": allow_http}).items():
        monkeypatch.setenv(name, value)
    async with service() as emulator, client_of(emulator) as client:
        with pytest.raises(SourceError, match=reason):
            await client.upload("s3://films/movie.mp4", max_attempts=1)


async def test_a_stalled_source_and_a_stalled_service_have_different_errors(
    content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with RangeServer(content, SourceFault(stall_after=0.5)) as server, service() as emulator:
        assert await _failed_attempts(emulator, server, stall_timeout=1.5) == ["SourceUnavailable"]
    assert "movie.mp4 cannot be read: no byte arrived for 1.5 s." in caplog.text
    fault = "upload,part=2,times=1:stall=forever,when=middle"
    async with RangeServer(content) as server, service(fault) as emulator:
        assert "TransportError" in await _failed_attempts(emulator, server, stall_timeout=1.5)
    assert "No response from the service: nothing moved for 1.5 s." in caplog.text


async def _failed_attempts(emulator: Emulator, server: RangeServer, **options: Any) -> list[str]:
    events: list[Any] = []
    async with client_of(emulator) as client:
        await client.upload(server.url(), fetch="here", part_size=PART, on_event=events.append, **options)
    return [type(event.error).__name__ for event in events if type(event).__name__ == "PartEnded" and event.error]


async def test_a_source_without_a_first_byte_takes_nothing_of_the_rate_limit() -> None:
    fault = SourceFault(is_silent=True)
    async with RangeServer(b"content", fault) as server, service() as emulator, client_of(emulator) as client:
        with pytest.raises(SourceFailed):
            await client.upload(server.url(), fetch="here", max_attempts=1, stall_timeout=0.5)
        assert client._limiter._windows.of(RequestKind.UPLOAD).unanswered == 0
        assert "upload" not in [record.endpoint for record in emulator.requests]


async def test_bytes_that_waited_long_for_the_rate_limit_are_read_again(
    content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_MAX_PREFETCHED_SECONDS", 0.0)
    async with RangeServer(content) as server, service() as emulator, client_of(emulator) as client:
        video = await client.upload(server.url(), fetch="here", part_size=PART)
        assert (await emulator.finished(video.video_id)).sha256 == digest(content)
        assert len(server.requests) == 1 + 2 * 3


@pytest.mark.parametrize("kind", ["web", "s3"])
async def test_a_stalled_service_stops_the_source(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large part, only the buffers of the connections are read ahead."""
    size_bytes = 64 * MIB
    fault = "upload:stall=forever,when=early"
    async with RangeServer(bytes(size_bytes)) as server, service(fault) as emulator, client_of(emulator) as client:
        for name, value in server.s3_environment.items():
            monkeypatch.setenv(name, value)
        url = server.url() if kind == "web" else "s3://films/movie.mp4"
        with pytest.raises(UploadFailed):
            await client.upload(url, fetch="here", part_size=size_bytes, max_attempts=1, stall_timeout=1.0)
        assert 0 < server.sent_bytes < size_bytes // 2
