"""State after a stop, a kill, and a kill between two file operations."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import Any

import aiohttp
import pytest

from async_uploader.emulator import Emulator
from async_uploader.emulator._rules import PartRange, ReceivedPart
from async_uploader.emulator._storage.source_file import JoiningStopped, SourceFile, part_file_name
from harness.forking import Forks

from .conftest import MIB, PART, Api, basic, content
from .raw import Raw, upload_head

pytest_anyio = pytest.mark.anyio


@pytest_anyio
async def test_restart(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    """Containers, tokens, received parts and finished sources are kept."""
    async with Emulator(data=tmp_path / "data") as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        pair = (await api.post("/auth/api-key", json={"apiKey": "local-key"})).json
        token, deleted = await api.token(), await api.create()
        await api.delete(f"/videos/{deleted}", expect=204)
        finished, unfinished = await api.create("finished", tags=["a"]), await api.create("unfinished")
        await api.send(finished, b"all of it", expect=201)
        view = await emulator.finished(finished)
        await api.send(unfinished, content(PART, 1), "part 1/*", expect=201)
        await api.send(unfinished, content(PART, 3), "part 3/*", expect=201)
        listed = (await api.get("/videos")).json["data"]
    async with Emulator(data=tmp_path / "data") as emulator:
        api = Api(session, emulator.url, f"Bearer {pair['access_token']}")
        assert emulator.videos[finished] == view
        assert set(emulator.videos) == {finished, unfinished}
        again = (await api.get("/videos", expect=200)).json["data"]
        assert [video | {"assets": None} for video in again] == [video | {"assets": None} for video in listed]
        assert (await api.status(unfinished))["ingest"]["receivedParts"] == {"parts": [1, 3], "total": None}
        await api.send(unfinished, content(PART, 1), "part 1/*", expect=400)
        await api.send(unfinished, content(PART, 2), "part 2/*", expect=201)
        await api.send(unfinished, b"end", "part 4/4", expect=201)
        whole = b"".join(content(PART, n) for n in (1, 2, 3)) + b"end"
        assert (await emulator.finished(unfinished)).sha256 == hashlib.sha256(whole).hexdigest()
        await api.post("/auth/refresh", json={"refreshToken": pair["refresh_token"]}, expect=200)
        assert (await api.send_with_token(token, b"x")).status == 201


_PROGRAM = """
import asyncio, sys
from async_uploader.emulator import Emulator
async def main():
    async with Emulator(data=sys.argv[1]) as emulator:
        print(emulator.url, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest_anyio
@pytest.mark.parametrize("parts_before_the_kill", [1, 4, 8])
async def test_kill(
    tmp_path: Path, session: aiohttp.ClientSession, parts_before_the_kill: int, forks: Forks
) -> None:
    """After SIGKILL, every acknowledged part is kept, and the upload can be resumed."""
    total = 8
    process = forks.python("-c", _PROGRAM, str(tmp_path), cwd=tmp_path, env=os.environ, stdout=subprocess.PIPE)
    acknowledged = set()
    with process, ExitStack() as ends:
        ends.callback(process.kill)
        assert process.stdout is not None
        url = await asyncio.to_thread(process.stdout.readline)
        api = Api(session, url.decode().strip(), basic("local-key"))
        video_id = await api.create()

        async def send(number: int) -> None:
            await api.send(video_id, content(PART, number), f"part {number}/{total}", expect=201)
            acknowledged.add(number)
            if len(acknowledged) == parts_before_the_kill:
                process.send_signal(signal.SIGKILL)

        await asyncio.gather(*(send(number) for number in range(1, total + 1)), return_exceptions=True)
        await asyncio.to_thread(process.wait)
    async with Emulator(data=tmp_path) as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        received = set((await api.status(video_id))["ingest"]["receivedParts"]["parts"])
        assert acknowledged <= received
        for number in set(range(1, total + 1)) - received:
            await api.send(video_id, content(PART, number), f"part {number}/{total}", expect=201)
        whole = b"".join(content(PART, number) for number in range(1, total + 1))
        assert (await emulator.finished(video_id)).sha256 == hashlib.sha256(whole).hexdigest()
        assert list((tmp_path / "tmp").iterdir()) == []


@pytest_anyio
async def test_one_emulator_per_directory(tmp_path: Path) -> None:
    """A second emulator for the same directory is refused, and leaves nothing open."""
    async with Emulator(data=tmp_path):
        with pytest.raises(ValueError, match="Another emulator uses the data directory"):
            await Emulator(data=tmp_path).__aenter__()
    async with Emulator(data=tmp_path):
        pass


@pytest_anyio
async def test_impossible_directory(tmp_path: Path) -> None:
    """An unusable data directory is reported in one sentence."""
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ValueError, match=r"The data directory .*/file cannot be used: (Not a directory|File exists)"
    ):
        await Emulator(data=tmp_path / "file").__aenter__()


@pytest_anyio
async def test_foreign_directory(tmp_path: Path) -> None:
    """A directory with unknown files is refused, because the emulator deletes files."""
    user_files = tmp_path / "tmp"
    user_files.mkdir()
    with pytest.raises(ValueError, match="is not empty and was not created by an emulator"):
        await Emulator(data=tmp_path).__aenter__()
    user_files.rmdir()
    async with Emulator(data=tmp_path):
        pass


@pytest_anyio
async def test_broken_state(tmp_path: Path) -> None:
    """Unreadable state is reported in one sentence, and not changed."""
    async with Emulator(data=tmp_path):
        pass
    (tmp_path / "bearers.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be used: "):
        await Emulator(data=tmp_path).__aenter__()


@pytest_anyio
async def test_stop_while_uploading(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    """Closing interrupts uploads and leaves no incomplete part."""
    async with Emulator(data=tmp_path) as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        video_id = await api.create()
        raw = Raw(emulator.url)
        await raw.__aenter__()
        await raw.send(upload_head(video_id, "part 1/*", PART) + content(PART // 2))
        await emulator.wait_for(lambda e: e.statistics().bytes_received > MIB)
    assert await raw.read_to_end() == b""
    await raw.__aexit__()
    assert list((tmp_path / "tmp").iterdir()) == []
    async with Emulator(data=tmp_path) as emulator:
        assert emulator.videos[video_id].state == "empty"


@pytest_anyio
async def test_interrupted_import_is_restarted(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    """An interrupted download is restarted; an interrupted copy fails."""
    async with Emulator(data=tmp_path) as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        video_id = await api.create(source="http://127.0.0.1:1/")
        await emulator.wait_for(lambda e: e.videos[video_id].state == "failed")
    record = tmp_path / "videos" / video_id / "video.json"
    details = json.loads(record.read_text())
    for origin in ("download", "copy"):
        record.write_text(json.dumps(details | {"failed": False, "origin": origin}))
        async with Emulator(data=tmp_path) as emulator:
            await emulator.wait_for(lambda e: e.videos[video_id].state == "failed")


def _source(directory: Path, *numbers: int) -> SourceFile:
    """A video's directory with these received parts."""
    directory.mkdir(exist_ok=True)
    for number in numbers:
        (directory / part_file_name(PartRange(number, None))).write_bytes(content(1000, number))
    return SourceFile(directory, Event())


def _join(source: SourceFile) -> tuple[str, list[int]]:
    """Recover and join the parts, like the store."""
    upload = source.recover()
    while part := upload.next_to_join():
        source.append(part, upload.joined_bytes)
        upload.mark_joined(part)
    source.hash_up_to(upload.joined_bytes)
    return source.sha256(), [part.range.key for part in upload.stored_parts()]


WHOLE = hashlib.sha256(b"".join(content(1000, n) for n in (1, 2, 3))).hexdigest()


@pytest.mark.parametrize(
    ("crashed_when", "damage"),
    [
        ("nothing was joined", lambda _: None),
        ("the log line was torn", lambda d: (d / "merged").write_text("part-1-of-an")),
        (
            "the line was written, but the part was not moved",
            lambda d: (d / "merged").write_text("part-1-of-any 1000\n"),
        ),
    ],
)
def test_recovery_before_the_first_join(tmp_path: Path, crashed_when: str, damage: Any) -> None:
    """A part whose file exists was not joined, whatever the log says."""
    _source(tmp_path / "v", 1, 2, 3)
    damage(tmp_path / "v")
    assert _join(_source(tmp_path / "v")) == (WHOLE, [1, 2, 3])


@pytest.mark.parametrize("tail", [0, 1, 999, 1000])
@pytest.mark.parametrize("part_exists", [True, False])
def test_recovery_while_copying(tmp_path: Path, tail: int, part_exists: bool) -> None:
    """A partly copied part is copied again; a part whose file is deleted was copied completely."""
    directory = tmp_path / "v"
    _source(directory, 2, 3)
    (directory / "source").write_bytes(content(1000, 1))
    (directory / "merged").write_text("part-1-of-any 1000\npart-2-of-any 1000\n")
    if not part_exists:
        (directory / part_file_name(PartRange(2, None))).unlink()
        tail = 1000
    with (directory / "source").open("ab") as source:
        source.write(content(1000, 2)[:tail])
    assert _join(SourceFile(directory, Event())) == (WHOLE, [1, 2, 3])


def test_joining_can_be_stopped(tmp_path: Path) -> None:
    """A stop during a copy is recovered like a kill."""
    source = _source(tmp_path / "v", 1, 2, 3)
    upload = source.recover()
    source.append(ReceivedPart(PartRange(1, None), 1000), 0)
    upload.mark_joined(upload.parts[1])
    source._stop.set()
    with pytest.raises(JoiningStopped):
        source.append(ReceivedPart(PartRange(2, None), 1000), 1000)
    assert _join(SourceFile(tmp_path / "v", Event())) == (WHOLE, [1, 2, 3])


def test_many_parts_are_joined_in_linear_time(tmp_path: Path) -> None:
    """Joining a part costs its own bytes and one log line, also for 10,000 parts."""
    directory = tmp_path / "v"
    directory.mkdir()
    for number in range(1, 10_001):
        (directory / part_file_name(PartRange(number, None))).write_bytes(b"x")
    assert len(_join(SourceFile(directory, Event()))[1]) == 10_000
    assert (directory / "source").stat().st_size == 10_000
    assert {file.name for file in directory.iterdir()} == {"source", "merged"}


@pytest_anyio
async def test_many_videos(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    """An emulator with thousands of containers starts and lists them quickly."""
    async with Emulator(data=tmp_path) as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        original = await api.create()
    (record,) = (tmp_path / "videos" / original).iterdir()
    text = record.read_text()
    for number in range(3000):
        copied = tmp_path / "videos" / f"vi{number}"
        copied.mkdir()
        (copied / record.name).write_text(text.replace(original, copied.name))
    async with asyncio.timeout(10), Emulator(data=tmp_path) as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        page = (await api.get("/videos", expect=200)).json
        assert page["pagination"]["itemsTotal"] == 3001
