"""What bounds an upload, as `UploadMeasured` reports it: from samples, and measured with the emulator."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest

from async_uploader import Client, UploadControl, events
from async_uploader._flow.bounds import BoundProfile, BoundSample, relative_loss
from async_uploader._limits import MIB
from async_uploader._uploads import measurement
from async_uploader._uploads.job import Job
from async_uploader._uploads.measurement import Measurement
from async_uploader.emulator import Emulator, Fault
from async_uploader.events import Bound

KEY = "local-key"
MakeFile = Callable[..., Path]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """An upload of two parts that does not get on."""

    emulator: dict[str, Any] = field(default_factory=dict)
    fault: str | None = None
    client: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    is_stream: bool = False
    is_paused: bool = False
    bound: Bound


SCENARIOS = {
    "rate limit": Scenario(emulator={"rate_limit": 1, "rate_window": 60}, bound=Bound.RATE_LIMIT),
    "slow network": Scenario(emulator={"link_rate": 100_000}, bound=Bound.NETWORK),
    "slow network, fixed concurrency": Scenario(
        emulator={"connection_rate": 100_000}, options={"concurrency": 1}, bound=Bound.NETWORK
    ),
    "slow stream": Scenario(is_stream=True, bound=Bound.SOURCE),
    "limit_rate": Scenario(client={"limit_rate": 50_000}, bound=Bound.BANDWIDTH_LIMIT),
    "slow responses": Scenario(emulator={"latency": 60}, bound=Bound.SERVICE),
    "failures": Scenario(fault="part=2,times=9:status=503,retry-after=60", bound=Bound.BACKOFF),
    "pause": Scenario(is_paused=True, bound=Bound.PAUSE),
}
_SIZE_BYTES = 6 * MIB
# `test_profile` tells these apart.
_SENDING = {Bound.LINK, Bound.CONNECTIONS, Bound.NETWORK}


class _Recorded(Measurement):
    """Its intermediate result can be read."""

    all: ClassVar[list[_Recorded]] = []

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.title = job.payload["title"]
        self.all.append(self)

    @property
    def bound(self) -> Bound | None:
        """The largest bound apart from the processor: the machine may be busy."""
        return next((bound for bound in self._profile.shares() if bound is not Bound.CPU), None)


async def _stalling_stream() -> AsyncIterator[bytes]:
    yield bytes(_SIZE_BYTES)
    await anyio.sleep_forever()


async def _upload_until_measured(name: str, scenario: Scenario, path: Path) -> None:
    """Upload until the expected bound is the largest. That takes as long as the machine needs."""
    options = {"part_size": 5 * MIB, "title": name, "control": UploadControl(), **scenario.options}
    async with AsyncExitStack() as stack:
        faults = [Fault.parse(scenario.fault)] if scenario.fault else []
        emulator = await stack.enter_async_context(Emulator(faults=faults, **scenario.emulator))
        client = await stack.enter_async_context(Client(api_key=KEY, base_url=emulator.url, **scenario.client))
        if scenario.is_paused:
            options["control"].pause()
        upload = asyncio.create_task(client.upload(_stalling_stream() if scenario.is_stream else path, **options))
        accepted = _SENDING if scenario.bound in _SENDING else {scenario.bound}
        while not any(one.title == name and one.bound in accepted for one in _Recorded.all):
            await asyncio.wait([upload], timeout=0.02)
            assert not upload.done(), upload
        upload.cancel()
        await asyncio.wait([upload])


async def test_measured_bounds(make_file: MakeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """All scenarios at the same time, as each of them only waits."""
    monkeypatch.setattr(measurement, "Measurement", _Recorded)
    monkeypatch.setattr(_Recorded, "all", [])
    path = make_file(0)
    os.truncate(path, _SIZE_BYTES)
    measured: list[events.UploadMeasured] = []

    def listen(event: events.UploadEvent) -> None:
        if isinstance(event, events.UploadMeasured):
            measured.append(event)

    with events.listen(listen, measure=True):
        async with anyio.create_task_group() as group:
            for name, scenario in SCENARIOS.items():
                group.start_soon(_upload_until_measured, name, scenario, path)
    assert len(measured) == len(SCENARIOS)
    assert all(sum(event.shares.values()) == pytest.approx(1) for event in measured)
    # The emulator limits the rate by reading slowly.
    assert any((event.receive_window_share or 0) > 0.3 for event in measured)


async def test_busy_processor(make_file: MakeFile, emulator: Emulator) -> None:
    """While the event loop computes, connections wait for it, whatever they seem to wait for."""
    measured: list[events.UploadEvent] = []

    def compute(_progress: object) -> None:
        until = time.thread_time() + 0.2
        while time.thread_time() < until:
            pass

    with events.listen(measured.append, measure=True):
        async with Client(api_key=KEY, base_url=emulator.url) as client:
            await client.upload(make_file(6 * MIB), on_progress=compute)
    (event,) = (event for event in measured if isinstance(event, events.UploadMeasured))
    assert next(iter(event.shares)) is Bound.CPU
    assert isinstance(measured[-1], events.UploadEnded)


async def test_nothing_is_measured_unless_asked_for(make_file: MakeFile, emulator: Emulator) -> None:
    """Other listeners do not cause a measurement."""
    received: list[events.UploadEvent] = []
    async with Client(api_key=KEY, base_url=emulator.url) as client:
        with events.listen(received.append):
            await client.upload(make_file(1000), on_event=received.append)
    assert received
    assert not any(isinstance(event, events.UploadMeasured) for event in received)


def _sample(*waits: Bound, seconds: float = 1.0, **values: Any) -> BoundSample:
    return BoundSample(**{"seconds": seconds, "waits": waits, "busy_seconds": 0.0, **values})


N, RATE, SOURCE = Bound.NETWORK, Bound.RATE_LIMIT, Bound.SOURCE
PROFILES: dict[str, tuple[list[BoundSample], dict[Bound, float]]] = {
    "nothing": ([], {Bound.SERVICE: 1.0}),
    "between requests": ([_sample()], {Bound.SERVICE: 1.0}),
    "divided equally": ([_sample(RATE, RATE, RATE, N)], {RATE: 0.75, N: 0.25}),
    "by time": ([_sample(RATE, seconds=3), _sample(SOURCE)], {RATE: 0.75, SOURCE: 0.25}),
    "a busy processor": ([_sample(N, SOURCE, busy_seconds=0.9)], {Bound.CPU: 1.0}),
    "a busy processor, but a wait with its own cause": ([_sample(RATE, busy_seconds=0.9)], {RATE: 1.0}),
    "an idle processor": ([_sample(SOURCE, busy_seconds=0.5)], {SOURCE: 1.0}),
    "a stopped process": (
        [_sample(N, seconds=100, planned_seconds=1), _sample(RATE, seconds=3)],
        {RATE: 0.75, N: 0.25},
    ),
    "a late sample of a busy processor": (
        [_sample(N, seconds=3, planned_seconds=1, busy_seconds=2.9), _sample(RATE)],
        {Bound.CPU: 0.75, RATE: 0.25},
    ),
    "unknown at first": ([_sample(N), _sample(N, are_more_worthwhile=False)], {Bound.LINK: 1.0}),
    "the largest number": ([_sample(N), _sample(N, are_more_worthwhile=True)], {Bound.CONNECTIONS: 1.0}),
    "fixed, one connection": ([_sample(N, moved_bytes=100)], {N: 1.0}),
    "fixed, half of the connections are as fast": (
        [_sample(N, N, moved_bytes=100, seconds=2), _sample(N, moved_bytes=50)],
        {Bound.LINK: 1.0},
    ),
    "fixed, half of the connections have half of the throughput": (
        [_sample(N, N, moved_bytes=100, seconds=2), _sample(N, moved_bytes=25)],
        {Bound.CONNECTIONS: 1.0},
    ),
    "fixed, not clear": (
        [_sample(N, N, moved_bytes=100, seconds=2), _sample(N, moved_bytes=37)],
        {N: 1.0},
    ),
    "fixed, not sending": (
        [_sample(N, N, moved_bytes=100, seconds=2), _sample(N, SOURCE, moved_bytes=25)],
        {N: 5 / 6, SOURCE: 1 / 6},
    ),
}


@pytest.mark.parametrize("name", PROFILES)
def test_profile(name: str) -> None:
    samples, shares = PROFILES[name]
    profile = BoundProfile()
    for sample in samples:
        profile.add(sample)
    assert profile.shares() == pytest.approx(shares)
    assert list(profile.shares().values()) == sorted(profile.shares().values(), reverse=True)


@pytest.mark.parametrize(
    ("moved", "loss"),
    [
        ({}, None),
        ({4: (10.0, 1000)}, None),
        ({4: (10.0, 0)}, None),
        ({4: (10.0, 1000), 2: (0.1, 5)}, None),  # too short
        ({4: (10.0, 1000), 2: (2.0, 100)}, 1.0),
        ({4: (10.0, 1000), 2: (2.0, 200)}, 0.0),
        ({4: (10.0, 1000), 8: (2.0, 400)}, None),  # more connections than usual prove nothing
    ],
)
def test_relative_loss(moved: dict[int, tuple[float, int]], loss: float | None) -> None:
    assert relative_loss(moved) == pytest.approx(loss)
