"""Files that nginx serves over TLS, with its ETag."""

from __future__ import annotations

import asyncio
import getpass
import hashlib
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import trustme

from async_uploader.emulator import Emulator
from harness.world import PART, service

from .conftest import RunCommand

pytestmark = pytest.mark.anyio

_CONFIGURATION: Final = """\
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {folder}/server.pem;
        ssl_certificate_key {folder}/server.pem;
        root {folder}/files;
    }}
}}
"""


@pytest.fixture
def nginx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of nginx, which serves the directory `nginx/files`. Commands trust its certificate."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    folder = tmp_path / "nginx"
    (folder / "files").mkdir(parents=True)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(_CONFIGURATION.format(user=user, folder=folder, port=port))
    arguments = [program, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL)
    try:
        _wait_until_ready(port, process)
        yield f"https://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _wait_until_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    while process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port)) as connection:
                context.wrap_socket(connection).close()
                return
        except OSError:
            continue
    raise AssertionError("nginx did not start")


async def _sha256(emulator: Emulator) -> str | None:
    (video_id,) = emulator.videos
    return (await emulator.finished(video_id)).sha256


async def test_files(nginx: str, content: bytes, run_upload: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "nginx/files/movie.mp4").write_bytes(content)
    (tmp_path / "nginx/files/empty.mp4").touch()
    async with service() as emulator:
        ended = await run_upload(emulator, f"{nginx}/movie.mp4", "--fetch", "here", "--part-size", str(PART))
        assert ended.code == 0, ended.err
        assert await _sha256(emulator) == hashlib.sha256(content).hexdigest()
        for name, words in (("empty", "is empty; there is nothing to upload."), ("missing", "does not exist.")):
            ended = await run_upload(emulator, f"{nginx}/{name}.mp4", "--fetch", "here")
            assert (ended.code, ended.err) == (1, f"error: {nginx}/{name}.mp4 {words}\n")
        assert len(emulator.videos) == 1


async def test_a_file_that_is_replaced(nginx: str, content: bytes, run_upload: RunCommand, tmp_path: Path) -> None:
    """Its ETag differs, so the next attempt at a part ends the upload."""
    path = tmp_path / "nginx/files/movie.mp4"
    path.write_bytes(content)
    (tmp_path / "new").write_bytes(content[::-1])
    os.utime(tmp_path / "new", (1, 1))
    async with service("upload,part=2,times=1:stall=forever,when=early") as emulator:
        arguments = ("--part-size", str(PART), "--concurrency", "1", "--stall-timeout", "1")
        command = asyncio.ensure_future(run_upload(emulator, f"{nginx}/movie.mp4", "--fetch", "here", *arguments))
        await emulator.wait_for(lambda emulator: any(view.pieces for view in emulator.videos.values()))
        os.replace(tmp_path / "new", path)
        ended = await command
        assert ended.code == 1
        assert f"{nginx}/movie.mp4 has changed during the upload." in ended.err
        assert not emulator.videos
