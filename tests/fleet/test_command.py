"""The command `fleet`: real worker processes, and an emulator beside them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import CompletedProcess

import psutil
import pytest

from harness.service import KEY, Service
from tests.cli.conftest import Cli, StartCli, finish

pytestmark = pytest.mark.timeout(120)

FILES = 12
FLEET = ("fleet", "--manifest=m.csv", "--results=r.jsonl", "--workers=2")


@pytest.fixture
def catalogue(tmp_path: Path) -> list[str]:
    """A manifest of small files."""
    names = [f"{number:02}.mp4" for number in range(FILES)]
    for name in names:
        (tmp_path / name).write_bytes(os.urandom(200_000))
    (tmp_path / "m.csv").write_text("\n".join(["source", *names]) + "\n")
    return names


def results(tmp_path: Path) -> dict[str, str]:
    """The videoId of each source, or its error."""
    lines = map(json.loads, (tmp_path / "r.jsonl").read_text().splitlines())
    return {
        Path(line["source"]).name: line["video"]["videoId"] if "video" in line else line["error"] for line in lines
    }


def check_all_finished(service: Service, names: list[str], tmp_path: Path) -> None:
    """Each source has one finished video with its bytes, and there are no others."""
    ids = results(tmp_path)
    assert {name: ids.get(name) in service.emulator.videos for name in names} == dict.fromkeys(names, True)
    assert len(service.emulator.videos) == len(names)
    for name in names:
        assert service.finished(ids[name]).size_bytes == (tmp_path / name).stat().st_size


def test_a_missing_source_fails_alone_and_finished_ones_are_skipped(
    online: Cli, service: Service, catalogue: list[str], tmp_path: Path
) -> None:
    with (tmp_path / "m.csv").open("a") as manifest:
        manifest.write("missing.mp4\n")
    done = online(*FLEET, "--json")
    assert done.returncode == 1, done.stderr
    assert "missing.mp4 does not exist" in done.stderr
    assert len(json.loads(done.stdout)) == FILES + 1
    check_all_finished(service, catalogue, tmp_path)
    sent = sum(record.endpoint == "upload" for record in service.emulator.requests)
    (tmp_path / "missing.mp4").write_bytes(b"found")
    again = online(*FLEET)
    assert again.returncode == 0, again.stderr
    assert f"{FILES} already finished" in again.stderr
    assert sum(record.endpoint == "upload" for record in service.emulator.requests) == sent + 1


def test_without_the_results_file_the_keys_find_the_videos(
    online: Cli, service: Service, catalogue: list[str], tmp_path: Path
) -> None:
    assert online(*FLEET).returncode == 0
    (tmp_path / "r.jsonl").unlink()
    sent = sum(record.endpoint == "upload" for record in service.emulator.requests)
    assert online(*FLEET).returncode == 0
    check_all_finished(service, catalogue, tmp_path)
    assert sum(record.endpoint == "upload" for record in service.emulator.requests) == sent


def _workers(process: psutil.Process) -> Iterator[psutil.Process]:
    """The processes that upload: the grandchildren, since each has a nanny's thread above it."""
    for child in process.children(recursive=True):
        if not child.children() and "spawn_main" in " ".join(child.cmdline()):
            yield child


def test_a_worker_is_killed(
    start_cli: StartCli,
    start_service: Callable[..., AbstractContextManager[Service]],
    catalogue: list[str],
    tmp_path: Path,
) -> None:
    with start_service(link_rate=400_000) as service:
        environment = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        process = start_cli(*FLEET, **environment)
        service.wait_for(lambda emulator: emulator.statistics().bytes_received > 0)
        next(_workers(psutil.Process(process.pid))).kill()
        done = finish(process)
        assert done.returncode == 0, done.stderr
        check_all_finished(service, catalogue, tmp_path)


def test_the_coordinator_is_killed_and_started_again(
    start_cli: StartCli,
    start_service: Callable[..., AbstractContextManager[Service]],
    catalogue: list[str],
    tmp_path: Path,
) -> None:
    with start_service(link_rate=400_000) as service:
        environment = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        process = start_cli(*FLEET, **environment)
        service.wait_for(lambda emulator: emulator.statistics().bytes_received > 0)
        process.kill()
        process.wait()
        done = finish(start_cli(*FLEET, **environment))
        assert done.returncode == 0, done.stderr
        check_all_finished(service, catalogue, tmp_path)


def test_ctrl_c_leaves_no_process(
    start_cli: StartCli,
    start_service: Callable[..., AbstractContextManager[Service]],
    catalogue: list[str],
) -> None:
    with start_service(link_rate=100_000) as service:
        process = start_cli(*FLEET, APIVIDEO_BASE_URL=service.emulator.url, APIVIDEO_API_KEY=KEY)
        service.wait_for(lambda emulator: emulator.statistics().bytes_received > 0)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode in (130, -signal.SIGINT)
        _, alive = psutil.wait_procs(children, timeout=10)
        assert alive == []


def test_no_upload_exceeds_the_rate_limit(
    start_cli: StartCli,
    start_service: Callable[..., AbstractContextManager[Service]],
    catalogue: list[str],
    tmp_path: Path,
) -> None:
    with start_service(rate_limit=5, rate_window=1.0) as service:
        environment = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        done = finish(start_cli(*FLEET, **environment))
        assert done.returncode == 0, done.stderr
        check_all_finished(service, catalogue, tmp_path)
        statuses = [record.status for record in service.emulator.requests if record.endpoint == "upload"]
        assert statuses == [201] * FILES


def test_a_running_cluster(
    online: Cli, scheduler: str, service: Service, catalogue: list[str], tmp_path: Path
) -> None:
    """The command of docs/fleet.md, with this scheduler and catalogue."""
    page = (Path(__file__).parents[2] / "docs" / "fleet.md").read_text(encoding="utf-8")
    shown = next(line for line in page.splitlines() if line.endswith("--scheduler tcp://SCHEDULER:8786"))
    for name, actual in {
        "catalogue.csv": "m.csv",
        "results.jsonl": "r.jsonl",
        "tcp://SCHEDULER:8786": scheduler,
    }.items():
        shown = shown.replace(name, actual)
    done = online(*shown.split()[1:])
    assert done.returncode == 0, done.stderr
    check_all_finished(service, catalogue, tmp_path)
    assert KEY not in (tmp_path / "r.jsonl").read_text()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["fleet", "--manifest=m.csv"], "--manifest and --results"),
        (["fleet", "--manifest=m.csv", "--results=r", "--workers=0"], "--workers must be"),
        (["fleet", "--manifest=m.csv", "--results=r", "--workers=1", "--scheduler=x"], "cannot be used together"),
        (["fleet", "--manifest=m.csv", "--results=r", "--local"], "--local cannot be used"),
        (["fleet", "--manifest=nowhere.csv", "--results=r"], "nowhere.csv"),
    ],
)
def test_wrong_usage(flags: list[str], words: str, online: Cli, catalogue: list[str], service: Service) -> None:
    done: CompletedProcess[str] = online(*flags)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert not service.emulator.requests
