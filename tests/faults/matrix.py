"""The fault matrix as data: what fails, where, and how the upload has to end.

The specs of a scenario are those of the emulator (see its `Fault`). `{it}` stands for the part that the fault
affects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product
from typing import Final, Literal

from async_uploader._errors import ApiError, AuthenticationError, ConflictError, TransportError, UploaderError
from async_uploader._limits import MIB
from harness.world import PART

Place = Literal["first", "middle", "last", "only"]
Kind = Literal["file", "stream"]
Ranges = Literal["part", "bytes"]
Resume = Literal["no", "local", "anywhere"]

PLACES: Final[tuple[Place, ...]] = ("first", "middle", "last", "only")
KINDS: Final[tuple[Kind, ...]] = ("file", "stream")
RANGES: Final[tuple[Ranges, ...]] = ("part", "bytes")
CONCURRENCY: Final = (1, 4, 16)
RESUME: Final[tuple[Resume, ...]] = ("no", "local", "anywhere")
# For faults of other requests: one source with several parts and one with a single part.
WHOLE: Final[tuple[Place, ...]] = ("last", "only")

SEVERAL_BYTES: Final = 2 * PART + MIB + 1
ONE_BYTES: Final = 3 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Success:
    """The upload succeeds.

    :ivar attempts: number of requests for the affected part; None: any number
    :ivar orphans: number of empty containers that may remain without ``resume``, because their creation response
        was lost
    :ivar logins: number of logins with the API key
    """

    attempts: int | None = None
    orphans: int = 0
    logins: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The upload fails.

    :ivar cause: the type of the error's cause; of the error itself if there is no container
    :ivar status: the status of the response, if there was one
    :ivar resumable: with ``resume``, the container is kept and the same upload resumes it
    :ivar reported_part: the part that the error names: the affected one, any (the first one to fail), or none
    :ivar container: what happens to the container if it is not kept
    :ivar succeeds_with_resume: with ``resume``, the upload succeeds
    :ivar is_accurate: the parts that the error counts are stored; false if the service itself sends wrong
        information
    """

    cause: type[UploaderError]
    status: int | None = None
    resumable: bool = True
    reported_part: Literal["affected", "any", "none"] = "affected"
    container: Literal["deleted", "kept", "not created"] = "deleted"
    is_accurate: bool = True
    orphans: int = 0
    succeeds_with_resume: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Something that fails, and how the upload has to end."""

    name: str
    specs: tuple[str, ...]
    expected: Success | Failure
    places: tuple[Place, ...] = PLACES
    stall_timeout: float = 10.0
    max_attempts: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A scenario in one configuration."""

    scenario: Scenario
    place: Place
    kind: Kind
    ranges: Ranges
    concurrency: int
    resume: Resume

    def __str__(self) -> str:
        resume = "" if self.resume == "no" else f", resume {self.resume}"
        return f"{self.scenario.name}, {self.place} by {self.ranges}, {self.concurrency} parallel{resume}"

    @property
    def size_bytes(self) -> int:
        """The size of the source."""
        return ONE_BYTES if self.place == "only" else SEVERAL_BYTES

    @property
    def part_number(self) -> int:
        """The number of the affected part."""
        return {"first": 1, "middle": 2, "last": 3, "only": 1}[self.place]

    @property
    def specs(self) -> tuple[str, ...]:
        """The faults of the emulator."""
        selector: str = {"first": "part=first", "last": "part=last", "only": "part=last"}.get(self.place, "")
        if not selector:
            selector = "part=2" if self.ranges == "part" else f"byte={PART}"
        return tuple(spec.format(it=f"upload,{selector}") for spec in self.scenario.specs)


def _once(name: str, action: str, *, attempts: int | None = 2, stall_timeout: float = 10.0) -> Scenario:
    return Scenario(
        name=name,
        specs=(f"{{it}},times=1:{action}",),
        expected=Success(attempts=attempts),
        stall_timeout=stall_timeout,
    )


def _other(
    name: str, *specs: str, expected: Success | Failure | None = None, stall_timeout: float = 10.0
) -> Scenario:
    return Scenario(
        name=name,
        specs=specs,
        expected=expected or Success(),
        # The response to an only part is sufficient; its status is read only after a failure.
        places=("last",) if specs[0].startswith("status") else WHOLE,
        stall_timeout=stall_timeout,
        max_attempts=3,
    )


def _always(name: str, *specs: str, expected: Failure, stall_timeout: float = 10.0) -> Scenario:
    return Scenario(name=name, specs=specs, expected=expected, stall_timeout=stall_timeout, max_attempts=2)


_SHORT: Final = 0.5
_ALREADY: Final = "video-content-range-by-part-part-already-sent"

PASSING: Final = (
    # No response.
    _once("lost response", "cut,when=stored", attempts=1),
    _once("cut early", "cut,when=early"),
    _once("cut in the middle", "cut,when=middle"),
    _once("cut late", "cut,when=late"),
    _once("stall early", "stall=forever,when=early", stall_timeout=_SHORT),
    _once("stall in the middle", "stall=forever,when=middle", stall_timeout=_SHORT),
    _once("stall late", "stall=forever,when=late", stall_timeout=_SHORT),
    _once("stall when stored", "stall=forever,when=stored", attempts=1, stall_timeout=_SHORT),
    _once("slow in the middle", "stall=0.2,when=middle", attempts=1),
    _once("slow response", "stall=0.2,when=stored", attempts=1),
    # Refused before the body is read.
    _once("early 401", "status=401"),
    _once("early 408", "status=408"),
    _once("early 429", "status=429"),
    _once("early 429 with Retry-After", "status=429,retry-after=1"),
    _once("early 429 of a proxy", "status=429,body=empty"),
    _once("early 503", "status=503"),
    _once("early 503 with Retry-After", "status=503,retry-after=1"),
    _once("early HTML 502", "status=502,body=html"),
    # Refused after the body is read or stored.
    _once("late 500", "status=500,when=late"),
    _once("late empty 500", "status=500,body=empty,when=late"),
    _once("late 503", "status=503,when=late"),
    _once("late HTML 502", "status=502,body=html,when=late"),
    _once("refused in the middle", "status=503,when=middle"),
    _once("stored but 500", "status=500,when=stored", attempts=1),
    _once("stored but 503", "status=503,when=stored", attempts=1),
    _once("stored but HTML 502", "status=502,body=html,when=stored", attempts=1),
    # Every 2xx is a success.
    _once("stored, HTML 200", "status=200,body=html,when=stored", attempts=1),
    _once("stored, empty 204", "status=204,when=stored", attempts=1),
    # Bearer tokens.
    _once("token expires", "expire-tokens"),
    _once("token expires late", "expire-tokens,when=late", attempts=1),
    Scenario(
        name="tokens revoked",
        specs=("{it},times=1:expire-tokens,revoke-tokens",),
        expected=Success(attempts=2, logins=2),
    ),
    Scenario(
        name="token expires, refresh 503",
        specs=("{it},times=1:expire-tokens", "refresh,times=1:status=503"),
        expected=Success(attempts=2),
    ),
    Scenario(
        name="token expires, lost response to the refresh",
        specs=("{it},times=1:expire-tokens", "refresh,times=1:cut,when=stored"),
        expected=Success(attempts=2, logins=2),
    ),
    # Two faults.
    Scenario(
        name="lost response, status 503",
        specs=("{it},times=1:cut,when=stored", "status,times=1:status=503"),
        expected=Success(attempts=1),
    ),
    Scenario(
        name="lost response, token expires",
        specs=("{it},times=1:cut,when=stored", "status,times=1:expire-tokens"),
        expected=Success(attempts=1),
    ),
    Scenario(
        name="cut twice", specs=("{it},times=2:cut,when=middle",), expected=Success(attempts=3)
    ),
    # The response to the completing part, and later requests.
    _other("lost completing response", "completing,times=1:cut"),
    _other("lost completing response, get 503", "completing,times=1:cut", "get,times=1:status=503"),
    _other("completing but 503", "completing,times=1:status=503"),
    _other("completing response stalls", "completing,times=1:stall=forever", stall_timeout=_SHORT),
    _other("completing, HTML 200", "completing,times=1:status=200,body=html"),
    _other("status cut", "status,times=1:cut"),
    _other("status 503", "status,times=1:status=503"),
    _other("status HTML 502", "status,times=1:status=502,body=html"),
    _other("status empty 500", "status,times=1:status=500,body=empty"),
    _other("status HTML 200", "status,times=1:status=200,body=html"),
    _other("status stalls", "status,times=1:stall=forever", stall_timeout=_SHORT),
    _other("status 429", "status,times=1:status=429"),
    # Earlier requests.
    _other("create cut", "create,times=1:cut"),
    _other("create 503", "create,times=1:status=503"),
    _other("create HTML 502", "create,times=1:status=502,body=html"),
    _other("create stalls", "create,times=1:stall=forever", stall_timeout=_SHORT),
    _other("create 429", "create,times=1:status=429"),
    _other("create 401", "create,times=1:status=401"),
    _other("lost response to create", "create,times=1:cut,when=stored", expected=Success(orphans=1)),
    _other("created but 503", "create,times=1:status=503,when=stored", expected=Success(orphans=1)),
    _other("auth cut", "auth,times=1:cut"),
    _other("auth 503", "auth,times=1:status=503"),
    _other("auth HTML 502", "auth,times=1:status=502,body=html"),
    _other("auth stalls", "auth,times=1:stall=forever", stall_timeout=_SHORT),
    _other("lost response to auth", "auth,times=1:cut,when=stored", expected=Success(logins=2)),
)  # fmt: skip

FAILING: Final = (
    # Permanent.
    _always("413", "{it}:status=413", expected=Failure(cause=ApiError, status=413, resumable=False)),
    _always("400, late", "{it}:problem=uploaded-file-invalid-file,when=late",
            expected=Failure(cause=ApiError, status=400, resumable=False)),
    _always("redirect", "{it}:status=302,header=Location=http://127.0.0.1:9/",
            expected=Failure(cause=ApiError, status=302)),
    _always("sent by another client", f"{{it}}:problem={_ALREADY}",
            expected=Failure(cause=ConflictError, resumable=False, container="kept")),
    # Until the cause is removed.
    _always("413 of a proxy", "{it}:status=413,body=html", expected=Failure(cause=ApiError, status=413)),
    _always("421 of a proxy", "{it}:status=421,body=html", expected=Failure(cause=ApiError, status=421)),
    _always("404 of a proxy", "{it}:status=404,body=html", expected=Failure(cause=ApiError, status=404)),
    _always("400 of a proxy, late", "{it}:status=400,body=empty,when=late",
            expected=Failure(cause=ApiError, status=400)),
    _always("always 401", "{it}:status=401", expected=Failure(cause=AuthenticationError, status=401)),
    _always("403", "{it}:status=403", expected=Failure(cause=AuthenticationError, status=403)),
    _always("always 429", "{it}:status=429,retry-after=0", expected=Failure(cause=ApiError, status=429)),
    _always("always 503", "{it}:status=503", expected=Failure(cause=ApiError, status=503)),
    _always("always late 500", "{it}:status=500,when=late", expected=Failure(cause=ApiError, status=500)),
    _always("always HTML 502", "{it}:status=502,body=html", expected=Failure(cause=ApiError, status=502)),
    _always("always cut", "{it}:cut,when=early", expected=Failure(cause=TransportError)),
    _always("always cut in the middle", "{it}:cut,when=middle", expected=Failure(cause=TransportError)),
    _always("always stalls", "{it}:stall=forever,when=middle", expected=Failure(cause=TransportError),
            stall_timeout=0.3),
    _always("key revoked", "{it}:expire-tokens,revoke-tokens",
            "auth,attempt=2:problem=authentication-invalid-user-credentials",
            expected=Failure(cause=AuthenticationError, status=400, reported_part="any")),
    _always("accepted but never stored", "{it}:status=200,body=html", stall_timeout=_SHORT,
            expected=Failure(cause=UploaderError, reported_part="none", is_accurate=False)),
    # Other requests.
    _other("always status 503", "status:status=503",
           expected=Failure(cause=ApiError, status=503, reported_part="none")),
    _other("status redirects", "status:status=302",
           expected=Failure(cause=ApiError, status=302, reported_part="none")),
    _other("lost completing response, always get 503", "completing,times=1:cut", "get:status=503",
           expected=Failure(cause=ApiError, status=503, reported_part="none")),
    _other("413, delete fails", "upload,part=last:status=413", "delete:status=503",
           expected=Failure(cause=ApiError, status=413, resumable=False, container="kept")),
    _other("413, delete succeeds on retry", "upload,part=last:status=413", "delete,times=1:status=503",
           expected=Failure(cause=ApiError, status=413, resumable=False)),
    _other("413, lost response to delete", "upload,part=last:status=413", "delete,times=1:cut,when=stored",
           expected=Failure(cause=ApiError, status=413, resumable=False)),
    # Before the container is created.
    _other("create 400", "create:problem=invalid-attribute",
           expected=Failure(cause=ApiError, status=400, container="not created")),
    _other("create 403", "create:status=403",
           expected=Failure(cause=AuthenticationError, status=403, container="not created")),
    _other("create redirects", "create:status=302,header=Location=http://127.0.0.1:9/",
           expected=Failure(cause=ApiError, status=302, container="not created")),
    _other("always create 503", "create:status=503",
           expected=Failure(cause=ApiError, status=503, container="not created")),
    _other("create HTML 200", "create:status=200,body=html",
           expected=Failure(cause=UploaderError, container="not created")),
    _other("always lost response to create", "create:cut,when=stored",
           expected=Failure(cause=TransportError, container="not created", orphans=3, succeeds_with_resume=True)),
    _other("wrong key", "auth:problem=authentication-invalid-user-credentials",
           expected=Failure(cause=AuthenticationError, status=400, container="not created")),
    _other("always auth 503", "auth:status=503",
           expected=Failure(cause=ApiError, status=503, container="not created")),
    _other("auth HTML 200", "auth:status=200,body=html",
           expected=Failure(cause=UploaderError, container="not created")),
    _other("always auth stalls", "auth:stall=forever", stall_timeout=0.2,
           expected=Failure(cause=TransportError, container="not created")),
)  # fmt: skip


SCENARIOS: Final = PASSING + FAILING


def all_cases(scenario: Scenario, place: Place) -> Iterator[Case]:
    """A scenario at a place, in all configurations."""
    for configuration in _choices(place):
        yield _case(scenario, configuration)


def _choices(place: Place) -> Iterator[tuple[Place, Kind, Ranges, int, Resume]]:
    for choice in product([place], KINDS, RANGES, CONCURRENCY, RESUME):
        if choice[1] == "file" or choice[4] == "no":  # a stream cannot be resumed
            yield choice


def pairwise_cases() -> dict[str, list[Case]]:
    """For each scenario, cases at the last and the only part, and at the first or a middle one in turn. Together
    the cases contain every pair of values.

    Greedy: for each scenario and place, choose the configuration with the most new pairs.
    """
    seen: set[tuple[object, ...]] = set()
    cases: dict[str, list[Case]] = {}
    left_out: tuple[Place, Place] = ("first", "middle")
    for scenario in SCENARIOS:
        left_out = left_out[::-1]
        for place in (place for place in scenario.places if place != left_out[0]):
            best = max(_choices(place), key=lambda choice: len(_pairs(scenario, choice) - seen))
            seen |= _pairs(scenario, best)
            cases.setdefault(scenario.name, []).append(_case(scenario, best))
    return cases


def _pairs(scenario: Scenario, configuration: tuple[object, ...]) -> set[tuple[object, ...]]:
    return set(combinations(enumerate((scenario.name, *configuration)), 2))


def _case(scenario: Scenario, configuration: tuple[Place, Kind, Ranges, int, Resume]) -> Case:
    place, kind, ranges, concurrency, resume = configuration
    return Case(scenario=scenario, place=place, kind=kind, ranges=ranges, concurrency=concurrency, resume=resume)
