"""The access log: one line for each request, and the headers at DEBUG."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import aiohttp
import pytest

from async_uploader.emulator import Emulator, Fault

from .conftest import PART, Api, basic, content

pytestmark = pytest.mark.anyio

ACCESS = "async_uploader.emulator.access"


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines of the log at INFO; durations are masked."""

    class Lines(list[str]):
        def __iter__(self):  # type: ignore[no-untyped-def]
            return iter([re.sub(r"\d+ ms", "N ms", r.getMessage()) for r in caplog.records if r.name == ACCESS])

    caplog.set_level(logging.INFO, ACCESS)
    return Lines()


async def test_lines(lines: list[str], api: Api, emulator: Emulator) -> None:
    """Each line has the request, the status, and what explains it."""
    emulator.add_fault(Fault.parse("part=1,attempt=1:status=503"))
    emulator.add_fault(Fault.parse("list:cut"))
    video_id = await api.create()
    await api.send(video_id, content(PART), "part 1/2", expect=503)
    await api.send(video_id, content(PART), "part 1/2", expect=201)
    await api.send(video_id, b"x", "part 1/2", expect=400)
    with pytest.raises(aiohttp.ClientError):
        await api.get("/videos")
    path = f"/videos/{video_id}/source"
    created, refused, stored, again, cut, *_ = lines
    assert created == "POST /videos → 201 [N ms, 20 bytes]"
    assert refused.startswith(f"POST {path} (part 1/2) → 503 server-error [N ms")
    assert refused.endswith(", fault 'part=1,attempt=1:status=503']")
    assert re.fullmatch(
        re.escape(f"POST {path} (part 1/2) → 201 [N ms, ") + r"5,24\d,\d+ bytes, attempt 2\]", stored
    )
    assert again.startswith(f"POST {path} (part 1/2) → 400 video-content-range-by-part-part-already-sent")
    shown = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text(encoding="utf-8")
    assert re.search(
        r"^POST /videos/vi\w+/source \(part 2/3\) → 400 \S+-part-already-sent \[\d+ ms, .*\]$", shown, re.MULTILINE
    )
    assert cut == "GET /videos → no response [N ms, fault 'list:cut']"


async def test_details(lines: list[str], api: Api) -> None:
    """A refusal has its detail."""
    await api.send(await api.create(), b"x", "part 1/*", expect=400)
    [_, refused] = lines
    assert re.search(r" → 400 video-content-range-by-part-uploaded-file-too-small: .*bytes.* \[", refused)


async def test_nothing_at_warning(caplog: pytest.LogCaptureFixture, api: Api) -> None:
    """Without INFO, nothing is logged."""
    caplog.set_level(logging.WARNING, ACCESS)
    await api.create()
    assert caplog.records == []


async def test_headers_without_secrets(caplog: pytest.LogCaptureFixture, session: aiohttp.ClientSession) -> None:
    """At DEBUG, the headers follow. No key or token is in any line."""
    caplog.set_level(logging.DEBUG, ACCESS)
    async with Emulator(api_key="a-secret-key") as emulator:
        api = Api(session, emulator.url, basic("a-secret-key"))
        pair = (await api.post("/auth/api-key", json={"apiKey": "a-secret-key"}, expect=200)).json
        token = await api.token()
        await api.get(
            "/videos", headers={"Authorization": f"Bearer {pair['access_token']}", "X-Key": "a-secret-key"}
        )
        await api.get("/videos", headers={"Authorization": pair["refresh_token"], "Cookie": "a=b"}, expect=401)
        await api.send_with_token(token, b"x")
    text = "\n".join(caplog.messages)
    for secret in ("a-secret-key", basic("a-secret-key").split()[1], token, *map(str, pair.values())):
        if secret not in ("Bearer", "3600"):
            assert secret not in text
    for line in ("  > Authorization: Basic …", "  > Authorization: Bearer …", "  > Authorization: …",
                 "  > X-Key: …", "  > Cookie: …", "  < Content-Type: application/problem+json"):  # fmt: skip
        assert line in text
