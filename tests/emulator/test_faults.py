"""Faults: their specs, the requests that they match, when they are triggered, and their effects."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import Any, get_args

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_uploader.emulator import Emulator, Fault, _fault_help, _fault_spec
from async_uploader.emulator._fault_help import fault_help, fault_tables
from async_uploader.emulator._faults import ENDPOINTS, Body, FaultInjector, When, matches
from async_uploader.emulator._rules import parse_content_range

from .conftest import MIB, PART, Api, content
from .raw import Raw, upload_head


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ("part=3,attempt=1:status=503,retry-after=2", Fault(part=3, attempt=1, status=503, retry_after=2)),
        ("part=last:cut,when=late", Fault(part="last", cut=True, when="late")),
        ("completing:cut", Fault(completing=True, cut=True)),
        ("upload,probability=0.05,seed=7:cut,when=middle",
         Fault(endpoint="upload", probability=0.05, seed=7, cut=True, when="middle")),
        ("part=first:stall=forever", Fault(part="first", stall=math.inf)),
        ("create,times=2:status=502,body=html", Fault(endpoint="create", times=2, status=502, body="html")),
        ("status:problem=too-many-requests", Fault(endpoint="status", problem="too-many-requests")),
        ("byte=0:expire-tokens,revoke-tokens", Fault(byte=0, expire_tokens=True, revoke_tokens=True)),
        ("*:stall=0.5,status=200,body=empty", Fault(stall=0.5, status=200, body="empty")),
        (
            " auth : status=302 , header=Location=http://x:1/ , header=X-A=b ",
            Fault(endpoint="auth", status=302, headers={"Location": "http://x:1/", "X-A": "b"}),
        ),
    ],
)  # fmt: skip
def test_spec(spec: str, fault: Fault) -> None:
    """A spec is parsed into the fields of a fault."""
    assert Fault.parse(spec) == fault


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "Fault '' must have the form SELECTORS:ACTIONS, as in 'part=3:status=503'."),
        ("part=3", "Fault 'part=3' must have the form SELECTORS:ACTIONS, as in 'part=3:status=503'."),
        ("part=3:", "Fault 'part=3:' is not possible: A fault needs an action"),
        ("part=x:cut", "Fault 'part=x:cut': 'x' is not a valid value of 'part'."),
        ("part=0:cut", "A fault needs a part number from 1, 'first' or 'last'."),
        ("part:cut", "'part' is not a known selector; use one of part, byte,"),
        ("nonsense:cut", "'nonsense' is not a known selector; use one of part, byte,"),
        ("upload=1:cut", "'upload=1' is not a known selector"),
        ("upload:cut=1", "'cut=1' is not a known action; use one of status, problem,"),
        ("upload:part=1", "'part=1' is not a known action"),
        ("upload:status=99", "A fault needs a status from 200 to 599."),
        ("upload:problem=x", "A fault needs a problem of the service's catalogue."),
        ("upload:cut,status=500", "A fault cannot both cut and respond."),
        ("upload:cut,when=never", "A fault needs one of the moments early, middle, late, stored."),
        ("upload:status=500,body=jpeg", "A fault needs one of the bodies problem, html, empty."),
        ("upload:stall=-1", "A fault cannot stall for less than 0 seconds."),
        ("upload:slow=0", "A fault cannot slow a body to 0 bytes per second or less."),
        ("upload:slow=9,when=late", "A fault can slow a body only before its end."),
        ("upload:stall=nan", "A fault cannot stall for less than 0 seconds."),
        ("upload,probability=2:cut", "A fault needs a probability from 0 to 1."),
        ("upload,attempt=0:cut", "A fault counts attempts and times from 1."),
        ("upload,times=0:cut", "A fault counts attempts and times from 1."),
        ("upload:status=500,header=Name", "'Name' is not a valid value of 'header'."),
        ("upload:status=500,header=A=b\r\nC: d", "is not a valid value of 'header'."),
        ("completing:cut,when=early", "A fault with 'completing' is possible only with when=stored."),
        ("upload,create:cut", "Fault 'upload,create:cut' names two endpoints."),
    ],
)
def test_wrong_spec(spec: str, message: str) -> None:
    """The message for an invalid spec is one sentence that quotes it."""
    with pytest.raises(ValueError, match=r"^Fault ") as caught:
        Fault.parse(spec)
    assert message in str(caught.value)
    assert repr(spec) in str(caught.value)
    assert str(caught.value).count("\n") == 0


def test_documented_specs() -> None:
    """Each example is a valid spec that keeps its meaning, and each word and value of the syntax is described."""
    assert all(Fault.parse(spec) for spec, _ in _fault_help.EXAMPLES)
    described = [word for words, _ in (*_fault_help.SELECTORS, *_fault_help.ACTIONS) for word in words]
    assert {word.partition("=")[0] for word in described} == {
        *_fault_spec._SELECTORS,
        *_fault_spec._ACTIONS,
        *ENDPOINTS,
    }
    values = {word for word in described if word.startswith(("when=", "body="))}
    assert values == {f"when={when}" for when in get_args(When)} | {f"body={body}" for body in get_args(Body)}


def test_help_and_documentation_of_specs() -> None:
    """Both contain each word, meaning and example; the help fits a terminal of 80 columns."""
    text, tables = fault_help(), fault_tables()
    assert max(map(len, text.splitlines()[:-1])) < 80
    flat = " ".join(text.split())
    for words, meaning in (*_fault_help.SELECTORS, *_fault_help.ACTIONS):
        assert f"{', '.join(words)} {meaning}" in flat
        assert all(f"`{word}`" in tables for word in words)
        assert meaning.replace("*", r"\*") in tables
    for spec, effect in _fault_help.EXAMPLES:
        assert f"{spec} {effect}" in flat
        assert f"| `{spec}` | {effect} |" in tables


@given(
    st.lists(
        st.sampled_from(
            [
                "part=",
                "first",
                "last",
                "1",
                "0",
                "-1",
                "nan",
                ":",
                ",",
                "status=",
                "503",
                "cut",
                "stall=",
                "when=",
                "x",
            ]
        ),
        max_size=9,
    )
)
def test_any_spec(words: list[str]) -> None:
    """Any text is either a valid spec or a ValueError."""
    with suppress(ValueError):
        Fault.parse("".join(words))


@pytest.mark.parametrize(
    ("fault", "header", "expected"),
    [
        (Fault(cut=True), None, True),
        (Fault(cut=True, part=2), "part 2/*", True),
        (Fault(cut=True, part=2), "part 1/*", False),
        (Fault(cut=True, part=2), None, False),
        (Fault(cut=True, part="first"), "part 1/2", True),
        (Fault(cut=True, part="first"), "bytes 0-9/10", True),
        (Fault(cut=True, part="first"), "bytes 1-9/10", False),
        (Fault(cut=True, part="first"), None, True),
        (Fault(cut=True, part="last"), "part 2/2", True),
        (Fault(cut=True, part="last"), "part 2/*", False),
        (Fault(cut=True, part="last"), "bytes 1-9/10", True),
        (Fault(cut=True, part="last"), None, True),
        (Fault(cut=True, byte=5), "bytes 0-9/*", True),
        (Fault(cut=True, byte=10), "bytes 0-9/*", False),
        (Fault(cut=True, byte=0), "part 1/*", False),
        (Fault(cut=True, endpoint="upload"), "part 1/*", True),
        (Fault(cut=True, endpoint="create"), "part 1/*", False),
        (Fault(cut=True, attempt=1), "part 1/*", True),
        (Fault(cut=True, attempt=2), "part 1/*", False),
    ],
)
def test_selection(fault: Fault, header: str | None, expected: bool) -> None:
    """A request must match all selectors."""
    assert matches(fault, "upload", parse_content_range(header), 1) == expected


def test_probability_is_repeatable() -> None:
    """The same seed selects the same requests, with about the given probability."""

    def triggered(seed: int) -> list[int]:
        injector = FaultInjector([Fault(cut=True, probability=0.25, seed=seed)])
        return [n for n in range(1000) if list(injector.select("get", None, 1).trigger("early"))]

    assert triggered(1) == triggered(1) != triggered(2)
    assert 180 < len(triggered(1)) < 320


def test_times_counts_triggers() -> None:
    """`times` limits the triggers, also for concurrent requests."""
    injector = FaultInjector([Fault(cut=True, times=2, when="late")])
    requests = [injector.select("get", None, 1) for _ in range(4)]
    assert sum(len(list(faults.trigger("late"))) for faults in requests) == 2
    assert list(injector.select("get", None, 1).trigger("late")) == []


@pytest.mark.anyio
class TestInjection:
    @pytest.mark.parametrize("endpoint", [name for name in ENDPOINTS if name != "other"])
    async def test_every_endpoint(self, api: Api, emulator: Emulator, endpoint: str) -> None:
        """A fault for an endpoint affects only requests to it."""
        pair = (await api.post("/auth/api-key", json={"apiKey": "local-key"})).json
        video_id = await api.create()
        calls: dict[str, Any] = {
            "auth": lambda: api.post("/auth/api-key", json={"apiKey": "local-key"}),
            "refresh": lambda: api.post("/auth/refresh", json={"refreshToken": pair["refresh_token"]}),
            "create": lambda: api.post("/videos", json={"title": "t"}),
            "list": lambda: api.get("/videos"),
            "get": lambda: api.get(f"/videos/{video_id}"),
            "update": lambda: api.patch(f"/videos/{video_id}", json={}),
            "upload": lambda: api.send(video_id, b"x", "part 2/2"),
            "status": lambda: api.get(f"/videos/{video_id}/status"),
            "tokens": lambda: api.get("/upload-tokens"),
            "delete": lambda: api.delete(f"/videos/{video_id}"),
        }
        emulator.add_fault(Fault.parse(f"{endpoint},times=1:status=503,retry-after=7"))
        for name, call in calls.items():
            reply = await call()
            assert (reply.status == 503) == (name == endpoint)
            if name == endpoint:
                assert reply.headers["Retry-After"] == "7"
                assert (reply.slug, emulator.requests[-1].status) == ("server-error", 503)
                assert emulator.requests[-1].faults == (f"endpoint={endpoint},times=1,status=503,retry_after=7",)

    @pytest.mark.parametrize(
        ("spec", "status", "expected"),
        [
            ("get:status=502,body=html", 502, ("text/html", b"<html>")),
            ("get:status=502,body=empty", 502, (None, b"")),
            ("get:status=302,header=Location=http://127.0.0.1:1/", 302, (None, b"")),
            ("get:status=413", 413, ("application/problem+json", b"uploaded-file-too-large")),
            ("get:status=418", 418, ("application/problem+json", b"teapot")),
            ("get:status=599", 599, ("application/problem+json", b"Fault")),
            ("get:problem=account-suspended", 403, ("application/problem+json", b"account-suspended")),
            ("get:status=429,retry-after=9", 429, ("application/problem+json", b"too-many-requests")),
        ],
    )  # fmt: skip
    async def test_responses(
        self, api: Api, emulator: Emulator, spec: str, status: int, expected: tuple[str | None, bytes]
    ) -> None:
        """Responses can be HTML, empty, redirects and problems; those of proxies have no rate-limit headers."""
        kind, body = expected
        emulator.add_fault(Fault.parse(spec))
        reply = await api.get("/videos/viX", expect=status)
        assert body.lower() in reply.body.lower()
        assert kind is None or reply.headers["Content-Type"] == kind
        assert ("X-RateLimit-Limit" in reply.headers) == ("body=" not in spec)
        if status == 429:
            assert reply.headers["X-RateLimit-Retry-After"] == "9"
            assert reply.headers["X-RateLimit-Remaining"] == "0"
        if status == 302:
            assert reply.headers["Location"] == "http://127.0.0.1:1/"

    @pytest.mark.parametrize("when", ["early", "middle", "late", "stored"])
    @pytest.mark.parametrize("action", ["status=503", "cut"])
    async def test_moments(self, api: Api, emulator: Emulator, when: str, action: str) -> None:
        """Only a fault after storing leaves the part received."""
        video_id = await api.create()
        emulator.add_fault(Fault.parse(f"part=1,attempt=1:{action},when={when}"))
        if action == "cut":
            with pytest.raises(aiohttp.ClientError):
                await api.send(video_id, content(PART), "part 1/*")
        else:
            await api.send(video_id, content(PART), "part 1/*", expect=503)
        again = await api.send(video_id, content(PART), "part 1/*")
        is_stored = when == "stored"
        assert again.status == (400 if is_stored else 201)
        assert not is_stored or again.slug.endswith("part-already-sent")
        await api.send(video_id, b"end", "part 2/2", expect=201)
        await emulator.finished(video_id)

    async def test_early_response_reads_no_body(self, api: Api, emulator: Emulator) -> None:
        """The response is sent before the client has sent a byte of the body."""
        video_id = await api.create()
        emulator.add_fault(Fault.parse("upload:status=503"))
        async with Raw(emulator.url) as raw:
            await raw.send(upload_head(video_id, "part 1/*", PART).partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
            assert (await raw.response()).status == 503

    async def test_response_in_the_middle(self, api: Api, emulator: Emulator) -> None:
        """The response is sent after half of the body, without waiting for the rest."""
        video_id = await api.create()
        emulator.add_fault(Fault.parse("upload:status=413,when=middle"))
        async with Raw(emulator.url) as raw:
            await raw.send(upload_head(video_id, "part 1/*", PART) + content(3 * MIB))
            assert (await raw.response()).status == 413

    async def test_lost_response_to_the_completing_part(self, api: Api, emulator: Emulator) -> None:
        """The response to the completing part is lost, whichever part it is; the video is finished."""
        video_id = await api.create()
        emulator.add_fault(Fault.parse("completing:cut"))
        await api.send(video_id, b"end", "part 2/2", expect=201)
        with pytest.raises(aiohttp.ClientError):
            await api.send(video_id, content(PART), "part 1/*")
        await emulator.finished(video_id)
        assert (
            await api.send(video_id, content(PART), "part 1/*", expect=400)
        ).slug == "video-source-already-uploaded"

    async def test_stall_and_disconnect(self, api: Api, emulator: Emulator) -> None:
        """An endless stall ends when the client disconnects."""
        video_id = await api.create()
        emulator.add_fault(Fault.parse("upload:stall=forever,when=stored"))
        sending = asyncio.create_task(api.send(video_id, b"x"))
        await emulator.wait_for(lambda e: e.videos[video_id].state == "finished")
        assert not sending.done()
        sending.cancel()
        await asyncio.wait([sending])
        await emulator.wait_for(lambda e: e.statistics().uploads_in_flight == 0)
        assert emulator.requests[-1].status is None

    async def test_stall_in_the_middle_stops_reading(self, api: Api, emulator: Emulator) -> None:
        """During a stall, no more bytes are read."""
        video_id = await api.create()
        emulator.add_fault(Fault.parse("upload:stall=forever,when=middle"))
        sending = asyncio.create_task(api.send(video_id, content(8 * PART), "part 1/*"))
        await emulator.wait_for(lambda e: e.statistics().bytes_received >= 4 * PART)
        await asyncio.wait([sending], timeout=0.05)
        assert emulator.statistics().bytes_received < 5 * PART
        sending.cancel()
        await asyncio.wait([sending])

    async def test_stall_before_a_response(self, api: Api, emulator: Emulator) -> None:
        """A stall can be followed by a response."""
        emulator.add_fault(Fault.parse("get:stall=0.05,status=504"))
        await api.get("/videos/viX", expect=504)
        assert emulator.requests[-1].ended_s - emulator.requests[-1].started_s >= 0.05

    async def test_expired_and_revoked_tokens(self, api: Api, emulator: Emulator) -> None:
        """The part that triggers the fault is refused first."""
        video_id = await api.create()
        pair = (await api.post("/auth/api-key", json={"apiKey": "local-key"})).json
        api.authorization = f"Bearer {pair['access_token']}"
        emulator.add_fault(Fault.parse("part=1,times=1:expire-tokens,revoke-tokens"))
        reply = await api.send(video_id, content(PART), "part 1/*", expect=401)
        assert reply.slug == "authentication-invalid-access-token"
        await api.post("/auth/refresh", json={"refreshToken": pair["refresh_token"]}, expect=400)

    async def test_clear(self, api: Api, emulator: Emulator) -> None:
        """Cleared faults are no longer triggered."""
        emulator.add_fault(Fault(status=500))
        await api.get("/videos", expect=500)
        emulator.clear_faults()
        await api.get("/videos", expect=200)
