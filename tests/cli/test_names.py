"""One file with several names."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from harness.service import KEY, Service

from .conftest import Cli


def test_listed_twice(cli: Cli, service: Service, tmp_path: Path) -> None:
    """A symbolic link and a path through another directory name the same file."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "good.mp4").write_bytes(b"x")
    (tmp_path / "link.mp4").symlink_to("good.mp4")
    (tmp_path / "other").symlink_to("sub")
    for other in ("link.mp4", "sub/../good.mp4", "other/../good.mp4"):
        done = cli("upload", "good.mp4", other, APIVIDEO_API_KEY=KEY, APIVIDEO_BASE_URL=service.emulator.url)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"error: {other} is listed twice.\n"
    assert not service.emulator.requests


def test_links_in_a_directory(cli: Cli, service: Service, tmp_path: Path) -> None:
    """A link to another file of the directory is skipped; a link to a file elsewhere is uploaded once."""
    (tmp_path / "movies").mkdir()
    (tmp_path / "movies" / "b.mp4").write_bytes(b"x")
    (tmp_path / "elsewhere.mp4").write_bytes(b"y")
    (tmp_path / "movies" / "a.mp4").symlink_to("b.mp4")
    (tmp_path / "movies" / "c.mp4").symlink_to("../elsewhere.mp4")
    (tmp_path / "movies" / "d.mp4").symlink_to("../elsewhere.mp4")
    done = cli("upload", "movies", "--recursive", APIVIDEO_API_KEY=KEY, APIVIDEO_BASE_URL=service.emulator.url)
    assert done.returncode == 0, done.stderr
    assert sorted(service.titles()) == ["b.mp4", "c.mp4"]


def test_results_of_a_link(cli: Cli, service: Service, tmp_path: Path) -> None:
    """The next run removes the journal entry that a killed one left, whatever path the entry has."""
    (tmp_path / "good.mp4").write_bytes(b"x")
    (tmp_path / "link.mp4").symlink_to("good.mp4")
    environment = {"APIVIDEO_API_KEY": KEY, "APIVIDEO_BASE_URL": service.emulator.url}
    command = ("upload", "link.mp4", "--results", "done.jsonl")
    first = cli(*command, **environment)
    assert first.returncode == 0, first.stderr
    result = json.loads((tmp_path / "done.jsonl").read_text())
    journal = tmp_path / "state" / "async_uploader" / "journal.sqlite3"
    status = (tmp_path / "good.mp4").stat()
    with closing(sqlite3.connect(journal)) as database, database:
        database.execute(
            "INSERT INTO upload (path, account, base_url, video_id, size_bytes, mtime_ns, device, inode, sample,"
            " ranges, part_bytes, started_at) VALUES (?, 'a', ?, ?, 1, ?, ?, ?, 'b', 'part', 5242880, 1.0)",
            (
                bytes(tmp_path / "good.mp4"), service.emulator.url, result["video"]["videoId"],
                status.st_mtime_ns, str(status.st_dev), str(status.st_ino),
            ),
        )  # fmt: skip
    again = cli(*command, **environment)
    assert again.returncode == 0, again.stderr
    with closing(sqlite3.connect(journal)) as database:
        assert database.execute("SELECT 1 FROM upload").fetchall() == []
    assert service.titles() == ["link.mp4"]
