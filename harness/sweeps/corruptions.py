"""Random corruptions of responses: of JSON values, bodies, rate limits, headers, statuses and the wire format."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from .proxy import Headers, Request, Response

# Replaced by JSON texts that `json.dumps` cannot write.
_MARK: Final = "@@corruption@@"
_DEEP: Final = 60_000

#: JSON texts that replace a value.
VALUES: Final = (
    "null", "true", "false", "0", "-1", "1", "1.5", "1e400", "-1e400", "NaN", "Infinity", "9" * 30, "9" * 5000,
    "9223372036854775808", '""', '" "', '"x"', '"7"', '"\\ud800"', '"a\\u0000b"', '"\\u001b[2J\\u202e"',
    '"' + "x" * 100_000 + '"', "[]", "{}", "[null]", "[[]]", "[0]", '["x"]', '{"x": null}', '[{"key": null}]',
    "[" * 200 + "]" * 200, "[" * _DEEP + "]" * _DEEP, '{"a":' * _DEEP + "0" + "}" * _DEEP,
)  # fmt: skip

#: Bodies without a valid JSON object.
BODIES: Final = (
    b"", b"null", b"[]", b'"text"', b"7", b"{", b'{"videoId": "vi', b"{}{}", b"<html>Bad gateway</html>",
    b"\xff\xfe\x00", b"\xef\xbb\xbf{}", '{"videoId": "x"}'.encode("utf-16"), b"\x1f\x8b\x08\x00", b"\0" * 100,
    b"[" * _DEEP, b'{"a":' * _DEEP, b" " * 1_000_000, b'{"videoId": "\xff"}',
    b'{"videoId": "a", "videoId": null}',
)  # fmt: skip

_NUMBERS: Final = (
    b"", b" ", b"0", b"-1", b"-0", b"+5", b"1.5", b"1e0", b"1e400", b"nan", b"inf", b"-inf", b"0x10", b"1_0",
    b"9" * 25, b"9" * 400, b"1,2", b"\xb2", b"abc", b"null", b"Thu, 01 Jan 1970 00:00:00 GMT",
    b"Fri, 31 Dec 9999 23:59:59 GMT", b"Wed, 32 Foo 2026 99:99:99 XYZ", b"Mon, 01 Jan 99999999 00:00:00 GMT",
)  # fmt: skip
_LIMITS: Final = (b"X-RateLimit-Limit", b"X-RateLimit-Remaining", b"X-RateLimit-Retry-After", b"Retry-After")

#: Headers other than those of the rate limit.
HEADERS: Final[tuple[Headers, ...]] = (
    ((b"Content-Type", b""),), ((b"Content-Type", b"text/html; charset=nonsense"),),
    ((b"Content-Type", b"\xff/\xfe"),), ((b"Content-Encoding", b"gzip"),), ((b"Content-Encoding", b"deflate"),),
    ((b"Content-Encoding", b"nonsense"),), ((b"Transfer-Encoding", b"chunked"),),
    ((b"Transfer-Encoding", b"nonsense"),), ((b"Location", b"http://[::1"),),
    ((b"Set-Cookie", b"\xff=\x80; expires=x"),), ((b"X", b"y" * 9000),), ((b"X-\xff", b"y"),),
    ((b"X Y", b"z"),), ((b"X", b"a\x00b"),), ((b"X", b"a\rb"),), ((b"", b"empty"),),
    ((b"Connection", b"upgrade"), (b"Upgrade", b"h2c")), ((b"Connection", b"close"),),
    ((b"Keep-Alive", b"timeout=nonsense"),), ((b"Link", b"<>; rel"),),
    ((b"Content-Disposition", b"attachment; filename*=x"),),
    tuple((b"X-%d" % number, b"y") for number in range(500)),
)  # fmt: skip

_STATUSES: Final = (
    "101", "199", "200", "201", "202", "203", "204", "205", "206", "226", "299", "300", "301", "302", "303",
    "304", "305", "307", "308", "399", "400", "401", "402", "403", "404", "405", "406", "407", "408", "409",
    "410", "411", "412", "413", "414", "415", "416", "417", "418", "421", "422", "423", "424", "425", "426",
    "428", "429", "431", "451", "499", "500", "501", "502", "503", "504", "505", "507", "508", "511", "520",
    "599", "600", "666", "999", "000", "99", "1000", "-200", "2OO", "",
)  # fmt: skip
_REASONS: Final = (b"", b"OK", b"\xff\xfe", b"x" * 1500, b"a\x00b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Corruption:
    """How a response is changed.

    :ivar text: a description
    :ivar is_plausible: the client cannot detect it: the value has the right type, or the status has another
        meaning
    :ivar is_of_account: it tells the client that the whole account has to wait, not only this request
    """

    text: str
    apply: Callable[[Response], Response]
    is_plausible: bool = False
    is_of_account: bool = False


def random_corruption(rng: random.Random) -> Corruption:
    """Choose a corruption."""
    return rng.choices((_json_value, _body, _limit, _header, _status, _wire), (10, 3, 3, 3, 4, 3))[0](rng)


def _json_value(rng: random.Random) -> Corruption:
    """Replace a value at any depth of the document."""
    seed, value = rng.randrange(2**32), rng.choice(VALUES)

    def apply(response: Response) -> Response:
        try:
            document = json.loads(response.body)
        except ValueError:
            return response
        changed = _replaced(document, random.Random(seed))
        body = json.dumps(changed).replace(f'"{_MARK}"', value)
        return replace(response, body=body.encode())

    return Corruption(text=f"{value[:40]} in its JSON", apply=apply, is_plausible=value in _PLAUSIBLE_VALUES)


# A service could send these values.
_PLAUSIBLE_VALUES: Final = ("true", "false", "0", "1", '"x"', '"7"', "[0]", "[]", "1.5", "9" * 30, '""', '" "')


def _replaced(document: Any, rng: random.Random) -> Any:
    """A copy of the document in which the mark replaces one value."""
    places: list[tuple[Any, ...]] = []

    def walk(value: Any, path: tuple[Any, ...]) -> None:
        places.append(path)
        for key, one in (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        ):
            walk(one, (*path, key))

    walk(document, ())
    path = rng.choice(places)
    if not path:
        return _MARK
    copy = json.loads(json.dumps(document))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = _MARK
    return copy


def _body(rng: random.Random) -> Corruption:
    body = rng.choice(BODIES)
    return Corruption(text=f"the body {body[:20]!r}", apply=lambda response: replace(response, body=body))


def _limit(rng: random.Random) -> Corruption:
    chosen = [(name, rng.choice(_NUMBERS)) for name in rng.sample(_LIMITS, rng.randint(1, 3))]
    status = rng.choice((None, None, "429", "503"))

    def apply(response: Response) -> Response:
        for name, value in chosen:
            response = response.with_header(name, value)
        return response if status is None else replace(response, status=status)

    shown = ", ".join(f"{name.decode()}: {value[:30]!r}" for name, value in chosen)
    text, is_limit = f"{status or 'its status'} with {shown}", status == "429"
    # 429 means that nothing was stored.
    return Corruption(text=text, apply=apply, is_plausible=is_limit, is_of_account=is_limit)


def _header(rng: random.Random) -> Corruption:
    headers = rng.choice(HEADERS)

    def apply(response: Response) -> Response:
        for name, value in headers:
            response = response.with_header(name, value)
        return response

    return Corruption(text=f"the header {headers[0][0]!r}: {headers[0][1][:30]!r}", apply=apply)


def _status(rng: random.Random) -> Corruption:
    status, reason = rng.choice(_STATUSES), rng.choice(_REASONS)
    body = rng.choice((None, None, *BODIES))

    def apply(response: Response) -> Response:
        return replace(response, status=status, reason=reason, body=response.body if body is None else body)

    return Corruption(text=f"the status {status!r} {reason[:10]!r}", apply=apply, is_plausible=True)


def _wire(rng: random.Random) -> Corruption:
    ways: dict[str, Callable[[Response], Response]] = {
        "a byte every 50 ms": lambda response: replace(response, trickle_seconds=0.05),
        "a byte every 400 ms": lambda response: replace(response, trickle_seconds=0.4),
        "endless 102": lambda response: replace(response, endless=b"HTTP/1.1 102 Processing\r\n\r\n"),
        "endless 100": lambda response: replace(response, endless=b"HTTP/1.1 100 Continue\r\n\r\n"),
        "endless headers": lambda response: replace(response, endless=b"X: y\r\n"),
        "cut at once": lambda response: replace(response, keep=0),
        "cut in its head": lambda response: replace(response, keep=20),
        "cut in its body": lambda response: replace(response, keep=len(response.data()) - 5),
        "no HTTP": lambda response: replace(response, raw=b"SSH-2.0-OpenSSH_9.6\r\n"),
        "HTTP/0.9": lambda response: replace(response, raw=response.body or b"x"),
        "HTTP/2": lambda response: replace(response, raw=b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
        "twice": lambda response: replace(response, raw=response.data() * 2),
        "too long a length": lambda response: _with_length(response, b"1000000"),
        "too short a length": lambda response: _with_length(response, b"3"),
        "a negative length": lambda response: _with_length(response, b"-1"),
        "a length of 400 digits": lambda response: _with_length(response, b"9" * 400),
        "bad chunks": lambda response: replace(
            response, raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n"
        ),
        "an endless body": lambda response: replace(response, raw=b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 20_000_000),
    }
    name = rng.choice(list(ways))
    return Corruption(text=name, apply=ways[name])


def _with_length(response: Response, length: bytes) -> Response:
    return replace(response.with_header(b"Content-Length", length), own_length=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFilter:
    """The requests whose responses are changed.

    :ivar endpoint: None: all endpoints
    :ivar numbers: which requests of the endpoint, from 1; None: all
    """

    endpoint: str | None
    numbers: frozenset[int] | None

    def matches(self, request: Request) -> bool:
        """Whether the response to a request is changed."""
        return self.endpoint in (None, request.endpoint) and (
            self.numbers is None or request.number in self.numbers
        )
