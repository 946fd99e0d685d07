"""What all sweeps share: cases, and what a thread needs to run them."""

from __future__ import annotations

import hashlib
import random
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from anyio.from_thread import BlockingPortal, start_blocking_portal

from async_uploader.emulator import Fault
from harness.forking import Forks
from harness.service import Service, running_service

from .counts import Findings, Kind
from .workspace import Source, Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A scenario, and how to run it.

    :ivar name: unique within the sweep; repeats the case
    """

    name: str
    run: Callable[[Bench, Findings], None]


class Sweep(Protocol):
    """A module of this package.

    The cases of a sweep may depend on the seed. Otherwise the seed selects their order.
    """

    NAME: str

    def cases(self, bench: Bench, seed: int) -> Iterable[Case]:
        """All cases, in an order in which the first ones are a sample of all."""

    def case(self, bench: Bench, name: str) -> Case:
        """One case, by its name."""


@dataclass(slots=True)
class _Shared:
    """What the benches of all threads share.

    :ivar sources: by size in bytes and number
    """

    folder: Path
    forks: Forks
    sources: dict[tuple[int, int], Source] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_verbose: bool = False


class Bench:
    """What a thread needs to run cases: a process that forks, an event loop for emulators, and sources."""

    def __init__(self, shared: _Shared, portal: BlockingPortal) -> None:
        self._shared = shared
        self.portal = portal

    @property
    def forks(self) -> Forks:
        """The process that forks."""
        return self._shared.forks

    def source(self, size_bytes: int, number: int = 0) -> Source:
        """A file of the given size. The same size and number always give the same bytes."""
        shared = self._shared
        with shared.lock:
            key = size_bytes, number
            if key not in shared.sources:
                path = shared.folder / f"{size_bytes}-{number}.mp4"
                content = random.Random(f"{key}").randbytes(size_bytes)
                path.write_bytes(content)
                shared.sources[key] = Source(
                    path=path, size_bytes=size_bytes, sha256=hashlib.sha256(content).hexdigest()
                )
            return shared.sources[key]

    def service(self, *faults: str, **settings: Any) -> AbstractContextManager[Service]:
        """An emulator with faults."""
        settings = {"rate_window": 1.0, **settings}
        return running_service(self.portal, faults=[Fault.parse(fault) for fault in faults], **settings)

    def add_fault(self, service: Service, fault: str) -> None:
        """Add a fault to a running service."""
        self.portal.call(service.emulator.add_fault, Fault.parse(fault))

    @contextmanager
    def workspace(self, findings: Findings) -> Iterator[Workspace]:
        """A directory for one case."""
        folder = Path(tempfile.mkdtemp(dir=self._shared.folder))
        try:
            yield Workspace(self.forks, folder, findings, verbose=self._shared.is_verbose)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def run(self, case: Case) -> Findings:
        """Run a case. An exception of the case is a finding."""
        findings = Findings()
        try:
            case.run(self, findings)
        except Exception as exc:  # noqa: BLE001 - counts as a finding of this case
            findings.add(Kind.WRONG, f"{type(exc).__name__}: {exc}")
        return findings


@contextmanager
def benches(count: int, *, forks: Forks | None = None, verbose: bool = False) -> Iterator[list[Bench]]:
    """Benches that share one process that forks, with files in memory if possible."""
    memory = Path("/dev/shm")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)))
        shared = _Shared(folder=folder, forks=forks or stack.enter_context(Forks()), is_verbose=verbose)
        yield [Bench(shared, stack.enter_context(start_blocking_portal())) for _ in range(count)]


def shuffled(cases: Sequence[Case], seed: int) -> list[Case]:
    """The cases in an order in which the first ones are a sample of all."""
    return random.Random(seed).sample(cases, len(cases))
