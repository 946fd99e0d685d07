"""Directories that only their owner may read."""

from __future__ import annotations

from pathlib import Path


def make_private_directory(path: Path) -> None:
    """Create a directory and its parent, both with mode 0700. Parents above them get the default mode.

    :raises OSError: it cannot be created
    """
    # One by one, because mkdir() applies the mode only to the last directory.
    for directory in (path.parent, path):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
