"""The files for Kubernetes and SLURM in examples/fleet, and the tables of docs/fleet.md."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml
from distributed.cli.dask_scheduler import main as dask_scheduler
from distributed.cli.dask_worker import main as dask_worker

from async_uploader.cli._upload_flags import FleetFlags
from harness.fleet_plan import table

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "fleet"
PAGE = (ROOT / "docs" / "fleet.md").read_text(encoding="utf-8")


def objects() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text(encoding="utf-8")))


def pods() -> Iterator[dict[str, Any]]:
    for each in objects():
        if "template" in each.get("spec", {}):
            yield each["spec"]["template"]["spec"]


def check_command(words: list[str]) -> None:
    """Parse the options of a command, without running it."""
    if words[0] == "dask":
        command: click.Command = {"scheduler": dask_scheduler, "worker": dask_worker}[words[1]]
        command.make_context(words[1], words[2:])
        return
    assert words[:2] == ["async-uploader", "fleet"]
    names = {word.removeprefix("--") for word in words if word.startswith("--")}
    assert names <= set(FleetFlags.__annotations__) | {"manifest", "results"}


@pytest.mark.parametrize("each", objects(), ids=lambda each: f"{each['kind']} {each['metadata']['name']}")
def test_the_objects_of_kubernetes_are_valid(each: dict[str, Any]) -> None:
    kubernetes_validate.validate(each, "1.31", strict=True)


def test_the_pods_of_kubernetes_fit_together() -> None:
    by_kind = {(each["kind"], each["metadata"]["name"]): each for each in objects()}
    for pod in pods():
        (container,) = pod["containers"]
        check_command(container["command"])
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
        for source in container["envFrom"]:
            if "configMapRef" in source:
                assert ("ConfigMap", source["configMapRef"]["name"]) in by_kind
    variables = by_kind["ConfigMap", "fleet"]["data"]
    assert {f"export {name}={value}" for name, value in variables.items() if "COMM" in name} <= set(
        PAGE.splitlines()
    )
    scheduler = by_kind["Deployment", "fleet-scheduler"]["spec"]["template"]["metadata"]["labels"]
    assert by_kind["Service", "fleet-scheduler"]["spec"]["selector"] == scheduler


DASK = """#!/bin/bash
echo "dask $*" >> commands
if [ $1 = scheduler ]; then
    printf '{\\n  "type": "Scheduler",\\n  "address": "tls://10.0.0.1:33333"\\n}' > "${@: -1}"
fi
exec sleep 60
"""


def test_slurm(tmp_path: Path) -> None:
    """The script runs with programs that record how they are called."""
    programs = {
        "dask": DASK,
        "srun": '#!/bin/bash\nshift\nexec "$@"\n',
        # The commands run at the same time.
        "async-uploader": '#!/bin/bash\nuntil grep wor commands; do sleep 0.1; done\necho "$0 $*" >> commands\n',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", EXAMPLES / "slurm.sh", "c.csv", "r.jsonl"],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert not done.stderr, done.stderr
    commands = [shlex.split(line) for line in (tmp_path / "commands").read_text().splitlines()]
    assert [Path(words[0]).name for words in commands] == ["dask", "dask", "async-uploader"]
    for words in commands:
        check_command([Path(words[0]).name, *words[1:]])
    assert commands[2][1:] == shlex.split(
        "fleet --manifest c.csv --results r.jsonl --scheduler tls://10.0.0.1:33333"
    )
    assert not list(tmp_path.glob("fleet.*"))


def test_the_table_of_durations_is_that_of_the_simulation() -> None:
    for row in table():
        assert row in PAGE, "update docs/fleet.md with: python -m benchmarks.fleet_plan"
