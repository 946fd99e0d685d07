"""Only a connection much slower than the others is replaced: decisions as data, and uploads to slow services."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextvars import Context
from pathlib import Path
from typing import Any
from unittest import mock

import anyio
import pytest

from async_uploader import UploadControl, events
from async_uploader._api import multipart
from async_uploader._api.multipart import BlockPool, PartBody
from async_uploader._errors import SlowConnectionError
from async_uploader._flow import throughput
from async_uploader._flow.bandwidth import Bandwidth
from async_uploader._flow.slow_connections import (
    Checkpoint,
    SlowConnectionPolicy,
    SlowConnections,
    replacement_factor,
)
from async_uploader._flow.throughput import BodyInTransit
from async_uploader._limits import MIB
from harness.world import KEY, PART, QuickClient, service

MakeFile = Callable[..., Path]


def _factor(
    *,
    own_rate: float,
    others_rate: float,
    seconds: float = 5.0,
    together_seconds: float | None = None,
    later_rate: float | None = None,
    part_bytes: int = 16 * MIB,
    resent_bytes: int = 0,
) -> float | None:
    """Five others send at `others_rate` each for `together_seconds`; the connection's rate is `own_rate`, then
    `later_rate`.
    """
    together_seconds = seconds if together_seconds is None else together_seconds
    together_bytes = int(own_rate * together_seconds)
    later_bytes = int((own_rate if later_rate is None else later_rate) * (seconds - together_seconds))
    others_bytes = int(5 * others_rate * together_seconds)
    return replacement_factor(
        SlowConnectionPolicy(),
        first=Checkpoint(0.0, 0, 0, 0.0),
        together=Checkpoint(together_seconds, together_bytes, others_bytes, 5 * together_seconds),
        now=Checkpoint(seconds, together_bytes + later_bytes, others_bytes, 5 * together_seconds),
        part_bytes=part_bytes,
        resent_bytes=resent_bytes,
    )


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param({"own_rate": 1.0, "others_rate": MIB}, MIB, id="1 byte per second"),
        pytest.param({"own_rate": 0.0, "others_rate": MIB}, MIB, id="nothing"),
        pytest.param({"own_rate": MIB / 16, "others_rate": MIB}, 16, id="a sixteenth of the others"),
        pytest.param({"own_rate": MIB / 8, "others_rate": MIB}, None, id="an eighth of the others"),
        pytest.param({"own_rate": 1.0, "others_rate": 1.0}, None, id="a link that is slow as a whole"),
        pytest.param({"own_rate": 1.0, "others_rate": 0.0}, None, id="a link on which nothing moves"),
        pytest.param({"own_rate": 1.0, "others_rate": MIB, "seconds": 2.0}, None, id="too early to tell"),
        pytest.param({"own_rate": 1.0, "others_rate": MIB, "together_seconds": 0.3}, MIB, id="others have ended"),
        pytest.param(
            {"own_rate": 1.0, "others_rate": MIB, "together_seconds": 0.1}, None, id="too short together"
        ),
        pytest.param(
            {"own_rate": MIB, "others_rate": MIB, "together_seconds": 0.3, "later_rate": 0.0},
            None,
            id="slow only since the others have ended: the link may be slow",
        ),
        pytest.param(
            {"own_rate": MIB / 16, "others_rate": MIB, "part_bytes": int(0.4 * MIB)},
            None,
            id="it has nearly ended",
        ),
        pytest.param(
            {"own_rate": 1.0, "others_rate": MIB, "resent_bytes": 3 * MIB}, None, id="too much was sent twice"
        ),
    ],
)
def test_decision(facts: dict[str, Any], expected: float | None) -> None:
    assert _factor(**facts) == (None if expected is None else pytest.approx(expected, rel=0.01))


def test_replacements_send_at_most_a_tenth_again() -> None:
    """However often a part is replaced, and on each connection it trickles after 1 MiB."""
    connections = SlowConnections(SlowConnectionPolicy())
    connections.add(0.0, "other")
    resent_bytes = 0
    for number in range(100):
        begin = 10.0 * number
        connections.add(begin, number)
        for second in range(1, 10):
            now = begin + second
            other_bytes = int(MIB * now)
            delivered = {"other": other_bytes, number: MIB // 2, None: resent_bytes}
            if connections.replacement_factor(now, number, delivered=delivered, part_bytes=16 * MIB) is not None:
                resent_bytes += MIB // 2
                break
        connections.remove(begin + 9.5, number, delivered=dict)
    assert 0 < resent_bytes <= 0.1 * 1000 * MIB


@pytest.fixture
def soon() -> Iterator[None]:
    """Watch connections for half a second."""
    policy = SlowConnectionPolicy(watch_seconds=0.5, others_seconds=0.1, gain_seconds=0.5)
    with mock.patch.object(throughput, "SlowConnectionPolicy", return_value=policy):
        yield


class _Observer:
    def body_started(self, body: BodyInTransit) -> None: ...
    def sent(self, count_bytes: int) -> None: ...
    def body_ended(self, body: BodyInTransit) -> None: ...
    def replacement_factor(self, body: BodyInTransit, size_bytes: int) -> float:  # noqa: ARG002 - the interface
        return 25.0


class _Paused(PartBody):
    """A body that sends nothing: it only waits until the upload is resumed."""

    def __init__(self, control: UploadControl, **facts: Any) -> None:
        reader: Any = None
        super().__init__(
            reader, size_bytes=1, filename="x", form_fields={}, pool=BlockPool(), observer=_Observer(), **facts
        )
        self._transport = asyncio.Transport()
        self.wait_while_paused = control.wait_until_resumed

    async def wait(self) -> None:
        await self._hold_back(1)


@pytest.mark.anyio
@pytest.mark.parametrize("bandwidth", [None, Bandwidth(MIB)], ids=["unlimited", "limited"])
async def test_paused_connection_is_not_slow(bandwidth: Bandwidth | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other uploads go on during the pause. After a long one, the connection cannot be compared with theirs."""
    control = UploadControl()
    body = _Paused(control, bandwidth=bandwidth)
    for short_pause_seconds, expected in ((60.0, 25.0), (-1.0, None)):
        monkeypatch.setattr(multipart, "_SHORT_PAUSE_SECONDS", short_pause_seconds)
        assert body.replacement_factor() == 25.0
        control.pause()
        waiting = asyncio.create_task(body.wait())
        await anyio.wait_all_tasks_blocked()
        assert body.replacement_factor() is None
        control.resume()
        await waiting
        assert body.replacement_factor() == expected


async def _replaced(path: Path, *faults: str, ranges: Any = "part", **settings: Any) -> tuple[list[int], int]:
    """Upload a file; return the parts whose connections were replaced, and the bytes that were sent twice."""
    ended: list[events.PartEnded] = []
    scheduled: list[events.RetryScheduled] = []

    def on_event(event: events.UploadEvent) -> None:
        if isinstance(event, events.PartEnded):
            ended.append(event)
        if isinstance(event, events.RetryScheduled):
            scheduled.append(event)

    async with (
        service(*faults, **settings) as emulator,
        QuickClient(api_key=KEY, base_url=emulator.url) as client,
    ):
        await client.upload(
            path, concurrency=4, part_size=PART, ranges=ranges, on_event=on_event, max_attempts=1, stall_timeout=4
        )
        assert len(emulator.videos) == 1
        assert emulator.statistics().bytes_again == 0  # no byte was stored twice
    assert {event.wait_seconds for event in scheduled} <= {0.0}
    failed = [event for event in ended if event.error is not None]
    assert all(isinstance(event.error, SlowConnectionError) for event in failed)
    assert [event.error for event in failed] == [event.error for event in scheduled]
    return sorted(event.part_number for event in failed), sum(event.sent_bytes for event in failed)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("ranges", ["part", "bytes"])
def test_trickling_connection_is_replaced(make_file: MakeFile, ranges: str) -> None:
    """Even if only one attempt is allowed: nothing has failed.

    With a plain `asyncio.run()`, as users call it. There, anyio has no context in the callbacks of timers.
    """
    fault = f"byte={PART}" if ranges == "bytes" else "part=2"
    upload = _replaced(
        make_file(8 * PART),
        f"upload,{fault},times=1:slow=20000",
        ranges=ranges,
        connection_rate=20 * MIB,
    )
    replaced, _ = Context().run(asyncio.run, upload)
    assert replaced == [2]


@pytest.mark.anyio
@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(
    ("faults", "settings"),
    [
        pytest.param((), {"link_rate": 12 * MIB}, id="a slow link"),
        pytest.param(("upload:slow=4000000",), {}, id="all connections are slow"),
        pytest.param(("upload,part=2:slow=4000000",), {"connection_rate": 20 * MIB}, id="a fifth of the others"),
    ],
)
async def test_others_are_not_replaced(
    make_file: Callable[..., Path], faults: tuple[str, ...], settings: dict[str, Any]
) -> None:
    assert await _replaced(make_file(5 * PART), *faults, **settings) == ([], 0)
