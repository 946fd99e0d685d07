"""Remote sources at the terminal."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from async_uploader.emulator import Emulator
from harness.range_server import RangeServer, SourceFault
from harness.world import KEY, PART, service, uploads

from .conftest import RunCommand
from .counterparts import SIGNATURE, Bucket

pytestmark = pytest.mark.anyio

PARTS = ("--part-size", str(PART), "--concurrency", "1")


async def sha256_of_only_video(emulator: Emulator) -> str | None:
    (video_id,) = emulator.videos
    return (await emulator.finished(video_id)).sha256


async def test_one_object(bucket: Bucket, run_upload: RunCommand) -> None:
    url = bucket.put("films/movie.mp4", b"content")
    async with service() as emulator:
        ended = await run_upload(emulator, url, "--json")
        assert ended.code == 0, ended.err
        assert json.loads(ended.out)["title"] == "movie.mp4"
        assert await sha256_of_only_video(emulator) == hashlib.sha256(b"content").hexdigest()


async def test_a_presigned_url(bucket: Bucket, run_upload: RunCommand, tmp_path: Path) -> None:
    bucket.put("films/movie.mp4", b"content")
    url = bucket.presigned("films/movie.mp4")
    async with service() as emulator:
        arguments = (url, "--fetch", "here", "--results", "results.jsonl", "--report", "report.html", "-vv")
        ended = await run_upload(emulator, *arguments)
        assert ended.code == 0, ended.err
        assert [video.title for video in emulator.videos.values()] == ["movie.mp4"]
        again = await run_upload(emulator, bucket.presigned("films/movie.mp4"), *arguments[1:])
        assert again.code == 0
        assert len(emulator.videos) == 1, again.err
    for name in ("results.jsonl", "report.html"):
        text = (tmp_path / name).read_text()
        assert "movie.mp4" in text
        assert "X-Amz" not in text
        assert "Signature" not in text


@pytest.mark.parametrize(
    ("content", "key", "words"),
    [(None, "movie.mp4", "does not exist."), (b"", "movie.mp4", "is empty; there is nothing to upload.")],
    ids=["missing", "empty"],
)
async def test_an_object_without_content(
    content: bytes | None, key: str, words: str, bucket: Bucket, run_upload: RunCommand
) -> None:
    if content is not None:
        bucket.put(key, content)
    async with service() as emulator:
        ended = await run_upload(emulator, bucket.url(key), "--json")
        assert (ended.code, ended.out) == (1, "")
        assert ended.err.strip() == f"error: {bucket.url(key)} {words}"
        assert not emulator.videos


@pytest.mark.parametrize("honors_conditions", [True, False])
async def test_an_object_that_changes(
    honors_conditions: bool, content: bytes, run_upload: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = SourceFault(skip=2, changes=True)
    async with RangeServer(content, fault, honors_conditions=honors_conditions) as server, service() as emulator:
        for name, value in server.s3_environment.items():
            monkeypatch.setenv(name, value)
        ended = await run_upload(emulator, "s3://films/movie.mp4", *PARTS)
        assert ended.code == 1
        assert "s3://films/movie.mp4 has changed during the upload." in ended.err
        assert not emulator.videos


async def test_a_manifest(bucket: Bucket, run_upload: RunCommand, tmp_path: Path) -> None:
    first, second = bucket.put("a.mp4", b"first"), bucket.put("b.mp4", b"second")
    (tmp_path / "c.mp4").write_bytes(b"third")
    rows = [
        ("source", "title"), (first, "First"), (second, ""), ("c.mp4", ""), (first, "Again"),
        (bucket.url("missing.mp4"), ""),
    ]  # fmt: skip
    with (tmp_path / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows[:4])
    async with service() as emulator:
        arguments = ("--manifest", "list.csv", "--results", "results.jsonl")
        ended = await run_upload(emulator, *arguments)
        assert ended.code == 0, ended.err
        assert sorted(video.title for video in emulator.videos.values()) == ["First", "b.mp4", "c.mp4"]
        ended = await run_upload(emulator, *arguments)
        assert (ended.code, len(emulator.videos)) == (0, 3), ended.err
        with (tmp_path / "list.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
        ended = await run_upload(emulator, *arguments)
        assert ended.code in (1, 2)
        assert f"{first} is listed twice; it is also in list.csv, line 2." in ended.err
        assert len(emulator.videos) == 3


async def test_a_missing_row_fails_alone(bucket: Bucket, run_upload: RunCommand, tmp_path: Path) -> None:
    url = bucket.put("a.mp4", b"first")
    (tmp_path / "list.csv").write_text(f"source\n{bucket.url('missing.mp4')}\n{url}\n")
    async with service() as emulator:
        ended = await run_upload(emulator, "--manifest", "list.csv")
        assert ended.code == 1
        assert "missing.mp4 does not exist." in ended.err
        assert [video.title for video in emulator.videos.values()] == ["a.mp4"]


async def test_all_objects_below_a_prefix(bucket: Bucket, run_upload: RunCommand) -> None:
    for key in (
        "films/a.mp4",
        "films/b.txt",
        "films/2026/01/c.MP4",
        "films/2026/draft-d.mp4",
        "films/.e.mp4",
        "f.mp4",
    ):
        bucket.put(key, key.encode())
    for placeholder in ("films/", "films/2026/"):
        bucket.put(placeholder, b"")  # as consoles create
    for prefix in ("films/", "films"):
        async with service() as emulator:
            arguments = ("--recursive", bucket.url(prefix), "--include", "*.mp4", "--exclude", "draft-*")
            ended = await run_upload(emulator, *arguments)
            assert ended.code == 0, ended.err
            assert sorted(video.title for video in emulator.videos.values()) == ["a.mp4", "c.MP4"]


async def test_a_prefix_without_objects(bucket: Bucket, run_upload: RunCommand) -> None:
    async with service() as emulator:
        ended = await run_upload(emulator, "--recursive", bucket.url("none/"))
        assert ended.code == 1
        assert ended.err.strip() == f"error: {bucket.url('none/')} has no objects to upload."
        ended = await run_upload(emulator, "--recursive", "s3://no-such-bucket/films/")
        assert ended.code == 1
        assert "s3://no-such-bucket/films/ does not exist." in ended.err
        assert not emulator.requests


async def test_urls_that_differ_in_the_query(run_upload: RunCommand) -> None:
    """They name different objects, except for signatures."""
    async with RangeServer(b"content") as server, service() as emulator:
        first, second = (server.url(f"download?id={number}&sig={SIGNATURE}") for number in (1, 2))
        ended = await run_upload(emulator, first, second, "--fetch", "here")
        assert ended.code == 0, ended.err
        assert len(emulator.videos) == 2
        again = first.replace(SIGNATURE, "another-signature")
        ended = await run_upload(emulator, first, again, "--fetch", "here")
        assert ended.code in (1, 2)
        assert "is listed twice" in ended.err


@pytest.mark.parametrize("flags", [(), ("--fetch", "service", "--results", "results.jsonl")], ids=" ".join)
async def test_the_service_downloads_a_web_url(flags: tuple[str, ...], run_upload: RunCommand) -> None:
    async with RangeServer(b"content") as server, service() as emulator:
        ended = await run_upload(emulator, server.url(f"movie.mp4?sig={SIGNATURE}"), *flags)
        assert ended.code == 0, ended.err
        assert ended.out.strip().endswith("movie.mp4")
        assert await sha256_of_only_video(emulator) == hashlib.sha256(b"content").hexdigest()
        assert {record.endpoint for record in emulator.requests} <= {"auth", "create", "update"}


async def test_keys_from_sources(bucket: Bucket, run_upload: RunCommand, tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        bucket.put(f"films/{name}", name.encode())
    async with service() as emulator:
        for machine in ("machine 1", "machine 2"):
            arguments = ("--recursive", bucket.url("films/"), "--key-from-source")
            ended = await run_upload(emulator, *arguments, state=machine)
            assert ended.code == 0, ended.err
            assert len(emulator.videos) == 2
        (tmp_path / "c.mp4").write_bytes(b"content")
        ended = await run_upload(emulator, "c.mp4", "--key-from-source")
        assert (ended.code, len(emulator.videos)) == (2, 2)
        assert "--key-from-source needs an object in a store or on the web, which c.mp4 is not." in ended.err
        ended = await run_upload(emulator, "https://h/c.mp4", "--fetch", "service", "--key-from-source")
        assert ended.code == 2
        assert "requires --fetch here" in ended.err


async def test_a_kill_and_another_machine(
    content: bytes,
    run_upload: RunCommand,
    start_upload: Callable[..., subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with RangeServer(content) as server, service() as emulator:
        for name, value in server.s3_environment.items():
            monkeypatch.setenv(name, value)
        emulator.add_fault(_fault("upload,part=2,times=1:stall=forever,when=middle"))
        process = start_upload(emulator, "s3://films/movie.mp4", *PARTS, state="machine 1")
        await emulator.wait_for(lambda emulator: any(view.pieces for view in emulator.videos.values()))
        process.kill()
        await asyncio.to_thread(process.communicate)
        emulator.clear_faults()
        await emulator.wait_for(lambda emulator: not emulator.statistics().uploads_in_flight)
        (view,) = emulator.videos.values()
        since = asyncio.get_running_loop().time()
        ended = await run_upload(emulator, "s3://films/movie.mp4", *PARTS, state="machine 2")
        assert ended.code == 0, ended.err
        assert await sha256_of_only_video(emulator) == hashlib.sha256(content).hexdigest()
        sent = {record.content_range for record in uploads(emulator, since)}
        assert sent == {"part 1/*", "part 2/*", "part 3/3"} - set(view.pieces)
        assert "part 2/*" in sent


def _fault(spec: str) -> Any:
    from async_uploader.emulator import Fault

    return Fault.parse(spec)


async def test_a_token_and_an_object(bucket: Bucket, run_upload: RunCommand) -> None:
    url = bucket.put("movie.mp4", b"content")
    async with service() as emulator:
        ended = await run_upload(emulator, url, "--upload-token", await _token(emulator))
        assert ended.code == 0, ended.err
        assert await sha256_of_only_video(emulator) == hashlib.sha256(b"content").hexdigest()


async def _token(emulator: Emulator) -> str:
    from async_uploader import Client

    async with Client(api_key=KEY, base_url=emulator.url) as client:
        return (await client.create_upload_token()).token


async def test_local_refuses_objects(bucket: Bucket, run_upload: RunCommand) -> None:
    url = bucket.put("movie.mp4", b"content")
    ended = await run_upload(None, url, "--local")
    assert ended.code == 2
    assert ended.err.strip() == f"error: {url} is a URL, which --local cannot verify."


_WITHOUT_EXTRA = """
import sys
sys.modules["obstore"] = None
from async_uploader.cli import main
sys.argv = ["async-uploader", "upload", *sys.argv[1:]]
sys.exit(main())
"""


@pytest.mark.parametrize("arguments", [["s3://films/movie.mp4"], ["--recursive", "s3://films/"]])
async def test_without_the_extra(arguments: list[str], tmp_path: Path) -> None:
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", _WITHOUT_EXTRA, *arguments],
        cwd=tmp_path,
        env={"APIVIDEO_API_KEY": KEY, "XDG_STATE_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.strip().endswith(
        "Sources in s3:// need the extra 'remote'; run: pip install 'async-uploader[remote]'."
    )
