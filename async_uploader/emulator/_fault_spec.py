"""Parses and formats fault specs: `SELECTORS:ACTIONS`, each a list separated by commas.

`_fault_help` describes them.
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


# None marks words without a value.
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
    "slow": float,
    "expire-tokens": None,
    "revoke-tokens": None,
    "when": str,
    "retry-after": int,
    "header": _header,
    "body": str,
}


def parse_spec(spec: str, endpoints: Collection[str]) -> dict[str, Any]:
    """Parse a spec into the fields of a fault.

    :raises ValueError: a word or a value is unknown; the message is one sentence
    """
    selectors, colon, actions = spec.partition(":")
    if not colon:
        raise ValueError(f"Fault {spec!r} must have the form SELECTORS:ACTIONS, as in 'part=3:status=503'.")
    fields: dict[str, Any] = {}
    for word in _split(selectors):
        if word not in endpoints:
            _parse_word(spec, word, "selector", _SELECTORS | dict.fromkeys(endpoints), fields)
        elif "endpoint" in fields:
            raise ValueError(f"Fault {spec!r} names two endpoints.")
        else:
            fields["endpoint"] = word
    for word in _split(actions):
        _parse_word(spec, word, "action", _ACTIONS, fields)
    fields.pop("*", None)
    return fields


def format_spec(values: Mapping[str, Any], defaults: Mapping[str, object]) -> str:
    """Format the fields of a fault as a spec, leaving out those with their default value."""
    given = {name.replace("_", "-"): value for name, value in values.items() if value != defaults[name]}
    headers = [f"header={name}={value}" for name, value in given.pop("headers", {}).items()]
    selectors = [given.pop("endpoint")] if "endpoint" in given else []
    selectors += [_format_word(name, given.pop(name)) for name in _SELECTORS if name in given]
    actions = [_format_word(name, value) for name, value in given.items()]
    return ",".join(selectors or ["*"]) + ":" + ",".join(actions + headers)


def _format_word(name: str, value: object) -> str:
    if value is True:
        return name
    return f"{name}={'forever' if value == math.inf else value}"


def _split(text: str) -> list[str]:
    return [word for word in map(str.strip, text.split(",")) if word]


def _parse_word(spec: str, word: str, kind: str, known: dict[str, _Parser | None], fields: dict[str, Any]) -> None:
    name, equals, text = word.partition("=")
    if name not in known or (known[name] is None) == bool(equals):
        raise ValueError(f"Fault {spec!r}: {word!r} is not a known {kind}; use one of {', '.join(known)}.")
    parser = known[name]
    try:
        value = parser(text) if parser else True
    except ValueError:
        raise ValueError(f"Fault {spec!r}: {text!r} is not a valid value of {name!r}.") from None
    if name == "header":
        fields.setdefault("headers", {}).update([value])
    else:
        fields[name.replace("-", "_")] = value
