"""Standard streams that are closed or full: no video is lost, nothing hangs, and nothing is a traceback."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import anyio
import pytest

from async_uploader.cli._delivery import Delivery
from async_uploader.cli._output import JsonArray
from async_uploader.emulator import Emulator, Fault

from ..forking import Forks  # noqa: TID252 - found however pytest is started
from .conftest import KEY, MIB, Cli, Service, StartCli, finish, within
from .terminal import at_terminal

MakeFile = Callable[..., Path]
StartService = Callable[..., AbstractContextManager[Service]]

IDS = re.compile(r"\bvi[0-9A-Za-z]{20,}")


class Shell(Protocol):
    def __call__(
        self, redirections: str, *arguments: object, **environment: str
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture
def shell(service: Service, tmp_path: Path) -> Shell:
    """Run a command by a shell, which can close its streams."""

    def run(redirections: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        command = shlex.join([sys.executable, "-m", "async_uploader", *map(str, arguments)])
        settings = {
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "XDG_CONFIG_HOME": str(tmp_path / "config"),
            "APIVIDEO_BASE_URL": service.emulator.url,
            "APIVIDEO_API_KEY": KEY,
        }
        surroundings = {name: value for name, value in os.environ.items() if not name.startswith("APIVIDEO_")}
        done = subprocess.run(
            ["sh", "-c", f"{command} {redirections}"],
            cwd=tmp_path,
            env=surroundings | settings | environment,
            capture_output=True,
            text=True,
            timeout=40,
            check=False,
        )
        assert "Traceback" not in done.stderr + done.stdout
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


REASONS = {"full": "No space left on device", "closed pipe": "Broken pipe"}
COMMANDS: dict[str, Sequence[str]] = {
    "a line": ("a.mp4",),
    "JSON": ("a.mp4", "--json"),
    "JSON and waiting": ("a.mp4", "--json", "--wait"),
    "lines": ("a.mp4", "b.mp4", "c.mp4"),
    "array": ("a.mp4", "b.mp4", "c.mp4", "--json"),
    "array and waiting": ("a.mp4", "b.mp4", "--json", "--wait"),
    "directory": ("folder", "-r"),
    "directory and marks": ("folder", "-r", "--resume"),
    "results": ("a.mp4", "b.mp4", "--results=r.jsonl"),
    "results and JSON": ("a.mp4", "--results=r.jsonl", "--json"),
}


@pytest.fixture
def files(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4", "folder/d.mp4"):
        (tmp_path / name).write_bytes(os.urandom(100))


# What becomes of the videos


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("kind", REASONS)
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_no_video_is_lost(
    start_online: StartCli, online: Cli, service: Service, command: Sequence[str], kind: str
) -> None:
    """Exit code 1, and standard error has every id. The same command returns them once; after that it uploads."""
    with unwritable(kind) as stdout:
        failed = finish(start_online("upload", *command, stdout=stdout))
    assert failed.returncode == 1
    videos = list(service.emulator.videos)
    assert set(IDS.findall(failed.stderr)) == set(videos)
    *_, message = failed.stderr.splitlines()
    assert message.startswith(f"error: Standard output cannot be written: {REASONS[kind]}. ")
    assert re.search("the same command shows (it|them) again without uploading", message)

    again = online("upload", *command)
    assert again.returncode == 0, again.stderr
    assert set(IDS.findall(again.stdout)) == set(videos)
    assert list(service.emulator.videos) == videos
    if "--results=r.jsonl" not in command:
        assert online("uploads").stdout == ""
        assert online("upload", *command).returncode == 0
        assert len(service.emulator.videos) == 2 * len(videos)


@pytest.mark.usefixtures("files")
def test_no_video_is_lost_without_standard_output(shell: Shell, online: Cli, service: Service) -> None:
    """The same where a shell has closed it."""
    failed = shell(">&-", "upload", "a.mp4", "--json")
    assert (failed.returncode, failed.stdout) == (1, "")
    (video_id,) = service.emulator.videos
    assert f"Bad file descriptor. Video {video_id} is uploaded; the same command shows it again" in failed.stderr
    assert json.loads(online("upload", "a.mp4", "--json").stdout)["videoId"] == video_id
    assert len(service.emulator.videos) == 1


NOT_REMEMBERED: dict[str, tuple[Sequence[str], dict[str, str]]] = {
    "not to be": (("a.mp4", "--no-resume"), {}),
    "not to be, as JSON": (("a.mp4", "b.mp4", "--no-resume", "--json"), {}),
    "unusable journal": (("a.mp4",), {"XDG_STATE_HOME": "/dev/null/state"}),
}


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(("command", "settings"), NOT_REMEMBERED.values(), ids=NOT_REMEMBERED)
def test_videos_that_nobody_remembers(
    start_online: StartCli, service: Service, command: Sequence[str], settings: dict[str, str]
) -> None:
    """The ids are on standard error, and no promise is made."""
    with unwritable("full") as stdout:
        failed = finish(start_online("upload", *command, stdout=stdout, **settings))
    assert failed.returncode == 1
    assert set(IDS.findall(failed.stderr)) == set(service.emulator.videos)
    assert re.search("the same command would upload (it|them) again", failed.stderr)


def test_a_stream_that_nobody_remembers(start_online: StartCli, service: Service) -> None:
    """Standard input cannot be sent again, so its id has to be known."""
    for flags in ((), ("--json",)):
        with unwritable("full") as stdout:
            process = start_online("upload", "-", *flags, stdin=subprocess.PIPE, stdout=stdout)
            _, err = process.communicate("a film", timeout=30)
        assert process.returncode == 1
        assert IDS.findall(err) == [list(service.emulator.videos)[-1]]
        assert "would upload it again" in err


def test_an_upload_token(cli: Cli, start_cli: StartCli, service: Service, make_file: MakeFile) -> None:
    """The journal is all that knows its video."""
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
def test_a_failure_does_not_forget_the_others(start_service: StartService, cli: Cli, tmp_path: Path) -> None:
    """Exit code 1: the same command sends again only what failed."""
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
    """The video is there all the same, and standard error has its id."""
    command = ("upload", make_file("movie.mp4", 10), "--json", "--wait")
    late = online(*command, "--wait-timeout=0.000001")
    assert (late.returncode, late.stdout) == (1, "")
    (video_id,) = service.emulator.videos
    assert f"{video_id}  " in late.stderr
    assert json.loads(online(*command).stdout)["videoId"] == video_id
    assert len(service.emulator.videos) == 1


def test_a_closed_pipe_after_the_first_line(start_online: StartCli, service: Service, tmp_path: Path) -> None:
    """As `head -1` does it: the rest is uploaded and said."""
    for number in range(8):
        (tmp_path / f"{number}.mp4").write_bytes(b"x")
    process = start_online("upload", *(f"{number}.mp4" for number in range(8)), "--concurrency=1")
    assert process.stdout is not None
    shown = IDS.findall(process.stdout.readline())
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    assert process.wait(timeout=30) in (0, 1)  # all lines may have been in the pipe
    assert "Traceback" not in err
    assert len(service.emulator.videos) == 8
    assert process.returncode == 0 or set(IDS.findall(err)) <= set(service.emulator.videos) - set(shown)


def test_a_disk_for_temporary_files_that_is_full() -> None:
    """A document that cannot be kept until the end is said at once."""
    said: list[str] = []

    class Full(JsonArray):
        def __setitem__(self, number: int, document: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def deliver(documents: JsonArray) -> Delivery:
        delivery = Delivery(documents, is_alone=False, name_of=lambda _: "a.mp4")
        await delivery.video(0, {"videoId": "vi1"})
        delivery.error(1, {"source": "b", "error": "x"})
        delivery.show()
        return delivery

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("async_uploader.cli._delivery.say", said.append)
        with Full() as documents:
            delivery = anyio.run(deliver, documents)
        assert delivery.has_failed
        assert str(delivery.failure({"vi1"})) == (
            "Standard output cannot be written: No space left on device. "
            "The videos above are uploaded; the same command shows them again without uploading."
        )
        assert "these again: vi1" not in str(delivery.failure(()))
    assert said == ["vi1  a.mp4"]


# Other commands


def test_an_import_that_cannot_be_shown(start_online: StartCli, service: Service, web: str) -> None:
    """Its id is on standard error."""
    for kind, flags in (("full", ()), ("closed pipe", ("--json",))):
        with unwritable(kind) as stdout:
            failed = finish(start_online("import", web, *flags, stdout=stdout))
        assert failed.returncode == 1
        assert IDS.findall(failed.stderr) == [list(service.emulator.videos)[-1]]
        assert "the same command would make another one" in failed.stderr


def test_imports_of_a_manifest(start_online: StartCli, service: Service, tmp_path: Path, web: str) -> None:
    """They are in no journal: their ids are said, and so is that they would be imported again."""
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "m.csv").write_text(f"source\na.mp4\n{web}\n")
    with unwritable("full") as stdout:
        failed = finish(start_online("upload", "--manifest=m.csv", "--json", stdout=stdout))
    assert failed.returncode == 1
    videos = {video.title: video_id for video_id, video in service.emulator.videos.items()}
    assert set(IDS.findall(failed.stderr)) == set(videos.values())
    imported = next(video_id for title, video_id in videos.items() if title != "a.mp4")
    assert failed.stderr.rstrip().endswith(f"but would upload these again: {imported}.")


def test_a_token_that_cannot_be_shown(start_online: StartCli, online: Cli) -> None:
    """Nobody knows it, so it is deleted; standard error is no place for it."""
    for flags in ((), ("--json",)):
        with unwritable("full") as stdout:
            failed = finish(start_online("tokens", "create", *flags, stdout=stdout))
        assert failed.returncode == 1
        assert failed.stderr.rstrip().endswith("The new token was deleted again.")
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
def test_every_command_without_streams(shell: Shell, service: Service, command: str, code: int) -> None:
    """Only a result that cannot be shown is a failure: nobody has to read messages, nor to type anything."""
    is_endless = command == "emulator"
    expected = {"<&- >&- 2>&-": code, ">/dev/full 2>/dev/full": code}
    if not is_endless:
        expected |= {"2>&-": min(code, 0 if code == 1 else code), "2>/dev/full <&-": 0 if code == 1 else code}
    for redirections, wanted in expected.items():
        video_id = service.ask(lambda client: client.create_video(title="x")).video_id
        with within(30):
            done = shell(redirections, *command.replace("VIDEO", video_id).split())
        assert done.returncode == wanted, (redirections, done.stderr)


@pytest.mark.usefixtures("files")
def test_no_message_gets_into_a_file(shell: Shell, online: Cli, tmp_path: Path) -> None:
    """A file that is opened does not get the number of a stream that is closed."""
    done = shell("<&- >&- 2>&-", "upload", "a.mp4", "missing", "--results=r.jsonl", "-vv")
    assert done.returncode == 2
    done = shell("<&- >&- 2>&-", "upload", "a.mp4", "b.mp4", "--results=r.jsonl", "-vv", "--report=r.html")
    assert done.returncode == 1
    results = (tmp_path / "r.jsonl").read_text().splitlines()
    assert ["video" in json.loads(line) for line in results] == [True, True]
    assert (tmp_path / "r.html").read_text().startswith("<!DOCTYPE html>")
    assert online("upload", "a.mp4", "b.mp4", "--results=r.jsonl").returncode == 0


# At a terminal


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_at_a_terminal_with_bars(
    forks: Forks, start_service: StartService, make_file: MakeFile, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    """The bars are gone, and the message is there."""
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
        assert f"No space left on device. Video {video_id} is uploaded; the same command shows it" in seen.last
        with at_terminal(forks, command, tmp_path, columns=200, **where) as seen:
            assert seen.finish() == 0
        assert video_id in seen.last
        assert len(service.emulator.videos) == 1


def test_a_terminal_that_goes_away(
    forks: Forks, start_service: StartService, make_file: MakeFile, cli: Cli, tmp_path: Path
) -> None:
    """Its window is closed in the middle: the upload ends, and the same command shows its video."""
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


# Ctrl-C says what is true


def has_struck(emulator: Emulator) -> bool:
    """Whether a request is stalled."""
    return any(count for _, count in emulator._server.faults.counts())


MAY_REMAIN = "interrupted; the unfinished video may remain; the service removes it after 7 days"
DELETED = "interrupted; the unfinished video was deleted"


NOT_DELETED = "interrupted; the unfinished video could not be deleted; the service removes it after 7 days"


def assert_deleted(said: str, service: Service) -> None:
    """It is, if this is what was said; on a busy machine half a second may be too short for it."""
    assert said in (DELETED, NOT_DELETED, MAY_REMAIN)
    assert said != DELETED or not service.emulator.videos


def interrupt(process: subprocess.Popen[str], times: int = 1) -> list[str]:
    with within(3):
        for _ in range(times):
            process.send_signal(signal.SIGINT)
        done = finish(process)
    assert done.returncode == 130
    return done.stderr.splitlines()


def test_interrupted_without_resume(start_service: StartService, start_cli: StartCli, make_file: MakeFile) -> None:
    """It is deleted, and this is said; a second signal leaves no time to see."""
    path = make_file("movie.mp4", 200 * MIB, sparse=True)
    with start_service(connection_rate=10_000_000) as service:
        settings = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        for flags in (("--no-resume",), ("--no-resume", "--json")):
            process = start_cli("upload", path, "--part-size=5MiB", *flags, **settings)
            service.wait_for(lambda emulator: any(video.received_bytes for video in emulator.videos.values()))
            assert_deleted(interrupt(process)[-1], service)
        process = start_cli("upload", path, "--part-size=5MiB", "--no-resume", **settings)
        service.wait_for(lambda emulator: any(video.received_bytes for video in emulator.videos.values()))
        assert interrupt(process, times=2)[-1] in (DELETED, MAY_REMAIN)


def test_interrupted_and_not_deleted(
    start_service: StartService, start_cli: StartCli, make_file: MakeFile
) -> None:
    """A service that does not delete it: this is said, and nothing else is promised."""
    path = make_file("movie.mp4", 200 * MIB, sparse=True)
    with start_service(connection_rate=10_000_000, faults=[Fault.parse("delete:stall=forever")]) as service:
        settings = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        process = start_cli("upload", path, "--part-size=5MiB", "--no-resume", **settings)
        service.wait_for(lambda emulator: any(video.received_bytes for video in emulator.videos.values()))
        assert interrupt(process)[-1] in (NOT_DELETED, MAY_REMAIN)


def test_interrupted_with_an_unusable_journal(
    start_service: StartService, start_cli: StartCli, make_file: MakeFile
) -> None:
    """Nothing remembers it: it is deleted, and nothing is promised."""
    path = make_file("movie.mp4", 200 * MIB, sparse=True)
    with start_service(connection_rate=10_000_000) as service:
        settings = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        process = start_cli("upload", path, "--part-size=5MiB", XDG_STATE_HOME="/dev/null/state", **settings)
        service.wait_for(lambda emulator: any(video.received_bytes for video in emulator.videos.values()))
        assert_deleted(interrupt(process)[-1], service)


def test_interrupted_locally(start_cli: StartCli, make_file: MakeFile, tmp_path: Path) -> None:
    """The local service is gone, and what it had received with it."""
    path = make_file("movie.mp4", 2_000 * MIB, sparse=True)
    process = start_cli("upload", path, "--local", "--part-size=5MiB", "--concurrency=1", "-v", "--json")
    assert process.stderr is not None
    while ": stored (" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "interrupted; what had arrived was deleted"


def test_interrupted_before_anything_was_created(
    start_service: StartService, start_cli: StartCli, make_file: MakeFile
) -> None:
    """There is nothing to go on with, and nothing to say."""
    path = make_file("movie.mp4", 10)
    for endpoint, command in (("auth", ("upload", path)), ("auth", ("upload", path, "--no-resume")),
                              ("status", ("status", "vi1")), ("tokens", ("tokens", "create"))):  # fmt: skip
        with start_service(faults=[Fault.parse(f"{endpoint}:stall=forever")]) as service:
            settings = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
            process = start_cli(*command, **settings)
            service.wait_for(has_struck)
            assert interrupt(process) == ["interrupted"]


def test_interrupted_among_several(
    start_service: StartService, start_cli: StartCli, cli: Cli, make_file: MakeFile
) -> None:
    """What is finished is not sent again by the same command, if this is what is said."""
    make_file("small.mp4", 10)
    make_file("big.mp4", 30 * MIB, sparse=True)
    command = ("upload", "small.mp4", "big.mp4", "--part-size=5MiB", "--json")

    def is_half_way(emulator: Emulator) -> bool:
        videos = {video.title: video for video in emulator.videos.values()}
        return len(videos) == 2 and videos["small.mp4"].state == "finished" and bool(videos["big.mp4"].pieces)

    with start_service(link_rate=5_000_000) as service:
        settings = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        process = start_cli(*command, **settings)
        service.wait_for(is_half_way)
        assert interrupt(process)[-1] == "interrupted; run the same command again to go on"
        videos = set(service.emulator.videos)
        process = start_cli(*command, "--no-resume", **settings)
        assert process.stderr is not None
        assert "small.mp4: uploaded" in process.stderr.readline()
        service.wait_for(lambda emulator: len(emulator.videos) == 4)
        last = interrupt(process)[-1]
        # The container of the second one may not have been ready yet.
        assert "run the same command again" not in last
        assert last.endswith("the same command uploads finished videos again")
        done = cli(*command, **settings)
        assert done.returncode == 0, done.stderr
        assert {video["videoId"] for video in json.loads(done.stdout)} == videos


@pytest.mark.parametrize("flags", [(), ("--json",)], ids=["line", "JSON"])
def test_interrupted_while_waiting(
    start_service: StartService, start_cli: StartCli, cli: Cli, make_file: MakeFile, flags: tuple[str, ...]
) -> None:
    """The video is known, and the same command waits for the same one."""
    command = ("upload", make_file("movie.mp4", 10), "--wait", *flags)
    with start_service() as service:
        settings = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        service.portal.call(service.emulator.add_fault, Fault.parse("status,attempt=2:stall=forever"))
        process = start_cli(*command, **settings)
        service.wait_for(has_struck)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 130
        (video_id,) = service.emulator.videos
        assert video_id in out + err
        assert err.splitlines()[-1] == "interrupted; run the same command again to go on"
        service.portal.call(service.emulator.clear_faults)
        again = cli(*command, **settings)
        assert again.returncode == 0, again.stderr
        assert IDS.findall(again.stdout)[:1] == [video_id]
        assert len(service.emulator.videos) == 1


def test_an_import_that_is_interrupted(start_service: StartService, start_cli: StartCli, web: str) -> None:
    """The service has it; its id is said."""
    with start_service(faults=[Fault.parse("status:stall=forever")]) as service:
        settings = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        process = start_cli("import", web, "--wait", **settings)
        service.wait_for(has_struck)
        last = interrupt(process)[-1]
        (video_id,) = service.emulator.videos
        expected = f"the service goes on with video {video_id}; the same command would import it again"
        assert last == f"interrupted; {expected}"


def test_a_reader_that_does_not_read_is_interrupted(
    start_service: StartService, start_cli: StartCli, make_file: MakeFile
) -> None:
    """What it has not taken is said, even without a journal."""
    names = [f"{number}.mp4" for number in range(60)]
    for name in names:
        make_file(name, 10)
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with os.fdopen(reading, "rb") as shown, start_service() as service:
        settings = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        process = start_cli("upload", *names, "--no-resume", stdout=writing, **settings)
        os.close(writing)
        assert process.stderr is not None
        told = [process.stderr.readline() for _ in range(40)]
        assert all(": uploaded " in line for line in told)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 130
        known = set(IDS.findall(shown.read().decode() + err))
        finished = {video_id for video_id, video in service.emulator.videos.items() if video.state == "finished"}
        assert finished <= known
