"""What bounds an upload, as `UploadMeasured` reports it: from samples, and measured with the emulator."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from async_uploader import Client, UploadControl, events
from async_uploader._flow.bounds import BoundProfile, BoundSample, relative_loss
from async_uploader._limits import MIB
from async_uploader.emulator import Emulator, Fault
from async_uploader.events import Bound

KEY = "local-key"
MakeFile = Callable[..., Path]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """An upload of two or more parts, and what bounds it."""

    emulator: dict[str, Any] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    client: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    size_bytes: int = 10 * MIB
    is_slow_stream: bool = False
    pause_seconds: float = 0.0
    bound: Bound


SCENARIOS = {
    "rate limit": Scenario(emulator={"rate_limit": 1, "rate_window": 1.5}, bound=Bound.RATE_LIMIT),
    "shared link": Scenario(emulator={"link_rate": 8 * MIB}, size_bytes=20 * MIB, bound=Bound.LINK),
    # 3 parts over 2 connections: the last one is alone, and has the whole link.
    "shared link, fixed": Scenario(
        emulator={"link_rate": 6 * MIB}, options={"concurrency": 2}, size_bytes=14 * MIB, bound=Bound.LINK
    ),
    "slow connections, fixed": Scenario(
        emulator={"connection_rate": 4 * MIB},
        options={"concurrency": 2},
        size_bytes=14 * MIB,
        bound=Bound.CONNECTIONS,
    ),
    "one connection": Scenario(
        emulator={"connection_rate": 5 * MIB}, options={"concurrency": 1}, bound=Bound.NETWORK
    ),
    "slow stream": Scenario(is_slow_stream=True, bound=Bound.SOURCE),
    "limit_rate": Scenario(client={"limit_rate": 5 * MIB}, bound=Bound.BANDWIDTH_LIMIT),
    "slow responses": Scenario(emulator={"latency": 0.7}, bound=Bound.SERVICE),
    "failures": Scenario(faults=("part=2,times=2:status=503,retry-after=1",), bound=Bound.BACKOFF),
    "pause": Scenario(emulator={"link_rate": 20 * MIB}, pause_seconds=1.5, bound=Bound.PAUSE),
}


async def _slow_stream(size_bytes: int) -> AsyncIterator[bytes]:
    for _ in range(size_bytes // MIB):
        await anyio.sleep(0.15)
        yield bytes(MIB)


async def _upload(name: str, scenario: Scenario, make_file: MakeFile) -> None:
    path = make_file(scenario.size_bytes, name)
    source = _slow_stream(scenario.size_bytes) if scenario.is_slow_stream else path
    options = {"part_size": 5 * MIB, "title": name, **scenario.options}
    async with AsyncExitStack() as stack:
        faults = [Fault.parse(spec) for spec in scenario.faults]
        emulator = await stack.enter_async_context(Emulator(faults=faults, **scenario.emulator))
        client = await stack.enter_async_context(Client(api_key=KEY, base_url=emulator.url, **scenario.client))
        control = UploadControl()
        if scenario.pause_seconds:
            control.pause()
            asyncio.get_running_loop().call_later(scenario.pause_seconds, control.resume)
        await client.upload(source, control=control, **options)


async def test_measured_bounds(make_file: MakeFile) -> None:
    """All scenarios at the same time, as each of them mostly waits. The machine may be busy: CPU is ignored."""
    measured: dict[str, events.UploadMeasured] = {}

    def listen(event: events.UploadEvent) -> None:
        if isinstance(event, events.UploadMeasured):
            measured[event.source] = event

    with events.listen(listen, measure=True):
        async with anyio.create_task_group() as group:
            for name, scenario in SCENARIOS.items():
                group.start_soon(_upload, name, scenario, make_file)
    assert len(measured) == len(SCENARIOS)
    for name, scenario in SCENARIOS.items():
        shares = measured["stream" if scenario.is_slow_stream else name].shares
        accepted = {scenario.bound}
        if scenario.bound in (Bound.LINK, Bound.CONNECTIONS):
            accepted.add(Bound.NETWORK)  # on a busy machine, throughput may be too irregular to decide
        assert next(bound for bound in shares if bound is not Bound.CPU) in accepted, (name, shares)
    assert all(sum(event.shares.values()) == pytest.approx(1) for event in measured.values())


async def test_busy_processor(make_file: MakeFile, emulator: Emulator) -> None:
    """While the event loop computes, connections wait for it, whatever they seem to wait for."""
    measured: list[events.UploadEvent] = []

    def compute(_progress: object) -> None:
        until = time.thread_time() + 0.3
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
