"""`--checksum`: in the results, in the metadata, on the terminal; and where it is refused."""

from __future__ import annotations

import json
from pathlib import Path

from harness.service import Service
from tests.conftest import sha256

from .conftest import Cli
from .test_upload import MakeFile


def test_results_and_metadata(online: Cli, service: Service, make_file: MakeFile, tmp_path: Path) -> None:
    path = make_file("movie.mp4", 6_000_000)
    done = online("upload", path, "--checksum", "--results", "done.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    expected = sha256(path)
    assert {"key": "sha256", "value": expected} in json.loads(done.stdout)["metadata"]
    (line,) = map(json.loads, (tmp_path / "done.jsonl").read_text().splitlines())
    assert line["sha256"] == expected
    assert f"movie.mp4: SHA-256: {expected}\n" in done.stderr
    assert service.finished(line["video"]["videoId"]).sha256 == expected


def test_a_url_that_the_service_downloads(online: Cli, tmp_path: Path) -> None:
    """It is refused before anything is sent: this machine never sees the bytes."""
    (tmp_path / "videos.csv").write_text("source\nhttps://example.com/movie.mp4\n")
    done = online("upload", "--manifest", "videos.csv", "--checksum")
    assert done.returncode == 2
    assert "--checksum requires --fetch here" in done.stderr
