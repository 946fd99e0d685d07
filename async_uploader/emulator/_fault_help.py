"""The syntax of fault specs, for `emulator --help-faults` and for the documentation."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

from ._faults import ENDPOINTS

Rows = Sequence[tuple[tuple[str, ...], str]]

SYNTAX: Final = (
    "A SPEC is SELECTORS:ACTIONS. Both are lists separated by commas. A request must match all selectors. "
    "All actions are applied to it."
)
#: Alternatives and their meaning.
SELECTORS: Final[Rows] = (
    ((*ENDPOINTS, "*"), "requests to this endpoint; * for all"),
    (("part=N", "part=first", "part=last"), "this part, or this byte range"),
    (("byte=N",), "the byte range that contains byte N"),
    (("completing",), "the request that completes the upload"),
    (("attempt=N",), "the Nth attempt of the same request"),
    (("times=N",), "at most N requests in total"),
    (("probability=P", "seed=N"), "random requests; set seed to reproduce them"),
)
ACTIONS: Final[Rows] = (
    (("status=N", "problem=SLUG"), "a response with this status, or with the error of this slug"),
    (
        ("retry-after=SECONDS", "header=NAME=VALUE", "body=problem", "body=html", "body=empty"),
        "details of this response",
    ),
    (("cut",), "the connection is cut"),
    (("stall=SECONDS", "stall=forever"), "nothing happens for this time"),
    (("slow=BYTES_PER_SECOND",), "the rest of the body is read at this rate; with when=early or middle"),
    (("expire-tokens", "revoke-tokens"), "all access tokens expire; all refresh tokens are revoked"),
    (
        ("when=early", "when=middle", "when=late", "when=stored"),
        (
            "before the body (the default), in its middle, after it, or after the part is stored (the default of "
            "completing): only the response is missing"
        ),
    ),
)
#: Specs and their effect.
EXAMPLES: Final[Sequence[tuple[str, str]]] = (
    ("part=3,attempt=1:status=503,retry-after=2", "part 3 is refused once, before its body is read"),
    ("completing:cut", "the response to the part that completes the upload is lost"),
    ("upload,probability=0.05,seed=7:cut,when=middle", "one upload in twenty is cut in the middle"),
    ("part=first:stall=forever,when=late", "the response to the first part never arrives"),
    ("create,times=2:status=502,body=html", "a proxy's error page replaces the first two responses"),
    ("status:problem=too-many-requests", "an error by its slug"),
    ("part=4,times=1:slow=20000", "part 4 trickles, once"),
    ("part=2:expire-tokens", "all access tokens expire when part 2 arrives"),
    ("auth:status=302,header=Location=http://example.com/", "a redirect"),
)

_WIDTH: Final = 79


def fault_help() -> str:
    """The syntax as text of at most 79 columns."""
    commands = f"  async-uploader emulator --fault '{EXAMPLES[0][0]}' --fault '{EXAMPLES[1][0]}'"
    sections = [
        _wrapped(SYNTAX),
        "\n".join(["Selectors:", *(_item(", ".join(words), text) for words, text in SELECTORS)]),
        "\n".join(["Actions:", *(_item(", ".join(words), text) for words, text in ACTIONS)]),
        "\n".join(["Examples:", *(_item(spec, effect) for spec, effect in EXAMPLES)]),
        f"Repeat --fault for several faults:\n{commands}",
    ]
    return "\n\n".join(sections)


def _item(term: str, text: str) -> str:
    return f"{_wrapped(term, indent=2)}\n{_wrapped(text, indent=6)}"


def _wrapped(text: str, *, indent: int = 0) -> str:
    margin = " " * indent
    return textwrap.fill(text, _WIDTH, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False)


def fault_tables() -> str:
    """The syntax as Markdown."""
    selectors = _table("selector", "matches", SELECTORS)
    actions = _table("action", "effect", ACTIONS)
    examples = _table("example", "effect", [((spec,), effect) for spec, effect in EXAMPLES])
    return f"{SYNTAX}\n\n{selectors}\n\n{actions}\n\n{examples}"


def _table(first: str, second: str, rows: Rows) -> str:
    lines = [f"| {first} | {second} |", "| --- | --- |"]
    for words, text in rows:
        codes = ", ".join(f"`{word}`" for word in words)
        meaning = text.replace("*", r"\*")
        lines.append(f"| {codes} | {meaning} |")
    return "\n".join(lines)
