"""Each fault of a source, with faults of the service: one video with the object's bytes, or the expected error.

The default run has every scenario for a URL of the web and an object of a store, and a fault of the service in
every other case. The full product has the marker `soak`.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
import traceback
from collections.abc import Callable, Iterable
from typing import Any, Final

import aiohttp
import pytest
import trustme
from obstore.store import S3Store

from async_uploader import RemoteFile, SourceError, UploaderError, UploadFailed, Video
from async_uploader.emulator import Emulator, Fault
from harness.range_server import RangeServer
from harness.world import HANG_SECONDS, KEY, PART, QuickClient, check_no_resent_bytes, check_sentence, service

from .counterparts import SECRETS, SIGNATURE
from .matrix import SCENARIOS, Case, Failure, Scenario, all_cases, default_cases

pytestmark = pytest.mark.anyio

_TARGET: Final = f"movie.mp4?id=1&X-Amz-Signature={SIGNATURE}%2B"


@pytest.mark.parametrize(
    "cases_of",
    [
        pytest.param(default_cases, id="default"),
        pytest.param(all_cases, id="all", marks=[pytest.mark.soak, pytest.mark.timeout(300)]),
    ],
)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_scenario(
    scenario: Scenario,
    cases_of: Callable[[Scenario], Iterable[Case]],
    content: bytes,
    tls: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for case in cases_of(scenario):
        await check(case, content, tls, monkeypatch, caplog)


@pytest.fixture(scope="module")
def tls() -> ssl.SSLContext:
    """A server's context with a certificate that this process trusts from now on."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    # aiohttp has created it when it was imported, so SSL_CERT_FILE would have no effect.
    authority.configure_trust(aiohttp.connector._SSL_CONTEXT_VERIFIED)
    return context


async def check(
    case: Case,
    content: bytes,
    tls: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Run a case, and check its end."""
    caplog.set_level(logging.DEBUG, "async_uploader")
    scenario = case.scenario
    body = b"" if scenario.is_empty else content
    server = RangeServer(
        body,
        *scenario.faults,
        headers=scenario.headers,
        honors_conditions=scenario.honors_conditions,
        tls=tls if case.kind == "https" else None,
    )
    faults = [case.service_fault] if case.service_fault else []
    try:
        async with server, service(*faults) as emulator:
            for name, value in server.s3_environment.items():
                monkeypatch.setenv(name, value)
            run = _Run(case, server, emulator)
            await run.upload()
            if isinstance(scenario.expected, Failure):
                await run.check_failed(scenario.expected, body)
            else:
                await run.check_finished(body)
    except BaseException as exc:
        exc.add_note(f"Case: {case}")
        raise
    for secret in SECRETS:
        assert secret not in caplog.text


class _Run:
    """Runs of one upload."""

    def __init__(self, case: Case, server: RangeServer, emulator: Emulator) -> None:
        self._case = case
        self._server = server
        self._emulator = emulator
        self.video: Video | None = None
        self.error: UploaderError | None = None

    async def upload(self) -> None:
        case = self._case
        events: list[object] = []
        options: dict[str, Any] = {"fetch": "here"} if case.is_web else {}
        self.video = self.error = None
        async with asyncio.timeout(HANG_SECONDS), QuickClient(api_key=KEY, base_url=self._emulator.url) as client:
            try:
                self.video = await client.upload(
                    self._source(),
                    part_size=PART,
                    concurrency=2,
                    resume=case.resume,
                    max_attempts=3,
                    stall_timeout=case.scenario.stall_timeout,
                    on_event=events.append,
                    **options,
                )
            except UploaderError as exc:
                self.error = exc
        for secret in SECRETS:
            assert secret not in repr(events)

    def _source(self) -> str | RemoteFile:
        if self._case.is_web:
            return self._server.url(_TARGET)
        if self._case.kind == "s3":
            return "s3://films/movie.mp4"
        # As a caller configures it: without retries, which the upload does.
        return RemoteFile(
            S3Store("films", client_options={"allow_http": True}, retry_config={"max_retries": 0}), "movie.mp4"
        )

    async def check_finished(self, content: bytes) -> None:
        assert self.error is None, self.error
        assert self.video is not None
        assert self.video.metadata == ()
        assert self.video.title == "movie.mp4"
        view = await self._emulator.finished(self.video.video_id)
        assert view.sha256 == hashlib.sha256(content).hexdigest()
        assert len(self._emulator.videos) == 1
        check_no_resent_bytes(self._emulator)
        if self._case.is_web:
            assert all(request.target in (f"/{_TARGET}", "/elsewhere?X-Amz-Signature=y") for request in
                       self._server.requests)  # fmt: skip

    async def check_failed(self, expected: Failure, content: bytes) -> None:
        error = self.error
        assert isinstance(error, SourceError), error
        check_sentence(f"Error: {error}", secrets=SECRETS)
        assert expected.words in str(error)
        chain = "".join(traceback.format_exception(error))
        assert not [secret for secret in SECRETS if secret in chain]
        check_no_resent_bytes(self._emulator)
        if expected.container == "not created":
            assert not self._emulator.videos
            return
        assert isinstance(error, UploadFailed)
        if expected.container == "deleted" or self._case.resume == "off":
            assert not error.resumable
            assert not self._emulator.videos
            return
        assert error.resumable
        assert list(self._emulator.videos) == [error.video_id]
        self._server.clear_faults()
        self._emulator.clear_faults()
        await self.upload()
        await self.check_finished(content)


async def test_the_faults_of_the_service_are_valid() -> None:
    from .matrix import SERVICE_FAULTS

    assert all(Fault.parse(spec) for spec in SERVICE_FAULTS if spec)
