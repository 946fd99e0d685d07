"""Closed or full standard streams: no video is lost, nothing hangs, there is no traceback."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import anyio
import pytest

from async_uploader.cli._video_output import JsonSpool, VideoOutput
from async_uploader.emulator import Fault
from harness.forking import Forks, command_environment
from harness.service import KEY, Service
from harness.terminal import at_terminal

from .conftest import MIB, Cli, StartCli, finish, within

MakeFile = Callable[..., Path]
StartService = Callable[..., AbstractContextManager[Service]]
IDS = re.compile(r"\bvi[0-9A-Za-z]{20,}")


class Redirected(Protocol):
    def __call__(
        self, redirections: str, *arguments: object, **environment: str
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture
def settings(service: Service, tmp_path: Path) -> dict[str, str]:
    """The environment of a command that uses the emulator and its API key."""
    where = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
    return command_environment(tmp_path) | where


@pytest.fixture
def shell(settings: dict[str, str], tmp_path: Path) -> Redirected:
    """Run a command in a real shell, with redirections such as `>&-`."""

    def run(redirections: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        command = shlex.join([sys.executable, "-m", "async_uploader", *map(str, arguments)])
        done = subprocess.run(
            ["sh", "-c", f"{command} {redirections}"],
            cwd=tmp_path,
            env=settings | environment,
            capture_output=True,
            text=True,
            timeout=40,
            check=False,
        )
        assert "Traceback" not in done.stderr + done.stdout
        return done

    return run


@pytest.fixture
def redirected(forks: Forks, settings: dict[str, str], tmp_path: Path) -> Redirected:
    """Run a command in a fork, with streams that are closed (`>&-`) or full (`>/dev/full`)."""

    def run(redirections: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        names = {"<": "stdin", ">": "stdout", "2": "stderr"}
        targets = {names[word[0]]: word.lstrip("<>2") for word in redirections.split()}
        closed = [number for number, name in enumerate(names.values()) if targets.get(name) == "&-"]
        with open("/dev/full", "wb") as full:
            streams: dict[str, Any] = {
                name: full if target == "/dev/full" else subprocess.DEVNULL for name, target in targets.items()
            }
            done = forks.run(
                *("-m", "async_uploader", *map(str, arguments)),
                cwd=tmp_path, env=settings | environment, closed=closed, **streams,
            )  # fmt: skip
        assert "Traceback" not in (done.stderr or "") + (done.stdout or "")
        return done

    return run


@contextmanager
def unwritable(kind: str) -> Iterator[int]:
    """A descriptor that cannot be written."""
    if kind == "full":
        descriptor = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, descriptor = os.pipe()
        os.close(reader)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


REASONS = {"full": "no space left on device", "closed pipe": "broken pipe"}
COMMANDS: dict[str, Sequence[str]] = {
    "a line": ("a.mp4",),
    "JSON": ("a.mp4", "--json"),
    "JSON and waiting": ("a.mp4", "--json", "--wait"),
    "lines": ("a.mp4", "b.mp4", "c.mp4"),
    "array": ("a.mp4", "b.mp4", "c.mp4", "--json"),
    "array and waiting": ("a.mp4", "b.mp4", "--json", "--wait"),
    "directory": ("folder", "-r"),
    "directory and resume": ("folder", "-r", "--resume"),
    "results": ("a.mp4", "b.mp4", "--results=r.jsonl"),
    "results and JSON": ("a.mp4", "--results=r.jsonl", "--json"),
}


@pytest.fixture
def files(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4", "folder/d.mp4"):
        (tmp_path / name).write_bytes(os.urandom(100))


# Videos of `upload`


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("kind", REASONS)
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_no_video_is_lost(
    start_online: StartCli, online: Cli, service: Service, command: Sequence[str], kind: str
) -> None:
    """Exit code 1, and standard error has all ids. The same command prints them once; then it uploads again."""
    with unwritable(kind) as stdout:
        failed = finish(start_online("upload", *command, stdout=stdout))
    assert failed.returncode == 1
    videos = list(service.emulator.videos)
    assert set(IDS.findall(failed.stderr)) == set(videos)
    *_, message = failed.stderr.splitlines()
    assert message.startswith(f"error: Cannot write to standard output: {REASONS[kind]}. ")
    assert re.search("Run the same command again to print (it|them) without uploading", message)

    again = online("upload", *command)
    assert again.returncode == 0, again.stderr
    assert set(IDS.findall(again.stdout)) == set(videos)
    assert list(service.emulator.videos) == videos
    if "--results=r.jsonl" not in command:
        assert online("uploads").stdout == ""
        assert online("upload", *command).returncode == 0
        assert len(service.emulator.videos) == 2 * len(videos)


@pytest.mark.usefixtures("files")
def test_no_video_is_lost_without_standard_output(shell: Redirected, online: Cli, service: Service) -> None:
    """The shell has closed standard output."""
    failed = shell(">&-", "upload", "a.mp4", "--json")
    assert (failed.returncode, failed.stdout) == (1, "")
    (video_id,) = service.emulator.videos
    assert (
        f"bad file descriptor. Video {video_id} is uploaded. Run the same command again to print it"
        in failed.stderr
    )
    assert json.loads(online("upload", "a.mp4", "--json").stdout)["videoId"] == video_id
    assert len(service.emulator.videos) == 1


NOT_KEPT: dict[str, tuple[Sequence[str], dict[str, str]]] = {
    "no resume": (("a.mp4", "--no-resume"), {}),
    "no resume, JSON": (("a.mp4", "b.mp4", "--no-resume", "--json"), {}),
    "unusable journal": (("a.mp4",), {"XDG_STATE_HOME": "/dev/null/state"}),
}


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(("command", "settings"), NOT_KEPT.values(), ids=NOT_KEPT)
def test_videos_that_the_journal_does_not_keep(
    start_online: StartCli, service: Service, command: Sequence[str], settings: dict[str, str]
) -> None:
    """Standard error has the ids, and says that they would be uploaded again."""
    with unwritable("full") as stdout:
        failed = finish(start_online("upload", *command, stdout=stdout, **settings))
    assert failed.returncode == 1
    assert set(IDS.findall(failed.stderr)) == set(service.emulator.videos)
    assert re.search("The same command would upload (it|them) again", failed.stderr)


def test_a_stream_that_the_journal_does_not_keep(start_online: StartCli, service: Service) -> None:
    """Standard error has the id of a stream, which cannot be sent again."""
    for flags in ((), ("--json",)):
        with unwritable("full") as stdout:
            process = start_online("upload", "-", *flags, stdin=subprocess.PIPE, stdout=stdout)
            _, err = process.communicate("a film", timeout=30)
        assert process.returncode == 1
        assert IDS.findall(err) == [list(service.emulator.videos)[-1]]
        assert "would upload it again" in err


def test_an_upload_token(cli: Cli, start_cli: StartCli, service: Service, make_file: MakeFile) -> None:
    """Only the journal knows its video."""
    path = make_file("movie.mp4", 11 * MIB)
    settings = {"APIVIDEO_UPLOAD_TOKEN": service.make_token(), "APIVIDEO_BASE_URL": service.emulator.url}
    command = ("upload", path, "--json", "--part-size=5MiB")
    with unwritable("full") as stdout:
        assert finish(start_cli(*command, stdout=stdout, **settings)).returncode == 1
    (video_id,) = service.emulator.videos
    again = cli(*command, **settings)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["videoId"] == video_id
    assert list(service.emulator.videos) == [video_id]


@pytest.mark.usefixtures("files")
def test_a_failure_keeps_the_others(start_service: StartService, cli: Cli, tmp_path: Path) -> None:
    """After exit code 1, the same command uploads only the failed source."""
    with start_service(faults=[Fault.parse("create,times=1:problem=invalid-attribute")]) as service:
        settings = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        command = ("upload", "a.mp4", "b.mp4", "c.mp4", "--concurrency=1")
        first = cli(*command, **settings)
        assert first.returncode == 1
        assert "finished; the same command returns it" in cli("uploads").stdout
        second = cli(*command, **settings)
        assert second.returncode == 0, second.stderr
        assert set(IDS.findall(first.stdout)) < set(IDS.findall(second.stdout)) == set(service.emulator.videos)
        assert sorted(service.titles()) == ["a.mp4", "b.mp4", "c.mp4"]


def test_a_wait_that_fails(online: Cli, service: Service, make_file: MakeFile) -> None:
    """The video is uploaded, and standard error has its id."""
    command = ("upload", make_file("movie.mp4", 10), "--json", "--wait")
    late = online(*command, "--wait-timeout=0.000001")
    assert (late.returncode, late.stdout) == (1, "")
    (video_id,) = service.emulator.videos
    assert f"{video_id}  " in late.stderr
    assert json.loads(online(*command).stdout)["videoId"] == video_id
    assert len(service.emulator.videos) == 1


def test_a_closed_pipe_after_the_first_line(start_online: StartCli, service: Service, tmp_path: Path) -> None:
    """As with `head -1`: the rest is uploaded, and reported on standard error."""
    for number in range(8):
        (tmp_path / f"{number}.mp4").write_bytes(b"x")
    process = start_online("upload", *(f"{number}.mp4" for number in range(8)), "--concurrency=1")
    assert process.stdout is not None
    printed = IDS.findall(process.stdout.readline())
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    assert process.wait(timeout=30) in (0, 1)  # all lines may have been in the pipe
    assert "Traceback" not in err
    assert len(service.emulator.videos) == 8
    assert process.returncode == 0 or set(IDS.findall(err)) <= set(service.emulator.videos) - set(printed)


def test_a_full_disk_of_temporary_files() -> None:
    """A document that cannot be kept until the end is reported at once."""
    messages: list[str] = []

    class Full(JsonSpool):
        def __setitem__(self, number: int, document: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def print_video(spool: JsonSpool) -> VideoOutput:
        output = VideoOutput(spool, is_single=False)
        await output.add_video(0, {"videoId": "vi1"}, "a.mp4")
        output.add_error(1, {"source": "b", "error": "x"})
        output.print_document()
        return output

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("async_uploader.cli._video_output.print_message", messages.append)
        with Full() as spool:
            output = anyio.run(print_video, spool)
        assert output.has_failed
        assert str(output.failure({"vi1"})) == (
            "Cannot write to standard output: no space left on device. "
            "The videos above are uploaded. Run the same command again to print them without uploading."
        )
        assert "again: vi1" not in str(output.failure(()))
    assert messages == ["vi1  a.mp4"]


# Other commands


def test_an_import_that_cannot_be_printed(start_online: StartCli, service: Service, web: str) -> None:
    """Standard error has its id."""
    for kind, flags in (("full", ()), ("closed pipe", ("--json",))):
        with unwritable(kind) as stdout:
            failed = finish(start_online("import", web, *flags, stdout=stdout))
        assert failed.returncode == 1
        assert IDS.findall(failed.stderr) == [list(service.emulator.videos)[-1]]
        assert "the same command would create another one" in failed.stderr


def test_imports_of_a_manifest(start_online: StartCli, service: Service, tmp_path: Path, web: str) -> None:
    """The journal does not have them: standard error has their ids, and says that they would be imported again."""
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "m.csv").write_text(f"source\na.mp4\n{web}\n")
    with unwritable("full") as stdout:
        failed = finish(start_online("upload", "--manifest=m.csv", "--json", stdout=stdout))
    assert failed.returncode == 1
    videos = {video.title: video_id for video_id, video in service.emulator.videos.items()}
    assert set(IDS.findall(failed.stderr)) == set(videos.values())
    imported = next(video_id for title, video_id in videos.items() if title != "a.mp4")
    assert failed.stderr.rstrip().endswith(f"except that it uploads again: {imported}.")


def test_a_token_that_cannot_be_printed(start_online: StartCli, online: Cli) -> None:
    """It is deleted, and does not appear on standard error."""
    for flags in ((), ("--json",)):
        with unwritable("full") as stdout:
            failed = finish(start_online("tokens", "create", *flags, stdout=stdout))
        assert failed.returncode == 1
        assert failed.stderr.rstrip().endswith("The new token was deleted.")
        assert online("tokens", "list").stdout == ""


OTHER_COMMANDS = {
    "--version": 1,
    "--help": 1,
    "status VIDEO": 1,
    "status VIDEO --json": 1,
    "delete VIDEO": 0,
    "uploads": 0,
    "uploads --json": 1,
    "tokens create": 1,
    "tokens list --json": 1,
    "upload a.mp4 --quiet": 1,
    "upload a.mp4 --json -v": 1,
    "upload missing.mp4": 2,
    "emulator": 1,
}


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(("command", "code"), OTHER_COMMANDS.items(), ids=OTHER_COMMANDS)
def test_every_command_without_streams(redirected: Redirected, service: Service, command: str, code: int) -> None:
    """Only a result that cannot be printed is a failure; lost messages and a closed standard input are not."""
    expected = {"<&- >&- 2>&-": code, ">/dev/full 2>/dev/full": code}
    if command.startswith("upload"):  # writes messages as well as a result
        expected |= {"2>&-": 0 if code == 1 else code, "2>/dev/full <&-": 0 if code == 1 else code}
    for redirections, wanted in expected.items():
        video_id = service.request(lambda client: client.create_video(title="x")).video_id
        with within(30):
            done = redirected(redirections, *command.replace("VIDEO", video_id).split())
        assert done.returncode == wanted, (redirections, done.stderr)


@pytest.mark.usefixtures("files")
def test_no_message_is_written_to_a_file(shell: Redirected, online: Cli, tmp_path: Path) -> None:
    """No opened file gets the descriptor of a closed stream."""
    done = shell("<&- >&- 2>&-", "upload", "a.mp4", "missing", "--results=r.jsonl", "-vv")
    assert done.returncode == 2
    done = shell("<&- >&- 2>&-", "upload", "a.mp4", "b.mp4", "--results=r.jsonl", "-vv", "--report=r.html")
    assert done.returncode == 1
    results = (tmp_path / "r.jsonl").read_text().splitlines()
    assert ["video" in json.loads(line) for line in results] == [True, True]
    assert (tmp_path / "r.html").read_text().startswith("<!DOCTYPE html>")
    assert online("upload", "a.mp4", "b.mp4", "--results=r.jsonl").returncode == 0


@pytest.mark.usefixtures("files")
def test_a_report_to_a_closed_stream(redirected: Redirected, service: Service, tmp_path: Path) -> None:
    """It is refused before anything is sent: the page would be lost. The null device is still accepted."""
    (tmp_path / "stdout").symlink_to("/proc/self/fd/1")
    (tmp_path / "stderr").symlink_to("/proc/self/fd/2")
    done = redirected(">&-", "upload", "a.mp4", "--report=stdout")
    assert done.returncode == 2
    assert done.stderr == "error: Cannot write the report to stdout: standard output is closed.\n"
    assert redirected("2>&-", "upload", "a.mp4", "--report=stderr").returncode == 2
    assert not service.emulator.requests
    assert redirected("2>&-", "upload", "a.mp4", "--report=/dev/null").returncode == 0


# In a terminal


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_at_a_terminal_with_bars(
    forks: Forks, start_service: StartService, make_file: MakeFile, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    """The bars are removed, and the message is printed."""
    make_file("movie.mp4", 12 * MIB)
    with start_service(link_rate=12_000_000) as service:
        where: dict[str, Any] = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        command = ("upload", "movie.mp4", "--part-size=5MiB", *flags)
        with (
            unwritable("full") as stdout,
            at_terminal(forks, command, tmp_path, columns=200, stdout=stdout, **where) as seen,
        ):
            assert seen.finish() == 1
        (video_id,) = service.emulator.videos
        assert seen.lines("[━·]")
        assert not re.search("[━·]", seen.last)
        assert (
            f"no space left on device. Video {video_id} is uploaded. Run the same command again to print it"
            in seen.last
        )
        with at_terminal(forks, command, tmp_path, columns=200, **where) as seen:
            assert seen.finish() == 0
        assert video_id in seen.last
        assert len(service.emulator.videos) == 1


def test_a_terminal_that_is_closed(
    forks: Forks, start_service: StartService, make_file: MakeFile, cli: Cli, tmp_path: Path
) -> None:
    """The terminal is closed during an upload: the upload ends, and the same command prints its video."""
    make_file("movie.mp4", 12 * MIB)
    with start_service(link_rate=12_000_000) as service:
        where: dict[str, Any] = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        with at_terminal(forks, ("upload", "movie.mp4"), tmp_path, **where) as seen:
            seen.read_until(lambda screen: any("movie.mp4 " in line for line in screen))
            # The other end of the terminal closes; the descriptor stays ours to be closed once.
            os.dup2(os.open(os.devnull, os.O_RDWR), seen.descriptor)
            assert seen.process.wait(timeout=30) == 1
        (video_id,) = service.emulator.videos
        again = cli("upload", "movie.mp4", **where)
        assert IDS.findall(again.stdout)[:1] == [video_id]
        assert len(service.emulator.videos) == 1
