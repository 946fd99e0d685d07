"""The fault table for sources whose server cannot inject faults: files, streams, fsspec and moto's S3.

The sources are missing, empty, changed or removed, in combination with each fault of the service.
The default run has every fault of every kind once; the full product has the marker `soak`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final, Literal

import fsspec
import pytest

from async_uploader import ResumeMode, SourceError, UploaderError, UploadFailed
from async_uploader.events import PartEnded
from harness.world import HANG_SECONDS, KEY, PART, QuickClient, check_no_resent_bytes, check_sentence, service

from .counterparts import SECRETS, Bucket
from .matrix import RESUME, SERVICE_FAULTS, Failure

pytestmark = pytest.mark.anyio

Kind = Literal["file", "stream", "fsspec", "s3 by moto"]
Fault = Literal["no fault", "empty", "missing", "raises at the start", "raises", "changes", "removed"]

_EMPTY: Final = Failure(words="empty", container="not created")
_MISSING: Final = Failure(words="does not exist", container="not created")
_CHANGED: Final = Failure(words="changed")
_RAISES: Final = Failure(words="disk on fire")
_TABLE: Final[dict[Kind, dict[Fault, Failure | None]]] = {
    "file": {"no fault": None, "empty": _EMPTY, "missing": _MISSING, "changes": _CHANGED},
    "stream": {
        "no fault": None,
        "empty": _EMPTY,
        "raises at the start": Failure(words="disk on fire", container="not created"),
        "raises": _RAISES,
    },
    "fsspec": {"no fault": None, "empty": _EMPTY, "raises": _RAISES},
    "s3 by moto": {
        "no fault": None,
        "empty": _EMPTY,
        "missing": _MISSING,
        "changes": _CHANGED,
        "removed": Failure(words="does not exist"),
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A kind of source with a fault, and a fault of the service."""

    kind: Kind
    fault: Fault
    service_fault: str
    resume: ResumeMode

    def __str__(self) -> str:
        return f"{self.kind}, {self.fault}, {self.service_fault or 'no fault'}, resume {self.resume}"


def _cases() -> Iterator[Any]:
    pairs = [(kind, fault) for kind, faults in _TABLE.items() for fault in faults]
    for number, (kind, fault) in enumerate(pairs):
        for service_number, (service_fault, resume) in enumerate(product(SERVICE_FAULTS, RESUME)):
            if resume != "off" and kind in ("stream", "fsspec"):
                continue  # refused
            case = Case(kind=kind, fault=fault, service_fault=service_fault, resume=resume)
            is_default = service_number // 2 == number % len(SERVICE_FAULTS) and resume == "off"
            yield pytest.param(case, id=str(case), marks=() if is_default else pytest.mark.soak)


class _Source:
    """The source of a case.

    :ivar source: the argument of ``upload()``
    :ivar spoil: called when the first part is stored
    """

    def __init__(self, case: Case, content: bytes, folder: Path, bucket: Bucket) -> None:
        body = b"" if case.fault == "empty" else content
        self.spoil: Callable[[], object] = lambda: None
        self.source: Any
        match case.kind:
            case "file":
                self._make_file(case, body, folder / "movie.mp4")
            case "stream":
                self.source = _chunks(body, case.fault)
            case "fsspec":
                self._make_fsspec(case, body)
            case "s3 by moto":
                self._make_object(case, body, bucket)

    def _make_file(self, case: Case, body: bytes, path: Path) -> None:
        self.source = path
        if case.fault != "missing":
            path.write_bytes(body)
        if case.fault == "changes":
            self.spoil = lambda: path.write_bytes(os.urandom(len(body)))

    def _make_fsspec(self, case: Case, body: bytes) -> None:
        filesystem = fsspec.filesystem("memory")
        filesystem.pipe("/films/movie.mp4", body)
        self.source = filesystem.open("/films/movie.mp4", "rb")
        if case.fault == "raises":
            read = self.source.read1

            def failing_read(size: int) -> bytes:
                if self.source.tell() > len(body) // 2:
                    raise OSError("disk on fire")
                return bytes(read(size))

            self.source.read1 = failing_read

    def _make_object(self, case: Case, body: bytes, bucket: Bucket) -> None:
        self.source = bucket.url("movie.mp4") if case.fault == "missing" else bucket.put("movie.mp4", body)
        if case.fault == "changes":
            self.spoil = lambda: bucket.put("movie.mp4", os.urandom(len(body)))
        if case.fault == "removed":
            self.spoil = lambda: bucket.s3.delete_object(Bucket=bucket.name, Key="movie.mp4")


async def _chunks(body: bytes, fault: Fault) -> AsyncIterator[bytes]:
    if fault == "raises at the start":
        raise OSError("disk on fire")
    for offset in range(0, len(body), PART // 2):
        yield body[offset : offset + PART // 2]
        if fault == "raises" and offset > len(body) // 2:
            raise OSError("disk on fire")


@pytest.mark.parametrize("case", list(_cases()))
async def test_case(case: Case, content: bytes, tmp_path: Path, bucket: Bucket) -> None:
    expected = _TABLE[case.kind][case.fault]
    source = _Source(case, content, tmp_path, bucket)

    def follow(event: object) -> None:
        # With one part in flight, no other part has been read yet.
        if isinstance(event, PartEnded) and event.error is None:
            spoil, source.spoil = source.spoil, lambda: None
            spoil()

    faults = [case.service_fault] if case.service_fault else []
    async with service(*faults) as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:
        options: Any = {"part_size": PART, "concurrency": 1, "resume": case.resume, "on_event": follow}
        async with asyncio.timeout(HANG_SECONDS):
            if expected is None:
                video = await client.upload(source.source, **options)
                view = await emulator.finished(video.video_id)
                assert view.sha256 == hashlib.sha256(content).hexdigest()
                assert len(emulator.videos) == 1
            else:
                with pytest.raises(UploaderError) as caught:
                    await client.upload(source.source, **options)
                _check_error(caught.value, expected)
                assert not emulator.videos
        check_no_resent_bytes(emulator)


def _check_error(error: UploaderError, expected: Failure) -> None:
    check_sentence(f"Error: {error}", secrets=SECRETS)
    assert expected.words in str(error)
    assert isinstance(error, SourceError | UploadFailed)
    assert isinstance(error, UploadFailed) == (expected.container != "not created")
