"""nginx as a target, and as a server of sources. It stores parts on tmpfs, and discards them.

It uses about as much CPU time as a fast client. If client and server share the cores of one machine, the results
measure both.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Final, Self

from . import responses
from .targets import Address, Fixed

_START_SECONDS: Final = 10.0
_CONFIGURATION: Final = """\
{user}
daemon off;
worker_processes 8;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    default_type application/json;
    keepalive_requests 1000000;
    client_max_body_size 0;
    client_body_buffer_size 256k;
    client_body_temp_path {folder}/bodies 1;
    client_body_in_file_only clean;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream responses {{ server unix:{folder}/responses.sock; keepalive 64; }}
    server {{
        listen 127.0.0.1:{plain_port} reuseport;
        listen 127.0.0.1:{tls_port} ssl reuseport;
        ssl_certificate {certificates}/server.pem;
        ssl_certificate_key {certificates}/server.pem;
        sendfile on;
        location /near/ {{ alias {files}/; }}
        location /far/ {{ alias {files}/; limit_rate {far_connection_rate}; }}
        location / {{
            proxy_pass http://responses;
            proxy_pass_request_body off;
            proxy_http_version 1.1;
            proxy_set_header Content-Length "";
            proxy_set_header Transfer-Encoding "";
            proxy_set_header Expect "";
            proxy_set_header Connection "";
        }}
    }}
    server {{
        listen unix:{folder}/responses.sock;
        location = /auth/api-key {{ return 200 '{pair}'; }}
        location = /videos {{ return 201 '{video}'; }}
        location ~ /status$ {{ return 200 '{status}'; }}
        location / {{ return 201 '{video}'; }}
    }}
}}
"""


class Nginx:
    """An nginx process with a plain and a TLS port. Use as a context manager.

    :param folder: a new directory on tmpfs
    :param certificates: the directory that :mod:`.certificates` has written to
    :param files: the directory of the sources
    :param far_connection_rate: bytes per second and connection of the sources in `far`
    """

    def __init__(self, folder: Path, *, certificates: Path, files: Path, far_connection_rate: int) -> None:
        self._folder = folder
        self._certificates = certificates
        self._files = files
        self._far_connection_rate = far_connection_rate
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        program = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
        if program is None:
            raise SystemExit("nginx is not installed. Install it with `apt-get install nginx-light`.")
        self._folder.mkdir()
        self._folder.chmod(0o755)
        self._plain_port, self._tls_port = _free_ports()
        configuration = self._folder / "nginx.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                user=f"user {getpass.getuser()};" if os.geteuid() == 0 else "",
                folder=self._folder,
                plain_port=self._plain_port,
                tls_port=self._tls_port,
                certificates=self._certificates,
                files=self._files,
                far_connection_rate=self._far_connection_rate,
                pair=responses.PAIR,
                video=responses.VIDEO,
                status=responses.STATUS,
            )
        )
        self._process = subprocess.Popen(
            [program, "-c", str(configuration), "-e", str(self._folder / "error.log")], stdin=subprocess.DEVNULL
        )
        self._wait_until_ready()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._tls_port), timeout=1).close()
            except OSError:
                assert self._process is not None
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"nginx did not start: {self._error_log()}") from None
                time.sleep(0.02)
            else:
                return

    def _error_log(self) -> str:
        log = self._folder / "error.log"
        return log.read_text() if log.exists() else "there is no error log"

    @property
    def plain(self) -> Fixed:
        """The target for ``http://``."""
        return Fixed(Address(url=f"http://127.0.0.1:{self._plain_port}"))

    @property
    def tls(self) -> Fixed:
        """The target for ``https://``."""
        return Fixed(Address(url=f"https://127.0.0.1:{self._tls_port}", ca=self.ca))

    @property
    def ca(self) -> Path:
        """The certificate to trust."""
        return self._certificates / "ca.pem"

    def source_url(self, place: str, name: str) -> str:
        """The URL of a source. Each place is a bucket of an endpoint of S3, too.

        :param place: `near` or `far`
        """
        return f"https://127.0.0.1:{self._tls_port}/{place}/{name}"


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]
