"""Faults to order: which requests go wrong, at which moment, and how.

A request passes four seams, and a fault strikes at one of them (`when`):

    early    the headers are there; nothing of the body was read, nothing was checked
    middle   half of the body was read
    late     the whole body was read; nothing was stored
    stored   all is done and durable; only the answer is missing

How to write a fault in words, for `--fault`, is told in `_fault_spec`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from http import HTTPStatus
from typing import Final, Literal, get_args

from ._fault_spec import parse_words, write_words
from ._problems import CATALOGUE
from ._rules import ByteRange, Part, Range, Whole, is_last

Endpoint = Literal[
    "auth", "refresh", "create", "list", "get", "update", "delete", "upload", "status", "tokens", "other"
]
When = Literal["early", "middle", "late", "stored"]
Body = Literal["problem", "html", "empty"]

ENDPOINTS: Final[tuple[Endpoint, ...]] = get_args(Endpoint)
FOREVER: Final = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong.

    Which requests: all that fit every selector that is given. `endpoint` is a kind of request; `part` a part
    number, "first" or "last" (of byte ranges too); `byte` one that a byte range covers; `completing` the request
    that completes an upload; `attempt` the how-manieth request for the same thing, from 1; `times` how often the
    fault strikes in all; `probability` a dice for each request, repeatable by its `seed`.

    What happens, in this order: access or refresh tokens die; the request stalls for `stall` seconds (`math.inf`
    is for ever); the connection is cut, or a `status` (or the `problem` of that slug) is answered, with `headers`,
    `retry_after` seconds and a `body`.
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
    cut: bool = False
    status: int | None = None
    problem: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    retry_after: int | None = None
    body: Body | None = None
    when: When | None = None

    def __post_init__(self) -> None:
        acts = (self.expire_tokens, self.revoke_tokens, self.stall, self.cut, self.status, self.problem)
        checks = {
            "needs an action: status, problem, cut, stall, expire-tokens or revoke-tokens": any(acts),
            f"knows the endpoints {', '.join(ENDPOINTS)}": self.endpoint in (None, *ENDPOINTS),
            "needs a part number from 1, 'first' or 'last'": self.part in (None, "first", "last")
            or (isinstance(self.part, int) and self.part >= 1),
            "counts attempts and times from 1": all(n is None or n >= 1 for n in (self.attempt, self.times)),
            "needs a probability from 0 to 1": 0 <= self.probability <= 1,
            "needs a status from 200 to 599": self.status is None or 200 <= self.status <= 599,
            "needs a problem of the service's catalogue": self.problem is None or self.problem in CATALOGUE,
            "cannot both cut and answer": not (self.cut and (self.status or self.problem)),
            "cannot stall for less than 0 seconds": self.stall >= 0,
            f"strikes at {', '.join(get_args(When))}": self.when in (None, *get_args(When)),
            f"has the bodies {', '.join(get_args(Body))}": self.body in (None, *get_args(Body)),
            "can tell only at 'stored' which request is completing": not self.completing
            or self.when in (None, "stored"),
        }
        for rule, holds in checks.items():
            if not holds:
                raise ValueError(f"A fault {rule}.")

    @classmethod
    def parse(cls, spec: str) -> Fault:
        """A fault from its SPEC, as `_fault_spec` shows them."""
        found = parse_words(spec, ENDPOINTS)
        try:
            return cls(**found)
        except ValueError as error:
            raise ValueError(f"Fault {spec!r} is not possible: {error}") from None

    @property
    def moment(self) -> When:
        return self.when or ("stored" if self.completing else "early")

    @property
    def answer_status(self) -> int | None:
        return self.status or (CATALOGUE[self.problem][0] if self.problem else None)

    @property
    def spec(self) -> str:
        """This fault in the words that `parse` understands."""
        return write_words({f.name: getattr(self, f.name) for f in fields(self)}, _DEFAULTS)

    def selects(self, endpoint: Endpoint, wanted: Range | None, attempt: int) -> bool:
        """Whether a request fits, as far as its headers tell."""
        return (
            self.endpoint in (None, endpoint)
            and self.attempt in (None, attempt)
            and (self.part is None or (wanted is not None and _is_part(wanted, self.part)))
            and (self.byte is None or (isinstance(wanted, ByteRange) and _covers(wanted, self.byte)))
            and (not self.completing or wanted is not None)
        )

    def __str__(self) -> str:
        given = [f for f in fields(self) if getattr(self, f.name) != _DEFAULTS[f.name]]
        return ",".join(f"{f.name}={getattr(self, f.name)}" for f in given)


class FaultPlan:
    """The faults with what they have done so far."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._faults = [_Live(fault) for fault in faults]

    def add(self, fault: Fault) -> None:
        self._faults.append(_Live(fault))

    def clear(self) -> None:
        self._faults.clear()

    def struck(self) -> list[tuple[Fault, int]]:
        """The faults, each with how often it has struck."""
        return [(live.fault, live.struck) for live in self._faults]

    def arm(self, endpoint: Endpoint, wanted: Range | None, attempt: int) -> ArmedFaults:
        """Throw the dice for one request."""
        chosen = [
            live for live in self._faults if live.fault.selects(endpoint, wanted, attempt) and live.is_rolled()
        ]
        return ArmedFaults(chosen)


class ArmedFaults:
    """The faults that await one request at its seams."""

    def __init__(self, faults: list[_Live]) -> None:
        self._faults = faults
        self.struck: list[Fault] = []

    def strike(self, when: When, *, completing: bool = False) -> Iterator[Fault]:
        for live in self._faults:
            fault = live.fault
            if fault.moment == when and (completing or not fault.completing) and live.spend():
                self.struck.append(fault)
                yield fault


class _Live:
    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self._left = math.inf if fault.times is None else fault.times
        self._dice = random.Random(fault.seed)
        self.struck = 0

    def is_rolled(self) -> bool:
        return self._left > 0 and (self.fault.probability == 1 or self._dice.random() < self.fault.probability)

    def spend(self) -> bool:
        if self._left <= 0:
            return False
        self._left -= 1
        self.struck += 1
        return True


def _is_part(wanted: Range, part: int | str) -> bool:
    if part == "last":
        return is_last(wanted)
    if isinstance(wanted, Part):
        return wanted.number == (1 if part == "first" else part)
    return part == "first" and (isinstance(wanted, Whole) or wanted.first == 0)


def _covers(wanted: ByteRange, byte: int) -> bool:
    return wanted.first <= byte <= wanted.last


_DEFAULTS: Final[dict[str, object]] = {f.name: {} if f.name == "headers" else f.default for f in fields(Fault)}


def fault_title(status: int) -> str:
    """A title for a status that the catalogue has no entry for."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Fault"
