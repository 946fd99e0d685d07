"""Log messages of uploads, with and without OpenTelemetry."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from async_uploader import upload
from async_uploader._limits import MIB
from async_uploader.emulator import Emulator
from async_uploader.telemetry import instrument
from harness.forking import Forks


@pytest.fixture
def movie(make_file: Callable[..., Path]) -> Path:
    """Three parts."""
    return make_file(12 * MIB)


def test_without_opentelemetry() -> None:
    """The error says what to install."""
    script = (
        "import sys; sys.modules['opentelemetry'] = sys.modules['opentelemetry.metrics'] = None\n"
        "try: import async_uploader.telemetry\n"
        "except ImportError as error: print(error)"
    )
    output = subprocess.check_output([sys.executable, "-c", script], text=True)
    assert output == "async_uploader.telemetry needs OpenTelemetry: pip install 'async-uploader[otel]'.\n"


RETRIED = """
import asyncio, logging, sys
from async_uploader import upload
from async_uploader.emulator import Emulator, Fault

async def main():
    async with Emulator(faults=[Fault.parse(fault) for fault in sys.argv[2:]]) as emulator:
        await upload(sys.argv[1], api_key="local-key", base_url=emulator.url)

asyncio.run(main())
children = {name for name in logging.root.manager.loggerDict if name.startswith("async")}
assert all(name == "asyncio" or name.startswith("async_uploader") for name in children), children
"""


@pytest.mark.parametrize(
    ("faults", "says"),
    [
        ((), ""),
        (
            ("create,times=1:status=503",),
            "movie.mp4, create: The service responded with 503: Service Unavailable. Retrying",
        ),
    ],
    ids=["all is well", "a retry"],
)
def test_logging_without_configuration(faults: tuple[str, ...], says: str, movie: Path, forks: Forks) -> None:
    """Without configuration, each warning is printed once, and nothing else."""
    done = forks.run("-c", RETRIED, str(movie), *faults, cwd=movie.parent, env=os.environ)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith(says)
    assert done.stderr.count("\n") == bool(says)


def test_one_tree_of_loggers() -> None:
    """All loggers are below ``async_uploader``, so that one level controls them all."""
    root = Path(sys.modules["async_uploader"].__file__ or "").parent
    names = [
        name
        for path in root.rglob("*.py")
        for name in re.findall(r"getLogger\((.*?)\)", path.read_text(encoding="utf-8"))
    ]
    assert len(names) > 5
    assert {name for name in names if not re.fullmatch(r'"async_uploader(\.[a-z.]+)?"', name)} == set()


def test_every_name_is_documented() -> None:
    """Spans, attributes, events and metrics are documented; a table may abbreviate repeated prefixes."""
    program = Path(sys.modules["async_uploader.telemetry"].__file__ or "").read_text(encoding="utf-8")
    names = re.findall(r'"((?:apivideo|error|file|http|network)\.[a-z_.]+)"', program)
    text = (Path(__file__).parents[1] / "docs" / "observability.md").read_text(encoding="utf-8")
    assert len(names) > 15
    assert [
        name for name in names if f"`{name}`" not in text and f"`.{name.rpartition('.')[2]}`" not in text
    ] == []


async def test_a_failing_tracer_ends_no_upload(movie: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its exceptions are logged."""

    class Broken(SpanProcessor):
        def on_start(self, *_: object, **__: object) -> None:
            raise RuntimeError("no room")

    tracing = TracerProvider(shutdown_on_exit=False)
    tracing.add_span_processor(Broken())
    async with Emulator() as emulator:
        with instrument(tracer_provider=tracing) as instrumentation:
            await upload(movie, api_key="local-key", base_url=emulator.url)
    assert not instrumentation._uploads
    assert {record.name for record in caplog.records} == {"async_uploader.telemetry"}
    tracing.shutdown()
