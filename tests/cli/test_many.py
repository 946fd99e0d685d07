"""Many sources: directories, manifests, results files, and kill -9."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from async_uploader import Client, Video
from async_uploader._catalogue.results import import_mark
from async_uploader._limits import MIB
from async_uploader._models import MARK_SOURCE
from async_uploader.emulator import Emulator, Fault
from harness.service import KEY, Service

from .conftest import Cli, StartCli, within

StartService = Callable[..., AbstractContextManager[Service]]


# Directories and manifests


DIRECTORIES = {
    "all": ("--recursive", "a.mp4 b.MOV sub/c.mp4 sub/deep/d.mp4"),
    "by name, here": ("--include=*.mp4", "a.mp4"),
    "by name, anywhere": ("-r --include=*.mp4", "a.mp4 sub/c.mp4 sub/deep/d.mp4"),
    "case is ignored": ("--include=*.mov", "b.MOV"),
    "by path": ("-r --include=sub/*.mp4", "sub/c.mp4 sub/deep/d.mp4"),
    "two globs": ("--include=a* --include=b*", "a.mp4 b.MOV"),
    "exclude": ("-r --include=*.mp4 --exclude=sub/deep/*", "a.mp4 sub/c.mp4"),
    "exclude alone": ("--exclude=*.mov", "a.mp4"),
}


@pytest.mark.parametrize(("flags", "expected"), DIRECTORIES.values(), ids=DIRECTORIES)
def test_directories(flags: str, expected: str, tmp_path: Path) -> None:
    """Files are sorted; hidden and special files are skipped."""
    from async_uploader._catalogue.item import Item
    from async_uploader.cli._sources import collect_sources
    from async_uploader.cli._upload_flags import UploadFlags

    root = tmp_path / "root"
    for name in ("a.mp4", "b.MOV", "sub/c.mp4", "sub/deep/d.mp4", ".hidden.mp4", ".git/x.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    os.mkfifo(root / "pipe.mp4")
    words = flags.split()
    items = collect_sources(
        UploadFlags(
            sources=[str(root)],
            recursive=bool({"-r", "--recursive"} & set(words)),
            include=[word.partition("=")[2] for word in words if word.startswith("--include")],
            exclude=[word.partition("=")[2] for word in words if word.startswith("--exclude")],
        )
    )
    assert [os.path.relpath(item.source, root) for item in items if isinstance(item, Item)] == expected.split()


def test_a_directory(online: Cli, service: Service, tmp_path: Path) -> None:
    """JSON is an array even for one file; names are the path below the current directory."""
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    (tmp_path / "folder" / "sub" / "a.mp4").write_bytes(b"x")
    done = online("upload", "folder", "--recursive", "--json", "--include=*.mp4")
    assert done.returncode == 0, done.stderr
    assert [video["title"] for video in json.loads(done.stdout)] == service.titles() == ["a.mp4"]
    assert "folder/sub/a.mp4: uploaded 1 byte" in done.stderr
    assert done.stderr.endswith("1 of 1 uploaded\n")


@dataclass(frozen=True)
class Manifest:
    """The text of a manifest, and the expected details, problems of lines, or refusal."""

    text: str
    suffix: str = ".csv"
    details: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    refusal: str = ""


TRUE_DETAILS: dict[str, Any] = {
    "title": "A, b", "tags": ["x", "y z"], "metadata": {"place": "Brest", "of": "it"}, "public": False,
    "mp4_support": True,
}  # fmt: skip
MANIFESTS = {
    "CSV": Manifest(
        "source,title,tags,metadata.place,metadata.of,public,mp4Support\n"
        'a.mp4,"A, b",x| y z,Brest,it,no,TRUE\n\nb.mp4,,,,,,\n',
        details=[TRUE_DETAILS, {}],
    ),
    "CSV of a spreadsheet": Manifest(
        '\ufeffPath;Title;metadata\r\na.mp4;A;"{""k"": ""v""}"\r\n',
        details=[{"title": "A", "metadata": {"k": "v"}}],
    ),
    "tabs": Manifest("file\ttitle\na.mp4\tA\n", ".tsv", details=[{"title": "A"}]),
    "by its content": Manifest("file,title\na.mp4,A\n", ".txt", details=[{"title": "A"}]),
    "JSON lines": Manifest(
        json.dumps({"source": "a.mp4", **TRUE_DETAILS, "description": None})
        + '\n\n{"path": "b.mp4", "metadata.k": "v"}\n',
        ".jsonl",
        details=[TRUE_DETAILS, {"metadata": {"k": "v"}}],
    ),
    "JSON by its content": Manifest('{"url": "http://x/y.mp4"}', ".txt", details=[{}]),
    "several lines in a cell": Manifest(
        'source,description\na.mp4,"one\ntwo"\nb.mp4\n',
        details=[{"description": "one\ntwo"}],
        problems=["line 4: the line has 1 cells, but the header has 2."],
    ),
    "values": Manifest(
        "source,public,metadata,title\na.mp4,perhaps,,\na.mp4,,nonsense,\n,,,x\n",
        problems=[
            "line 2: public must be True or False, not 'perhaps'.",
            "line 3: metadata must be a mapping of texts to texts, with no empty key, not 'nonsense'.",
            "line 4: exactly one source is required, in the column 'source'.",
        ],
    ),
    "JSON values": Manifest(
        '{"source": "a.mp4", "tags": "x"}\nnonsense\n[]\n{"file": "a", "path": "b"}\n{"url": "a", "metdata": {}}',
        ".jsonl",
        problems=[
            "line 1: tags must be a list of texts, not 'x'.",
            "line 2: this is not a JSON object.",
            "line 3: this is not a JSON object.",
            "line 4: exactly one source is required, in the column 'source'.",
            "line 5: there is no column 'metdata'; did you mean 'metadata'?",
        ],
    ),
    "columns that are not mappings": Manifest("source,title.x\n", refusal="'title.x'; did you mean 'title'?"),
    "a column twice": Manifest("source,title,Title\n", refusal="its header has a column twice."),
    "an open quote": Manifest('source\n"a.mp4\n', refusal="unexpected end of data"),
}


@pytest.mark.parametrize("manifest", MANIFESTS.values(), ids=MANIFESTS)
def test_manifest(manifest: Manifest, tmp_path: Path) -> None:
    """Each line is parsed; each problem has its line number."""
    from async_uploader import SourceError
    from async_uploader._catalogue.manifest import read_manifest

    path = tmp_path / f"m{manifest.suffix}"
    path.write_text(manifest.text, encoding="utf-8", newline="")
    if manifest.refusal:
        with pytest.raises(SourceError, match=re.escape(manifest.refusal)):
            read_manifest(path)
        return
    items = read_manifest(path)
    assert [item.details for item in items if not item.problem] == manifest.details
    problems = [f"{item.location}: {item.problem}" for item in items if item.problem]
    assert problems == [f"{path}, {problem}" for problem in manifest.problems]


def test_a_manifest_is_checked_before_anything_is_sent(online: Cli, service: Service, tmp_path: Path) -> None:
    """Each invalid line is reported; paths are relative to the manifest."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "good.mp4").write_bytes(b"x")
    (tmp_path / "folder" / "empty.mp4").touch()
    lines = ["source,public", "good.mp4,", "empty.mp4,", "missing.mp4,", "./good.mp4,", f"{tmp_path}/x,maybe"]
    (tmp_path / "folder" / "m.csv").write_text("\n".join(lines))
    done = online("upload", "--manifest", "folder/m.csv")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "error: folder/m.csv, line 3: folder/empty.mp4 is empty; there is nothing to upload.",
        "error: folder/m.csv, line 4: folder/missing.mp4 does not exist.",
        "error: folder/m.csv, line 5: folder/./good.mp4 is listed twice; it is also in folder/m.csv, line 2.",
        "error: folder/m.csv, line 6: public must be True or False, not 'maybe'.",
    ]
    assert not service.emulator.requests


def test_a_manifest_that_is_a_fifo(online: Cli, service: Service, tmp_path: Path) -> None:
    """A FIFO without a writer is refused, as waiting could take forever. A pipe is read to its end."""
    os.mkfifo(tmp_path / "fifo")
    with within(10):
        refused = online("upload", "--manifest=fifo")
    assert refused.returncode == 2
    assert refused.stderr == "error: Cannot read the manifest fifo: it is a FIFO without a writer.\n"
    (tmp_path / "a.mp4").write_bytes(b"x")
    reader, writer = os.pipe()
    with os.fdopen(reader) as stdin, os.fdopen(writer, "w") as file:
        file.write(f"source,title\n{tmp_path}/a.mp4,From a pipe\n")
        file.close()
        done = online("upload", "--manifest=/dev/stdin", stdin=stdin)
    assert done.returncode == 0, done.stderr
    assert service.titles() == ["From a pipe"]


def test_a_manifest_with_everything(online: Cli, service: Service, tmp_path: Path, web: str) -> None:
    """Paths and URLs; details of a line override those of the command; --wait waits for all."""
    (tmp_path / "a.mp4").write_bytes(b"near")
    lines = [
        {"source": "a.mp4", "title": "A", "metadata": {"own": "1"}, "tags": ["own"]},
        {"source": web, "title": "Far"},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    arguments = ("--manifest=m.jsonl", "--metadata=common=2", "--tag=common", "--json", "--wait")
    done = online("upload", *arguments)
    assert done.returncode == 0, done.stderr
    near, far = json.loads(done.stdout)
    assert {entry["key"]: entry["value"] for entry in near["metadata"]} == {"own": "1", "common": "2"}
    assert (near["tags"], far["tags"]) == (["own"], ["common"])
    assert [service.finished(video["videoId"]).size_bytes for video in (near, far)] == [4, 9]
    assert f"{web}: playable" in done.stderr


# Results files


def line_of(
    service: Service, path: str, size: int | None = None, mtime_ns: int | None = None, **result: object
) -> str:
    """A line of a results file, as an earlier run has written it."""
    base_url = Client(api_key=KEY, base_url=service.emulator.url).base_url
    return json.dumps({"path": path, "size": size, "mtime_ns": mtime_ns, "service": base_url, **result}) + "\n"


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_results(online: Cli, service: Service, tmp_path: Path) -> None:
    """One line per source. The second run sends only failed sources, the third one only a changed file."""
    for name in "abc":
        (tmp_path / f"{name}.mp4").write_bytes(name.encode())
    service.portal.call(service.emulator.add_fault, Fault.parse("create,times=1:problem=invalid-attribute"))
    command = ("upload", "a.mp4", "b.mp4", "c.mp4", "--results=r.jsonl", "--json", "--concurrency=1")
    results = tmp_path / "r.jsonl"

    first = online(*command)
    assert first.returncode == 1
    assert [line["source"] for line in read(results)] == ["a.mp4", "b.mp4", "c.mp4"]
    assert ["error" in line for line in read(results)] == [True, False, False]
    assert [line["path"] for line in read(results)] == [str(tmp_path / f"{name}.mp4") for name in "abc"]

    second = online(*command)
    assert second.returncode == 0, second.stderr
    assert "1 of 3 uploaded, 2 already finished" in second.stderr
    assert [video["title"] for video in json.loads(second.stdout)] == ["a.mp4", "b.mp4", "c.mp4"]
    assert sorted(service.titles()) == ["a.mp4", "b.mp4", "c.mp4"]

    results.write_bytes(results.read_bytes() + b'{"path": "/to')  # kill -9 while a line is written
    (tmp_path / "b.mp4").write_bytes(b"changed")
    third = online(*command)
    assert third.returncode == 0, third.stderr
    assert "1 of 3 uploaded, 2 already finished" in third.stderr
    assert len(read(results)) == 5
    assert sorted(service.titles()) == ["a.mp4", "b.mp4", "b.mp4", "c.mp4"]

    alone = online("upload", "a.mp4", "--results=r.jsonl", "--json")
    assert json.loads(alone.stdout)["title"] == "a.mp4"
    assert len(service.titles()) == 4


def test_results_file_of_another_running_command(
    start_service: StartService, start_cli: StartCli, cli: Cli, make_file: Callable[..., Path]
) -> None:
    """It is refused, because it would not see the results of the first one."""
    with start_service(connection_rate=1_000_000) as service:
        settings = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        make_file("a.mp4", 10_000_000)
        start_cli("upload", "a.mp4", "--results=r.jsonl", **settings)
        service.wait_for(lambda emulator: emulator.videos)
        done = cli("upload", "a.mp4", "--results=r.jsonl", **settings)
    assert done.returncode == 2
    assert "Another process is writing to r.jsonl." in done.stderr


async def killed(client: Client, path: Path) -> str:
    """Complete an upload, but end before it is recorded or forgotten, as kill -9 could."""
    videos: list[Video] = []

    def end(video: Video) -> None:
        videos.append(video)
        raise RuntimeError

    with suppress(RuntimeError):
        await client.upload(path, resume="local", on_video=end)
    return videos[0].video_id


@pytest.mark.parametrize("recorded", [False, True], ids=["before its line", "before it is forgotten"])
def test_killed_between_complete_and_recorded(
    online: Cli, service: Service, tmp_path: Path, recorded: bool
) -> None:
    """No file is sent again, and the journal has no entry left."""
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    video_id = service.request(lambda client: killed(client, path))
    if recorded:
        video = {"videoId": video_id, "title": "as recorded"}
        line = line_of(service, str(path), 1, path.stat().st_mtime_ns, video=video)
        (tmp_path / "r.jsonl").write_text(line)
    assert video_id in online("uploads").stdout
    done = online("upload", "a.mp4", "--results=r.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["videoId"] == read(tmp_path / "r.jsonl")[-1]["video"]["videoId"] == video_id
    assert json.loads(done.stdout)["title"] == ("as recorded" if recorded else "a.mp4")
    assert list(service.emulator.videos) == [video_id]
    assert online("uploads").stdout == ""


def test_killed_between_an_import_and_its_line(online: Cli, service: Service, tmp_path: Path, web: str) -> None:
    """The video is found by its mark, which is then removed."""
    (tmp_path / "m.csv").write_text(f"url\n{web}\n")
    (tmp_path / "r.jsonl").write_text(line_of(service, web, begun=True))
    mark = {MARK_SOURCE: import_mark(web), "own": "1"}
    video_id = service.request(lambda client: client.import_video(web, metadata=mark)).video_id
    done = online("upload", "--manifest=m.csv", "--results=r.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    (video,) = json.loads(done.stdout)
    assert (video["videoId"], list(service.emulator.videos)) == (video_id, [video_id])
    kept = service.request(lambda client: client.get_video(video_id)).metadata
    assert [entry.key for entry in kept] == [entry["key"] for entry in video["metadata"]] == ["own"]


FILES = [
    pytest.param(120, 24, id="120"),
    pytest.param(10_000, 600, id="10,000", marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
]


@pytest.mark.parametrize(("count", "window_uploads"), FILES)
def test_killed_twice_during_the_uploads(
    start_service: StartService, start_cli: StartCli, tmp_path: Path, count: int, window_uploads: int
) -> None:
    """Each file becomes exactly one finished video; no request exceeds the rate limit."""
    (tmp_path / "files").mkdir()
    names = [f"{number:05}.mp4" for number in range(count)]
    for name in names:
        (tmp_path / "files" / name).write_bytes(os.urandom(50_000))
    (tmp_path / "m.csv").write_text("source,title\n" + "".join(f"files/{name},{name}\n" for name in names))

    def has_finished(wanted: int, emulator: Emulator) -> bool:
        return sum(video.state == "finished" for video in emulator.videos.values()) >= wanted

    with start_service(rate_limit=window_uploads, rate_window=0.5) as service:
        settings = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        command = ("upload", "--manifest=m.csv", "--results=r.jsonl", "--quiet")
        for wanted in (count // 3, 2 * count // 3):
            # Standard output is not read, and a pipe would fill up.
            process = start_cli(*command, stdout=subprocess.DEVNULL, **settings)
            is_far = partial(has_finished, wanted)
            service.portal.call(partial(service.emulator.wait_for, is_far, timeout=None))
            process.kill()
            process.communicate()
        process = start_cli(*command, **settings)
        out, err = process.communicate(timeout=None)
        assert (process.returncode, err) == (0, "")
        assert len(out.splitlines()) == count
        videos = [video for video in service.emulator.videos.values() if video.state != "empty"]
        assert sorted(video.title for video in videos) == names
        assert {video.state for video in videos} == {"finished"}
    assert len(read(tmp_path / "r.jsonl")) == count


def test_a_pager_that_is_not_scrolled(
    start_service: StartService, start_cli: StartCli, make_file: Callable[..., Path]
) -> None:
    """Results that cannot be printed yet do not block other uploads."""
    names = ["large.mp4", *(f"{number}.mp4" for number in range(60))]
    for name in names:
        make_file(name, 100 * MIB if name == "large.mp4" else 10, sparse=True)

    def is_large_finished(emulator: Emulator) -> bool:
        return any(video.title == "large.mp4" and video.state == "finished" for video in emulator.videos.values())

    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with os.fdopen(reading, "rb") as stdout, start_service(connection_rate=8 * MIB) as service:
        settings = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        process = start_cli("upload", *names, stdout=writing, **settings)
        os.close(writing)
        service.portal.call(service.emulator.wait_for, is_large_finished)
        assert len(stdout.read().splitlines()) == len(names)
        _, err = process.communicate()
    assert process.returncode == 0, err
