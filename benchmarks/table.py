"""Formats the results as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .goals import Goal, Results
from .suite import Samples, spread

_FIGURES = {
    "seconds": ("s", ".2f"),
    "mib_per_second": ("MiB/s", ".0f"),
    "cpu_seconds_per_gib": ("CPU s/GiB", ".2f"),
    "peak_rss_mb": ("RSS MB", ".0f"),
    "stall_ms": ("stall ms", ".0f"),
    "connections": ("connections", ".0f"),
    "uploads": ("uploads", ".0f"),
    "bytes_again": ("bytes sent again", ".0f"),
    "bytes_into_429": ("bytes into 429", ".0f"),
}


def markdown(
    results: Results,
    goals: Sequence[Goal],
    *,
    titles: Mapping[str, str],
    runs: int,
    machine: Mapping[str, object],
) -> str:
    """A table of the goals, then one table per case."""
    setup = (
        f"{machine['cores']} cores shared by client and server, {machine['memory_gib']} GiB, "
        f"Linux {machine['kernel']}, Python {machine['python']}, {machine['openssl']}, nginx {machine['nginx']}, "
        f"curl {machine['curl']}; loopback, sources in the page cache; load before: {machine['load_before']}"
    )
    blocks = [
        f"Medians (ranges) of {runs} interleaved runs; ratios within a run. {setup}.",
        _goals(goals),
        *(f"{titles[key]}\n\n{_case(samples)}" for key, samples in results.items()),
    ]
    return "\n\n".join(blocks) + "\n"


def _goals(goals: Sequence[Goal]) -> str:
    return _table(["goal", "measured", ""], [[one.goal, one.measured, one.status] for one in goals])


def _case(samples: Samples) -> str:
    figures = [
        figure for figure in _FIGURES if any(figure in sample for runs in samples.values() for sample in runs)
    ]
    rows = []
    for name, runs in samples.items():
        row = [name]
        for figure in figures:
            found, form = spread(runs, figure), _FIGURES[figure][1]
            if found is None:
                row.append("")
            elif figure in ("seconds", "peak_rss_mb", "stall_ms"):
                row.append(f"{found.median:{form}} ({found.low:{form}} to {found.high:{form}})")
            else:
                row.append(f"{found.median:{form}}")
        rows.append(row)
    return _table(["", *(_FIGURES[figure][0] for figure in figures)], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
