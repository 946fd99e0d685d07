"""What is measured against what."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from .emulated import Emulated
from .nginx import Nginx
from .peers import Job, Peer, script
from .peers.curl import curl
from .sink import Sink
from .sources import Sources, evict
from .suite import Case, Entry
from .targets import Target
from .units import GIB, KIB, MIB, size_text

OURS: Final = script("ours")
OFFICIAL: Final = script("official")
TUTORIAL: Final = script("tutorial")
FLOOR: Final = script("floor")

FIXED: Final = "ours, 4 at once"
MANY: Final = "ours, 32 at once"
DEFAULTS: Final = "ours, defaults"

FAR_CONNECTION_RATE: Final = 25 * MIB
FAR_ANSWER_SECONDS: Final = 0.1
SHARED_LINK_RATE: Final = 50 * MIB
RATE_LIMIT: Final = 100
LIMITED_PARTS: Final = 201
_PART_BYTES: Final = 50 * MIB
_SMALL_PART_BYTES: Final = 5 * MIB
_SMALL_FILE_BYTES: Final = 64 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much of everything.

    :param growth: sizes of files, from the smallest to the largest
    :param window_seconds: of the rate limit, instead of a minute
    """

    runs: int = 5
    main_bytes: int = 2 * GIB
    line_bytes: int = 512 * MIB
    cold_bytes: int = 512 * MIB
    growth: tuple[int, ...] = (1 * GIB, 16 * GIB)
    connections: tuple[int, ...] = ()
    files: tuple[int, ...] = ()
    window_seconds: float = 6.0

    @property
    def limit_bound_seconds(self) -> float:
        """How long the parts of the limited case take at least: all windows but the last have to pass."""
        return (math.ceil(LIMITED_PARTS / RATE_LIMIT) - 1) * self.window_seconds


QUICK: Final = Scale(
    runs=3, main_bytes=256 * MIB, line_bytes=128 * MIB, cold_bytes=128 * MIB, growth=(128 * MIB, 512 * MIB),
    window_seconds=2.0,
)  # fmt: skip
USUAL: Final = Scale()
FULL: Final = Scale(
    growth=(1 * GIB, 4 * GIB, 16 * GIB), connections=(1, 2, 4, 8, 16, 32, 64), files=(1, 10, 100, 1_000, 10_000)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The cases of a scale, with the servers and sources that they need."""

    scale: Scale
    sources: Sources
    nginx: Nginx
    sink: Sink
    cold: Path

    def cases(self) -> Iterator[Case]:
        """All, the most telling first. Each makes its sources when it comes, and drops them when it is done."""
        yield self._startup()
        for transport, target in (("TLS", self.sink.tls), ("plain", self.sink.plain)):
            yield self._peers(f"sink-{transport}", f"{transport}, a server that drops the bytes", target)
        for transport, target in (("TLS", self.nginx.tls), ("plain", self.nginx.plain)):
            yield self._peers(f"nginx-{transport}", f"{transport}, nginx", target, has_tutorial=True)
        yield self._far()
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
            title="start-up, whole process",
            entries=[
                Entry(name="python alone", target=self.sink.tls, command=lambda _: [sys.executable, "-c", ""]),
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
                    name="and its Client",
                    target=self.sink.tls,
                    command=lambda _: [sys.executable, "-c", "from async_uploader import Client"],
                ),
                Entry(name="1-byte upload", target=self.sink.tls, command=lambda _: upload, payload_bytes=1),
            ],
        )

    def _peers(self, key: str, title: str, target: Target, *, has_tutorial: bool = False) -> Case:
        source = self.sources.file(self.scale.main_bytes)
        cut = tuple(self.sources.parts(source, _PART_BYTES))
        fixed = Job(source=source, cut=cut)
        peers: dict[str, tuple[Peer, Job]] = {
            **({"tutorial, requests": (TUTORIAL, fixed)} if has_tutorial else {}),
            "official client": (OFFICIAL, fixed),
            "curl -Z, 4 at once": (curl, fixed),
            "floor, 4 threads": (FLOOR, fixed),
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
        source = self.sources.file(self.scale.line_bytes)
        target = self._emulated(connection_rate=FAR_CONNECTION_RATE, latency=FAR_ANSWER_SECONDS)
        fixed = {
            f"ours, {count} x {size} MiB": Job(source=source, part_bytes=size * MIB, connections=count)
            for count, size in ((16, 16), (32, 16), (32, 8))
        }
        return Case(
            key="far",
            title=f"{size_text(self.scale.line_bytes)} to a far server: 25 MiB/s a connection, 0.1 s an answer",
            entries=[
                self._entry("official client", OFFICIAL, Job(source=source), target),
                self._entry(DEFAULTS, OURS, Job(source=source, part_bytes=None, connections=None), target),
                *(self._entry(name, OURS, job, target) for name, job in fixed.items()),
            ],
        )

    def _shared(self) -> Case:
        source = self.sources.file(self.scale.line_bytes)
        target = self._emulated(connection_rate=FAR_CONNECTION_RATE, link_rate=SHARED_LINK_RATE)
        return Case(
            key="shared",
            title=f"{size_text(self.scale.line_bytes)} over a link of 50 MiB/s, 25 MiB/s a connection",
            entries=[self._entry(DEFAULTS, OURS, Job(source=source, part_bytes=None, connections=None), target)],
        )

    def _limited(self) -> Case:
        """Small parts on purpose: those of the plan would not come near the limit."""
        source = self.sources.file(LIMITED_PARTS * _SMALL_PART_BYTES)
        target = self._emulated(rate_limit=RATE_LIMIT, rate_window=self.scale.window_seconds)
        window = f"{self.scale.window_seconds:g} s"
        return Case(
            key="limited",
            title=f"{LIMITED_PARTS} parts of 5 MiB where {RATE_LIMIT} are allowed every {window}",
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
            title="size, over TLS, 4 at once (of zeros; small ones several times over)",
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
            title=f"connections, {size_text(self.scale.main_bytes)} over TLS, nginx",
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
        return Case(key="files", title="files of 64 KiB, over TLS", entries=entries)

    def _emulated(self, **settings: float) -> Target:
        return Emulated(self.sources.folder, **settings)
