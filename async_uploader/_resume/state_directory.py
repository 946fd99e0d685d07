"""Where the journal and the locks are stored."""

from __future__ import annotations

from pathlib import Path

import platformdirs


def state_directory() -> Path:
    """The platform's directory for the state of programs; on Linux, ``XDG_STATE_HOME`` changes it.

    :raises OSError: the user has no home directory
    """
    try:
        path = platformdirs.user_state_path("async_uploader", appauthor=False)
    except (RuntimeError, KeyError) as exc:  # raised by Path.home() and pwd for an unknown user
        raise _no_home() from exc
    if str(path).startswith("~"):
        # os.path.expanduser() found no home directory. A directory named "~" must not be created.
        raise _no_home()
    return path


def _no_home() -> OSError:
    return OSError("the user has no home directory; set HOME or XDG_STATE_HOME")
