"""Uploads from a notebook, with a line that is drawn anew in its place as the upload gets on.

Each ``# %%`` begins a cell (VS Code, PyCharm and Jupytext open the file as a notebook). The key is taken from
APIVIDEO_API_KEY; without IPython the same line is printed.
"""
# mypy: disable-error-code="top-level-await"
# ruff: noqa: F704, PLE1142, T201 - a cell may await, and talks

# %%
import os
from collections.abc import Callable

from async_uploader import Progress, upload


def show() -> Callable[[Progress], None]:
    """Make a progress callback with a place of its own below the cell."""
    try:
        from IPython.display import display  # noqa: PLC0415
    except ImportError:
        return lambda progress: print(line(progress))
    place = display("…", display_id=True)
    return lambda progress: place.update(line(progress))


def line(progress: Progress) -> str:
    """``██████░░░░  60 %, 3 of 5 parts``."""
    done = progress.fraction_acknowledged or 0
    bar = "█" * round(10 * done)
    return f"{bar:░<10}  {done:.0%}, {progress.parts_done} of {progress.parts_total or '?'} parts"


# %%
video = await upload(os.environ.get("MOVIE", "movie.mp4"), title="From a notebook", on_progress=show())

# %%
print(video.video_id, video.assets.player)
