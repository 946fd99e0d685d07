"""The command `fleet`: real worker processes, and an emulator beside them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import psutil
import pytest
import trustme

from harness.cluster import Cluster
from harness.service import KEY, Service
from tests.cli.conftest import Cli, StartCli, finish

FLEET = ("fleet", "--manifest=m.csv", "--results=r.jsonl")

MakeCatalogue = Callable[..., list[str]]
StartService = Callable[..., AbstractContextManager[Service]]


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


def count_uploads(service: Service) -> int:
    return sum(record.endpoint == "upload" for record in service.emulator.requests)


def test_a_missing_source_fails_alone_and_nothing_is_sent_twice(
    online: Cli, service: Service, cluster: Cluster, make_catalogue: MakeCatalogue, tmp_path: Path
) -> None:
    names = make_catalogue()
    with (tmp_path / "m.csv").open("a") as manifest:
        manifest.write("missing.mp4\n")
    command = (*FLEET, f"--scheduler={cluster.address}")
    done = online(*command, "--json")
    assert done.returncode == 1, done.stderr
    assert "missing.mp4 does not exist" in done.stderr
    assert "00.mp4: uploaded 195.3 KiB, 1 part" in done.stderr
    assert len(json.loads(done.stdout)) == 13
    check_all_finished(service, names, tmp_path)
    sent = count_uploads(service)
    (tmp_path / "missing.mp4").write_bytes(b"found")
    again = online(*command)
    assert again.returncode == 0, again.stderr
    assert "12 already finished" in again.stderr
    assert count_uploads(service) == sent + 1
    # Without the results file, the keys find the videos.
    (tmp_path / "r.jsonl").unlink()
    assert online(*command).returncode == 0
    check_all_finished(service, [*names, "missing.mp4"], tmp_path)
    assert count_uploads(service) == sent + 1


def test_the_scheduler_is_killed(
    start_cli: StartCli,
    start_service: StartService,
    own_cluster: Cluster,
    make_catalogue: MakeCatalogue,
) -> None:
    make_catalogue()
    with start_service(link_rate=50_000) as service:
        environment = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        process = start_cli(*FLEET, f"--scheduler={own_cluster.address}", **environment)
        service.wait_for(lambda emulator: emulator.statistics().bytes_received > 0)
        own_cluster.kill("scheduler")
        done = finish(process)
    assert done.returncode == 1
    assert "The connection to the cluster was lost." in done.stderr


def test_a_source_that_kills_its_workers_fails_alone(
    online: Cli, service: Service, own_cluster: Cluster, make_catalogue: MakeCatalogue, tmp_path: Path
) -> None:
    names = make_catalogue(6, 1000)
    for name in [*own_cluster.processes]:
        if name != "scheduler":
            own_cluster.kill(name)
    # Dask gives up after 4 workers, and so does the second try, with one suspect at a time.
    for number in range(9):
        own_cluster.start_worker(f"fragile {number}", poison=names[0], threads=2)
    done = online(*FLEET, f"--scheduler={own_cluster.address}")
    assert done.returncode == 1, done.stderr
    assert "5 of 6 uploaded, 1 failed" in done.stderr
    assert results(tmp_path)[names[0]] == "Every worker that ran this upload has died, so it was given up."
    check_all_finished(service, names[1:], tmp_path)


@pytest.mark.timeout(150)
def test_ctrl_c_leaves_no_process(
    start_cli: StartCli, start_service: StartService, make_catalogue: MakeCatalogue
) -> None:
    """With a cluster of the command's own."""
    make_catalogue()
    with start_service(link_rate=100_000) as service:
        environment = {"APIVIDEO_BASE_URL": service.emulator.url, "APIVIDEO_API_KEY": KEY}
        process = start_cli(*FLEET, "--workers=1", **environment)
        # The worker is a new process of Python, which takes long on a busy machine.
        has_begun = partial(service.emulator.wait_for, lambda each: each.statistics().bytes_received, timeout=90)
        service.portal.call(has_begun)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode in (130, -signal.SIGINT)
        _, alive = psutil.wait_procs(children, timeout=10)
        assert alive == []


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, str]:
    """The variables of docs/fleet.md with which all processes of a cluster prove who they are."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "node.pem"))
    page = (Path(__file__).parents[2] / "docs" / "fleet.md").read_text(encoding="utf-8")
    variables = dict(re.findall(r"^export (DASK_DISTRIBUTED__COMM__\w+)=(.+)$", page, re.MULTILINE))
    assert len(variables) == 8
    return {name: value.replace("/etc/fleet", str(tmp_path)) for name, value in variables.items()}


@pytest.fixture
def tls_scheduler(tmp_path: Path, tls: dict[str, str]) -> Iterator[str]:
    """The address of a Dask scheduler with a worker, started by the commands of docs/fleet.md."""
    environment = {
        **os.environ,
        **tls,
        "APIVIDEO_API_KEY": KEY,
        "XDG_STATE_HOME": str(tmp_path / "state of worker"),
    }
    dask = str(Path(sys.executable).with_name("dask"))
    address_file = tmp_path / "scheduler.json"
    commands = [
        [dask, "scheduler", "--host", "tls://127.0.0.1", "--port", "0", "--no-dashboard"],
        [dask, "worker", "--nthreads", "4", "--no-dashboard", "--no-nanny", "--death-timeout", "30"],
    ]
    processes = []
    try:
        for command in commands:
            command += ["--scheduler-file", str(address_file)]
            with (tmp_path / "dask.log").open("ab") as log:
                processes.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path, env=environment))
        deadline = time.monotonic() + 30
        while not address_file.exists() or not address_file.read_text():
            assert time.monotonic() < deadline, "the scheduler did not start"
            time.sleep(0.05)
        yield json.loads(address_file.read_text())["address"]
    finally:
        for process in processes:
            process.kill()  # a worker would wait for its scheduler
        for process in processes:
            process.wait()


def test_the_commands_of_dask_with_tls(
    online: Cli,
    tls: dict[str, str],
    tls_scheduler: str,
    service: Service,
    make_catalogue: MakeCatalogue,
    tmp_path: Path,
) -> None:
    """The command of docs/fleet.md, with this scheduler and catalogue."""
    names = make_catalogue(4)
    page = (Path(__file__).parents[2] / "docs" / "fleet.md").read_text(encoding="utf-8")
    shown = next(line for line in page.splitlines() if line.endswith("--scheduler tls://SCHEDULER:8786"))
    for name, actual in {
        "catalogue.csv": "m.csv",
        "results.jsonl": "r.jsonl",
        "tls://SCHEDULER:8786": tls_scheduler,
    }.items():
        shown = shown.replace(name, actual)
    done = online(*shown.split()[1:], **tls)
    assert done.returncode == 0, done.stderr
    check_all_finished(service, names, tmp_path)
    for written in ("r.jsonl", "dask.log"):
        assert KEY not in (tmp_path / written).read_text()
    # Without the certificate, nobody reaches the scheduler.
    refused = online(*shown.split()[1:])
    assert refused.returncode == 1
    assert f"There is no Dask scheduler at {tls_scheduler}" in refused.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["fleet", "--manifest=m.csv"], "--manifest and --results"),
        (["fleet", "--manifest=m.csv", "--results=r", "--workers=0"], "--workers must be"),
        (["fleet", "--manifest=m.csv", "--results=r", "--workers=1", "--scheduler=x"], "cannot be used together"),
        (["fleet", "--manifest=m.csv", "--results=r", "--local"], "No such option '--local'"),
        (["fleet", "--manifest=nowhere.csv", "--results=r"], "nowhere.csv"),
    ],
)
def test_wrong_usage(
    flags: list[str], words: str, online: Cli, make_catalogue: MakeCatalogue, service: Service
) -> None:
    make_catalogue(1)
    done = online(*flags)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert not service.emulator.requests
