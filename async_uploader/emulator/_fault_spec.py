"""A fault in words: `SELECTORS:ACTIONS`, each a list separated by commas.

    part=3,attempt=1:status=503,retry-after=2       part 3 is refused once, before its body is read
    completing:cut                                  the answer to the completing part is lost
    upload,probability=0.05,seed=7:cut,when=middle  one upload in twenty breaks off half-way
    part=first:stall=forever,when=late              the answer to the first part never comes
    create,times=2:status=502,body=html             a proxy's page instead of the first two answers
    status:problem=too-many-requests                by the service's own name for it
    part=2:expire-tokens                            every access token dies as part 2 arrives
    auth:status=302,header=Location=http://x/       a redirect

Selectors: an endpoint (auth, refresh, create, list, get, update, delete, upload, status, tokens, other, or * for
all), part=N|first|last, byte=N, completing, attempt=N, times=N, probability=P, seed=N.
Actions: status=N, problem=SLUG, cut, stall=SECONDS|forever, expire-tokens, revoke-tokens; and how:
when=early|middle|late|stored, retry-after=SECONDS, header=NAME=VALUE, body=problem|html|empty.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

_Parser = Callable[[str], Any]


def _part(text: str) -> int | str:
    return text if text in ("first", "last") else int(text)


def _seconds(text: str) -> float:
    return math.inf if text == "forever" else float(text)


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and text.isascii() and text.isprintable()):
        raise ValueError
    return name, value


# None stands for words without a value.
_SELECTORS: Final[dict[str, _Parser | None]] = {
    "part": _part,
    "byte": int,
    "completing": None,
    "attempt": int,
    "times": int,
    "probability": float,
    "seed": int,
    "*": None,
}
_ACTIONS: Final[dict[str, _Parser | None]] = {
    "status": int,
    "problem": str,
    "cut": None,
    "stall": _seconds,
    "expire-tokens": None,
    "revoke-tokens": None,
    "when": str,
    "retry-after": int,
    "header": _header,
    "body": str,
}


def parse_words(spec: str, endpoints: Collection[str]) -> dict[str, Any]:
    """The words of a SPEC as a fault's fields.

    :raises ValueError: for a word or a value that means nothing, in one sentence.
    """
    selectors, colon, actions = spec.partition(":")
    if not colon:
        raise ValueError(f"Fault {spec!r} must read SELECTORS:ACTIONS, as in 'part=3:status=503'.")
    found: dict[str, Any] = {}
    for word in _words(selectors):
        if word not in endpoints:
            _parse_word(spec, word, "selector", _SELECTORS | dict.fromkeys(endpoints), found)
        elif "endpoint" in found:
            raise ValueError(f"Fault {spec!r} names two endpoints.")
        else:
            found["endpoint"] = word
    for word in _words(actions):
        _parse_word(spec, word, "action", _ACTIONS, found)
    found.pop("*", None)
    return found


def write_words(values: Mapping[str, Any], defaults: Mapping[str, object]) -> str:
    """The SPEC of a fault's fields; `defaults` are the values that need no words."""
    given = {name.replace("_", "-"): value for name, value in values.items() if value != defaults[name]}
    headers = [f"header={name}={value}" for name, value in given.pop("headers", {}).items()]
    selectors = [given.pop("endpoint")] if "endpoint" in given else []
    selectors += [_word(name, given.pop(name)) for name in _SELECTORS if name in given]
    actions = [_word(name, value) for name, value in given.items()]
    return ",".join(selectors or ["*"]) + ":" + ",".join(actions + headers)


def _word(name: str, value: object) -> str:
    if value is True:
        return name
    return f"{name}={'forever' if value == math.inf else value}"


def _words(text: str) -> list[str]:
    return [word for word in map(str.strip, text.split(",")) if word]


def _parse_word(spec: str, word: str, kind: str, known: dict[str, _Parser | None], found: dict[str, Any]) -> None:
    name, equals, text = word.partition("=")
    if name not in known or (known[name] is None) == bool(equals):
        raise ValueError(f"Fault {spec!r}: {word!r} is no {kind}; known are {', '.join(known)}.")
    parser = known[name]
    try:
        value = parser(text) if parser else True
    except ValueError:
        raise ValueError(f"Fault {spec!r}: {text!r} is not a value for {name!r}.") from None
    if name == "header":
        found.setdefault("headers", {}).update([value])
    else:
        found[name.replace("-", "_")] = value
