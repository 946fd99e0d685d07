"""`watch`: which files are uploaded, when, and how the command ends."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from async_uploader.cli import _directory_changes
from async_uploader.cli._directory_changes import DirectoryChanges, file_system_of
from async_uploader.cli._settled_files import FileState, SettledFiles
from async_uploader.emulator import Fault
from harness.service import KEY, Service

from .conftest import MIB, Cli, StartCli, finish

Watch = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def watch(start_online: StartCli, folder: Path) -> Watch:
    """Start `watch` with a short settling time."""
    return partial(start_online, "watch", folder, "--settle=0.3")


def _finished(service: Service) -> list[str]:
    """The titles of the finished videos, sorted."""
    return sorted(video.title for video in service.emulator.videos.values() if video.sha256)


def _wait(service: Service, *titles: str) -> None:
    service.wait_for(lambda _: set(titles) <= set(_finished(service)))


def _interrupt(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    process.send_signal(signal.SIGINT)
    return finish(process)


def _next_line(process: subprocess.Popen[str], text: str) -> str:
    """Read standard error up to a line with a text."""
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return line
    raise AssertionError(f"{text!r} is not on standard error")


# Which files


def test_files_at_the_start_and_later(watch: Watch, service: Service, folder: Path) -> None:
    """Each one is uploaded once; the end says what happened."""
    (folder / "first.mp4").write_bytes(b"first")
    process = watch()
    _wait(service, "first.mp4")
    (folder / "second.mp4").write_bytes(b"second")
    _wait(service, "second.mp4")
    assert process.stdout is not None
    printed = [process.stdout.readline().split() for _ in range(2)]
    assert [(line[0], Path(line[2]).name) for line in printed] == [
        (video.video_id, video.title) for video in service.emulator.videos.values()
    ]
    done = _interrupt(process)
    assert done.returncode == 130
    assert done.stderr.endswith("Interrupted. 2 files uploaded.\n")
    assert _finished(service) == ["first.mp4", "second.mp4"]


def test_a_growing_file_waits(watch: Watch, service: Service, folder: Path) -> None:
    process = watch()
    _next_line(process, "Watching")
    growing = folder / "growing.mp4"
    with growing.open("wb", buffering=0) as file:
        file.write(b"x")
        (folder / "complete.mp4").write_bytes(b"complete")

        while "complete.mp4" not in _finished(service):
            file.write(b"x" * 1000)
            os.sched_yield()
    assert "growing.mp4" not in service.titles()
    _wait(service, "growing.mp4")
    (video,) = (each for each in service.emulator.videos.values() if each.title == "growing.mp4")
    assert video.sha256 == hashlib.sha256(growing.read_bytes()).hexdigest()
    _interrupt(process)


def test_many_files_at_once(watch: Watch, service: Service, folder: Path) -> None:
    process = watch("--quiet")
    for number in range(120):
        (folder / f"{number:03}.mp4").write_bytes(b"%d" % number)
    assert process.stdout is not None
    for _ in range(120):
        process.stdout.readline()
    done = _interrupt(process)
    assert len(_finished(service)) == 120
    assert done.stderr == "Interrupted. 120 files uploaded.\n"


def test_renamed_into_the_directory(watch: Watch, service: Service, folder: Path) -> None:
    """Names of incomplete and hidden files are ignored until they are renamed."""
    process = watch()
    for name in ("a.mp4.part", "b.crdownload", ".c.mp4", "d.tmp"):
        (folder / name).write_bytes(name.encode())
    (folder.parent / "moved").write_bytes(b"moved")
    (folder.parent / "moved").rename(folder / "moved.mp4")
    _wait(service, "moved.mp4")
    (folder / "a.mp4.part").rename(folder / "a.mp4")
    _wait(service, "a.mp4")
    _interrupt(process)
    assert _finished(service) == ["a.mp4", "moved.mp4"]


def test_subdirectories(watch: Watch, service: Service, folder: Path) -> None:
    process = watch("--recursive", "--exclude=*.txt")
    _next_line(process, "Watching")
    (folder / "new").mkdir()
    (folder / "new" / "deep.txt").write_bytes(b"text")
    (folder / "new" / "deep.mp4").write_bytes(b"deep")
    _wait(service, "deep.mp4")
    _interrupt(process)
    assert _finished(service) == ["deep.mp4"]


# Once


@pytest.mark.parametrize("flags", [("--results=in/done.jsonl",), ()], ids=["results file", "journal"])
def test_a_restart_uploads_nothing_again(
    watch: Watch, service: Service, folder: Path, flags: tuple[str, ...]
) -> None:
    (folder / "old.mp4").write_bytes(b"old")
    process = watch(*flags)
    _wait(service, "old.mp4")
    assert process.stdout is not None
    process.stdout.readline()
    _interrupt(process)
    process = watch(*flags)
    (folder / "new.mp4").write_bytes(b"new")
    _wait(service, "new.mp4")
    _interrupt(process)
    assert _finished(service) == ["new.mp4", "old.mp4"]


def test_another_name_of_an_uploaded_file(watch: Watch, service: Service, folder: Path) -> None:
    (folder / "a.mp4").write_bytes(b"a")
    process = watch("--results=done.jsonl")
    _wait(service, "a.mp4")
    _next_line(process, "uploaded")
    (folder / "a.mp4").rename(folder / "renamed.mp4")
    (folder / "b.mp4").write_bytes(b"b")
    _wait(service, "b.mp4")
    _interrupt(process)
    assert _finished(service) == ["a.mp4", "b.mp4"]


def test_a_failed_file_is_uploaded_when_it_changes(watch: Watch, service: Service, folder: Path) -> None:
    service.portal.call(service.emulator.add_fault, Fault.parse("create,times=1:problem=invalid-attribute"))
    path = folder / "a.mp4"
    path.write_bytes(b"before")
    process = watch("--results=done.jsonl")
    assert _next_line(process, "error:").startswith(f"error: {path}: The service responded with 400: ")
    path.write_bytes(b"changed")
    _wait(service, "a.mp4")
    assert process.stdout is not None
    process.stdout.readline()
    done = _interrupt(process)
    assert done.stderr.endswith("Interrupted. 1 file uploaded, 1 failed.\n")
    first, second = map(json.loads, (folder.parent / "done.jsonl").read_text().splitlines())
    assert "error" in first
    assert second["video"]["videoId"] == next(iter(service.emulator.videos))


# The end


def test_interrupted_uploads_are_resumed(watch: Watch, service: Service, folder: Path) -> None:
    service.portal.call(service.emulator.add_fault, Fault.parse("part=3,attempt=1:stall=3"))
    (folder / "a.mp4").write_bytes(os.urandom(11 * MIB))
    process = watch("--part-size=5MiB")
    service.wait_for(lambda emulator: any(record.endpoint == "upload" for record in emulator.requests))
    done = _interrupt(process)
    assert done.returncode == 130
    assert "Interrupted. 0 files uploaded, 1 unfinished. Run the same command again to resume.\n" in done.stderr
    process = watch()
    _wait(service, "a.mp4")
    _interrupt(process)
    assert len(service.emulator.videos) == 1


def test_a_wrong_key_ends_the_command(start_cli: StartCli, service: Service, folder: Path) -> None:
    (folder / "a.mp4").write_bytes(b"a")
    environment = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": "wrong"}
    done = finish(start_cli("watch", folder, "--settle=0", **environment))
    assert done.returncode == 1
    assert "The user credentials were incorrect" in done.stderr


def test_the_directory_disappears(watch: Watch, folder: Path) -> None:
    process = watch()
    _next_line(process, "Watching")
    folder.rmdir()
    done = finish(process)
    assert done.returncode == 1
    assert f"error: Cannot watch {folder} any longer: no such file or directory.\n" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing"], "Cannot watch missing: no such file or directory."),
        (["state.txt"], "Cannot watch state.txt: not a directory."),
        ([".", "--settle=-1"], "--settle must be a number of seconds from 0, not -1.0."),
        ([".", "--settle=nan"], "--settle must be a number of seconds from 0, not nan."),
        ([".", "--concurrency=0"], "--concurrency must be a whole number from 1 to 256"),
    ],
)
def test_wrong_usage(cli: Cli, tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "state.txt").touch()
    done = cli("watch", *arguments, APIVIDEO_API_KEY=KEY)
    assert done.returncode == 2
    assert message in done.stderr


# When files are complete


class Folder:
    """A simulated directory."""

    def __init__(self, settle_seconds: float) -> None:
        self.files = SettledFiles(settle_seconds)
        self.states: dict[str, FileState] = {}

    def write(self, name: str, *, size: int, mtime: int, inode: int = 1) -> None:
        self.states[name] = FileState(1, inode, size, mtime)

    def scan(self, now: float) -> list[str]:
        return self.files.update(now, self.states)


def test_a_file_is_complete_after_the_settling_time() -> None:
    folder = Folder(2)
    folder.write("a", size=1, mtime=1)
    assert folder.scan(0) == []
    assert folder.files.wait_seconds(0.5) == 1.5
    folder.write("a", size=2, mtime=2)
    assert folder.scan(1.9) == folder.scan(3.8) == []
    assert folder.scan(3.9) == ["a"]
    assert folder.scan(9) == []
    assert folder.files.wait_seconds(9) is None


def test_a_file_that_changes_during_its_upload_waits_for_its_end() -> None:
    folder = Folder(1)
    folder.write("a", size=1, mtime=1)
    folder.scan(0)
    assert folder.scan(1) == ["a"]
    folder.write("a", size=2, mtime=2)
    assert folder.scan(2) == folder.scan(9) == []
    folder.files.release("a", is_uploaded=True)
    assert folder.scan(10) == ["a"]


def test_the_version_at_the_begin_of_the_upload_counts() -> None:
    """The file has changed while it waited for its turn."""
    folder = Folder(1)
    folder.write("a", size=1, mtime=1)
    folder.scan(0)
    assert folder.scan(1) == ["a"]
    folder.write("a", size=2, mtime=2)
    folder.files.begin("a", folder.states["a"])
    folder.files.release("a", is_uploaded=True)
    assert folder.scan(2) == folder.scan(9) == []


def test_two_names_of_a_file_are_uploaded_once() -> None:
    folder = Folder(1)
    folder.write("a", size=1, mtime=1)
    folder.write("b", size=1, mtime=1)
    folder.scan(0)
    assert folder.scan(1) == ["a"]
    folder.files.release("a", is_uploaded=True)
    assert folder.scan(2) == []


def test_a_file_that_was_deleted_after_a_failure_is_new() -> None:
    folder = Folder(1)
    folder.write("a", size=1, mtime=1)
    folder.scan(0)
    assert folder.scan(1) == ["a"]
    folder.files.release("a", is_uploaded=False)
    state = folder.states.pop("a")
    folder.scan(2)
    folder.states["a"] = state
    folder.scan(3)
    assert folder.scan(4) == ["a"]


# Without notifications


@pytest.fixture
def no_inotify(monkeypatch: pytest.MonkeyPatch) -> None:
    async def awatch(*_: Any, **__: Any) -> AsyncIterator[object]:
        raise OSError(24, "Too many open files")
        yield

    monkeypatch.setattr("watchfiles.awatch", awatch)


async def test_polling_without_inotify(no_inotify: None, tmp_path: Path) -> None:
    changes = DirectoryChanges(str(tmp_path), is_recursive=False, settle_seconds=2)
    with anyio.fail_after(5):
        await changes.run()
        assert (changes.poll_seconds, changes.reason) == (1, "too many open files")
        await changes.wait(None)  # at once: the first look may have been before
        await changes.wait(None)


async def test_network_file_systems_are_polled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_directory_changes, "file_system_of", lambda _: "nfs4")
    changes = DirectoryChanges(str(tmp_path), is_recursive=False, settle_seconds=2)
    await changes.run()
    assert changes.reason == "nfs4 does not report the changes of other machines"


def test_file_system_of() -> None:
    assert file_system_of("/proc/self") == "proc"
    assert file_system_of("/") != ""
