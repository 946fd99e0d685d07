"""A full disk causes an error response with the reason, never a hang."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from async_uploader.emulator import Emulator
from async_uploader.emulator._storage.disk_space import HEADROOM_BYTES
from async_uploader.emulator._storage.source_file import BLOCK_BYTES, SourceFile
from harness.forking import Forks

from .conftest import MIB, PART, Api, basic, content

pytest_anyio = pytest.mark.anyio


def raise_disk_full(*_: object) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# Real disks


@pytest_anyio
async def test_space_for_the_parts_only(make_disk: Callable[[int], Path], session: aiohttp.ClientSession) -> None:
    """Parts are joined without space for a copy."""
    data = [content(PART, number) for number in range(1, 5)]
    async with Emulator(data=make_disk(4 * PART + 2 * HEADROOM_BYTES) / "data") as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        video_id = await api.create()
        for number in (2, 3, 4, 1):  # the first part is last, so that nothing is joined before
            await api.send(video_id, data[number - 1], f"part {number}/4", expect=201)
        assert (await emulator.finished(video_id)).sha256 == hashlib.sha256(b"".join(data)).hexdigest()


@pytest_anyio
async def test_a_part_that_does_not_fit(make_disk: Callable[[int], Path], session: aiohttp.ClientSession) -> None:
    """It is refused with 507 and the reason. Other parts are kept, and a deletion frees space."""
    disk = make_disk(2 * PART + 2 * HEADROOM_BYTES)
    async with Emulator(data=disk / "data") as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        other, video_id = await api.create(), await api.create()
        await api.send(other, content(PART, 1), "part 1/*", expect=201)
        await api.send(video_id, content(PART, 1), "part 1/*", expect=201)
        refused = await api.send(video_id, content(PART, 2), "part 2/2", expect=507)
        assert refused.slug == "insufficient-storage"
        assert str(disk / "data") in refused.json["detail"]
        assert "bytes needed" in refused.json["detail"]
        ingest = (await api.status(video_id))["ingest"]
        assert (ingest["status"], ingest["receivedParts"]["parts"]) == ("uploading", [1])
        await api.delete(f"/videos/{other}", expect=204)
        await api.send(video_id, content(PART, 2), "part 2/2", expect=201)
        assert (await emulator.finished(video_id)).size_bytes == 2 * PART
        # The response may come before the file of what was refused is removed.
    assert os.listdir(disk / "data" / "tmp") == []


@pytest_anyio
async def test_concurrent_parts_share_the_space(
    make_disk: Callable[[int], Path], session: aiohttp.ClientSession
) -> None:
    """Of concurrent parts, those that fit are received; the others are refused before their bodies are read."""
    async with Emulator(data=make_disk(2 * PART + 2 * HEADROOM_BYTES) / "data") as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        video_id = await api.create()
        replies = await asyncio.gather(
            *(api.send(video_id, content(PART, number), f"part {number}/*") for number in range(1, 5))
        )
        assert sorted(reply.status for reply in replies) == [201, 201, 507, 507]
        assert len(emulator.videos[video_id].pieces) == 2


@pytest.mark.parametrize("size", [4 * PART, 40 * MIB], ids=["fits", "does not fit"])
@pytest.mark.parametrize("is_stdin", [False, True], ids=["file", "stdin"])
def test_upload_local(
    make_disk: Callable[[int], Path], forks: Forks, tmp_path: Path, size: int, is_stdin: bool
) -> None:
    """`upload --local` succeeds, or ends with one message; it never hangs."""
    disk, movie = make_disk(4 * PART + 2 * HEADROOM_BYTES), tmp_path / "movie.mp4"
    movie.write_bytes(content(size))
    command = ("upload", "-" if is_stdin else str(movie), "--local", "--part-size=5MiB", "--quiet")
    with movie.open("rb") as file:
        done = forks.run(
            "-m", "async_uploader", *command, cwd=tmp_path, stdin=file,
            env={**os.environ, "TMPDIR": str(disk), "XDG_STATE_HOME": str(tmp_path)},
        )  # fmt: skip
    assert list(disk.iterdir()) == []
    if size == 4 * PART:
        assert (done.returncode, done.stderr) == (0, "")
        return
    assert done.returncode == 1
    (message,) = done.stderr.splitlines()
    assert message.startswith(f"error: The emulator has no disk space left. Cannot write to {disk}/")
    assert "no space left on device" in message
    assert is_stdin or "The copies need 40 MiB." in message


_LIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, 8 << 20))
from async_uploader.cli import main
main()
"""


@pytest_anyio
async def test_file_size_limit(forks: Forks, tmp_path: Path, session: aiohttp.ClientSession) -> None:
    """If a file size limit prevents the join, the completing part is refused."""
    process = forks.python(
        "-c", _LIMITED, "emulator", cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        url = (await asyncio.to_thread(process.stdout.readline)).split()[-1]
        api = Api(session, url, basic("local-key"))
        video_id = await api.create()
        await api.send(video_id, content(PART, 1), "part 1/2", expect=201)
        for _ in range(2):  # a retry gets the same response, not `part-already-sent`
            refused = await api.send(video_id, content(PART, 2), "part 2/2", expect=507)
            assert "file too large" in refused.json["detail"]
            ingest = (await api.status(video_id))["ingest"]
            assert (ingest["status"], ingest["receivedParts"]["parts"]) == ("uploading", [1])
        process.terminate()
        _, err = await asyncio.to_thread(process.communicate, timeout=20)
    (line,) = err.splitlines()
    assert line.startswith(f"warning: Cannot write to {tmp_path}")
    assert "file too large" in line


def test_upload_local_with_a_file_size_limit(forks: Forks, tmp_path: Path) -> None:
    """`upload --local` ends at once if the parts cannot be joined."""
    (tmp_path / "movie.mp4").write_bytes(content(2 * PART))
    done = forks.run(
        "-c", _LIMITED, "upload", "movie.mp4", "--local", "--part-size=5MiB", "--quiet", cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}, timeout=20,
    )  # fmt: skip
    assert done.returncode == 1
    (message,) = done.stderr.splitlines()
    assert "The emulator has no disk space left. Cannot write to" in message


# Injected errors


@pytest_anyio
async def test_joining_fails_after_the_response(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status shows the failure. Joining is retried after a deletion."""
    append = SourceFile.append
    async with Emulator(link_rate=1000 * MIB) as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        other, video_id = await api.create(), await api.create()
        monkeypatch.setattr(SourceFile, "append", raise_disk_full)
        await api.send(video_id, b"all of it", expect=201)
        await emulator.wait_for(lambda e: e.videos[video_id].state == "failed")
        status = await api.status(video_id)
        assert status["ingest"]["status"] == "uploaded"
        assert [quality["status"] for quality in status["encoding"]["qualities"]] == ["failed"]
        with pytest.raises(OSError, match="No space left on device") as raised:
            await emulator.finished(video_id, timeout=None)
        assert raised.value.errno == errno.ENOSPC
        assert emulator.shortage is not None
        monkeypatch.setattr(SourceFile, "append", append)
        await api.delete(f"/videos/{other}", expect=204)
        assert (await emulator.finished(video_id)).sha256 == hashlib.sha256(b"all of it").hexdigest()


@pytest_anyio
async def test_a_restart_retries_joining(
    tmp_path: Path, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts that could not be joined are joined after a restart."""
    with monkeypatch.context() as patch:
        patch.setattr(SourceFile, "append", raise_disk_full)
        async with Emulator(data=tmp_path, link_rate=1000 * MIB) as emulator:
            api = Api(session, emulator.url, basic("local-key"))
            video_id = await api.create()
            await api.send(video_id, b"all of it", expect=201)
            await emulator.wait_for(lambda e: e.videos[video_id].state == "failed")
    async with Emulator(data=tmp_path) as emulator:
        assert (await emulator.finished(video_id)).sha256 == hashlib.sha256(b"all of it").hexdigest()


@pytest_anyio
async def test_a_part_replaces_a_removed_one(
    tmp_path: Path, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replacement can have other bytes, and the digest is correct, also after a restart."""
    with monkeypatch.context() as patch:
        patch.setattr(SourceFile, "_move", raise_disk_full)
        patch.setattr(SourceFile, "_copy", _fail_after_one_block)
        async with Emulator(data=tmp_path) as emulator:
            api = Api(session, emulator.url, basic("local-key"))
            videos = [await api.create(), await api.create()]
            for video_id in videos:
                await api.send(video_id, content(PART, 1), "part 1/*", expect=201)
                await api.send(video_id, content(PART, 2), "part 2/2", expect=507)
            patch.undo()
            await api.send(videos[0], content(PART, 3), "part 2/2", expect=201)
            whole = hashlib.sha256(content(PART, 1) + content(PART, 3)).hexdigest()
            assert (await emulator.finished(videos[0])).sha256 == whole
    async with Emulator(data=tmp_path) as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        assert emulator.videos[videos[0]].sha256 == whole
        assert (await api.status(videos[1]))["ingest"]["receivedParts"] == {"parts": [1], "total": None}
        await api.send(videos[1], content(PART, 3), "part 2/2", expect=201)
        assert (await emulator.finished(videos[1])).sha256 == whole


def _fail_after_one_block(source: SourceFile, part_file: Path, offset: int) -> None:
    """Fails in the middle of a copy."""
    source._hash(memoryview(part_file.read_bytes()[:BLOCK_BYTES]), offset)
    raise_disk_full()


@pytest_anyio
@pytest.mark.parametrize("function", ["_storage.store.replace_file", "_storage.part_store.link_or_copy"])
async def test_small_files_that_do_not_fit(
    tmp_path: Path, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    """Requests that write small files get 507, and leave nothing behind."""
    async with Emulator(data=tmp_path) as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        video_id = await api.create("before")
        await api.send(video_id, b"all of it", expect=201)
        monkeypatch.setattr(f"async_uploader.emulator.{function}", raise_disk_full)
        monkeypatch.setattr("async_uploader.emulator._storage.token_store.replace_file", raise_disk_full)
        if function.endswith("link_or_copy"):
            copy = await api.post("/videos", json={"title": "a copy", "source": video_id}, expect=202)
            assert emulator.videos[copy.json["videoId"]].state == "failed"
            return
        for path, body in (
            ("/videos", {"title": "new"}),
            ("/upload-tokens", {}),
            ("/auth/api-key", {"apiKey": "local-key"}),
        ):
            assert (await api.post(path, json=body, expect=507)).slug == "insufficient-storage"
        await api.patch(f"/videos/{video_id}", json={"title": "after"}, expect=507)
        assert (await api.get(f"/videos/{video_id}", expect=200)).json["title"] == "before"
        assert list(emulator.videos) == [video_id]
        assert os.listdir(tmp_path / "videos") == [video_id]
        assert os.listdir(tmp_path / "upload-tokens") == []
    monkeypatch.undo()
    async with Emulator(data=tmp_path) as emulator:
        assert emulator.videos[video_id].title == "before"


@pytest_anyio
async def test_finished_but_not_saved(
    tmp_path: Path, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A joined source is finished even if this cannot be saved; a restart repeats the join."""
    async with Emulator(data=tmp_path) as emulator:
        api = Api(session, emulator.url, basic("local-key"))
        video_id = await api.create()
        with monkeypatch.context() as patch:
            patch.setattr("async_uploader.emulator._storage.store.replace_file", raise_disk_full)
            await api.send(video_id, b"all of it", expect=201)
        view = await emulator.finished(video_id)
    async with Emulator(data=tmp_path) as emulator:
        assert await emulator.finished(video_id) == view
