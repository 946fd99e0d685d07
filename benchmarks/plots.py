"""Draws the results, in a process of its own: matplotlib is large.

python -m benchmarks.plots RESULTS.json FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

from .suite import Samples, spread

_FIGURES = {
    "seconds": "seconds",
    "cpu_seconds_per_gib": "CPU seconds per GiB",
    "peak_rss_mb": "peak resident memory, MB",
}
_OURS, _OTHERS = "#1f6feb", "#9aa4af"


def main() -> None:
    """Draw a plot for each case."""
    results = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(sys.argv[2])
    # Equal results give equal files.
    mpl.rcParams["svg.hashsalt"] = "async-uploader"
    for key, case in results["cases"].items():
        figures = [name for name in _FIGURES if _has(case["samples"], name)]
        if key != "startup" and figures:
            _plot(case["title"], case["samples"], figures, folder / f"{key.lower()}.svg")


def _has(samples: Samples, figure: str) -> bool:
    return any(spread(runs, figure) is not None for runs in samples.values())


def _plot(title: str, samples: Samples, figures: list[str], path: Path) -> None:
    height = 1.2 + 0.32 * len(samples)
    figure, axes = plt.subplots(
        1, len(figures), figsize=(4 + 3 * len(figures), height), sharey=True, squeeze=False
    )
    names = list(samples)
    for axis, name in zip(axes[0], figures, strict=True):
        _bars(axis, names, samples, name)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _bars(axis: Any, names: list[str], samples: Samples, figure: str) -> None:
    spreads = [spread(samples[name], figure) for name in names]
    medians = [one.median if one else 0.0 for one in spreads]
    below = [one.median - one.low if one else 0.0 for one in spreads]
    above = [one.high - one.median if one else 0.0 for one in spreads]
    colours = [_OURS if name.startswith("ours") or len(names) == 1 else _OTHERS for name in names]
    axis.barh(names, medians, xerr=[below, above], color=colours, error_kw={"elinewidth": 0.8, "ecolor": "#444"})
    axis.invert_yaxis()
    axis.set_xlabel(_FIGURES[figure], fontsize=8)
    axis.tick_params(labelsize=8)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


if __name__ == "__main__":
    main()
