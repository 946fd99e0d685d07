"""Building blocks of fault scenarios: a source, a service, one upload, and checks that hold for every upload."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest import mock

from async_uploader import Client, Progress, Video
from async_uploader._errors import UploaderError
from async_uploader._flow.retries import RetryPolicy
from async_uploader._limits import MIB
from async_uploader._resume.containers import SettlingPolicy
from async_uploader.emulator import Emulator, Fault, RequestRecord, VideoView

PART: Final = 5 * MIB
_CLASS_NAME: Final = re.compile(r"\b(Client|Server|OS|IO)\w*Error\b|Connection\w+Error|TimeoutError|BrokenPipe")
KEY: Final = "the-key-of-the-fault-tests"

#: For requests that do not use the library.
AUTH_HEADERS: Final = {"Authorization": "Basic " + b64encode(f"{KEY}:".encode()).decode()}

# An upper bound for the multipart framing and the other fields of the form.
FRAMING_BYTES: Final = 1024

# An upload that takes longer hangs. No upload takes that long, not even on a loaded machine.
HANG_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file that no test may change, and its part size."""

    path: Path
    size_bytes: int
    sha256: str
    part_bytes: int = PART

    @property
    def parts_total(self) -> int:
        """The number of parts."""
        return -(-self.size_bytes // self.part_bytes)

    def bytes_of(self, number: int) -> int:
        """The size of a part."""
        return min(self.part_bytes, self.size_bytes - (number - 1) * self.part_bytes)

    def content_range(self, number: int, ranges: str) -> str:
        """The ``Content-Range`` header of a part."""
        first = (number - 1) * self.part_bytes
        if ranges == "bytes":
            return f"bytes {first}-{first + self.bytes_of(number) - 1}/{self.size_bytes}"
        return f"part {number}/{number if number == self.parts_total else '*'}"


def make_source(path: Path, size_bytes: int) -> Source:
    """Create a file of random bytes."""
    content = os.urandom(size_bytes)
    path.write_bytes(content)
    return Source(path=path, size_bytes=size_bytes, sha256=hashlib.sha256(content).hexdigest())


class QuickClient(Client):
    """A client that retries within milliseconds, with a rate limit window of one second."""

    _retry_policy = RetryPolicy(first_backoff_seconds=0.01, max_backoff_seconds=0.1)
    _rate_window_seconds = 1.0
    _settling_policy = SettlingPolicy(creation_seconds=0.01, poll_seconds=0.05)


@contextmanager
def isolated(state: Path) -> Iterator[None]:
    """Keep the journal in ``state``, and hide the user's settings."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("APIVIDEO_")}
    with mock.patch.dict(os.environ, {**environment, "XDG_STATE_HOME": str(state)}, clear=True):
        yield


def service(*faults: str, **settings: Any) -> Emulator:
    """An emulator with faults and a rate limit window of one second. Without ``rate_limit`` it has no limit."""
    settings = {"api_key": KEY, "rate_window": 1.0, **settings}
    return Emulator(faults=[Fault.parse(spec) for spec in faults], **settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One call of ``upload()`` and its result."""

    video: Video | None
    error: UploaderError | None
    progress: tuple[Progress, ...]

    def check_progress(self, source: Source) -> None:
        """Check what holds for the progress reports of every upload."""
        acknowledged = 0
        for moment in self.progress:
            assert moment.acknowledged_bytes <= moment.sent_bytes <= source.size_bytes, moment
            assert moment.acknowledged_bytes <= moment.delivered_bytes <= moment.sent_bytes, moment
            assert moment.acknowledged_bytes >= acknowledged, moment
            assert 0 <= moment.parts_done <= source.parts_total == moment.parts_total, moment
            assert moment.total_bytes == source.size_bytes, moment
            acknowledged = moment.acknowledged_bytes
        if self.video is not None and self.progress:
            last = self.progress[-1]
            assert last.acknowledged_bytes == last.sent_bytes == source.size_bytes
            assert last.parts_done == last.parts_total


async def run_upload(emulator: Emulator, source: Source, *, as_stream: bool = False, **options: Any) -> Run:
    """Upload once, with a new client.

    :param as_stream: upload from memory; each part is kept until it is acknowledged
    :raises TimeoutError: the upload hangs
    """
    progress: list[Progress] = []
    options = {"part_size": source.part_bytes, "on_progress": progress.append, **options}
    video: Video | None = None
    failure: UploaderError | None = None
    async with asyncio.timeout(HANG_SECONDS):
        async with QuickClient(api_key=KEY, base_url=emulator.url) as client:
            try:
                content = io.BytesIO(source.path.read_bytes()) if as_stream else source.path
                video = await client.upload(content, **options)
            except UploaderError as error:
                failure = error
    run = Run(video=video, error=failure, progress=tuple(progress))
    run.check_progress(source)
    return run


async def check_finished(
    emulator: Emulator,
    source: Source,
    video_id: str,
    *,
    others: int = 0,
    finished: int = 0,
    limited: bool = False,
) -> None:
    """Check that exactly one finished container has exactly the source's bytes, and that no byte was received
    twice.

    :param others: how many empty containers may exist: those whose creation response was lost
    :param finished: how many other finished containers of this source may exist: those of previous uploads
    :param limited: another client has used up the account's rate limit, so 429 responses are allowed
    """
    view = await emulator.finished(video_id)
    assert (view.sha256, view.size_bytes) == (source.sha256, source.size_bytes)
    remaining = [other for other in emulator.videos.values() if other.video_id != video_id]
    duplicates = [other for other in remaining if other.sha256 == source.sha256]
    assert len(duplicates) <= finished, duplicates
    assert len(remaining) <= others + len(duplicates), remaining
    assert not any(other.received_bytes for other in remaining if other not in duplicates), remaining
    check_no_resent_bytes(emulator, limited=limited)


def check_no_resent_bytes(emulator: Emulator, *, limited: bool = False) -> None:
    """Check that no stored byte was received again, and that no part was sent into a known rate limit."""
    assert emulator.statistics().bytes_again == 0
    refused = [record for record in emulator.requests if record.status == 429 and not record.faults]
    assert limited or refused == []


def uploads(emulator: Emulator, since_s: float = 0.0) -> list[RequestRecord]:
    """The requests that carried parts and began after ``since_s`` on the event loop's clock."""
    return [record for record in emulator.requests if record.endpoint == "upload" and record.started_s >= since_s]


def missing_bytes(view: VideoView, source: Source, ranges: str) -> int:
    """How many bytes a container still needs, framing included."""
    stored = {piece.split("/")[0] for piece in view.pieces}
    return sum(
        source.bytes_of(number) + FRAMING_BYTES
        for number in range(1, source.parts_total + 1)
        if source.content_range(number, ranges).split("/")[0] not in stored
    )


def check_sentence(text: str, *, secrets: Iterable[str] = (KEY,)) -> None:
    """Check that a message is readable: one line of whole sentences, without internals and secrets."""
    assert text == text.strip()
    assert text.isprintable(), text
    assert text[0].isupper() or text[0] in "/'\"", text
    assert text.endswith("."), text
    for forbidden in ("Traceback", "<", "ExceptionGroup", "Errno", "None", "{", "  ", ".."):
        assert forbidden not in text, (forbidden, text)
    assert not _CLASS_NAME.search(text), text
    for secret in secrets:
        assert secret not in text
