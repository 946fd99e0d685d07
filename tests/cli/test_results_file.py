"""The files of `--results`: only complete lines of this program count, and nothing else is changed."""

from __future__ import annotations

import errno
import json
import os
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from async_uploader import SourceError, UploaderError
from async_uploader._catalogue.item import Item
from async_uploader._catalogue.results import ResultsFile, SourceKey, source_key
from async_uploader.cli import _commands, _hints
from async_uploader.cli._main import run
from harness.service import KEY, Service

from .conftest import Cli, StartCli, within

MakeFile = Callable[..., Path]


# --results


REFUSED_RESULTS = {
    "fifo": "it is a FIFO",
    "folder": "it is a directory",
    "socket": "it is a socket",
    "null": "it is a device",
    "full": "it is a device",
    "loop": "too many levels of symbolic links",
    "stdout": "it is a FIFO",
}


@pytest.mark.usefixtures("special", "stdout_link")
@pytest.mark.parametrize("results", REFUSED_RESULTS)
def test_results_that_are_refused(
    online: Cli, service: Service, make_file: MakeFile, tmp_path: Path, results: str
) -> None:
    """One message and exit code 2 before anything is sent, also behind a link; nothing hangs."""
    (tmp_path / "link").symlink_to(results)
    for path in (results, "link"):
        with within(15):
            done = online("upload", make_file("movie.mp4", 10), "--results", path)
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"error: Cannot write the results to {path}: {REFUSED_RESULTS[results]}")
        assert results == "loop" or "Name a regular file" in line
    assert not service.emulator.requests


def test_results_in_the_file_of_standard_output(
    start_online: StartCli, make_file: MakeFile, tmp_path: Path, stdout_link: str
) -> None:
    """They are refused, because the outputs would mix."""
    path = make_file("movie.mp4", 10)
    for name in (stdout_link, "out"):
        with (tmp_path / "out").open("ab") as out:
            process = start_online("upload", path, "--results", name, stdout=out)
            _, err = process.communicate(timeout=30)
        assert process.returncode == 2
        assert err.startswith(f"error: Cannot write the results to {name}: standard output goes to it")


def test_results_behind_a_link(online: Cli, service: Service, make_file: MakeFile, tmp_path: Path) -> None:
    """A link and its target are the same results file."""
    (tmp_path / "link").symlink_to("r.jsonl")
    path = make_file("movie.mp4", 10)
    for name in ("link", "r.jsonl", "link"):
        assert online("upload", path, "--results", name).returncode == 0
    assert (tmp_path / "link").is_symlink()
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == len(service.titles()) == 1


SERVICE = "https://service.test/"


def line(name: str = "/a.mp4", **changed: Any) -> bytes:
    """A line of a results file."""
    whole = {
        "path": name, "size": 3, "mtime_ns": 5, "service": SERVICE, "source": "a.mp4",
        "video": {"videoId": "vi1", "title": "a", "assets": {"player": "http://x"}},
    }  # fmt: skip
    return json.dumps({key: value for key, value in {**whole, **changed}.items() if value is not ...}).encode()


A = SourceKey("/a.mp4", 3, 5)
B = SourceKey("/b.mp4", 3, 5)

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
    "an incomplete line": line() + b"\n" + line("/b.mp4") + b"\n" + line("/c.mp4")[:-1],
    "one byte of a line": line() + b"\n" + line("/b.mp4") + b"\n{",
    "zeros after a power cut": line() + b"\n" + line("/b.mp4") + b"\n" + bytes(100),
    "odd videos": line(video={"videoId": "vi1", "assets": None}) + b"\n"
    + line("/b.mp4", video={"videoId": "vi1", "assets": [1], "metadata": {}}) + b"\n",
}  # fmt: skip


@pytest.mark.parametrize("content", TOLERATED.values(), ids=TOLERATED)
async def test_lines_that_are_accepted(content: bytes, tmp_path: Path) -> None:
    """Both sources are finished; a line can be appended, and the file can be read again."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(content)
    results = ResultsFile(path, SERVICE)
    assert results.is_finished(A)
    assert results.is_finished(B)
    assert not results.is_finished(SourceKey("/c.mp4", 3, 5))
    await results.append(SourceKey("/c.mp4", 3, 5), video={"videoId": "vi3"})
    results.close()
    again = ResultsFile(path, SERVICE)
    assert [again.video(key)["videoId"] for key in (A, B, SourceKey("/c.mp4", 3, 5))] == ["vi1", "vi1", "vi3"]
    again.close()


INVALID_RESULTS: dict[str, bytes] = {
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


@pytest.mark.parametrize("content", INVALID_RESULTS.values(), ids=INVALID_RESULTS)
def test_lines_that_are_not_results(content: bytes, tmp_path: Path) -> None:
    """The error names the file and the line; the file is unchanged."""
    path = tmp_path / "r.jsonl"
    whole = line() + b"\n" + content + b"\n" + line("/b.mp4") + b"\n"
    path.write_bytes(whole)
    with pytest.raises(SourceError, match=r"r\.jsonl, line 2 is not a result of an upload"):
        ResultsFile(path, SERVICE)
    assert path.read_bytes() == whole


def test_a_complete_line_is_not_removed(tmp_path: Path) -> None:
    """Only an incomplete line is removed, as a crash leaves it."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(line(video=None))
    with pytest.raises(SourceError, match="line 1 is not a result"):
        ResultsFile(path, SERVICE)
    assert path.read_bytes() == line(video=None)


@pytest.mark.parametrize("seed", range(4))
def test_mutated_results(tmp_path: Path, seed: int) -> None:
    """Any content leads to a SourceError, or to finished sources that have a videoId."""
    generator = random.Random(seed)
    path = tmp_path / "r.jsonl"
    good = b"\n".join((line(), line("/b.mp4"), line(video=..., error="It failed."), line(video=..., begun=True)))
    pieces = [b"null", b"[]", b"{}", b'"x"', b"-1", b"1e999", b"true", b"\r\n", b"\0", b"\xff", b'"', b"}", b""]
    for _ in range(250):
        content = bytearray(good + generator.choice([b"", b"\n"]))
        for _ in range(generator.randint(1, 4)):
            start = generator.randrange(len(content))
            content[start : start + generator.choice([0, 1, 2, 8, 40])] = generator.choice(pieces)
        path.write_bytes(content)
        with suppress(SourceError):
            results = ResultsFile(path, SERVICE)
            try:
                for key in (A, B):
                    if results.is_finished(key):
                        assert isinstance(results.video(key)["videoId"], str)
            finally:
                results.close()
            ResultsFile(path, SERVICE).close()  # it is still valid


def test_mutated_results_at_the_command_line(online: Cli, service: Service, tmp_path: Path) -> None:
    """A source that is finished by an unusual line is printed and not sent."""
    path = tmp_path / "a.mp4"
    path.write_bytes(b"abc")
    size, mtime_ns = source_key(Item(source=str(path)))[1:3]
    base_url = f"{service.emulator.url}/"
    for video in ({"videoId": "vi1", "assets": None}, {"videoId": "vi1", "assets": {"player": []}}):
        result = {"path": str(path), "size": size, "mtime_ns": mtime_ns, "service": base_url, "video": video}
        (tmp_path / "r.jsonl").write_text(json.dumps(result))
        for flags in ((), ("--json",)):
            done = online("upload", "a.mp4", "--results=r.jsonl", *flags)
            assert done.returncode == 0, done.stderr
            assert "vi1" in done.stdout
    assert not service.emulator.videos


def test_a_full_disk(
    service: Service,
    online: Cli,
    make_file: MakeFile,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The message has the id; the same command records the video without uploading."""
    path = make_file("a.mp4", 10)
    command = ("upload", str(path), "--results", str(path.with_name("r.jsonl")))

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setenv("APIVIDEO_BASE_URL", service.emulator.url)
    monkeypatch.setenv("APIVIDEO_API_KEY", KEY)
    # Without handlers of signals, and without changes to the log of the tests.
    monkeypatch.setattr(_commands, "run_async", anyio.run)
    monkeypatch.setattr(_commands, "set_up_logging", lambda *_, **__: None)
    monkeypatch.setattr(_hints, "_base_url", "")
    monkeypatch.setattr(ResultsFile, "_append", fail)
    assert run(command) == 1
    (video_id,) = service.emulator.videos
    reason = f"Cannot write the results to {command[-1]}: no space left on device."
    advice = "Run the same command again to record it without uploading."
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {reason} Video {video_id} is uploaded. {advice}"
    done = online(*command, XDG_STATE_HOME=os.environ["XDG_STATE_HOME"])
    assert done.stdout.split()[0] == video_id
    assert list(service.emulator.videos) == [video_id]


async def test_results_after_a_failed_write(tmp_path: Path) -> None:
    """No line is appended after one that may be incomplete."""
    path = tmp_path / "r.jsonl"
    results = ResultsFile(path, SERVICE)
    await results.append(A, video={"videoId": "vi1"})
    whole = path.read_bytes()

    class Full:
        def write(self, content: bytes) -> int:
            return results_file.write(content[:10])

        def fileno(self) -> int:
            return results_file.fileno()

    results_file = results._file
    results._file = Full()  # type: ignore[assignment]
    for _ in range(2):
        with pytest.raises(UploaderError, match=r"r\.jsonl: no space left on device"):
            await results.append(B, video={"videoId": "vi2"})
    assert path.read_bytes()[len(whole) :] == line("/b.mp4")[:10]
    results._file = results_file
    results.close()
    again = ResultsFile(path, SERVICE)
    assert again.is_finished(A)
    assert not again.is_finished(B)
    again.close()


def test_results_file_changed_by_another_program(tmp_path: Path) -> None:
    """The error is an UploaderError."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(line() + b"\n")
    results = ResultsFile(path, SERVICE)
    path.write_bytes(b"x" * 10)
    with pytest.raises(UploaderError, match="was changed by another program"):
        results.video(A)
    results.close()
