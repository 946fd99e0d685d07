"""What every scenario here needs: a source, a service, one run of an upload, and what must always hold of it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
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
from async_uploader._progress import ProgressReporter
from async_uploader.emulator import Emulator, Fault, RequestRecord, VideoView

PART: Final = 5 * MIB
KEY: Final = "the-key-of-the-fault-tests"

#: For requests that know nothing of the uploader.
BY_HAND: Final = {"Authorization": "Basic " + b64encode(f"{KEY}:".encode()).decode()}

# Multipart framing and the form's other fields.
FRAMING_BYTES: Final = 1024

# Long enough for a loaded machine, short enough that a hang is told from an upload.
HANG_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file on disk that is not to be touched, and how it is cut."""

    path: Path
    size_bytes: int
    sha256: str
    part_bytes: int = PART

    @property
    def parts_total(self) -> int:
        """How many parts it makes."""
        return -(-self.size_bytes // self.part_bytes)

    def bytes_of(self, number: int) -> int:
        """The size of a part."""
        return min(self.part_bytes, self.size_bytes - (number - 1) * self.part_bytes)

    def content_range(self, number: int, ranges: str) -> str:
        """The header with which a part is sent."""
        first = (number - 1) * self.part_bytes
        if ranges == "bytes":
            return f"bytes {first}-{first + self.bytes_of(number) - 1}/{self.size_bytes}"
        return f"part {number}/{number if number == self.parts_total else '*'}"


def make_source(path: Path, size_bytes: int) -> Source:
    """A file of random bytes."""
    content = os.urandom(size_bytes)
    path.write_bytes(content)
    return Source(path=path, size_bytes=size_bytes, sha256=hashlib.sha256(content).hexdigest())


class QuickClient(Client):
    """A client with retries within milliseconds and a rate limit window of one second."""

    _retry_policy = RetryPolicy(first_backoff_seconds=0.01, max_backoff_seconds=0.1)
    _rate_window_seconds = 1.0


@contextmanager
def quickened(state: Path) -> Iterator[None]:
    """Frequent progress reports, the journal in ``state``, and no settings of the user."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("APIVIDEO_")}
    with (
        mock.patch.object(ProgressReporter, "_INTERVAL_SECONDS", 0.005),
        mock.patch.dict(os.environ, {**environment, "XDG_STATE_HOME": str(state)}, clear=True),
    ):
        yield


def service(*faults: str, **settings: Any) -> Emulator:
    """A local service with faults, and a rate window of a second (nothing is limited unless asked for)."""
    settings = {"api_key": KEY, "rate_window": 1.0, **settings}
    return Emulator(faults=[Fault.parse(spec) for spec in faults], **settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One call of ``upload()`` and what it came to."""

    video: Video | None
    error: UploaderError | None
    progress: tuple[Progress, ...]

    def check_progress(self, source: Source) -> None:
        """What must hold of every run, whatever happened in it."""
        acknowledged = 0
        for moment in self.progress:
            assert moment.acknowledged_bytes <= moment.sent_bytes <= source.size_bytes, moment
            assert moment.acknowledged_bytes >= acknowledged, moment
            assert 0 <= moment.parts_done <= source.parts_total == moment.parts_total, moment
            assert moment.total_bytes == source.size_bytes, moment
            acknowledged = moment.acknowledged_bytes
        if self.video is not None and self.progress:
            last = self.progress[-1]
            assert last.acknowledged_bytes == last.sent_bytes == source.size_bytes
            assert last.parts_done == last.parts_total


async def run_upload(emulator: Emulator, source: Source, *, as_stream: bool = False, **options: Any) -> Run:
    """Upload once, in a client of its own, and see how it ends.

    :param as_stream: from memory, where each part has to be kept until it is acknowledged
    :raises TimeoutError: it hangs
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
    """Exactly the source's bytes in exactly one finished container, and none of them received twice.

    :param others: so many empty containers there may be beside it: whose creation's answer was lost
    :param finished: so many finished ones there may be, of uploads that had ended before
    :param limited: somebody has used up the account's window, so that there may be refusals
    """
    view = await emulator.finished(video_id)
    assert (view.sha256, view.size_bytes) == (source.sha256, source.size_bytes)
    rest = [other for other in emulator.videos.values() if other.video_id != video_id]
    whole = [other for other in rest if other.sha256 == source.sha256]
    assert len(whole) <= finished, whole
    assert len(rest) <= others + len(whole), rest
    assert not any(other.received_bytes for other in rest if other not in whole), rest
    check_nothing_again(emulator, limited=limited)


def check_nothing_again(emulator: Emulator, *, limited: bool = False) -> None:
    """No byte of what was there already was received, and no body into a limit that nobody ordered."""
    assert emulator.statistics().bytes_again == 0
    refused = [record for record in emulator.requests if record.status == 429 and not record.faults]
    assert limited or refused == []


def uploads(emulator: Emulator, since_s: float = 0.0) -> list[RequestRecord]:
    """The requests that carried parts, those that began after a moment of the event loop's clock."""
    return [record for record in emulator.requests if record.endpoint == "upload" and record.started_s >= since_s]


def missing_bytes(view: VideoView, source: Source, ranges: str) -> int:
    """What a container still needs."""
    have = {piece.split("/")[0] for piece in view.pieces}
    return sum(
        source.bytes_of(number) + FRAMING_BYTES
        for number in range(1, source.parts_total + 1)
        if source.content_range(number, ranges).split("/")[0] not in have
    )


def check_sentence(text: str, *, secrets: Iterable[str] = (KEY,)) -> None:
    """A message is for people: one line, whole sentences, no internals, no secret."""
    assert text == text.strip()
    assert text.isprintable(), text
    assert text[0].isupper() or text[0] in "/'\"", text
    assert text.endswith("."), text
    for wrong in ("Traceback", "<", "ExceptionGroup", "Errno", "None", "{", "  ", ".."):
        assert wrong not in text, (wrong, text)
    for secret in secrets:
        assert secret not in text
