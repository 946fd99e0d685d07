"""Invalid responses cause a result or an UploaderError, in every call and every command."""

from __future__ import annotations

import asyncio
import json
import pickle
import random
from pathlib import Path
from typing import Any, Final

import pytest
from anyio.from_thread import start_blocking_portal

from async_uploader import (
    Client,
    TransportError,
    UploaderError,
)
from async_uploader.cli._main import run
from async_uploader.emulator import Emulator
from harness.world import HANG_SECONDS, KEY, QuickClient, check_sentence, service

from .conftest import ImpatientClient
from .proxy import LOGIN, Request, between, mutated, response, serving

pytestmark = pytest.mark.anyio

SHORT: Final = 0.3
SMALL: Final = b"a small video"
RUNS: Final = 200
COMMANDS: Final = 60


async def _upload(client: Client) -> object:
    return await client.upload(SMALL, stall_timeout=SHORT, max_attempts=2)


async def _upload_two_parts(client: Client) -> object:
    return await client.upload(
        bytes(6 * 1024 * 1024), stall_timeout=SHORT, max_attempts=2, part_size=5 * 1024 * 1024
    )


async def _status(client: Client) -> object:
    video = await client.create_video(title="x")
    return await client.get_status(video.video_id)


async def _list(client: Client) -> object:
    return (await client.list_videos(), await client.list_upload_tokens())


async def _tokens(client: Client) -> object:
    token = await client.create_upload_token()
    found = await client.get_upload_token(token.token)
    await client.delete_upload_token(token.token)
    return found


async def _delete(client: Client) -> object:
    video = await client.create_video(title="x", metadata={"a": "b"}, tags=["c"])
    await client.delete_video(video.video_id)
    return video


async def _change(client: Client) -> object:
    video = await client.create_video(title="x", metadata={"a": "b"})
    return await client.update_video(video.video_id, title="y")


async def _import(client: Client) -> object:
    return await client.import_video((await client.list_videos(limit=1))[0].video_id)


CALLS: Final = (_upload, _upload, _upload_two_parts, _status, _list, _tokens, _delete, _change, _import)


async def test_every_call_with_mutated_responses() -> None:
    """Every call returns a result or raises an UploaderError. Nothing hangs."""
    rng = random.Random(11)

    def change(_: Request, response_bytes: bytes) -> bytes:
        return mutated(response_bytes, rng) if rng.random() < 0.4 else response_bytes

    ended = {"result": 0, "error": 0}
    errors: list[UploaderError] = []
    async with service() as emulator, between(emulator, change) as url:
        async with QuickClient(api_key=KEY, base_url=emulator.url) as direct:
            await direct.upload(SMALL)
        for number in range(RUNS):
            call = CALLS[number % len(CALLS)]
            try:
                async with asyncio.timeout(HANG_SECONDS), ImpatientClient(api_key=KEY, base_url=url) as client:
                    assert repr(await call(client))
                ended["result"] += 1
            except UploaderError as exc:
                ended["error"] += 1
                errors.append(exc)
    assert min(ended.values()) > RUNS // 10, ended
    for error in errors:
        assert str(error).isprintable()
        pickle.loads(pickle.dumps(error))


def test_every_command_with_mutated_responses(
    in_process: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 0 with the document, or 1 with a message. There is no traceback."""
    rng = random.Random(12)
    probability = [0.0]

    def change(_: Request, response_bytes: bytes) -> bytes:
        return mutated(response_bytes, rng) if rng.random() < probability[0] else response_bytes

    for name in "abc":
        (in_process / f"{name}.mp4").write_bytes(SMALL + name.encode())
    transfer = ("--stall-timeout", str(SHORT), "--max-attempts", "2")
    with start_blocking_portal() as portal:
        emulator = portal.call(_made)
        with (
            portal.wrap_async_context_manager(emulator),
            portal.wrap_async_context_manager(between(emulator, change)) as url,
        ):
            monkeypatch.setenv("APIVIDEO_API_KEY", KEY)
            monkeypatch.setenv("APIVIDEO_BASE_URL", url)
            assert run(["upload", "a.mp4", "--no-resume"]) == 0
            video_id = capfd.readouterr().out.split()[0]
            commands = (
                ["upload", "a.mp4", *transfer, "--json"],
                ["upload", "a.mp4", "b.mp4", "c.mp4", *transfer, "--json", "--wait", "--wait-timeout", "3"],
                ["upload", "a.mp4", "b.mp4", *transfer, "--results", "r.jsonl"],
                ["status", video_id],
                ["status", video_id, "--json"],
                ["import", video_id],
                ["import", video_id, "--json"],
                ["delete", "viNothing"],
                ["tokens", "create", "--json"],
                ["tokens", "list"],
                ["tokens", "delete", "toNothing"],
                ["uploads", "--json"],
            )
            probability[0] = 0.4
            for number in range(COMMANDS):
                command = commands[number % len(commands)]
                code = run(command)
                out, err = capfd.readouterr()
                assert code in (0, 1), (command, code, err)
                assert "Traceback" not in err, (command, err)
                assert "unexpected" not in err, (command, err)
                if "--json" in command and (code == 0 or command[:3] == ["upload", "a.mp4", "b.mp4"]):
                    json.loads(out, parse_constant=pytest.fail)


async def _made() -> Emulator:
    return service()


@pytest.mark.parametrize(
    "ingest",
    [
        {"receivedBytes": None}, {"receivedParts": []}, {"receivedParts": [None]}, {"receivedBytes": {"a": None}},
        {"filesize": "13"}, {"receivedParts": "all"}, {"status": None},
    ],
    ids=str,
)  # fmt: skip
async def test_unexpected_fields_of_ingest_do_not_fail_a_finished_video(ingest: dict[str, Any]) -> None:
    def change(request: Request, response_bytes: bytes) -> bytes:
        if not request.path.endswith("/status"):
            return response_bytes
        status = json.loads(response_bytes.partition(b"\r\n\r\n")[2])
        return response(200, {**status, "ingest": {**status["ingest"], **ingest}})

    async with service() as emulator, between(emulator, change) as url:
        async with QuickClient(api_key=KEY, base_url=url) as client:
            video = await client.upload(SMALL, stall_timeout=1)
        assert (await emulator.finished(video.video_id)).size_bytes == len(SMALL)


@pytest.mark.parametrize("assets", [None, [], "x", [None], {"player": 7}], ids=str)
async def test_unexpected_assets_of_a_finished_video(assets: object) -> None:
    def change(request: Request, response_bytes: bytes) -> bytes:
        if request.path.startswith("/auth") or request.path.endswith("/status"):
            return response_bytes
        return response(201, {**json.loads(response_bytes.partition(b"\r\n\r\n")[2]), "assets": assets})

    async with (
        service() as emulator,
        between(emulator, change) as url,
        QuickClient(api_key=KEY, base_url=url) as client,
    ):
        video = await client.upload(SMALL)
    assert (video.title, video.assets.player) == ("stream", None)


async def test_wrong_page_count_and_items_without_an_id(caplog: pytest.LogCaptureFixture) -> None:
    requested = []

    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        requested.append(request.path)
        page = {"data": [{"videoId": "vi1"}, {"title": "lost"}, None], "pagination": {"pagesTotal": 10**9}}
        writer.write(response(200, LOGIN if request.path.startswith("/auth") else page))

    async with serving(handle) as url, QuickClient(api_key=KEY, base_url=url) as client:
        assert [video.video_id for video in await client.list_videos()] == ["vi1"]
    assert len(requested) == 3
    assert "it has no videoId" in caplog.text


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b"", b"[" * 100_000], ids=lambda body: ascii(body)[:8])
async def test_unreadable_response_to_a_read_is_retried(body: bytes) -> None:
    """There are three attempts, as it may be a login page of the network. Then the error says what to check."""
    requested: list[str] = []

    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        is_login = request.path.startswith("/auth")
        requested.append(request.path)
        writer.write(response(200, LOGIN if is_login else body))

    async with serving(handle) as url, QuickClient(api_key=KEY, base_url=url) as client:
        with pytest.raises(TransportError, match="200 and something that is not a status; check the base URL"):
            await client.get_status("vi1")
    assert requested == ["/auth/api-key", *["/videos/vi1/status"] * 3]


# Logins


@pytest.mark.parametrize(
    "login",
    [
        {"access_token": "a\r\nX-Evil: 1"}, {"access_token": "é"}, {"access_token": "a b"}, {"access_token": None},
        {"access_token": "a" * 100_000}, {"access_token": "\ud800"},
    ],
    ids=lambda login: ascii(login["access_token"])[:12],
)  # fmt: skip
async def test_unusable_access_token(login: dict[str, Any]) -> None:
    async def handle(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(response(200, {**LOGIN, **login}))

    async with serving(handle) as url, QuickClient(api_key=KEY, base_url=url) as client:
        with pytest.raises(UploaderError, match="200 and something that is not a bearer token") as caught:
            await client.get_video("vi1")
    check_sentence(str(caught.value))


@pytest.mark.parametrize(
    "expires_in",
    [
        "1e999",
        pytest.param("1" + "0" * 400, id="10^400"),
        "-5",
        "NaN",
        "true",
        '"3600"',
        '"soon"',
        "null",
        "0",
        "[]",
    ],
)
async def test_any_lifetime_of_a_token(expires_in: str) -> None:
    paths = []

    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        paths.append(request.path)
        login = json.dumps({**LOGIN, "refresh_token": "bad\n", "expires_in": "?"}).replace('"?"', expires_in)
        video = json.dumps({"videoId": "vi1"})
        writer.write(response(200, (login if request.path.startswith("/auth") else video).encode()))

    async with serving(handle) as url, QuickClient(api_key=KEY, base_url=url) as client:
        for _ in range(3):
            assert (await client.get_video("vi1")).video_id == "vi1"
    assert paths == ["/auth/api-key", *["/videos/vi1"] * 3]
