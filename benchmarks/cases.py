"""What is measured: each case compares clients, options or sizes."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from .emulated import FAR_CONNECTION_RATE, FAR_RESPONSE_SECONDS, Emulated
from .nginx import Nginx
from .peers import Job, Peer, script
from .peers.curl import curl
from .remote import FEW_CONNECTIONS, RemoteCases
from .sink import Sink
from .sources import Sources, evict
from .suite import Case, Entry
from .targets import Target
from .units import GIB, KIB, MIB, size_text

OURS: Final = script("ours")
OFFICIAL: Final = script("official")
TUTORIAL: Final = script("tutorial")
STDLIB: Final = script("stdlib")

FIXED: Final = "ours, 4 connections"
MANY: Final = "ours, 32 connections"
DEFAULTS: Final = "ours, defaults"

SHARED_LINK_RATE: Final = 50 * MIB
RATE_LIMIT: Final = 100
LIMITED_PARTS: Final = 201
_PROTOCOLS: Final = {"TLS": "TLS", "plain": "plain HTTP"}
_PART_BYTES: Final = 50 * MIB
_SMALL_PART_BYTES: Final = 5 * MIB
_SMALL_FILE_BYTES: Final = 64 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The sizes of the cases.

    :param growth: file sizes, from the smallest to the largest
    :param window_seconds: the rate limit window; shorter than the service's minute
    """

    runs: int = 5
    main_bytes: int = 2 * GIB
    network_bytes: int = 512 * MIB
    cold_bytes: int = 512 * MIB
    growth: tuple[int, ...] = (1 * GIB, 16 * GIB)
    connections: tuple[int, ...] = ()
    files: tuple[int, ...] = ()
    window_seconds: float = 6.0

    @property
    def limit_bound_seconds(self) -> float:
        """The theoretical minimum for the rate limit case: all windows except the last have to pass."""
        return (math.ceil(LIMITED_PARTS / RATE_LIMIT) - 1) * self.window_seconds


QUICK: Final = Scale(
    runs=3, main_bytes=256 * MIB, network_bytes=128 * MIB, cold_bytes=128 * MIB, growth=(128 * MIB, 512 * MIB),
    window_seconds=2.0,
)  # fmt: skip
USUAL: Final = Scale()
FULL: Final = Scale(
    growth=(1 * GIB, 4 * GIB, 16 * GIB), connections=(1, 2, 4, 8, 16, 32, 64), files=(1, 10, 100, 1_000, 10_000)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The cases of a scale, and the servers and sources that they need."""

    scale: Scale
    sources: Sources
    nginx: Nginx
    sink: Sink
    cold: Path

    def cases(self) -> Iterator[Case]:
        """All cases, the most important ones first. Each creates its sources when it is reached."""
        yield self._startup()
        for transport, target in (("TLS", self.sink.tls), ("plain", self.sink.plain)):
            yield self._peers(
                f"sink-{transport}", f"{_PROTOCOLS[transport]} to a server that discards the bytes", target
            )
        for transport, target in (("TLS", self.nginx.tls), ("plain", self.nginx.plain)):
            yield self._peers(f"nginx-{transport}", f"{_PROTOCOLS[transport]} to nginx", target, has_tutorial=True)
        yield self._far()
        remote = RemoteCases(sources=self.sources, nginx=self.nginx)
        yield remote.near(self.scale.main_bytes)
        yield remote.far(self.scale.network_bytes)
        yield remote.far(self.scale.network_bytes, connections=FEW_CONNECTIONS)
        yield self._shared()
        yield self._limited()
        yield self._growth()
        yield self._cold()
        if self.scale.connections:
            yield self._connections()
        if self.scale.files:
            yield self._files()

    def _startup(self) -> Case:
        one_byte = self.sources.file(1)
        upload = [sys.executable, "-m", "async_uploader", "upload", str(one_byte), "--no-resume"]
        return Case(
            key="startup",
            title="Start-up (whole process)",
            entries=[
                Entry(name="Python", target=self.sink.tls, command=lambda _: [sys.executable, "-c", ""]),
                Entry(
                    name="import aiohttp",
                    target=self.sink.tls,
                    command=lambda _: [sys.executable, "-c", "import aiohttp"],
                ),
                Entry(
                    name="import async_uploader",
                    target=self.sink.tls,
                    command=lambda _: [sys.executable, "-c", "import async_uploader"],
                ),
                Entry(
                    name="import its Client",
                    target=self.sink.tls,
                    command=lambda _: [sys.executable, "-c", "from async_uploader import Client"],
                ),
                Entry(name="1-byte upload", target=self.sink.tls, command=lambda _: upload, payload_bytes=1),
            ],
        )

    def _peers(self, key: str, title: str, target: Target, *, has_tutorial: bool = False) -> Case:
        source = self.sources.file(self.scale.main_bytes)
        fixed = Job(source=source, part_files=tuple(self.sources.parts(source, _PART_BYTES)))
        peers: dict[str, tuple[Peer, Job]] = {
            **({"tutorial, requests": (TUTORIAL, fixed)} if has_tutorial else {}),
            "official client": (OFFICIAL, fixed),
            "curl -Z, 4 connections": (curl, fixed),
            "standard library, 4 threads": (STDLIB, fixed),
            FIXED: (OURS, fixed),
            MANY: (OURS, Job(source=source, part_bytes=None, connections=32)),
            DEFAULTS: (OURS, Job(source=source, part_bytes=None, connections=None)),
        }
        entries = [self._entry(name, peer, job, target) for name, (peer, job) in peers.items()]
        return Case(key=key, title=f"{size_text(self.scale.main_bytes)} over {title}", entries=entries)

    def _entry(
        self,
        name: str,
        peer: Peer,
        job: Job,
        target: Target,
        *,
        before: Callable[[], None] | None = None,
        times: int = 1,
    ) -> Entry:
        source = job.source
        files = list(source.iterdir()) if source.is_dir() else [source]
        return Entry(
            name=name,
            target=target,
            command=partial(peer, job),
            payload_bytes=sum(path.stat().st_size for path in files),
            before=before,
            times=times,
        )

    def _far(self) -> Case:
        source = self.sources.file(self.scale.network_bytes)
        target = self._emulated(connection_rate=FAR_CONNECTION_RATE, latency=FAR_RESPONSE_SECONDS)
        fixed = {
            f"ours, {count} x {size} MiB": Job(source=source, part_bytes=size * MIB, connections=count)
            for count, size in ((16, 16), (32, 16), (32, 8))
        }
        return Case(
            key="far",
            title=f"{size_text(self.scale.network_bytes)} to a distant server: 25 MiB/s per connection, "
            "responses after 0.1 s",
            entries=[
                self._entry("official client", OFFICIAL, Job(source=source), target),
                self._entry(DEFAULTS, OURS, Job(source=source, part_bytes=None, connections=None), target),
                *(self._entry(name, OURS, job, target) for name, job in fixed.items()),
            ],
        )

    def _shared(self) -> Case:
        source = self.sources.file(self.scale.network_bytes)
        target = self._emulated(connection_rate=FAR_CONNECTION_RATE, link_rate=SHARED_LINK_RATE)
        return Case(
            key="shared",
            title=f"{size_text(self.scale.network_bytes)} over a link of 50 MiB/s, 25 MiB/s per connection",
            entries=[self._entry(DEFAULTS, OURS, Job(source=source, part_bytes=None, connections=None), target)],
        )

    def _limited(self) -> Case:
        """Parts of 5 MiB, because the uploader's plan would not reach the limit."""
        source = self.sources.file(LIMITED_PARTS * _SMALL_PART_BYTES)
        target = self._emulated(rate_limit=RATE_LIMIT, rate_window=self.scale.window_seconds)
        window = f"{self.scale.window_seconds:g} s"
        return Case(
            key="limited",
            title=f"{LIMITED_PARTS} parts of 5 MiB, with a rate limit of {RATE_LIMIT} per {window}",
            entries=[
                self._entry(
                    "ours, parts of 5 MiB",
                    OURS,
                    Job(source=source, part_bytes=_SMALL_PART_BYTES, connections=None),
                    target,
                ),
                self._entry(DEFAULTS, OURS, Job(source=source, part_bytes=None, connections=None), target),
            ],
            done=partial(self.sources.drop, source),
        )

    def _growth(self) -> Case:
        return Case(
            key="growth",
            title="File size, over TLS with 4 connections (files of zeros; several uploads of the small ones)",
            entries=[
                self._entry(
                    size_text(size),
                    OURS,
                    Job(source=self.sources.sparse(size), part_bytes=None, connections=4),
                    self.sink.tls,
                    times=max(1, max(self.scale.growth) // size // 2),
                )
                for size in self.scale.growth
            ],
        )

    def _cold(self) -> Case:
        evicted = partial(evict, self.cold)
        jobs = {
            FIXED: Job(source=self.cold),
            DEFAULTS: Job(source=self.cold, part_bytes=None, connections=None),
        }
        return Case(
            key="cold",
            title=f"{size_text(self.scale.cold_bytes)} from a cold disk, over TLS",
            entries=[self._entry(name, OURS, job, self.sink.tls, before=evicted) for name, job in jobs.items()],
        )

    def _connections(self) -> Case:
        source = self.sources.file(self.scale.main_bytes)
        return Case(
            key="connections",
            title=f"Number of connections, {size_text(self.scale.main_bytes)} over TLS to nginx",
            entries=[
                self._entry(str(n), OURS, Job(source=source, part_bytes=None, connections=n), self.nginx.tls)
                for n in self.scale.connections
            ],
        )

    def _files(self) -> Case:
        entries = []
        for count in self.scale.files:
            job = Job(source=self.sources.many(count, _SMALL_FILE_BYTES), part_bytes=None, connections=None)
            entries.append(self._entry(f"ours, {count:,} files", OURS, job, self.sink.tls))
            entries.append(self._entry(f"official, {count:,} files", OFFICIAL, job, self.sink.tls))
        return Case(key="files", title="Many files of 64 KiB, over TLS", entries=entries)

    def _emulated(self, **settings: float) -> Target:
        return Emulated(self.sources.folder, **settings)
