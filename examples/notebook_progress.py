"""Upload from a notebook, with a progress bar that is updated in place.

Each ``# %%`` starts a cell: VS Code, PyCharm and Jupytext open the file as a notebook. The key is read from
APIVIDEO_API_KEY. Without IPython, each update is printed on a line of its own.
"""
# mypy: disable-error-code="top-level-await"
# ruff: noqa: F704, PLE1142, T201 - cells may await and print

# %%
import os
from collections.abc import Callable

from async_uploader import Progress, upload


def show() -> Callable[[Progress], None]:
    """Return a progress callback that updates one line below the cell."""
    try:
        from IPython.display import display  # noqa: PLC0415
    except ImportError:
        return lambda progress: print(line(progress))
    place = display("…", display_id=True)
    return lambda progress: place.update(line(progress))


def line(progress: Progress) -> str:
    """Format a progress bar, such as ``██████░░░░  60%, 3 of 5 parts``."""
    done = progress.fraction_acknowledged or 0
    bar = "█" * round(10 * done)
    return f"{bar:░<10}  {done:.0%}, {progress.parts_done} of {progress.parts_total or '?'} parts"


# %%
video = await upload(os.environ.get("MOVIE", "movie.mp4"), title="From a notebook", on_progress=show())

# %%
print(video.video_id, video.assets.player)
