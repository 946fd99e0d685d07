"""Decides which files of a directory are complete: those that have not changed for a while. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


class FileState(Struct, frozen=True):
    """What changes when a file is written: its size and times, and which file has the name."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int


class SettledFiles:
    """Remembers since when each file is unchanged, and returns each version of a file once.

    A file that is returned stays busy until :meth:`release`: its next version is not returned before.

    :param settle_seconds: a file is complete once it has not changed for this time
    """

    def __init__(self, settle_seconds: float) -> None:
        self._settle_seconds = settle_seconds
        self._unchanged_since: dict[str, tuple[FileState, float]] = {}
        self._returned: dict[str, FileState] = {}
        self._busy: dict[str, FileState] = {}
        # Another name of an uploaded file is not another file.
        self._uploaded: set[FileState] = set()

    def update(self, now: float, states: Mapping[str, FileState]) -> list[str]:
        """Add what a scan of the directory has found.

        :param now: when the scan began, in seconds on any clock
        :param states: the files by path
        :returns: the paths of the files that are complete, and were not returned before
        """
        complete = []
        known, self._unchanged_since = self._unchanged_since, {}
        for path, state in states.items():
            known_state, since = known.get(path, (None, now))
            if known_state != state:
                since = now
            self._unchanged_since[path] = state, since
            if path not in self._busy and self._is_pending(path, state) and now - since >= self._settle_seconds:
                self.begin(path, state)
                complete.append(path)
        # A deleted file that comes back is a new one.
        self._returned = {path: state for path, state in self._returned.items() if path in states}
        return complete

    def _is_pending(self, path: str, state: FileState) -> bool:
        is_known = state in self._uploaded or state in self._busy.values()
        return self._returned.get(path) != state and not is_known

    def begin(self, path: str, state: FileState) -> None:
        """The upload of a file begins. It may have changed since it was returned."""
        self._returned[path] = self._busy[path] = state

    def wait_seconds(self, now: float) -> float | None:
        """Seconds until the next file can be complete; None if no file is pending."""
        since = [
            since
            for path, (state, since) in self._unchanged_since.items()
            if path not in self._busy and self._is_pending(path, state)
        ]
        return max(0.0, min(since) + self._settle_seconds - now) if since else None

    def release(self, path: str, *, is_uploaded: bool) -> None:
        """The upload of a file has ended. If it failed, the file is returned again when it has changed."""
        state = self._busy.pop(path)
        if is_uploaded:
            self._uploaded.add(state)
