"""Waits until a directory may have changed: by the kernel's notifications, or by looking at intervals.

Notifications only wake a scan, which decides. So it does no harm if some are lost or merged, as they are when
hundreds of files arrive at once. A network file system has no notifications of changes by other machines.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio

from async_uploader._catalogue.os_errors import describe_os_error

_NETWORK_FILE_SYSTEMS: Final = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "davfs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs",
    "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs", "vboxsf", "virtiofs",
})  # fmt: skip
# Even with notifications, look this often: a notification may be lost.
_SAFETY_SECONDS: Final = 60.0
_MIN_POLL_SECONDS: Final = 0.5
_MAX_POLL_SECONDS: Final = 10.0
# Notifications are merged until nothing happens for a tenth of the settling time, at most this long.
_MAX_MERGE_SECONDS: Final = 0.5


class DirectoryChanges:
    """Wakes a scan of a directory. :meth:`run` must run in a task while :meth:`wait` is used.

    :param is_recursive: also subdirectories
    :param settle_seconds: how long files must be unchanged
    :ivar poll_seconds: the interval at which to look, if there are no notifications; None if there are
    :ivar reason: why there are none, as part of a sentence; empty if there are
    """

    def __init__(self, directory: str, *, is_recursive: bool, settle_seconds: float) -> None:
        self._directory = directory
        self._is_recursive = is_recursive
        self._settle_seconds = settle_seconds
        self._changed = anyio.Event()
        self.poll_seconds: float | None = None
        self.reason = ""

    async def run(self) -> None:
        """Receive notifications until cancelled; return if there are none, with :attr:`poll_seconds` set."""
        kind = await anyio.to_thread.run_sync(file_system_of, self._directory)
        if kind in _NETWORK_FILE_SYSTEMS:
            self._poll(f"{kind} does not report the changes of other machines")
            return
        try:
            await self._receive()
        except* (OSError, RuntimeError) as errors:  # watchfiles raises both; the user may have no inotify left
            self._poll(_reason(errors.exceptions[0]))

    def _poll(self, reason: str) -> None:
        self.reason = reason
        self.poll_seconds = min(max(_MIN_POLL_SECONDS, self._settle_seconds / 2), _MAX_POLL_SECONDS)
        self.wake()

    async def _receive(self) -> None:
        from watchfiles import awatch

        stop = anyio.Event()
        merge_seconds = min(self._settle_seconds / 10, _MAX_MERGE_SECONDS)
        changes = awatch(
            self._directory,
            watch_filter=None,
            step=max(1, int(merge_seconds * 1000)),
            stop_event=stop,
            recursive=self._is_recursive,
            ignore_permission_denied=True,
        )
        async with anyio.create_task_group() as group:
            group.start_soon(_set_when_cancelled, stop)
            async for _ in changes:
                self.wake()
            await anyio.sleep_forever()  # the thread ends before the cancellation arrives here

    def wake(self) -> None:
        """End the current or the next wait."""
        self._changed.set()

    async def wait(self, seconds: float | None) -> None:
        """Wait until the directory may have changed, or for a number of seconds."""
        limits = (seconds, self.poll_seconds, _SAFETY_SECONDS)
        with anyio.move_on_after(min(limit for limit in limits if limit is not None)):
            await self._changed.wait()
        self._changed = anyio.Event()


def _reason(error: BaseException) -> str:
    return describe_os_error(error) if isinstance(error, OSError) else str(error).rstrip(".")


async def _set_when_cancelled(event: anyio.Event) -> None:
    """End the thread of watchfiles: otherwise a cancellation waits for it for seconds."""
    try:
        await anyio.sleep_forever()
    finally:
        event.set()


def file_system_of(path: str) -> str:
    """The type of the file system that a path is on, such as ``"ext4"``; empty if it is unknown."""
    real_path, found = Path(os.path.realpath(path)), ("", "")
    with suppress(OSError):
        for mount_point, kind in _mounts(Path("/proc/self/mountinfo").read_text(encoding="utf-8")):
            # Of several mounts in one place, the last one is on top.
            if real_path.is_relative_to(mount_point) and len(mount_point) >= len(found[0]):
                found = (mount_point, kind)
    return found[1]


def _mounts(text: str) -> Iterator[tuple[str, str]]:
    """The mount point and the type of each mount (proc_pid_mountinfo(5))."""
    for line in text.splitlines():
        place, _, kind = line.partition(" - ")
        if kind:
            yield place.split()[4].replace("\\040", " "), kind.split()[0]
