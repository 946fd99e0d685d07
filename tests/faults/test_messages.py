"""The complete messages that users see when an upload fails. None of them contains a secret."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from async_uploader._api.transport_errors import translate
from async_uploader._errors import TransportError, UploaderError
from async_uploader._limits import MIB
from async_uploader.emulator import Fault
from async_uploader.emulator._credentials import Credentials
from harness.world import KEY, PART, QuickClient, Source, check_sentence, make_source, run_upload, service

from .conftest import StartUpload
from .matrix import SEVERAL_BYTES

SourceOf = Callable[[int], Source]

_REFUSED: Final = "authentication-invalid-user-credentials"
_NONE: Final = "0 of 3 parts (0 bytes) were stored in video VIDEO."
_ONE: Final = "1 of 3 parts (5 MiB) were stored in video VIDEO."
_TWO: Final = "2 of 3 parts (10 MiB) were stored in video VIDEO."
_ALL: Final = "3 of 3 parts (11 MiB) were stored in video VIDEO."
_DELETED: Final = "The unfinished video was deleted."
_AGAIN: Final = "Upload it again to resume."
_RESPONSE: Final = "The service responded with"
_LOST: Final = "No response from the service:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Faults, and the complete message. VIDEO stands for the videoId."""

    faults: tuple[str, ...]
    text: str
    options: Mapping[str, Any] = field(default_factory=dict)


_RESUME: Final = {"resume": "local"}
_LAST: Final = "upload,part=last"

MESSAGES: Final = {
    # Parts.
    "refused": Message(
        faults=(f"{_LAST}:problem=uploaded-file-invalid-file",),
        text=f"Part 3 of 3: {_RESPONSE} 400: The uploaded file cannot be read from the request. {_TWO} {_DELETED}",
    ),
    "too large": Message(
        faults=(f"{_LAST}:status=413",),
        text=f"Part 3 of 3: {_RESPONSE} 413: The uploaded file is too large. {_TWO} {_DELETED}",
    ),
    "server error": Message(
        faults=(f"{_LAST}:status=503",),
        text=f"Part 3 of 3: {_RESPONSE} 503: Service Unavailable. {_TWO} {_DELETED}",
    ),
    "server error, resume": Message(
        faults=(f"{_LAST}:status=503",),
        options=_RESUME,
        text=f"Part 3 of 3: {_RESPONSE} 503: Service Unavailable. {_TWO} {_AGAIN}",
    ),
    "a proxy's page": Message(
        faults=(f"{_LAST}:status=502,body=html",),
        options=_RESUME,
        text=f"Part 3 of 3: {_RESPONSE} 502: Bad Gateway. {_TWO} {_AGAIN}",
    ),
    "rate limit": Message(
        faults=(f"{_LAST}:status=429,retry-after=0",),
        options=_RESUME,
        text=f"Part 3 of 3: {_RESPONSE} 429: Too many requests. {_TWO} {_AGAIN}",
    ),
    "redirect": Message(
        faults=(f"{_LAST}:status=302,header=Location=http://127.0.0.1:9/",),
        text=f"Part 3 of 3: {_RESPONSE} 302: Found. It redirects elsewhere, and redirects are not followed; "
        f"check the base URL. {_TWO} {_DELETED}",
    ),
    "token refused": Message(
        faults=(f"{_LAST}:status=401",),
        options=_RESUME,
        text=f"Part 3 of 3: {_RESPONSE} 401: The access token is invalid or has expired. {_TWO} {_AGAIN}",
    ),
    "key refused in the middle": Message(
        faults=(
            "upload,part=2:expire-tokens,revoke-tokens",
            f"auth,attempt=2:problem={_REFUSED}",
        ),
        options=_RESUME,
        text=f"Part 2 of 3: {_RESPONSE} 400: The user credentials were incorrect. Check the API key, and that it "
        f"belongs to this environment. {_ONE} {_AGAIN}",
    ),
    "account suspended": Message(
        faults=(f"{_LAST}:problem=account-suspended",),
        options=_RESUME,
        text=f"Part 3 of 3: {_RESPONSE} 403: This account is suspended. {_TWO} {_AGAIN}",
    ),
    "connection closed": Message(
        faults=(f"{_LAST}:cut,when=late",),
        options=_RESUME,
        text=f"Part 3 of 3: {_LOST} it closed the connection. {_TWO} {_AGAIN}",
    ),
    "stalled": Message(
        faults=(f"{_LAST}:stall=forever,when=late",),
        options={**_RESUME, "stall_timeout": 0.3},
        text=f"Part 3 of 3: {_LOST} nothing moved for 0.3 s. {_TWO} {_AGAIN}",
    ),
    "someone else": Message(
        faults=(f"{_LAST}:problem=video-content-range-by-part-part-already-sent",),
        text=f"Part 3 of 3: {_RESPONSE} 400: This part was already sent. This upload did not send it: another "
        f"program is writing to this video. {_TWO} The video was not deleted.",
    ),
    "not deleted": Message(
        faults=("upload,part=first:status=413", "delete:status=503"),
        text=f"Part 1 of 3: {_RESPONSE} 413: The uploaded file is too large. {_NONE} "
        "The unfinished video could not be deleted; the service removes it after 7 days.",
    ),
    # After the last part.
    "never whole": Message(
        faults=("upload,part=2:status=200,body=html",),
        options={**_RESUME, "stall_timeout": 0.3},
        text="Every part was accepted, but the service has not assembled the video (its status is 'uploading'). "
        f"{_ALL} {_AGAIN}",
    ),
    "no status": Message(
        faults=("status:status=503",),
        options=_RESUME,
        text=f"{_RESPONSE} 503: Service Unavailable. {_ALL} {_AGAIN}",
    ),
    # Before the first part.
    "wrong key": Message(
        faults=(f"auth:problem={_REFUSED}",),
        text=f"{_RESPONSE} 400: The user credentials were incorrect. Check the API key, and that it belongs to "
        "this environment.",
    ),
    "login gets no response": Message(faults=("auth:cut",), text=f"{_LOST} it closed the connection."),
    "not created": Message(
        faults=("create:problem=invalid-attribute",), text=f"{_RESPONSE} 400: This attribute is invalid."
    ),
    "create redirects": Message(
        faults=("create:status=302",),
        text=f"{_RESPONSE} 302: Found. It redirects elsewhere, and redirects are not followed; "
        "check the base URL.",
    ),
    "not the service": Message(
        faults=("create:status=200,body=html",),
        text=f"{_RESPONSE} 200 and something that is not a video; check the base URL.",
    ),
    "not the service's login": Message(
        faults=("auth:status=200,body=html",),
        text=f"{_RESPONSE} 200 and something that is not a bearer token; check the base URL.",
    ),
}


@pytest.mark.anyio
@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
async def test_message(message: Message, source_of: SourceOf) -> None:
    """The message is exactly this text."""
    async with service(*message.faults) as emulator:
        options = {"max_attempts": 2, "concurrency": 1, **message.options}
        run = await run_upload(emulator, source_of(SEVERAL_BYTES), **options)
    assert run.error is not None
    text = str(run.error)
    check_sentence(text)
    assert re.sub(r"\bvi[A-Za-z0-9]{10,}", "VIDEO", text) == message.text


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("http://127.0.0.1:9", "no connection to 127.0.0.1:9 (Connection refused)."),
        ("https://no-such-host.invalid", "the host name 'no-such-host.invalid' was not found."),
    ],
)
async def test_unreachable_service(host: str, reason: str, source_of: SourceOf) -> None:
    """The message has the address and the reason."""
    async with QuickClient(api_key=KEY, base_url=host) as client:
        with pytest.raises(UploaderError) as caught:
            await client.upload(source_of(SEVERAL_BYTES).path, part_size=PART, max_attempts=1)
    assert str(caught.value) == f"{_LOST} {reason}"
    assert isinstance(caught.value, TransportError)
    assert caught.value.unreachable
    check_sentence(str(caught.value))


# Log messages of successful uploads of movie.mp4.
LOGGED: Final = {
    "part is retried": (
        ("upload,part=last,times=1:cut,when=late",),
        r"movie\.mp4, part 3: No response from the service: it closed the connection\. Retrying in \d\.\d s\.",
    ),
    "part was stored": (
        ("upload,part=last,times=1:cut,when=stored",),
        r"movie\.mp4, part 3 was already stored\.",
    ),
    "creation is retried": (
        ("create,times=1:status=503",),
        r"movie\.mp4, create: The service responded with 503: Service Unavailable\. Retrying in \d\.\d s\.",
    ),
    "status is retried": (
        ("status,times=1:status=502,body=html",),
        r"movie\.mp4, status: The service responded with 502: Bad Gateway\. Retrying in \d\.\d s\.",
    ),
    "video is retried": (
        ("completing,times=1:cut", "get,times=1:status=500"),
        r"movie\.mp4, video: The service responded with 500: Internal Server Error\. Retrying in \d\.\d s\.",
    ),
}


@pytest.mark.anyio
@pytest.mark.parametrize(("faults", "pattern"), LOGGED.values(), ids=LOGGED)
async def test_logged(
    faults: tuple[str, ...], pattern: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the reason and time of each retry."""
    caplog.set_level(logging.INFO, "async_uploader")
    movie = make_source(tmp_path / "movie.mp4", SEVERAL_BYTES)
    async with service(*faults) as emulator:
        assert (await run_upload(emulator, movie)).video is not None
    logged = [record.getMessage() for record in caplog.records if record.name.startswith("async_uploader")]
    assert [line for line in logged if re.fullmatch(pattern, line)], logged


SECRET_FAULTS: Final = (
    (),
    ("upload,part=2,times=1:expire-tokens,revoke-tokens", "upload,part=last,times=2:cut,when=middle"),
    ("upload,part=2,times=1:expire-tokens", "refresh,times=1:status=503", "status,times=1:status=502,body=html"),
    ("upload,part=last:status=403",),
    (
        "upload,part=2:expire-tokens,revoke-tokens",
        f"auth,attempt=2:problem={_REFUSED}",
    ),
    ("upload:status=302,header=Location=http://127.0.0.1:9/",),
)

# An upload token sends parts only.
_OF_PARTS: Final = SECRET_FAULTS[1:2]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("faults", "delegated"),
    [
        *(pytest.param(faults, False, id=f"key: {' '.join(faults) or 'none'}") for faults in SECRET_FAULTS),
        *(pytest.param(faults, True, id=f"token: {faults[-1]}") for faults in _OF_PARTS),
    ],
)
async def test_no_secret_anywhere(
    faults: tuple[str, ...],
    delegated: bool,
    command: StartUpload,
    source_of: SourceOf,
    tmp_path: Path,
    issued: list[str],
) -> None:
    """No key and no bearer, refresh or upload token is in the output (with -vv) or in the journal."""
    async with service() as emulator:
        async with QuickClient(api_key=KEY, base_url=emulator.url) as client:
            upload_token = (await client.create_upload_token()).token
        for fault in faults:
            emulator.add_fault(Fault.parse(fault))
        token = ("--upload-token", upload_token) if delegated else ()
        source = source_of(SEVERAL_BYTES)
        flags = ("-vv", "--max-attempts", "3", "--resume", *token)
        async with command(emulator, source, tmp_path / "state", *flags, key=not delegated) as process:
            output = "".join(await process.wait())
        secrets = [KEY, upload_token, *issued]
        kept = await asyncio.to_thread(_contents, tmp_path / "state")
        assert [secret for secret in secrets if secret in output] == []
        assert [secret for secret in secrets if secret.encode() in kept] == []


@pytest.fixture
def issued(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All bearer and refresh tokens that the emulator issues."""
    tokens: list[str] = []
    issue = Credentials._issue

    def remember(self: Credentials, now: float) -> dict[str, object]:
        pair = issue(self, now)
        tokens.extend([str(pair["access_token"]), str(pair["refresh_token"])])
        return pair

    monkeypatch.setattr(Credentials, "_issue", remember)
    return tokens


def _contents(folder: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_size_of_the_source() -> None:
    """The messages above are those of three parts and 11 MiB."""
    assert SEVERAL_BYTES == 2 * PART + MIB + 1


TRANSPORT_ERRORS: Final = [
    aiohttp.ClientOSError(104, "Connection reset by peer"),
    aiohttp.ClientOSError(),
    aiohttp.ClientConnectionResetError("Cannot write to closing transport"),
    aiohttp.ServerDisconnectedError(),
    aiohttp.ServerTimeoutError(),
    aiohttp.ClientPayloadError("x"),
    aiohttp.ClientConnectionError(),
    aiohttp.ClientError(),
    ConnectionResetError(104, "Connection reset by peer"),
    ConnectionResetError("Connection lost"),
    BrokenPipeError(32, "Broken pipe"),
    TimeoutError(),
    OSError(),
    ssl.SSLError(1, "[SSL] record layer failure"),
    ssl.SSLError(),
    ValueError("x"),
]


@pytest.mark.parametrize("error", TRANSPORT_ERRORS, ids=repr)
def test_the_connection_was_lost(error: Exception) -> None:
    """The message has the reason of the system if there is one, and never the name of a class."""
    text = str(translate(error))
    check_sentence(text)
    assert not re.search(r"[a-z][A-Z]|Error|Exception", text)
    number = getattr(error, "errno", None)
    assert isinstance(error, ssl.SSLError) or not number or os.strerror(number) in text
