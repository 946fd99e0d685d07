"""Injected faults: which requests fail, when and how.

Each request has four moments at which a fault can be triggered (`Fault.when`):

    early    after the headers; nothing was checked, and nothing of the body was read
    middle   after half of the body
    late     after the whole body; nothing was stored
    stored   after everything was stored; only the response is missing

`_fault_help` describes the specs for `--fault`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from http import HTTPStatus
from typing import Final, Literal, get_args

from ._fault_spec import format_spec, parse_spec
from ._problems import CATALOGUE
from ._rules import ByteRange, ContentRange, PartRange, WholeFile, is_last

Endpoint = Literal[
    "auth",
    "refresh",
    "create",
    "list",
    "get",
    "update",
    "delete",
    "upload",
    "status",
    "tokens",
    "captions",
    "chapters",
    "thumbnail",
    "watermarks",
    "webhooks",
    "tags",
    "discarded",
    "other",
]
When = Literal["early", "middle", "late", "stored"]
Body = Literal["problem", "html", "empty"]

ENDPOINTS: Final[tuple[Endpoint, ...]] = get_args(Endpoint)
FOREVER: Final = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault that the emulator injects into requests.

    A request must match all selectors: `endpoint` is the kind of request; `part` a part number, "first" or "last"
    (also of byte ranges); `byte` is contained in the request's byte range; `completing` matches the request that
    completes an upload; `attempt` the Nth attempt of the same request. `times` limits how often the fault is
    triggered. `probability` selects requests at random; set `seed` to reproduce them.

    The actions happen in this order: `expire_tokens` and `revoke_tokens` invalidate all access and refresh tokens;
    the request stalls for `stall` seconds (`math.inf` for ever); the rest of its body is read at `slow` bytes per
    second; the connection is `cut`, or the response has this
    `status` (or the error with the slug `problem`), with these `headers`, `retry_after` in seconds, and this kind
    of `body`. `when` is the moment of the actions: "early", before the body is read (default); "middle" of the
    body; "late", after the body; or "stored", before the response (default for `completing`).
    """

    endpoint: Endpoint | None = None
    part: int | Literal["first", "last"] | None = None
    byte: int | None = None
    completing: bool = False
    attempt: int | None = None
    times: int | None = None
    probability: float = 1.0
    seed: int = 0

    expire_tokens: bool = False
    revoke_tokens: bool = False
    stall: float = 0.0
    slow: float | None = None
    cut: bool = False
    status: int | None = None
    problem: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    retry_after: int | None = None
    body: Body | None = None
    when: When | None = None

    def __post_init__(self) -> None:
        actions = (
            self.expire_tokens,
            self.revoke_tokens,
            self.stall,
            self.slow is not None,
            self.cut,
            self.status,
            self.problem,
        )
        rules = {
            "needs an action: status, problem, cut, stall, slow, expire-tokens or revoke-tokens": any(actions),
            f"needs one of the endpoints {', '.join(ENDPOINTS)}": self.endpoint in (None, *ENDPOINTS),
            "needs a part number from 1, 'first' or 'last'": self.part in (None, "first", "last")
            or (isinstance(self.part, int) and self.part >= 1),
            "counts attempts and times from 1": all(n is None or n >= 1 for n in (self.attempt, self.times)),
            "needs a probability from 0 to 1": 0 <= self.probability <= 1,
            "needs a status from 200 to 599": self.status is None or 200 <= self.status <= 599,
            "needs a problem of the service's catalogue": self.problem is None or self.problem in CATALOGUE,
            "cannot both cut and respond": not (self.cut and (self.status or self.problem)),
            "cannot slow a body to 0 bytes per second or less": self.slow is None or self.slow > 0,
            "can slow a body only before its end": self.slow is None or self.when in (None, "early", "middle"),
            "cannot stall for less than 0 seconds": self.stall >= 0,
            f"needs one of the moments {', '.join(get_args(When))}": self.when in (None, *get_args(When)),
            f"needs one of the bodies {', '.join(get_args(Body))}": self.body in (None, *get_args(Body)),
            "with 'completing' is possible only with when=stored": not self.completing
            or self.when in (None, "stored"),
        }
        for rule, holds in rules.items():
            if not holds:
                raise ValueError(f"A fault {rule}.")

    @classmethod
    def parse(cls, spec: str) -> Fault:
        """Parse a spec, such as `part=3,attempt=1:status=503`.

        :raises ValueError: the spec is invalid; the message is one sentence that quotes it
        """
        values = parse_spec(spec, ENDPOINTS)
        try:
            return cls(**values)
        except ValueError as error:
            raise ValueError(f"Fault {spec!r} is not possible: {error}") from None

    @property
    def moment(self) -> When:
        """`when`, with its default."""
        return self.when or ("stored" if self.completing else "early")

    @property
    def answer_status(self) -> int | None:
        """The status of the response; None without a response."""
        return self.status or (CATALOGUE[self.problem][0] if self.problem else None)

    @property
    def spec(self) -> str:
        """The spec of this fault; `parse` returns an equal fault."""
        return format_spec({f.name: getattr(self, f.name) for f in fields(self)}, _DEFAULTS)

    def __str__(self) -> str:
        changed = [f for f in fields(self) if getattr(self, f.name) != _DEFAULTS[f.name]]
        return ",".join(f"{f.name}={getattr(self, f.name)}" for f in changed)


class FaultInjector:
    """The faults of one emulator, and how often each was triggered."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._faults: list[_ActiveFault] = []
        self._count = 0
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault) -> None:
        self._count += 1
        self._faults.append(_ActiveFault(fault, self._count))

    def remove(self, number: int) -> bool:
        """Remove the fault with this number; False if there is none."""
        kept = [active for active in self._faults if active.number != number]
        is_found = len(kept) < len(self._faults)
        self._faults = kept
        return is_found

    def clear(self) -> None:
        self._faults.clear()

    def counts(self) -> list[tuple[Fault, int]]:
        """Each fault with the number of times that it was triggered."""
        return [(active.fault, active.triggered_count) for active in self._faults]

    def numbers(self) -> list[int]:
        """The numbers of the faults, in the same order. They are never reused."""
        return [active.number for active in self._faults]

    def select(self, endpoint: Endpoint, content_range: ContentRange | None, attempt: int) -> RequestFaults:
        """Select the faults for one request."""
        return RequestFaults(
            [
                active
                for active in self._faults
                if matches(active.fault, endpoint, content_range, attempt) and active.selects_at_random()
            ]
        )


class RequestFaults:
    """The faults that are selected for one request, and those that it has `triggered`."""

    def __init__(self, faults: list[_ActiveFault]) -> None:
        self._faults = faults
        self.triggered: list[Fault] = []

    def trigger(self, when: When, *, is_completing: bool = False) -> Iterator[Fault]:
        """Trigger the faults of a moment."""
        for active in self._faults:
            fault = active.fault
            if fault.moment == when and (is_completing or not fault.completing) and active.trigger():
                self.triggered.append(fault)
                yield fault


class _ActiveFault:
    """A fault with its counter and its random numbers."""

    def __init__(self, fault: Fault, number: int) -> None:
        self.fault = fault
        self.number = number
        self.triggered_count = 0
        self._random = random.Random(fault.seed)

    @property
    def is_exhausted(self) -> bool:
        return self.fault.times is not None and self.triggered_count >= self.fault.times

    def selects_at_random(self) -> bool:
        return not self.is_exhausted and (
            self.fault.probability == 1 or self._random.random() < self.fault.probability
        )

    def trigger(self) -> bool:
        """Count this time; False if the fault is exhausted."""
        if self.is_exhausted:
            return False
        self.triggered_count += 1
        return True


def matches(fault: Fault, endpoint: Endpoint, content_range: ContentRange | None, attempt: int) -> bool:
    """Whether a request matches the selectors of a fault, as far as its headers tell."""
    return (
        fault.endpoint in (None, endpoint)
        and fault.attempt in (None, attempt)
        and (fault.part is None or (content_range is not None and _is_part(content_range, fault.part)))
        and (fault.byte is None or (isinstance(content_range, ByteRange) and _covers(content_range, fault.byte)))
        and (not fault.completing or content_range is not None)
    )


def _is_part(content_range: ContentRange, part: int | str) -> bool:
    if part == "last":
        return is_last(content_range)
    if isinstance(content_range, PartRange):
        return content_range.number == (1 if part == "first" else part)
    return part == "first" and (isinstance(content_range, WholeFile) or content_range.first == 0)


def _covers(content_range: ByteRange, byte: int) -> bool:
    return content_range.first <= byte <= content_range.last


_DEFAULTS: Final[dict[str, object]] = {f.name: {} if f.name == "headers" else f.default for f in fields(Fault)}


def fault_title(status: int) -> str:
    """A title for a status that is not in the catalogue."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Fault"
