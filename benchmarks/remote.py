"""Uploads of objects that nginx serves over TLS, as a web server and as S3, to the emulator.

They are compared with the two halves of the job, measured separately: `curl` reads the same ranges and
discards them, and the uploader uploads a local file. Pipes of the shell do the whole job, too.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .emulated import FAR_CONNECTION_RATE, FAR_RESPONSE_SECONDS, Emulated
from .nginx import Nginx
from .peers import Job, script
from .sources import Sources
from .suite import Case, Entry
from .targets import Address, Fixed, Target
from .units import MIB, size_text

REMOTE_FAR: Final = "remote-far"
REMOTE_FEW: Final = "remote-far-few"
FEW_CONNECTIONS: Final = 4
READ_ALONE: Final = "curl reads the ranges, discards them"
UPLOAD_ALONE: Final = "ours, a local file"
WEB: Final = "ours, from the web"
S3: Final = "ours, from S3"

_FAR_READERS: Final = 32
_FAR_RANGE_BYTES: Final = 16 * MIB
_PARTS: Final = 8
_PART_BYTES: Final = 100 * MIB

_OURS: Final = script("ours")
_REMOTE: Final = script("remote")
# `-F file=@-` holds a part in memory: curl has to know its size.
_CURL_TO_CURL: Final = """\
set -eu
video=$(curl -sSf -u "$APIVIDEO_API_KEY:" -H 'Content-Type: application/json' -d '{{"title": "pipe"}}' \
    "$APIVIDEO_BASE_URL/videos" | sed 's/.*"videoId": *"\\([^"]*\\)".*/\\1/')
for n in $(seq {count}); do
    first=$(((n - 1) * {part_bytes}))
    curl -sSf --cacert {ca} -r "$first-$((first + {part_bytes} - 1))" {url} |
        curl -sSf -u "$APIVIDEO_API_KEY:" -H "Content-Range: part $n/{count}" -H Expect: \
            -F 'file=@-;filename=pipe' -o /dev/null "$APIVIDEO_BASE_URL/videos/$video/source"
done
"""
_AWS_TO_OURS: Final = (
    "{aws} s3 cp --quiet --endpoint-url {endpoint} --ca-bundle {ca} {s3_url} - | "
    "{python} -m async_uploader upload - --quiet > /dev/null"
)
_CURL_TO_OURS: Final = "curl -sSf --cacert {ca} {url} | {python} -m async_uploader upload - --quiet > /dev/null"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteCases:
    """The cases, and the servers and sources that they need."""

    sources: Sources
    nginx: Nginx

    def near(self, size_bytes: int) -> Case:
        """Source and service on this machine: the cost of the work itself."""
        count = math.ceil(size_bytes / _PART_BYTES)
        source = self.sources.file(size_bytes)
        job = Job(source=source, part_bytes=_PART_BYTES, connections=_PARTS)
        target = self._emulated()
        url = self.nginx.source_url("near", source.name)
        words = {"ca": self.nginx.ca, "url": url, "python": sys.executable}
        to_ours = _CURL_TO_OURS.format(**words)
        to_curl = _CURL_TO_CURL.format(count=count, part_bytes=_PART_BYTES, **words)
        entries = [
            self._reading(url, source, connections=_PARTS, range_bytes=_PART_BYTES),
            self._entry(UPLOAD_ALONE, size_bytes, target, lambda address: _OURS(job, address)),
            self._entry(WEB, size_bytes, target, self._ours(job, url)),
            self._entry(S3, size_bytes, target, self._ours(job, f"s3://near/{source.name}")),
            self._entry("curl to curl, part by part", size_bytes, target, lambda _: ["sh", "-c", to_curl]),
            self._entry("curl to ours, by a pipe", size_bytes, target, lambda _: ["sh", "-c", to_ours]),
        ]
        if (aws := shutil.which("aws")) is not None:
            piped = _AWS_TO_OURS.format(
                aws=aws, endpoint=self._endpoint, s3_url=f"s3://near/{source.name}", **words
            )
            command = ["env", *self._variables, "sh", "-c", piped]
            entries.append(self._entry("aws s3 cp to ours, by a pipe", size_bytes, target, lambda _: command))
        else:
            print("The command aws is not installed, so it is not measured.", file=sys.stderr)
        return Case(
            key="remote",
            title=f"{size_text(size_bytes)} from nginx over TLS to the emulator, {_PARTS} parts of "
            f"{size_text(_PART_BYTES)} in flight",
            entries=entries,
        )

    def far(self, size_bytes: int, *, connections: int | None = None) -> Case:
        """Source and service are both far away.

        :param connections: number of connections; default: the uploader chooses it. Its choice may need more CPU
            time than a small machine has, which the servers share. With few connections, only the network counts
        """
        source = self.sources.file(size_bytes)
        job = Job(source=source, part_bytes=None, connections=connections)
        target = self._emulated(connection_rate=FAR_CONNECTION_RATE, latency=FAR_RESPONSE_SECONDS)
        url = self.nginx.source_url("far", source.name)
        entries = [
            self._reading(url, source, connections=connections or _FAR_READERS, range_bytes=_FAR_RANGE_BYTES),
            self._entry(UPLOAD_ALONE, size_bytes, target, lambda address: _OURS(job, address)),
            self._entry(WEB, size_bytes, target, self._ours(job, url)),
            self._entry(S3, size_bytes, target, self._ours(job, f"s3://far/{source.name}")),
        ]
        rate = f"{size_text(FAR_CONNECTION_RATE)}/s per connection"
        limit = "" if connections is None else f", {connections} connections"
        return Case(
            key=REMOTE_FAR if connections is None else REMOTE_FEW,
            title=f"{size_text(size_bytes)} from a distant source to a distant service: "
            f"{rate} on both sides{limit}",
            entries=entries,
        )

    def _emulated(self, **settings: float) -> Target:
        return Emulated(self.sources.folder, **settings)

    def _entry(self, name: str, size_bytes: int, target: Target, command: Callable[[Address], list[str]]) -> Entry:
        return Entry(name=name, target=target, command=command, payload_bytes=size_bytes)

    @property
    def _endpoint(self) -> str:
        return self.nginx.source_url("", "").rstrip("/")

    @property
    def _variables(self) -> list[str]:
        variables = {
            "SSL_CERT_FILE": str(self.nginx.ca),
            "AWS_ACCESS_KEY_ID": "benchmark",
            "AWS_SECRET_ACCESS_KEY": "benchmark",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self._endpoint,
        }
        return [f"{name}={text}" for name, text in variables.items()]

    def _ours(self, job: Job, url: str) -> Callable[[Address], list[str]]:
        def command(address: Address) -> list[str]:
            return ["env", *self._variables, *_REMOTE(job, address), "--remote", url]

        return command

    def _reading(self, url: str, source: Path, *, connections: int, range_bytes: int) -> Entry:
        size_bytes = source.stat().st_size
        transfers = [
            f'url = "{url}"\nrange = "{first}-{min(first + range_bytes, size_bytes) - 1}"\noutput = "/dev/null"\n'
            f'cacert = "{self.nginx.ca}"\nfail\nsilent\nshow-error'
            for first in range(0, size_bytes, range_bytes)
        ]
        configuration = source.with_suffix(f".{connections}.curl")
        configuration.write_text("\nnext\n".join(transfers) + "\n")
        command = [
            *("curl", "-q", "-Z", "--parallel-immediate", "--parallel-max", str(connections)),
            *("-K", str(configuration)),
        ]
        return self._entry(READ_ALONE, size_bytes, Fixed(Address(url="")), lambda _: command)
