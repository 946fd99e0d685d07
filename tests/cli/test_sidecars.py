"""Captions, chapters and thumbnails: options, files beside the source, manifests, failures and repetition."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from async_uploader import Client, ConfigurationError, SourceError, UploadFailed
from async_uploader.emulator import Emulator, Fault
from harness.service import KEY, Service

from .conftest import MIB, Cli, StartCli

StartService = Callable[..., AbstractContextManager[Service]]

VTT = b"WEBVTT\n\n00:00.000 --> 00:01.000\nHello\n"
SRT = b"1\n00:00:00,000 --> 00:00:01,000\nHello\n"
JPEG = b"\xff\xd8\xff\xe0 a picture"
PNG = b"\x89PNG\r\n\x1a\n a picture"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., None]:
    """Write files: contents by name."""

    def write(files: Mapping[str, bytes]) -> None:
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(content)

    return write


MOVIE: Mapping[str, bytes] = {
    "movie.mp4": b"movie",
    "movie.en.vtt": VTT,
    "movie.pt-BR.vtt": VTT,
    "movie.en.chapters.vtt": VTT,
    "movie.jpg": JPEG,
    "fr.srt": SRT,
}
FLAGS = ("--captions", "en=movie.en.vtt", "--captions", "fr=fr.srt", "--chapters", "en=movie.en.chapters.vtt")


def posts(service: Service) -> list[str]:
    """The sidecars that were sent, as ``captions/en``."""
    return [
        record.path.partition("/videos/")[2].partition("/")[2]
        for record in service.emulator.requests
        if record.method == "POST" and record.endpoint in ("captions", "chapters", "thumbnail")
    ]


def sidecars_of(service: Service, title: str = "movie.mp4") -> tuple[set[str], set[str], bool]:
    """The languages of the captions and chapters of a video, and whether it has an uploaded thumbnail."""
    (video_id,) = (view.video_id for view in service.emulator.videos.values() if view.title == title)
    container = service.emulator._store.videos[video_id].container
    return set(container.captions), set(container.chapters), container.thumbnail is not None


# What is added


def test_options(online: Cli, service: Service, write: Callable[..., None]) -> None:
    write(MOVIE)
    done = online("upload", "movie.mp4", *FLAGS, "--thumbnail", "movie.jpg", "--json")
    assert done.returncode == 0, done.stderr
    assert sidecars_of(service) == ({"en", "fr"}, {"en"}, True)
    assert sorted(posts(service)) == ["captions/en", "captions/fr", "chapters/en", "thumbnail"]
    assert json.loads(done.stdout)["title"] == "movie.mp4"


def test_files_beside_the_source(online: Cli, service: Service, write: Callable[..., None]) -> None:
    """Other names are not used, and options take precedence."""
    others = {"movie.final.vtt": VTT, "movie.vtt": VTT, "movies.de.vtt": VTT, "movie.png": PNG, "o.vtt": VTT}
    write({**MOVIE, **others})
    done = online("upload", "movie.mp4", "--sidecars", "--captions", "en=o.vtt")
    assert done.returncode == 0, done.stderr
    assert sidecars_of(service) == ({"en", "pt-BR"}, {"en"}, True)


def test_files_beside_the_sources_of_a_directory(
    online: Cli, service: Service, write: Callable[..., None]
) -> None:
    """The sidecars are not uploaded as videos; a picture without a video is a source."""
    write({f"in/{name}": content for name, content in MOVIE.items() if name != "fr.srt"})
    write({"in/b.mp4": b"b", "in/b.png": PNG, "in/alone.jpg": JPEG})
    done = online("upload", "in", "--recursive", "--sidecars")
    assert done.returncode == 0, done.stderr
    assert sorted(service.titles()) == ["alone.jpg", "b.mp4", "movie.mp4"]
    assert sidecars_of(service) == ({"en", "pt-BR"}, {"en"}, True)
    assert sidecars_of(service, "b.mp4") == (set(), set(), True)


def test_manifest(online: Cli, service: Service, write: Callable[..., None], tmp_path: Path) -> None:
    """Paths are relative to the manifest."""
    write({f"in/{name}": content for name, content in MOVIE.items()})
    write({"in/b.mp4": b"b"})
    (tmp_path / "in" / "m.csv").write_text(
        "source,captions.en,captions.fr,chapters.en,thumbnail\n"
        "movie.mp4,movie.en.vtt,fr.srt,movie.en.chapters.vtt,movie.jpg\n"
        "b.mp4,,fr.srt,,\n"
    )
    done = online("upload", "--manifest", "in/m.csv")
    assert done.returncode == 0, done.stderr
    assert sidecars_of(service) == ({"en", "fr"}, {"en"}, True)
    assert sidecars_of(service, "b.mp4") == ({"fr"}, set(), False)


def test_local(cli: Cli, write: Callable[..., None]) -> None:
    write(MOVIE)
    assert cli("upload", "movie.mp4", "--local", *FLAGS, "--thumbnail=movie.jpg").returncode == 0


# What is refused before anything is sent


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--captions=en=no.vtt"], "Cannot read no.vtt (captions en): there is no such file."),
        (["--chapters=en=no.vtt"], "Cannot read no.vtt (chapters en): there is no such file."),
        (["--thumbnail=no.png"], "Cannot read no.png (thumbnail): there is no such file."),
        (["--captions=en=empty.vtt"], "empty.vtt (captions en) is empty."),
        (["--captions=en=dir.vtt"], "Cannot read dir.vtt (captions en): is a directory."),
        (["--captions=en=movie.mp4"], "--captions must be a file that ends with .vtt or .srt, not movie.mp4."),
        (["--chapters=en=fr.srt"], "--chapters must be a file that ends with .vtt, not fr.srt."),
        (
            ["--thumbnail=movie.mp4"],
            "--thumbnail must be a file that ends with .jpg, .jpeg or .png, not movie.mp4.",
        ),
        (["--thumbnail=big.png"], "big.png is too large for a thumbnail: the limit is 8 MiB."),
        (["--captions=english=movie.en.vtt"], "--captions has 'english' as a language; use a tag with dashes"),
        (["--captions=en_US=movie.en.vtt"], "--captions has 'en_US' as a language; use a tag with dashes"),
        (["--chapters=/=movie.en.vtt"], "--chapters has '/' as a language; use a tag with dashes"),
        (["--captions=movie.en.vtt"], "--captions must be LANG=FILE, not 'movie.en.vtt'."),
        (["--captions=en=bad.vtt"], "bad.vtt (captions en) is not a WebVTT or SubRip file."),
        (["--chapters=en=srt.vtt"], "srt.vtt (chapters en) is not a WebVTT file."),
        (["--thumbnail=bad.png"], "bad.png (thumbnail) is not a JPEG or PNG file."),
        (["--captions=en=a.vtt", "--captions=en=b.vtt"], "--captions has the language 'en' twice."),
        (["fr.srt", "--captions=en=movie.en.vtt"], "--captions cannot be used with several sources."),
    ],
)
def test_refused(
    online: Cli, service: Service, write: Callable[..., None], tmp_path: Path, arguments: list[str], message: str
) -> None:
    write({**MOVIE, "empty.vtt": b"", "big.png": PNG + bytes(8 * MIB)})
    write({"bad.vtt": b"not WebVTT", "bad.png": b"GIF89a", "srt.vtt": SRT})
    (tmp_path / "dir.vtt").mkdir()
    done = online("upload", "movie.mp4", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert not service.emulator.requests


def test_refused_with_an_upload_token(cli: Cli, service: Service, write: Callable[..., None]) -> None:
    write(MOVIE)
    options = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_UPLOAD_TOKEN": service.make_token()}
    done = cli("upload", "movie.mp4", "--captions=en=movie.en.vtt", **options)
    assert done.returncode == 2
    assert "An upload token cannot add captions en; they need an API key." in done.stderr


def test_refused_lines_of_a_manifest(
    online: Cli, service: Service, write: Callable[..., None], tmp_path: Path
) -> None:
    write(MOVIE)
    (tmp_path / "m.csv").write_text(
        "source,captions.en\nmovie.mp4,no.vtt\nhttps://example.com/a.mp4,movie.en.vtt\nmovie.mp4,movie.mp4\n"
    )
    done = online("upload", "--manifest=m.csv")
    assert done.returncode == 2
    first, second, third = done.stderr.splitlines()
    assert first.endswith("m.csv, line 2: Cannot read no.vtt (captions en): there is no such file.")
    assert "m.csv, line 3: captions does not apply to a URL" in second
    assert "m.csv, line 4: captions must be a file that ends with .vtt or .srt" in third
    assert not service.emulator.requests


# Failures and repetition


@pytest.mark.parametrize("failing", ["captions", "chapters", "thumbnail"])
def test_the_same_command_adds_only_what_is_missing(
    online: Cli, service: Service, write: Callable[..., None], failing: str
) -> None:
    write(MOVIE)
    service.portal.call(service.emulator.add_fault, Fault.parse(f"{failing},times=1:problem=invalid-attribute"))
    arguments = ("upload", "movie.mp4", *FLAGS[:2], *FLAGS[4:], "--thumbnail=movie.jpg")
    done = online(*arguments)
    assert done.returncode == 1
    (video_id,) = service.emulator.videos
    (message,) = (line for line in done.stderr.splitlines() if line.startswith("error:"))
    label = failing if failing == "thumbnail" else f"{failing} en"
    assert message.startswith(f"error: Video {video_id} is uploaded, but {label} could not be added (")
    assert message.endswith("Upload it again to add only what is missing.")
    assert done.stdout == ""
    again = online(*arguments)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith(video_id)
    assert sidecars_of(service) == ({"en"}, {"en"}, True)
    paths = posts(service)
    assert sorted(set(paths)) == ["captions/en", "chapters/en", "thumbnail"]
    assert len(paths) == 4
    assert [record.endpoint for record in service.emulator.requests].count("upload") == 1


def test_an_outage_is_retried(online: Cli, service: Service, write: Callable[..., None]) -> None:
    write(MOVIE)
    service.portal.call(service.emulator.add_fault, Fault.parse("captions,times=1:cut"))
    assert online("upload", "movie.mp4", "--captions=en=movie.en.vtt").returncode == 0
    assert posts(service) == ["captions/en"] * 2


def test_killed_between_the_video_and_its_captions(
    start_online: StartCli, online: Cli, service: Service, write: Callable[..., None]
) -> None:
    write(MOVIE)
    service.portal.call(service.emulator.add_fault, Fault.parse("captions:stall=forever"))
    arguments = ("upload", "movie.mp4", "--captions=en=movie.en.vtt", "--thumbnail=movie.jpg", "-v")
    process = start_online(*arguments)
    assert process.stderr is not None
    assert any("Thumbnail added" in line for line in process.stderr)
    process.kill()
    process.wait()
    service.portal.call(service.emulator.clear_faults)
    done = online(*arguments)
    assert done.returncode == 0, done.stderr
    assert len(service.emulator.videos) == 1
    assert sidecars_of(service) == ({"en"}, set(), True)
    assert posts(service).count("thumbnail") == 1


def test_without_resume(online: Cli, service: Service, write: Callable[..., None]) -> None:
    """The video stays, and the message does not promise what the same command cannot do."""
    write(MOVIE)
    service.portal.call(service.emulator.add_fault, Fault.parse("captions:problem=invalid-attribute"))
    done = online("upload", "movie.mp4", "--no-resume", "--captions=en=movie.en.vtt")
    assert done.returncode == 1
    (video_id,) = service.emulator.videos
    assert f"Video {video_id} is uploaded, but captions en could not be added: The service" in done.stderr
    assert "again" not in done.stderr


def test_results_file(online: Cli, service: Service, write: Callable[..., None], tmp_path: Path) -> None:
    """A source is finished only when its sidecars are there."""
    write(MOVIE)
    service.portal.call(service.emulator.add_fault, Fault.parse("captions,times=1:problem=invalid-attribute"))
    arguments = ("upload", "movie.mp4", "--results=r.jsonl", "--captions=en=movie.en.vtt")
    assert online(*arguments).returncode == 1
    assert online(*arguments).returncode == 0
    first, second = map(json.loads, (tmp_path / "r.jsonl").read_text().splitlines())
    assert "could not be added" in first["error"]
    assert second["video"]["videoId"] == next(iter(service.emulator.videos))


# Python


@pytest.fixture
async def client() -> Any:
    async with Emulator(api_key=KEY) as emulator, Client(api_key=KEY, base_url=emulator.url) as client:
        yield client


async def test_python(client: Client, write: Callable[..., None], tmp_path: Path) -> None:
    write(MOVIE)
    video = await client.upload(
        tmp_path / "movie.mp4",
        captions={"en": tmp_path / "movie.en.vtt"},
        chapters={"en": os.fspath(tmp_path / "movie.en.chapters.vtt")},
        thumbnail=tmp_path / "movie.jpg",
    )
    assert await client._service.list_languages(video.video_id, "captions") == {"en"}  # type: ignore[arg-type]
    with pytest.raises(SourceError, match="there is no such file"):
        await client.upload(tmp_path / "movie.mp4", captions={"en": "no.vtt"})
    for options in ({"captions": "movie.en.vtt"}, {"captions": {"": "a.vtt"}}, {"thumbnail": 1}):
        with pytest.raises(ConfigurationError):
            await client.upload(tmp_path / "movie.mp4", **options)


async def test_an_invalid_file_fails_after_the_upload(
    client: Client, write: Callable[..., None], tmp_path: Path
) -> None:
    write({**MOVIE, "bad.vtt": b"-->"})  # only the service reads the whole file
    captions = {"en": tmp_path / "bad.vtt", "fr": tmp_path / "movie.en.vtt"}
    with pytest.raises(UploadFailed, match=r"neither WebVTT nor SRT") as caught:
        await client.upload(tmp_path / "movie.mp4", captions=captions, resume="local")
    assert caught.value.video_id
    assert caught.value.resumable
    assert "captions en could not be added (captions fr: added)" in str(caught.value)
