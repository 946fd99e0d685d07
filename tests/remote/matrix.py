"""The fault table of remote sources as data: faults of source and service, and how the upload ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Final, Literal

from async_uploader import ResumeMode
from harness.range_server import SourceFault

Kind = Literal["web", "https", "s3", "store"]
Container = Literal["deleted", "kept", "not created"]

#: A URL by http and https, an object of S3, and one of a store that the caller has configured.
KINDS: Final[tuple[Kind, ...]] = ("web", "https", "s3", "store")
_WEB: Final[tuple[Kind, ...]] = ("web", "https")
SERVICE_FAULTS: Final = (
    "",
    "upload,part=2,times=1:cut,when=middle",
    "upload,part=last,times=1:status=503",
    "upload,part=first,times=1:cut,when=stored",
    "create,times=1:status=503",
)
RESUME: Final[tuple[ResumeMode, ...]] = ("off", "anywhere")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The upload fails.

    :ivar words: part of the message
    :ivar container: what happens to the container; with ``resume="off"``, one that is kept is deleted
    """

    words: str
    container: Container = "deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A source with a fault, and how its upload ends; None: it succeeds."""

    name: str
    faults: tuple[SourceFault, ...] = ()
    headers: Mapping[str, str | None] = field(default_factory=dict)
    honors_conditions: bool = True
    expected: Failure | None = None
    kinds: tuple[Kind, ...] = KINDS
    is_empty: bool = False
    stall_timeout: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A scenario in one configuration."""

    scenario: Scenario
    kind: Kind
    service_fault: str
    resume: ResumeMode

    @property
    def is_web(self) -> bool:
        """Whether the source is a URL of the web."""
        return self.kind in _WEB

    def __str__(self) -> str:
        return f"{self.scenario.name}, {self.kind}, {self.service_fault or 'no fault'}, resume {self.resume}"


def _once(name: str, fault: SourceFault, **options: float) -> Scenario:
    return Scenario(name=name, faults=(fault,), **options)  # type: ignore[arg-type]


def _always(
    name: str, fault: SourceFault, words: str, container: Container = "kept", **options: float
) -> Scenario:
    return Scenario(
        name=name,
        faults=(fault,),
        expected=Failure(words=words, container=container),
        **options,  # type: ignore[arg-type]
    )


_SHORT: Final = 0.3
_CHANGED: Final = Failure(words="has changed during the upload")
_NO_ETAG: Final = {"ETag": None}

PASSING: Final = (
    Scenario(name="no fault"),
    _once("cut at the start", SourceFault(cut_after=0)),
    _once("cut in the middle of a range", SourceFault(cut_after=0.5)),
    _once("cut twice", SourceFault(skip=2, times=2, cut_after=0.5)),
    _once("500", SourceFault(status=500)),
    _once("503", SourceFault(status=503)),
    _once("429", SourceFault(status=429)),
    _once("503 at the inspection", SourceFault(skip=0, status=503)),
    _once("cut at the inspection", SourceFault(skip=0, cut_after=0)),
    _once("stalls at the start", SourceFault(stall_after=0), stall_timeout=_SHORT),
    _once("stalls in the middle", SourceFault(skip=2, stall_after=0.5), stall_timeout=_SHORT),
    _once("ignores a range", SourceFault(ignores_range=True)),
    _once("another range", SourceFault(shifts_range=True)),
    _once("more bytes than requested", SourceFault(surplus_bytes=1000)),
    Scenario(name="always more bytes", faults=(SourceFault(times=None, surplus_bytes=1000),), kinds=_WEB),
    Scenario(name="ignores If-Match", honors_conditions=False),
    Scenario(name="no ETag", headers=_NO_ETAG),
    Scenario(name="weak ETag", headers={"ETag": 'W/"1"'}),
    Scenario(name="neither ETag nor Last-Modified", headers={"ETag": None, "Last-Modified": None}, kinds=_WEB),
    Scenario(
        name="redirect",
        faults=(SourceFault(skip=0, status=302, headers={"Location": "/elsewhere?X-Amz-Signature=y"}),),
        kinds=_WEB,
    ),
)
FAILING: Final = (
    Scenario(name="changes", faults=(SourceFault(skip=2, changes=True),), expected=_CHANGED),
    Scenario(
        name="changes, ignores If-Match",
        faults=(SourceFault(skip=2, changes=True),),
        honors_conditions=False,
        expected=_CHANGED,
    ),
    Scenario(
        name="changes, no ETag", faults=(SourceFault(skip=2, changes=True),), headers=_NO_ETAG, expected=_CHANGED
    ),
    Scenario(
        name="changes, weak ETag",
        faults=(SourceFault(skip=2, times=None, headers={"ETag": 'W/"2"'}),),
        headers={"ETag": 'W/"1"'},
        expected=_CHANGED,
    ),
    _always("403", SourceFault(skip=0, times=None, status=403), "was denied", "not created"),
    _always("401", SourceFault(skip=0, times=None, status=401), "was denied", "not created"),
    _always("403 later", SourceFault(skip=2, times=None, status=403), "was denied"),
    _always("400 later", SourceFault(skip=2, times=None, status=400), "responded with 400"),
    _always("404", SourceFault(skip=0, times=None, status=404), "does not exist", "not created"),
    _always("404 later", SourceFault(skip=2, times=None, status=404), "does not exist", "deleted"),
    _always("416 later", SourceFault(skip=2, times=None, status=416), "has changed", "deleted"),
    Scenario(name="empty", is_empty=True, expected=Failure(words="is empty", container="not created")),
    _always("always 503", SourceFault(times=None, status=503), "responded with 503"),
    _always("always 503 from the start", SourceFault(skip=0, times=None, status=503), "503", "not created"),
    _always("always cut", SourceFault(skip=2, times=None, cut_after=0.5), "cannot be read"),
    _always("always stalls", SourceFault(skip=2, times=None, stall_after=0.5), "no byte", stall_timeout=_SHORT),
    _always(
        "stalls at the inspection", SourceFault(skip=0, times=None, is_silent=True), "cannot be read: no",
        "not created", stall_timeout=0.2,
    ),
    _always("always another range", SourceFault(times=None, shifts_range=True), "cannot be read"),
    Scenario(
        name="no ranges",
        faults=(SourceFault(skip=0, times=None, ignores_range=True),),
        expected=Failure(words="does not support range requests", container="not created"),
        kinds=_WEB,
    ),
    Scenario(
        name="compressed",
        headers={"Content-Encoding": "gzip"},
        expected=Failure(words="(gzip)", container="not created"),
    ),
    Scenario(
        name="redirects in a circle",
        faults=(SourceFault(skip=0, times=None, status=302, headers={"Location": "/movie.mp4"}),),
        expected=Failure(words="redirects too many times", container="not created"),
        kinds=_WEB,
    ),
    Scenario(
        name="redirects to another protocol",
        faults=(SourceFault(skip=0, times=None, status=302, headers={"Location": "ftp://127.0.0.1/movie.mp4"}),),
        expected=Failure(words="the URL cannot be used", container="not created"),
        kinds=_WEB,
    ),
)  # fmt: skip
SCENARIOS: Final = (*PASSING, *FAILING)


def default_cases(scenario: Scenario) -> Iterator[Case]:
    """A web URL and an object of a store: one without a fault of the service, one with it. All alternate."""
    start = SCENARIOS.index(scenario)
    kinds = scenario.kinds[start // 2 % 2 :: 2]
    for number, kind in enumerate(kinds, start=start):
        fault = SERVICE_FAULTS[1 + number // 2 % (len(SERVICE_FAULTS) - 1)]
        if number % 2:
            yield Case(scenario=scenario, kind=kind, service_fault=fault, resume="anywhere")
        else:
            yield Case(scenario=scenario, kind=kind, service_fault="", resume=RESUME[number // 2 % 2])


def all_cases(scenario: Scenario) -> Iterator[Case]:
    """The full product."""
    for kind, fault, resume in product(scenario.kinds, SERVICE_FAULTS, RESUME):
        yield Case(scenario=scenario, kind=kind, service_fault=fault, resume=resume)
