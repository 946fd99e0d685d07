"""`--report` and `--results`: what may be written where. Nothing but a regular file is ever replaced."""

from __future__ import annotations

import json
import os
import random
import select
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from async_uploader import SourceError, UploaderError
from async_uploader.cli._item import Item
from async_uploader.cli._results import Results, key_of
from async_uploader.cli._target import Target
from harness.service import Service

from .conftest import Cli, StartCli, finish, within

MakeFile = Callable[..., Path]


@pytest.fixture
def make_device(tmp_path: Path) -> Callable[[str, int], Path]:
    """A device of our own, so that no test can replace the machine's."""

    def make(name: str, minor: int) -> Path:
        path = tmp_path / name
        try:
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, minor))
            path.open("wb", buffering=0).close()
        except PermissionError:
            pytest.skip("devices cannot be made here")
        return path

    return make


@pytest.fixture
def stdout_link(tmp_path: Path) -> str:
    """What ``/dev/stdout`` is. Not that itself: a defect could replace it, for the whole machine."""
    (tmp_path / "stdout").symlink_to("/proc/self/fd/1")
    return "stdout"


@pytest.fixture
def special(tmp_path: Path, make_device: Callable[[str, int], Path]) -> Iterator[dict[str, Path]]:
    """One of each kind that is no regular file."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        yield {
            **{name: tmp_path / name for name in ("fifo", "folder", "loop", "socket")},
            "null": make_device("null", 3),
            "full": make_device("full", 7),
        }


def mode_of(path: Path) -> int:
    return stat.S_IFMT(path.lstat().st_mode)


# --report


REFUSED_REPORTS = {
    "fifo": "it is a FIFO that nobody reads from",
    "folder": "it is a directory",
    "socket": "it is a socket",
    "loop": "Too many levels of symbolic links",
    "folder/missing/r.html": "there is no directory folder/missing",
    "movie.mp4/r.html": "Not a directory",
    "to-nowhere": "there is no directory",
    "/proc/self/r.html": "",
}


@pytest.mark.usefixtures("special")
@pytest.mark.parametrize("report", REFUSED_REPORTS)
def test_reports_that_are_refused(
    online: Cli, service: Service, make_file: MakeFile, tmp_path: Path, report: str
) -> None:
    """One sentence and exit code 2 before anything is sent; what is there stays what it is."""
    (tmp_path / "to-nowhere").symlink_to(tmp_path / "gone" / "r.html")
    path = make_file("movie.mp4", 10)
    before = mode_of(tmp_path / report) if "/" not in report else 0
    with within(15):
        done = online("upload", path, "--report", report)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: The report {report} cannot be written: {REFUSED_REPORTS[report]}")
    assert not service.emulator.requests
    assert "/" in report or mode_of(tmp_path / report) == before


@pytest.mark.parametrize(("name", "message"), [("null", "The report is in"), ("full", "No space left on device")])
def test_a_report_to_a_device(
    online: Cli, special: dict[str, Path], make_file: MakeFile, name: str, message: str
) -> None:
    """It is written to and stays a device, also behind a link; a report that fails is no failed upload."""
    link = special[name].with_name("link")
    link.symlink_to(name)
    for path in (special[name], link):
        done = online("upload", make_file("movie.mp4", 10), "--report", path)
        assert done.returncode == 0, done.stderr
        assert message in done.stderr
        assert mode_of(special[name]) == stat.S_IFCHR
    assert mode_of(link) == stat.S_IFLNK


def test_a_report_to_a_link(online: Cli, make_file: MakeFile, tmp_path: Path) -> None:
    """Its target is replaced, or made where there is none; the link stays, and so does the file's mode."""
    (tmp_path / "there").mkdir()
    target = tmp_path / "there" / "r.html"
    (tmp_path / "link").symlink_to("there/r.html")
    path = make_file("movie.mp4", 10)
    for mode in (0o644, 0o640):
        assert online("upload", path, "--report=link").returncode == 0
        assert mode_of(tmp_path / "link") == stat.S_IFLNK
        assert "</html>" in target.read_text()
        assert stat.S_IMODE(target.stat().st_mode) == mode
        target.write_text("the one before")
        target.chmod(0o640)
    assert [each.name for each in (tmp_path / "there").iterdir()] == ["r.html"]


def test_a_report_to_a_fifo_that_is_read(start_online: StartCli, make_file: MakeFile, tmp_path: Path) -> None:
    """The reader gets the page, and the FIFO stays one."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with os.fdopen(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as reader:
        process = start_online("upload", make_file("movie.mp4", 10), "--report", fifo)
        ready = select.poll()
        ready.register(reader, select.POLLIN)
        page = b""
        while ready.poll(30_000) and (chunk := reader.read(1 << 16)):
            page += chunk
        assert finish(process).returncode == 0
    assert b"movie.mp4" in page
    assert mode_of(fifo) == stat.S_IFIFO


def test_a_report_to_standard_output(
    online: Cli, start_online: StartCli, make_file: MakeFile, tmp_path: Path, stdout_link: str
) -> None:
    """Both come through, in a pipe and in a file, which is not replaced."""
    path = make_file("movie.mp4", 10)
    piped = online("upload", path, "--report", stdout_link)
    assert piped.returncode == 0, piped.stderr
    with (tmp_path / "out").open("wb") as out:
        process = start_online("upload", path, "--report", stdout_link, stdout=out)
        assert process.wait(timeout=30) == 0
        assert os.path.samestat(os.fstat(out.fileno()), (tmp_path / "out").stat())
    for text in (piped.stdout, (tmp_path / "out").read_text()):
        assert text.startswith("vi")
        assert text.rstrip().endswith("</html>")


def test_a_reader_that_stalls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A FIFO that is full and not read does not hold up the end."""
    monkeypatch.setattr("async_uploader.cli._target._STALL_SECONDS", 0.05)
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    target = Target(tmp_path / "fifo", name="The report")
    try:
        with within(5), pytest.raises(TimeoutError, match="nobody has read from it"):
            target.write(bytes(10_000_000))
    finally:
        target.close()
        os.close(reader)


SAME_FILES = {
    "a source": ("upload movie.mp4 --report movie.mp4", "--report would replace a source, movie.mp4"),
    "a source behind a link": ("upload movie.mp4 --report link", "--report would replace a source"),
    "a line's source": ("upload --manifest m.csv --report movie.mp4", "--report would replace a source"),
    "the manifest": ("upload --manifest m.csv --report m.csv", "--report and --manifest name the same file"),
    "the results": ("upload movie.mp4 --results r --report ./r", "--report and --results name the same file"),
}


@pytest.mark.parametrize(("arguments", "message"), SAME_FILES.values(), ids=SAME_FILES)
def test_a_report_replaces_nothing_that_is_needed(
    online: Cli, service: Service, tmp_path: Path, arguments: str, message: str
) -> None:
    """What is read, or written for something else, is no place for a report."""
    (tmp_path / "movie.mp4").write_bytes(b"a film")
    (tmp_path / "m.csv").write_text("source\nmovie.mp4\n")
    (tmp_path / "link").symlink_to("movie.mp4")
    done = online(*arguments.split())
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert (tmp_path / "movie.mp4").read_bytes() == b"a film"
    assert not service.emulator.requests


def test_what_a_command_writes_is_no_source(online: Cli, service: Service, tmp_path: Path) -> None:
    """A report and results that lie in the directory that is uploaded."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.mp4").write_bytes(b"x")
    command = ("upload", "folder", "-r", "--results=folder/r.jsonl", "--report=folder/r.html")
    for _ in range(2):
        done = online(*command)
        assert done.returncode == 0, done.stderr
    assert service.titles() == ["a.mp4"]


# --results


REFUSED_RESULTS = {
    "fifo": "it is a FIFO",
    "folder": "Is a directory",
    "socket": "it is a socket",
    "null": "it is a device",
    "full": "it is a device",
    "loop": "Too many levels of symbolic links",
    "stdout": "it is a FIFO",
}


@pytest.mark.usefixtures("special", "stdout_link")
@pytest.mark.parametrize("results", REFUSED_RESULTS)
def test_results_that_are_refused(
    online: Cli, service: Service, make_file: MakeFile, tmp_path: Path, results: str
) -> None:
    """One sentence and exit code 2 before anything is sent, also behind a link; nothing hangs."""
    (tmp_path / "link").symlink_to(results)
    for path in (results, "link"):
        with within(15):
            done = online("upload", make_file("movie.mp4", 10), "--results", path)
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"error: {path} cannot be written: {REFUSED_RESULTS[results]}")
        assert results == "loop" or "name a regular file" in line
    assert not service.emulator.requests


def test_results_where_standard_output_goes(
    start_online: StartCli, make_file: MakeFile, tmp_path: Path, stdout_link: str
) -> None:
    """The one would garble the other."""
    path = make_file("movie.mp4", 10)
    for name in (stdout_link, "out"):
        with (tmp_path / "out").open("ab") as out:
            process = start_online("upload", path, "--results", name, stdout=out)
            _, err = process.communicate(timeout=30)
        assert process.returncode == 2
        assert err.startswith(f"error: {name} cannot be written: standard output goes there")


def test_results_behind_a_link(online: Cli, service: Service, make_file: MakeFile, tmp_path: Path) -> None:
    """They are those of its target."""
    (tmp_path / "link").symlink_to("r.jsonl")
    path = make_file("movie.mp4", 10)
    for name in ("link", "r.jsonl", "link"):
        assert online("upload", path, "--results", name).returncode == 0
    assert (tmp_path / "link").is_symlink()
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == len(service.titles()) == 1


SERVICE = "https://service.test/"


def line(name: str = "/a.mp4", **changed: Any) -> bytes:
    """A result, as it is written."""
    whole = {
        "path": name, "size": 3, "mtime_ns": 5, "service": SERVICE, "source": "a.mp4",
        "video": {"videoId": "vi1", "title": "a", "assets": {"player": "http://x"}},
    }  # fmt: skip
    return json.dumps({key: value for key, value in {**whole, **changed}.items() if value is not ...}).encode()


A = ("/a.mp4", 3, 5)
B = ("/b.mp4", 3, 5)

TOLERATED: dict[str, bytes] = {
    "CRLF": line() + b"\r\n" + line("/b.mp4") + b"\r\n",
    "blank lines": b"\n\n  \n" + line() + b"\n\r\n" + line("/b.mp4") + b"\n\n",
    "byte order mark": b"\xef\xbb\xbf" + line() + b"\n" + line("/b.mp4") + b"\n",
    "the same line twice": (line() + b"\n") * 2 + line("/b.mp4") + b"\n",
    "another service": line(service="other") + b"\n" + line("/b.mp4", service="other") + b"\n" + line() + b"\n"
    + line("/b.mp4") + b"\n",
    "no newline at the end": line() + b"\n" + line("/b.mp4"),
    "an editor's spacing": b'{ "video":{"videoId":"vi1"},"service":"https://service.test/","mtime_ns":5,"size":3,'
    b'"path":"/a.mp4"}\n' + line("/b.mp4"),
    "a torn line": line() + b"\n" + line("/b.mp4") + b"\n" + line("/c.mp4")[:-1],
    "one byte of a line": line() + b"\n" + line("/b.mp4") + b"\n{",
    "zeros after a power cut": line() + b"\n" + line("/b.mp4") + b"\n" + bytes(100),
    "odd videos": line(video={"videoId": "vi1", "assets": None}) + b"\n"
    + line("/b.mp4", video={"videoId": "vi1", "assets": [1], "metadata": {}}) + b"\n",
}  # fmt: skip


@pytest.mark.parametrize("content", TOLERATED.values(), ids=TOLERATED)
async def test_lines_that_are_harmless(content: bytes, tmp_path: Path) -> None:
    """Both sources are done; a line more can be appended, and all of it is read again."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(content)
    results = Results(path, SERVICE)
    assert results.is_done(A)
    assert results.is_done(B)
    assert not results.is_done(("/c.mp4", 3, 5))
    await results.add(("/c.mp4", 3, 5), video={"videoId": "vi3"})
    results.close()
    again = Results(path, SERVICE)
    assert [again.video(key)["videoId"] for key in (A, B, ("/c.mp4", 3, 5))] == ["vi1", "vi1", "vi3"]
    again.close()


NO_RESULTS: dict[str, bytes] = {
    "video is null": line(video=None),
    "video is a list": line(video=["vi1"]),
    "video is text": line(video="vi1"),
    "no videoId": line(video={"title": "a"}),
    "videoId is a number": line(video={"videoId": 1}),
    "videoId is empty": line(video={"videoId": ""}),
    "size is text": line(size="3"),
    "size is a fraction": line(size=3.5),
    "size is true": line(size=True),
    "size is missing": line(size=...),
    "mtime_ns is a list": line(mtime_ns=[5]),
    "path is null": line(path=None),
    "path is a list": line(path=["/a.mp4"]),
    "service is a number": line(service=5),
    "no outcome": line(video=...),
    "error is no text": line(video=..., error=None),
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "text": b"hello",
    "deep": b'{"path": ' + b"[" * 100_000,
    "a huge number": line().replace(b'"size": 3', b'"size": ' + b"9" * 5_000),
    "not UTF-8": line().replace(b"/a.mp4", b"\xff"),
    "UTF-16": line().decode().encode("utf-16"),
}


@pytest.mark.parametrize("content", NO_RESULTS.values(), ids=NO_RESULTS)
def test_lines_that_are_no_results(content: bytes, tmp_path: Path) -> None:
    """An error that names the file and the line, which is left as it is."""
    path = tmp_path / "r.jsonl"
    whole = line() + b"\n" + content + b"\n" + line("/b.mp4") + b"\n"
    path.write_bytes(whole)
    with pytest.raises(SourceError, match=r"r\.jsonl, line 2 is not a result of an upload"):
        Results(path, SERVICE)
    assert path.read_bytes() == whole


def test_a_whole_line_that_is_no_result_is_not_cut_off(tmp_path: Path) -> None:
    """Only an incomplete one is, which a crash has left."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(line(video=None))
    with pytest.raises(SourceError, match="line 1 is not a result"):
        Results(path, SERVICE)
    assert path.read_bytes() == line(video=None)


@pytest.mark.parametrize("seed", range(4))
def test_mutated_results(tmp_path: Path, seed: int) -> None:
    """Whatever a file holds: one of our errors, or sources that are done and have a videoId each."""
    dice = random.Random(seed)
    path = tmp_path / "r.jsonl"
    good = b"\n".join((line(), line("/b.mp4"), line(video=..., error="It failed."), line(video=..., begun=True)))
    pieces = [b"null", b"[]", b"{}", b'"x"', b"-1", b"1e999", b"true", b"\r\n", b"\0", b"\xff", b'"', b"}", b""]
    for _ in range(250):
        content = bytearray(good + dice.choice([b"", b"\n"]))
        for _ in range(dice.randint(1, 4)):
            start = dice.randrange(len(content))
            content[start : start + dice.choice([0, 1, 2, 8, 40])] = dice.choice(pieces)
        path.write_bytes(content)
        with suppress(SourceError):
            results = Results(path, SERVICE)
            try:
                for key in (A, B):
                    if results.is_done(key):
                        assert isinstance(results.video(key)["videoId"], str)
            finally:
                results.close()
            Results(path, SERVICE).close()  # what was accepted once is accepted again


def test_mutated_results_at_the_command_line(online: Cli, service: Service, tmp_path: Path) -> None:
    """A source that is done by an odd line is shown and not sent; no traceback."""
    path = tmp_path / "a.mp4"
    path.write_bytes(b"abc")
    size, mtime_ns = key_of(Item(source=str(path)))[1:]
    base_url = f"{service.emulator.url}/"
    for video in ({"videoId": "vi1", "assets": None}, {"videoId": "vi1", "assets": {"player": []}}):
        told = {"path": str(path), "size": size, "mtime_ns": mtime_ns, "service": base_url, "video": video}
        (tmp_path / "r.jsonl").write_text(json.dumps(told))
        for flags in ((), ("--json",)):
            done = online("upload", "a.mp4", "--results=r.jsonl", *flags)
            assert done.returncode == 0, done.stderr
            assert "vi1" in done.stdout
    assert not service.emulator.videos


async def test_results_that_cannot_be_written_any_more(tmp_path: Path) -> None:
    """After one line has failed, none is appended to what may be half of it."""
    path = tmp_path / "r.jsonl"
    results = Results(path, SERVICE)
    await results.add(A, video={"videoId": "vi1"})
    whole = path.read_bytes()

    class Full:
        def write(self, content: bytes) -> int:
            return results_file.write(content[:10])

        def fileno(self) -> int:
            return results_file.fileno()

    results_file = results._file
    results._file = Full()  # type: ignore[assignment]
    for _ in range(2):
        with pytest.raises(UploaderError, match=r"r\.jsonl cannot be written: No space left on device"):
            await results.add(B, video={"videoId": "vi2"})
    assert path.read_bytes()[len(whole) :] == line("/b.mp4")[:10]
    results._file = results_file
    results.close()
    again = Results(path, SERVICE)
    assert again.is_done(A)
    assert not again.is_done(B)
    again.close()


def test_results_changed_meanwhile(tmp_path: Path) -> None:
    """An editor that writes to the file while it is used makes an error, and no traceback."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(line() + b"\n")
    results = Results(path, SERVICE)
    path.write_bytes(b"x" * 10)
    with pytest.raises(UploaderError, match="was changed by another program"):
        results.video(A)
    results.close()
