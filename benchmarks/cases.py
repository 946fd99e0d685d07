"""What is measured: each case compares clients, options or sizes."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from harness.shaped_link import why_no_shaped_link

from .emulated import FAR_CONNECTION_RATE, FAR_RESPONSE_SECONDS, Emulated
from .nginx import Nginx
from .peers import Job, Peer, script
from .peers.curl import curl
from .remote import FEW_CONNECTIONS, RemoteCases
from .shaped import Shaped
from .sink import Sink
from .sources import Sources, evict
from .suite import Case, Entry
from .targets import Address, Loaded, Target
from .units import GIB, KIB, MIB, size_text

OURS: Final = script("ours")
OFFICIAL: Final = script("official")
TUTORIAL: Final = script("tutorial")
STDLIB: Final = script("stdlib")

OFFICIAL_CLIENT: Final = "official client"
CURL: Final = "curl -Z, 4 connections"
FIXED: Final = "ours, 4 connections"
MANY: Final = "ours, 32 connections"
DEFAULTS: Final = "ours, defaults"
CHECKSUM: Final = "ours, --checksum"
STREAM: Final = "ours, a stream"
LIMITED: Final = "ours, --limit-rate 50 MiB/s"
PYTHON: Final = "Python"

SHARED_LINK_RATE: Final = 50 * MIB
LINK_RATES: Final = (2 * MIB, 8 * MIB, SHARED_LINK_RATE)
LIMIT_RATE: Final = 50 * MIB
RATE_LIMIT: Final = 100
LIMITED_PARTS: Final = 201
_PROTOCOLS: Final = {"TLS": "TLS", "plain": "plain HTTP"}
_PART_BYTES: Final = 50 * MIB
_SMALL_PART_BYTES: Final = 5 * MIB
_SMALL_FILE_BYTES: Final = 64 * KIB
_SLOW_RUNS: Final = 2
_STARTUPS: Final = 3
_MANY_FILES: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The sizes of the cases.

    :param main_bytes: the file that is compared with other clients
    :param middle_bytes: a file for which start-up matters
    :param link_seconds: uploads over shared links are cancelled after this time
    :param files: numbers of small files
    :param window_seconds: the rate limit window; shorter than the service's minute
    :param growth: file sizes, from the smallest to the largest; empty: not measured
    :param connections: numbers of connections; empty: not measured
    :param has_all: whether to measure further clients, targets and distant sources, too
    """

    runs: int = 3
    main_bytes: int = 4 * GIB
    middle_bytes: int = 1 * GIB
    network_bytes: int = 512 * MIB
    cold_bytes: int = 512 * MIB
    link_seconds: float = 6.0
    files: tuple[int, ...] = (1_000, 10_000)
    window_seconds: float = 4.0
    growth: tuple[int, ...] = ()
    connections: tuple[int, ...] = ()
    has_all: bool = False

    @property
    def limit_bound_seconds(self) -> float:
        """The theoretical minimum for the rate limit case: all windows except the last have to pass."""
        return (math.ceil(LIMITED_PARTS / RATE_LIMIT) - 1) * self.window_seconds


QUICK: Final = Scale(
    runs=2, main_bytes=256 * MIB, middle_bytes=128 * MIB, network_bytes=64 * MIB, cold_bytes=128 * MIB,
    link_seconds=2.0, files=(20,), window_seconds=2.0,
)  # fmt: skip
USUAL: Final = Scale()
FULL: Final = Scale(
    runs=5, growth=(1 * GIB, 4 * GIB, 16 * GIB), connections=(1, 2, 4, 8, 16, 32, 64),
    files=(1, 10, 100, 1_000, 10_000), window_seconds=6.0, has_all=True,
)  # fmt: skip


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
        scale = self.scale
        yield self._startup()
        for transport, target in (("TLS", self.sink.tls), ("plain", self.sink.plain)):
            title = f"{_PROTOCOLS[transport]} to a server that discards the bytes"
            yield self._peers(f"sink-{transport}", title, target, has_official=transport == "plain")
        yield self._options()
        if scale.has_all:
            for transport, target in (("TLS", self.nginx.tls), ("plain", self.nginx.plain)):
                title = f"{_PROTOCOLS[transport]} to nginx"
                yield self._peers(f"nginx-{transport}", title, target, has_tutorial=True)
        yield self._far()
        remote = RemoteCases(sources=self.sources, nginx=self.nginx)
        yield replace(remote.near(scale.network_bytes), max_runs=None if scale.has_all else _SLOW_RUNS)
        if scale.has_all:
            yield remote.far(scale.network_bytes)
            yield remote.far(scale.network_bytes, connections=FEW_CONNECTIONS)
        yield self._shared()
        yield self._paced()
        yield self._limited()
        yield self._cold()
        yield from map(self._files, scale.files)
        if scale.growth:
            yield self._growth()
        if scale.connections:
            yield self._connections()

    def _startup(self) -> Case:
        upload = [sys.executable, "-m", "async_uploader", "upload", str(self.sources.file(1)), "--no-resume"]
        programs = {"import aiohttp": "import aiohttp", "import async_uploader": "import async_uploader"}
        programs["import its Client"] = "from async_uploader import Client"
        commands = {name: [sys.executable, "-c", program] for name, program in ({PYTHON: ""} | programs).items()}
        return Case(
            key="startup",
            title="Start-up (whole process)",
            entries=[
                Entry(name=name, target=self.sink.tls, command=partial(_command, words), times=_STARTUPS)
                for name, words in {**commands, "1-byte upload": upload}.items()
            ],
        )

    def _peers(
        self, key: str, title: str, target: Target, *, has_tutorial: bool = False, has_official: bool = False
    ) -> Case:
        source = self.sources.file(self.scale.main_bytes)
        fixed = Job(source=source, part_files=tuple(self.sources.parts(source, _PART_BYTES)))
        peers: dict[str, tuple[Peer, Job]] = {CURL: (curl, fixed), FIXED: (OURS, fixed)}
        if has_official or self.scale.has_all:
            peers[OFFICIAL_CLIENT] = (OFFICIAL, fixed)
        if has_tutorial:
            peers["tutorial, requests"] = (TUTORIAL, fixed)
        if self.scale.has_all:
            peers["standard library, 4 threads"] = (STDLIB, fixed)
            peers[MANY] = (OURS, Job(source=source, part_bytes=None, connections=32))
            peers[DEFAULTS] = (OURS, Job(source=source, part_bytes=None, connections=None))
        entries = [self._entry(name, peer, job, target) for name, (peer, job) in peers.items()]
        return Case(key=key, title=f"{size_text(self.scale.main_bytes)} over {title}", entries=entries)

    def _options(self) -> Case:
        """Options and sources that cost something, compared with the plain upload of the same file."""
        source = self.sources.file(self.scale.middle_bytes)
        fixed = Job(source=source, part_files=tuple(self.sources.parts(source, _PART_BYTES)))
        peers: dict[str, tuple[Peer, Job]] = {
            CURL: (curl, fixed),
            FIXED: (OURS, fixed),
            CHECKSUM: (OURS, replace(fixed, options=("--checksum",))),
            STREAM: (OURS, replace(fixed, options=("--stream",))),
        }
        return Case(
            key="options",
            title=f"{size_text(self.scale.middle_bytes)} over TLS to a server that discards the bytes",
            entries=[self._entry(name, peer, job, self.sink.tls) for name, (peer, job) in peers.items()],
        )

    def _paced(self) -> Case:
        source = self.sources.file(self.scale.network_bytes)
        job = Job(source=source, part_bytes=None, connections=None, options=("--limit-rate", str(LIMIT_RATE)))
        return Case(
            key="limit-rate",
            title=f"{size_text(self.scale.network_bytes)} over TLS, limited to 50 MiB/s by the uploader",
            entries=[self._entry(LIMITED, OURS, job, self.sink.tls)],
            max_runs=_SLOW_RUNS,
        )

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
                *(
                    [self._entry(OFFICIAL_CLIENT, OFFICIAL, Job(source=source), target)]
                    if self.scale.has_all
                    else ()
                ),
                self._entry(DEFAULTS, OURS, Job(source=source, part_bytes=None, connections=None), target),
                *(self._entry(name, OURS, job, target) for name, job in fixed.items()),
            ],
        )

    def _shared(self) -> Case:
        """The connections count, so the uploads are cancelled after some seconds. Their source is long enough."""
        rates = LINK_RATES
        source = self.sources.sparse(int(2 * max(rates) * self.scale.link_seconds))
        job = Job(
            source=source,
            part_bytes=None,
            connections=None,
            options=("--max-seconds", str(self.scale.link_seconds)),
        )
        targets: dict[str, Target] = {}
        for rate in rates:
            link = self._emulated(connection_rate=FAR_CONNECTION_RATE, link_rate=rate)
            targets[f"{size_text(rate)}/s"] = link
            targets[f"{size_text(rate)}/s, loaded"] = Loaded(link)
            if why_no_shaped_link() is None:
                targets[f"{size_text(rate)}/s, real TCP"] = Shaped(self.sources.folder, link_rate=rate)
        if reason := why_no_shaped_link():
            print(f"shared: no real TCP: {reason}", file=sys.stderr)
        return Case(
            key="shared",
            title=f"{self.scale.link_seconds:g} s of an upload over a shared link, 25 MiB/s per connection",
            entries=[
                replace(self._entry(name, OURS, job, target), payload_bytes=0) for name, target in targets.items()
            ],
            max_runs=_SLOW_RUNS,
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
            max_runs=_SLOW_RUNS,
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

    def _files(self, count: int) -> Case:
        job = Job(source=self.sources.many(count, _SMALL_FILE_BYTES), part_bytes=None, connections=None)
        return Case(
            key=f"files-{count}",
            title=f"{count:,} files of 64 KiB, over TLS",
            entries=[
                self._entry(OFFICIAL_CLIENT, OFFICIAL, job, self.sink.tls),
                self._entry(DEFAULTS, OURS, job, self.sink.tls),
            ],
            max_runs=1 if count > _MANY_FILES else None,
        )

    def _emulated(self, **settings: float) -> Target:
        return Emulated(self.sources.folder, **settings)


def _command(words: list[str], _address: Address) -> list[str]:
    return words
