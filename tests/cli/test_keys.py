"""Idempotency keys on the command line."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.service import Service

from .conftest import Cli, StartCli, finish

MakeFile = Callable[..., Path]
KEYED = ("--idempotency-key", "catalogue-42")


def _sent(service: Service, since: int = 0) -> list[str]:
    """The endpoints of all requests but those that log in."""
    return [one.endpoint for one in service.emulator.requests[since:] if one.endpoint != "auth"]


def _check_error(result: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """One error with these words, and nothing on standard output."""
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    (error,) = (line for line in result.stderr.splitlines() if line.startswith("error: "))
    for word in words:
        assert word in error, error


def test_the_second_command_prints_the_same_video_and_sends_nothing(
    online: Cli, service: Service, make_file: MakeFile
) -> None:
    path = make_file("movie.mp4", 100_000)
    first = online("upload", path, *KEYED)
    since = len(service.emulator.requests)
    second = online("upload", path, *KEYED)
    assert (first.returncode, second.returncode) == (0, 0), second.stderr
    assert first.stdout == second.stdout
    assert set(_sent(service, since)) <= {"list", "status", "get"}


def test_json(online: Cli, service: Service, make_file: MakeFile) -> None:
    path = make_file("movie.mp4", 100_000)
    documents = [json.loads(online("upload", path, *KEYED, "--json").stdout) for _ in range(2)]
    assert [document["videoId"] for document in documents] == list(service.emulator.videos) * 2
    assert {"key": "async-uploader-key", "value": "catalogue-42"} in documents[1]["metadata"]


def test_two_commands_at_once(start_online: StartCli, service: Service, make_file: MakeFile) -> None:
    path = make_file("movie.mp4", 12_000_000)
    commands = [start_online("upload", path, *KEYED, "--part-size", "5MiB") for _ in range(2)]
    results = [finish(command) for command in commands]
    assert [result.returncode for result in results] == [0, 0], results
    (video_id,) = service.emulator.videos
    assert [result.stdout.split()[0] for result in results] == [video_id] * 2


def test_another_source_is_refused(online: Cli, service: Service, make_file: MakeFile) -> None:
    online("upload", make_file("movie.mp4", 100_000), *KEYED)
    before = dict(service.emulator.videos)
    since = len(service.emulator.requests)
    other = make_file("other.mp4", 100_000)
    result = online("upload", other, *KEYED)
    _check_error(result, 1, "'catalogue-42' belongs to another source", *before, "Use a new key", "other.mp4")
    assert dict(service.emulator.videos) == before
    assert set(_sent(service, since)) <= {"list", "status", "get"}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), ("--idempotency-key", "several sources")),
        (("--video-id", "vi1"), ("--idempotency-key", "--video-id")),
        (("--upload-token", "to1"), ("--idempotency-key", "API key")),
        (("--idempotency-key", ""), ("--idempotency-key must be 1 to 200 printable characters",)),
        (("--idempotency-key", "a\tb"), ("--idempotency-key must be 1 to 200 printable characters",)),
    ],
)
def test_impossible_combinations(
    flags: tuple[str, ...], words: tuple[str, ...], online: Cli, service: Service, make_file: MakeFile
) -> None:
    paths = [make_file(f"{number}.mp4", 1000) for number in range(1 if flags else 2)]
    _check_error(online("upload", *paths, *KEYED, *flags), 2, *words)
    assert not service.emulator.requests


def test_an_upload_token_in_the_environment(cli: Cli, service: Service, make_file: MakeFile) -> None:
    environment = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_UPLOAD_TOKEN": "to1"}
    result = cli("upload", make_file("movie.mp4", 1000), *KEYED, **environment)
    _check_error(result, 2, "--idempotency-key", "API key", "upload token")
    assert not service.emulator.requests


def test_streams(online: Cli, service: Service, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for source in ("-", fifo):
        _check_error(online("upload", source, *KEYED), 2, "--idempotency-key", "standard input or a FIFO")
    assert not service.emulator.requests


@pytest.mark.parametrize("column", ["idempotency_key", "idempotencyKey"])
def test_manifest(column: str, online: Cli, service: Service, make_file: MakeFile, tmp_path: Path) -> None:
    """Rows with the same key have one video, even of two files with the same bytes. Two keys have two videos."""
    make_file("a.mp4", 100_000)
    (tmp_path / "copy.mp4").write_bytes((tmp_path / "a.mp4").read_bytes())
    rows = ["a.mp4,k1", "copy.mp4,k1", "a.mp4,k2", "a.mp4,"]
    manifest = tmp_path / "videos.csv"
    manifest.write_text("\n".join([f"source,{column}", *rows, "a.mp4,k2"]))
    result = online("upload", "--manifest", manifest, "--json", "--no-resume")
    assert result.returncode == 0, result.stderr
    first, copy, second, without, again = (video["videoId"] for video in json.loads(result.stdout))
    assert (first, second) == (copy, again)
    assert len({first, second, without}) == 3 == len(service.emulator.videos)


def test_an_invalid_key_in_a_manifest(online: Cli, service: Service, make_file: MakeFile, tmp_path: Path) -> None:
    make_file("a.mp4", 1000)
    manifest = tmp_path / "videos.jsonl"
    manifest.write_text(json.dumps({"source": "a.mp4", "idempotencyKey": 42}))
    _check_error(online("upload", "--manifest", manifest), 2, "line 1: idempotency_key must be 1 to 200 printable")
    assert not service.emulator.requests


def test_a_row_whose_key_belongs_to_another_source_fails_alone(
    online: Cli, service: Service, make_file: MakeFile, tmp_path: Path
) -> None:
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        make_file(name, 100_000)
    online("upload", tmp_path / "a.mp4", "--idempotency-key", "k1")
    manifest = tmp_path / "videos.csv"
    manifest.write_text("source,idempotency_key\nb.mp4,k1\nc.mp4,k2")
    result = online("upload", "--manifest", manifest)
    assert result.returncode == 1
    assert "'k1' belongs to another source" in result.stderr
    assert len(service.emulator.videos) == 2


def test_results(online: Cli, service: Service, make_file: MakeFile, tmp_path: Path) -> None:
    """The key is part of the identity of a result: the same file with another key is not finished."""
    make_file("a.mp4", 100_000)
    results, manifest = tmp_path / "results.jsonl", tmp_path / "videos.csv"
    since = 0
    for keys in (["k1"], ["k1", "k2"], ["k1", "k2"]):
        manifest.write_text("\n".join(["source,idempotency_key", *(f"a.mp4,{key}" for key in keys)]))
        since = len(service.emulator.requests)
        result = online("upload", "--manifest", manifest, "--results", results)
        assert result.returncode == 0, result.stderr
        assert len(service.emulator.videos) == len(keys)
        assert len(set(result.stdout.split()) & set(service.emulator.videos)) == len(keys)
    assert "upload" not in _sent(service, since)
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert [line["idempotency_key"] for line in lines] == ["k1", "k2"]


def test_results_of_one_source(online: Cli, service: Service, make_file: MakeFile, tmp_path: Path) -> None:
    path = make_file("a.mp4", 100_000)
    for key in ("k1", "k2", "k1"):
        result = online("upload", path, "--idempotency-key", key, "--results", tmp_path / "results.jsonl")
        assert result.returncode == 0, result.stderr
    assert len(service.emulator.videos) == 2


def test_import(online: Cli, service: Service, web: str) -> None:
    results = [online("import", web, *KEYED, *flags) for flags in ((), ("--json",))]
    (video_id,) = service.emulator.videos
    assert results[0].stdout.split()[0] == json.loads(results[1].stdout)["videoId"] == video_id
    _check_error(online("import", f"{web}?other", *KEYED), 1, "'catalogue-42' belongs to another source", video_id)
    assert len(service.emulator.videos) == 1


def test_a_url_in_a_manifest(online: Cli, service: Service, web: str, tmp_path: Path) -> None:
    manifest = tmp_path / "videos.csv"
    manifest.write_text(f"source,idempotency_key\n{web},k1\n{web},k1")
    for results in ("1.jsonl", "2.jsonl"):
        result = online("upload", "--manifest", manifest, "--results", tmp_path / results)
        assert result.returncode == 0, result.stderr
    assert len(service.emulator.videos) == 1


def test_interruption_says_how_to_resume(start_online: StartCli, service: Service, make_file: MakeFile) -> None:
    command = start_online("upload", make_file("movie.mp4", 100_000), *KEYED, "--no-resume")
    service.wait_for(lambda emulator: any(one.endpoint == "create" for one in emulator.requests))
    time.sleep(0.3)  # it settles for a second
    command.terminate()
    result = finish(command)
    assert result.returncode == 130
    assert "Run the same command again to resume." in result.stderr
    assert len(service.emulator.videos) == 1


def test_unwritable_output_says_that_the_same_command_prints_the_video(
    start_online: StartCli, service: Service, make_file: MakeFile
) -> None:
    with open("/dev/full", "w") as full:
        command = start_online("upload", make_file("movie.mp4", 1000), *KEYED, stdout=full)
        _, err = command.communicate(timeout=30)
    assert command.returncode == 1
    assert "Run the same command again to print it without uploading." in err
    assert len(service.emulator.videos) == 1
