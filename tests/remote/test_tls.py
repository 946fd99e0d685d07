"""Sources over TLS, with a certificate authority of one's own."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from harness.range_server import RangeServer
from harness.world import service

from .conftest import RunCommand
from .matrix import KINDS, Kind

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("kind", KINDS)
async def test_a_certificate(
    kind: Kind, run_upload: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must be trusted, by SSL_CERT_FILE for example."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with RangeServer(b"content", tls=context) as server, service() as emulator:
        for name, value in server.s3_environment.items():
            monkeypatch.setenv(name, value)
        arguments = (server.url(), "--fetch", "here") if kind == "web" else ("s3://films/movie.mp4",)
        ended = await run_upload(emulator, *arguments, "--max-attempts", "2")
        assert ended.code == 1
        assert len(ended.err.splitlines()) <= 3, ended.err
        assert "cannot be read" in ended.err
        assert not emulator.videos
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        ended = await run_upload(emulator, *arguments)
        assert ended.code == 0, ended.err
        assert len(emulator.videos) == 1
