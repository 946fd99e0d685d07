"""The files of `--report`: only regular files are replaced."""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from async_uploader._catalogue.output_file import OutputFile
from harness.service import Service

from .conftest import Cli, StartCli, finish, within

MakeFile = Callable[..., Path]


def mode_of(path: Path) -> int:
    return stat.S_IFMT(path.lstat().st_mode)


# --report


REFUSED_REPORTS = {
    "fifo": "it is a FIFO without a reader",
    "folder": "it is a directory",
    "socket": "it is a socket",
    "loop": "too many levels of symbolic links",
    "folder/missing/r.html": "there is no directory folder/missing",
    "movie.mp4/r.html": "not a directory",
    "to-nowhere": "there is no directory",
    "/proc/self/r.html": "",
}


@pytest.mark.usefixtures("special")
@pytest.mark.parametrize("report", REFUSED_REPORTS)
def test_reports_that_are_refused(
    online: Cli, service: Service, make_file: MakeFile, tmp_path: Path, report: str
) -> None:
    """One message and exit code 2 before anything is sent; the path is unchanged."""
    (tmp_path / "to-nowhere").symlink_to(tmp_path / "gone" / "r.html")
    path = make_file("movie.mp4", 10)
    before = mode_of(tmp_path / report) if "/" not in report else 0
    with within(15):
        done = online("upload", path, "--report", report)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: Cannot write the report to {report}: {REFUSED_REPORTS[report]}")
    assert not service.emulator.requests
    assert "/" in report or mode_of(tmp_path / report) == before


@pytest.mark.parametrize(("name", "message"), [("null", "Report: "), ("full", "no space left on device")])
def test_a_report_to_a_device(
    online: Cli, special: dict[str, Path], make_file: MakeFile, name: str, message: str
) -> None:
    """The device stays, also behind a link. A report that fails does not fail the upload."""
    link = special[name].with_name("link")
    link.symlink_to(name)
    for path in (special[name], link):
        done = online("upload", make_file("movie.mp4", 10), "--report", path)
        assert done.returncode == 0, done.stderr
        assert message in done.stderr
        assert mode_of(special[name]) == stat.S_IFCHR
    assert mode_of(link) == stat.S_IFLNK


def test_a_report_to_a_link(online: Cli, make_file: MakeFile, tmp_path: Path) -> None:
    """Its target is created or replaced; the link and the mode of the file stay."""
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


def test_a_report_to_a_fifo_with_a_reader(start_online: StartCli, make_file: MakeFile, tmp_path: Path) -> None:
    """The reader gets the page, and the FIFO stays."""
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
    """A pipe or a file gets the videos and the page; the file is not replaced."""
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
    """A full FIFO that is not read does not delay the end of the command."""
    monkeypatch.setattr("async_uploader._catalogue.output_file._STALL_SECONDS", 0.05)
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    file = OutputFile(tmp_path / "fifo", name="the report")
    try:
        with within(5), pytest.raises(TimeoutError, match="the reader has read nothing"):
            file.write(bytes(10_000_000))
    finally:
        file.close()
        os.close(reader)


SAME_FILES = {
    "a source": ("upload movie.mp4 --report movie.mp4", "--report would replace the source movie.mp4"),
    "a source behind a link": ("upload movie.mp4 --report link", "--report would replace the source"),
    "a line's source": ("upload --manifest m.csv --report movie.mp4", "--report would replace the source"),
    "the manifest": ("upload --manifest m.csv --report m.csv", "--report and --manifest name the same file"),
    "the results": ("upload movie.mp4 --results r --report ./r", "--report and --results name the same file"),
}


@pytest.mark.parametrize(("arguments", "message"), SAME_FILES.values(), ids=SAME_FILES)
def test_a_report_does_not_replace_other_files_of_the_command(
    online: Cli, service: Service, tmp_path: Path, arguments: str, message: str
) -> None:
    """Sources, the manifest and the results file are refused."""
    (tmp_path / "movie.mp4").write_bytes(b"a film")
    (tmp_path / "m.csv").write_text("source\nmovie.mp4\n")
    (tmp_path / "link").symlink_to("movie.mp4")
    done = online(*arguments.split())
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert (tmp_path / "movie.mp4").read_bytes() == b"a film"
    assert not service.emulator.requests


def test_outputs_are_not_sources(online: Cli, service: Service, tmp_path: Path) -> None:
    """The report and the results file in the uploaded directory are skipped."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.mp4").write_bytes(b"x")
    command = ("upload", "folder", "-r", "--results=folder/r.jsonl", "--report=folder/r.html")
    for _ in range(2):
        done = online(*command)
        assert done.returncode == 0, done.stderr
    assert service.titles() == ["a.mp4"]
