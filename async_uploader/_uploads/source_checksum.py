"""Computes the SHA-256 of a source while its parts are sent, and records it in the video's metadata.

Problem
    SHA-256 needs the bytes in order. But parts are read at the same time, again for each retry, and not at all if
    an earlier run has sent them.

Approach
    A second reader reads the parts in order, each once a worker has begun to send it, so that only one of the two
    reads needs the disk. Both reads are compared, by the checksums of a file's parts or the version of an object,
    so the hash is that of the bytes sent. A stream is read once, in order, and hashed as it is read.

Rejected
    - Hashing in the readers of the parts: each part would have to be kept until all earlier parts were read.
    - Hashing before the upload: a large file would be read from the disk twice, and the upload would start later.
"""

from __future__ import annotations

import hashlib
import math
from contextlib import aclosing
from functools import partial
from typing import Final

import anyio
from msgspec.structs import replace

from async_uploader._buffers import page_aligned_buffer
from async_uploader._errors import UploaderError, UploadFailed
from async_uploader._limits import MIB
from async_uploader._models import MARK_SHA256, Video
from async_uploader._resume.containers import entries_without
from async_uploader._sources.hashed_chunks import add_to_hash
from async_uploader._sources.protocol import PartSource
from async_uploader._sources.stream import StreamSource
from async_uploader.events import Operation, RequestKind

from .job import Context, Job

_BLOCK_BYTES: Final = MIB


class SourceChecksum:
    """The SHA-256 of one source.

    :param follows: read a part only after :meth:`allow`; default: read all parts at once
    """

    def __init__(self, job: Job, context: Context, *, follows: bool = False) -> None:
        self._source = job.source
        self._plan = replace(job.plan, is_shuffled=False)
        self._retries = context.retries
        # The parts of a shuffled plan begin in any order.
        self._allowed_number: float = 0 if follows and not job.plan.is_shuffled else math.inf
        self._allowed = anyio.Event()
        self._sha256 = hashlib.sha256()
        self._hashed_bytes = 0
        self._ended = anyio.Event()

    def allow(self, part_number: float) -> None:
        """Allow reading the parts up to this number, because they are being sent."""
        self._allowed_number = max(self._allowed_number, part_number)
        self._allowed.set()

    async def run(self) -> None:
        """Hash the whole source.

        :raises SourceError: the source has changed, or cannot be read
        """
        if not isinstance(self._source, StreamSource):
            block = page_aligned_buffer(_BLOCK_BYTES)
            async with aclosing(self._source.parts(self._plan, received=frozenset())) as parts:
                async for part in parts:
                    await self._wait_until_allowed(part.part.number)
                    await self._retries.retry(
                        partial(self._add, part, block),
                        operation=Operation.SOURCE,
                        progress=lambda: self._hashed_bytes,
                    )
        self._ended.set()

    async def hexdigest(self) -> str:
        """The SHA-256 in hexadecimal, once :meth:`run` has ended."""
        await self._ended.wait()
        if isinstance(self._source, StreamSource):
            return self._source.sha256()
        return self._sha256.hexdigest()

    async def _wait_until_allowed(self, part_number: int) -> None:
        while part_number > self._allowed_number:
            self._allowed = anyio.Event()
            await self._allowed.wait()

    async def _add(self, part: PartSource, block: memoryview) -> None:
        """Hash the bytes of a part, except for those that an earlier attempt has hashed."""
        offset = part.part.offset
        async with part.open() as reader:
            while count := await reader.readinto(block):
                hashed_bytes = min(max(self._hashed_bytes - offset, 0), count)
                offset += count
                if hashed_bytes < count:
                    await add_to_hash(self._sha256, block[hashed_bytes:count])
                    self._hashed_bytes = offset


async def sha256_of(job: Job, context: Context) -> str:
    """Compute the SHA-256 of a source without sending it.

    :raises SourceError: the source has changed, or cannot be read
    """
    checksum = SourceChecksum(job, context)
    await checksum.run()
    return await checksum.hexdigest()


async def record_sha256(video: Video, sha256: str, context: Context) -> Video:
    """Record a SHA-256 in the metadata of a finished video.

    :returns: the changed video
    :raises UploadFailed: that failed
    """
    service, retries = context.service, context.retries
    video_id = video.video_id
    try:
        if "metadata" not in video.raw:  # writing the list would remove the other entries
            video = await retries.run(
                RequestKind.READ, partial(service.get_video, video_id), operation=Operation.VIDEO
            )
        entries = [*entries_without(video, (MARK_SHA256,)), {"key": MARK_SHA256, "value": sha256}]
        return await retries.run(
            RequestKind.WRITE,
            partial(service.update_video, video_id, {"metadata": entries}),
            operation=Operation.UPDATE,
        )
    except UploaderError as exc:
        is_resumable = context.resume is not None and context.resume.is_recorded
        failure = UploadFailed(
            f"Video {video_id} is uploaded, but its SHA-256 {sha256} could not be recorded: {exc}",
            video_id=video_id,
            resumable=is_resumable,
        )
        failure.advice = "Upload it again to record only that." if is_resumable else ""
        raise failure from exc
