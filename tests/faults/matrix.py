"""The fault matrix as data: what goes wrong, where, and how the upload has to end.

A trouble's SPECs are the emulator's (see its `Fault`); `{it}` stands for the part that is struck.
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
# For what does not strike a certain part: a source of several, and one of one.
WHOLE: Final[tuple[Place, ...]] = ("last", "only")

SEVERAL_BYTES: Final = 2 * PART + MIB + 1
ONE_BYTES: Final = 3 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Finishes:
    """The upload comes through.

    :ivar tries: requests that it takes for the part that is struck; None where that is left open
    :ivar orphans: empty containers that may be left without ``resume``, since the answer to their creation was
        lost
    :ivar logins: how often the key itself is used
    """

    tries: int | None = None
    orphans: int = 0
    logins: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Fails:
    """The upload ends with an error.

    :ivar cause: the type of what is chained; of the error itself where there is no container yet
    :ivar status: the service's, where it answered
    :ivar goes_on: with ``resume``, the container is kept and the same upload goes on
    :ivar names: the part that the error tells: it, any (whichever met the trouble first), or none
    :ivar container: what becomes of it where it is not kept
    :ivar finishes_with_resume: but with ``resume``, the upload finishes
    :ivar tells_truth: what the error says had arrived has; nobody can tell where the service itself lies
    """

    cause: type[UploaderError]
    status: int | None = None
    goes_on: bool = True
    names: Literal["it", "any", "none"] = "it"
    container: Literal["deleted", "left", "never made"] = "deleted"
    tells_truth: bool = True
    orphans: int = 0
    finishes_with_resume: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One thing that goes wrong, and how that has to end."""

    name: str
    specs: tuple[str, ...]
    ends: Finishes | Fails
    places: tuple[Place, ...] = PLACES
    stall_timeout: float = 10.0
    max_attempts: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A trouble in its circumstances."""

    trouble: Trouble
    place: Place
    kind: Kind
    ranges: Ranges
    concurrency: int
    resume: Resume

    def __str__(self) -> str:
        resume = "" if self.resume == "no" else f", resume {self.resume}"
        return f"{self.trouble.name}, {self.place} by {self.ranges}, {self.concurrency} at once{resume}"

    @property
    def size_bytes(self) -> int:
        """Of the source."""
        return ONE_BYTES if self.place == "only" else SEVERAL_BYTES

    @property
    def part_number(self) -> int:
        """Of the part that is struck."""
        return {"first": 1, "middle": 2, "last": 3, "only": 1}[self.place]

    @property
    def specs(self) -> tuple[str, ...]:
        """The faults for the emulator."""
        selector: str = {"first": "part=first", "last": "part=last", "only": "part=last"}.get(self.place, "")
        if not selector:
            selector = "part=2" if self.ranges == "part" else f"byte={PART}"
        return tuple(spec.format(it=f"upload,{selector}") for spec in self.trouble.specs)


def _once(name: str, action: str, *, tries: int | None = 2, stall_timeout: float = 10.0) -> Trouble:
    return Trouble(
        name=name, specs=(f"{{it}},times=1:{action}",), ends=Finishes(tries=tries), stall_timeout=stall_timeout
    )


def _aside(name: str, *specs: str, ends: Finishes | Fails | None = None, stall_timeout: float = 10.0) -> Trouble:
    return Trouble(
        name=name, specs=specs, ends=ends or Finishes(), places=WHOLE, stall_timeout=stall_timeout, max_attempts=3
    )


def _always(name: str, *specs: str, ends: Fails, stall_timeout: float = 10.0) -> Trouble:
    return Trouble(name=name, specs=specs, ends=ends, stall_timeout=stall_timeout, max_attempts=2)


_SHORT: Final = 0.5
_ALREADY: Final = "video-content-range-by-part-part-already-sent"

PASSING: Final = (
    # Nothing came back.
    _once("lost answer", "cut,when=stored", tries=1),
    _once("cut early", "cut,when=early"),
    _once("cut in the middle", "cut,when=middle"),
    _once("cut late", "cut,when=late"),
    _once("stall early", "stall=forever,when=early", stall_timeout=_SHORT),
    _once("stall in the middle", "stall=forever,when=middle", stall_timeout=_SHORT),
    _once("stall late", "stall=forever,when=late", stall_timeout=_SHORT),
    _once("stall once stored", "stall=forever,when=stored", tries=1, stall_timeout=_SHORT),
    _once("slow in the middle", "stall=0.2,when=middle", tries=1),
    _once("slow answer", "stall=0.2,when=stored", tries=1),
    # Refused before the body was read.
    _once("early 401", "status=401"),
    _once("early 408", "status=408"),
    _once("early 429", "status=429"),
    _once("early 429 with Retry-After", "status=429,retry-after=1"),
    _once("early 429 of a proxy", "status=429,body=empty"),
    _once("early 503", "status=503"),
    _once("early 503 with Retry-After", "status=503,retry-after=1"),
    _once("early HTML 502", "status=502,body=html"),
    # Refused after it was read, or after it was stored.
    _once("late 500", "status=500,when=late"),
    _once("late empty 500", "status=500,body=empty,when=late"),
    _once("late 503", "status=503,when=late"),
    _once("late HTML 502", "status=502,body=html,when=late"),
    _once("refused in the middle", "status=503,when=middle"),
    _once("stored but 500", "status=500,when=stored", tries=1),
    _once("stored but 503", "status=503,when=stored", tries=1),
    _once("stored but HTML 502", "status=502,body=html,when=stored", tries=1),
    # 2xx is 2xx.
    _once("stored, HTML 200", "status=200,body=html,when=stored", tries=1),
    _once("stored, empty 204", "status=204,when=stored", tries=1),
    # The token.
    _once("token expires", "expire-tokens"),
    _once("token expires late", "expire-tokens,when=late", tries=1),
    Trouble(
        name="tokens revoked",
        specs=("{it},times=1:expire-tokens,revoke-tokens",),
        ends=Finishes(tries=2, logins=2),
    ),
    Trouble(
        name="token expires, refresh 503",
        specs=("{it},times=1:expire-tokens", "refresh,times=1:status=503"),
        ends=Finishes(tries=2),
    ),
    Trouble(
        name="token expires, answer to the refresh lost",
        specs=("{it},times=1:expire-tokens", "refresh,times=1:cut,when=stored"),
        ends=Finishes(tries=2, logins=2),
    ),
    # Two at once.
    Trouble(
        name="lost answer, status 503",
        specs=("{it},times=1:cut,when=stored", "status,times=1:status=503"),
        ends=Finishes(tries=1),
    ),
    Trouble(
        name="lost answer, token expires",
        specs=("{it},times=1:cut,when=stored", "status,times=1:expire-tokens"),
        ends=Finishes(tries=1),
    ),
    Trouble(
        name="cut, then cut again", specs=("{it},times=2:cut,when=middle",), ends=Finishes(tries=3)
    ),
    # The completing answer, and what comes after it.
    _aside("lost completing answer", "completing,times=1:cut"),
    _aside("lost completing answer, get 503", "completing,times=1:cut", "get,times=1:status=503"),
    _aside("completing but 503", "completing,times=1:status=503"),
    _aside("completing answer stalls", "completing,times=1:stall=forever", stall_timeout=_SHORT),
    _aside("completing, HTML 200", "completing,times=1:status=200,body=html"),
    _aside("status cut", "status,times=1:cut"),
    _aside("status 503", "status,times=1:status=503"),
    _aside("status HTML 502", "status,times=1:status=502,body=html"),
    _aside("status empty 500", "status,times=1:status=500,body=empty"),
    _aside("status HTML 200", "status,times=1:status=200,body=html"),
    _aside("status stalls", "status,times=1:stall=forever", stall_timeout=_SHORT),
    _aside("status 429", "status,times=1:status=429"),
    # What comes before it.
    _aside("create cut", "create,times=1:cut"),
    _aside("create 503", "create,times=1:status=503"),
    _aside("create HTML 502", "create,times=1:status=502,body=html"),
    _aside("create stalls", "create,times=1:stall=forever", stall_timeout=_SHORT),
    _aside("create 429", "create,times=1:status=429"),
    _aside("create 401", "create,times=1:status=401"),
    _aside("lost answer to create", "create,times=1:cut,when=stored", ends=Finishes(orphans=1)),
    _aside("created but 503", "create,times=1:status=503,when=stored", ends=Finishes(orphans=1)),
    _aside("auth cut", "auth,times=1:cut"),
    _aside("auth 503", "auth,times=1:status=503"),
    _aside("auth HTML 502", "auth,times=1:status=502,body=html"),
    _aside("auth stalls", "auth,times=1:stall=forever", stall_timeout=_SHORT),
    _aside("lost answer to auth", "auth,times=1:cut,when=stored", ends=Finishes(logins=2)),
)  # fmt: skip

FAILING: Final = (
    # For good.
    _always("413", "{it}:status=413", ends=Fails(cause=ApiError, status=413, goes_on=False)),
    _always("400, late", "{it}:problem=uploaded-file-invalid-file,when=late",
            ends=Fails(cause=ApiError, status=400, goes_on=False)),
    _always("redirect", "{it}:status=302,header=Location=http://127.0.0.1:9/",
            ends=Fails(cause=ApiError, status=302)),
    _always("someone else", f"{{it}}:problem={_ALREADY}",
            ends=Fails(cause=ConflictError, goes_on=False, container="left")),
    # Until it is cured.
    _always("413 of a proxy", "{it}:status=413,body=html", ends=Fails(cause=ApiError, status=413)),
    _always("421 of a proxy", "{it}:status=421,body=html", ends=Fails(cause=ApiError, status=421)),
    _always("404 of a proxy", "{it}:status=404,body=html", ends=Fails(cause=ApiError, status=404)),
    _always("400 of a proxy, late", "{it}:status=400,body=empty,when=late",
            ends=Fails(cause=ApiError, status=400)),
    _always("401 for ever", "{it}:status=401", ends=Fails(cause=AuthenticationError, status=401)),
    _always("403", "{it}:status=403", ends=Fails(cause=AuthenticationError, status=403)),
    _always("429 for ever", "{it}:status=429,retry-after=0", ends=Fails(cause=ApiError, status=429)),
    _always("503 for ever", "{it}:status=503", ends=Fails(cause=ApiError, status=503)),
    _always("late 500 for ever", "{it}:status=500,when=late", ends=Fails(cause=ApiError, status=500)),
    _always("HTML 502 for ever", "{it}:status=502,body=html", ends=Fails(cause=ApiError, status=502)),
    _always("cut for ever", "{it}:cut,when=early", ends=Fails(cause=TransportError)),
    _always("cut in the middle for ever", "{it}:cut,when=middle", ends=Fails(cause=TransportError)),
    _always("stalls for ever", "{it}:stall=forever,when=middle", ends=Fails(cause=TransportError),
            stall_timeout=0.3),
    _always("key revoked", "{it}:expire-tokens,revoke-tokens",
            "auth,attempt=2:problem=authentication-invalid-user-credentials",
            ends=Fails(cause=AuthenticationError, status=400, names="any")),
    _always("accepted but never stored", "{it}:status=200,body=html", stall_timeout=_SHORT,
            ends=Fails(cause=UploaderError, names="none", tells_truth=False)),
    # Not about a part.
    _aside("status 503 for ever", "status:status=503", ends=Fails(cause=ApiError, status=503, names="none")),
    _aside("status redirects", "status:status=302", ends=Fails(cause=ApiError, status=302, names="none")),
    _aside("lost completing answer, get 503 for ever", "completing,times=1:cut", "get:status=503",
           ends=Fails(cause=ApiError, status=503, names="none")),
    _aside("413 and no delete", "upload,part=last:status=413", "delete:status=503",
           ends=Fails(cause=ApiError, status=413, goes_on=False, container="left")),
    _aside("413 and a late delete", "upload,part=last:status=413", "delete,times=1:status=503",
           ends=Fails(cause=ApiError, status=413, goes_on=False)),
    _aside("413 and a lost delete", "upload,part=last:status=413", "delete,times=1:cut,when=stored",
           ends=Fails(cause=ApiError, status=413, goes_on=False)),
    # Before there is a container.
    _aside("create 400", "create:problem=invalid-attribute",
           ends=Fails(cause=ApiError, status=400, container="never made")),
    _aside("create 403", "create:status=403",
           ends=Fails(cause=AuthenticationError, status=403, container="never made")),
    _aside("create redirects", "create:status=302,header=Location=http://127.0.0.1:9/",
           ends=Fails(cause=ApiError, status=302, container="never made")),
    _aside("create 503 for ever", "create:status=503",
           ends=Fails(cause=ApiError, status=503, container="never made")),
    _aside("create HTML 200", "create:status=200,body=html",
           ends=Fails(cause=UploaderError, container="never made")),
    _aside("answers to create lost for ever", "create:cut,when=stored",
           ends=Fails(cause=TransportError, container="never made", orphans=3, finishes_with_resume=True)),
    _aside("wrong key", "auth:problem=authentication-invalid-user-credentials",
           ends=Fails(cause=AuthenticationError, status=400, container="never made")),
    _aside("auth 503 for ever", "auth:status=503",
           ends=Fails(cause=ApiError, status=503, container="never made")),
    _aside("auth HTML 200", "auth:status=200,body=html",
           ends=Fails(cause=UploaderError, container="never made")),
    _aside("auth stalls for ever", "auth:stall=forever", stall_timeout=0.2,
           ends=Fails(cause=TransportError, container="never made")),
)  # fmt: skip


TROUBLES: Final = PASSING + FAILING


def every_case(trouble: Trouble, place: Place) -> Iterator[Case]:
    """A trouble at a place, in all circumstances."""
    for circumstances in _choices(place):
        yield _case(trouble, circumstances)


def _choices(place: Place) -> Iterator[tuple[Place, Kind, Ranges, int, Resume]]:
    for choice in product([place], KINDS, RANGES, CONCURRENCY, RESUME):
        if choice[1] == "file" or choice[4] == "no":  # a stream cannot be gone on with
            yield choice


def paired_cases() -> dict[str, list[Case]]:
    """By trouble: each at every place, and there every two circumstances together, somewhere.

    Greedy: of the circumstances that are possible for a trouble and a place, those that bring most that is new.
    """
    seen: set[tuple[object, ...]] = set()
    cases: dict[str, list[Case]] = {}
    for trouble in TROUBLES:
        for place in trouble.places:
            best = max(_choices(place), key=lambda choice: len(_pairs(trouble, choice) - seen))
            seen |= _pairs(trouble, best)
            cases.setdefault(trouble.name, []).append(_case(trouble, best))
    return cases


def _pairs(trouble: Trouble, circumstances: tuple[object, ...]) -> set[tuple[object, ...]]:
    return set(combinations(enumerate((trouble.name, *circumstances)), 2))


def _case(trouble: Trouble, circumstances: tuple[Place, Kind, Ranges, int, Resume]) -> Case:
    place, kind, ranges, concurrency, resume = circumstances
    return Case(trouble=trouble, place=place, kind=kind, ranges=ranges, concurrency=concurrency, resume=resume)
