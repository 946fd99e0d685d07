"""How near the planner comes to the best fixed choice, on models of lines. Prints a table.

python -m benchmarks.simulate [WORD]...    only lines with one of these words in their names
"""

from __future__ import annotations

import sys
from itertools import product

from async_uploader._limits import GIB, MIB
from async_uploader._units import format_size
from harness.networks import LINES, Line, Run, planned_bytes, simulate

SIZES_BYTES = (20 * MIB, 100 * MIB, 512 * MIB, 4 * GIB, 30 * GIB)
CONNECTIONS = (1, 2, 4, 8, 16, 32)
PART_BYTES = (5 * MIB, 16 * MIB, 64 * MIB, 200 * MIB)
# What takes longer on a line, tells no more.
_LONGEST_SECONDS = 1000


def best_fixed(line: Line, size_bytes: int) -> tuple[Run, int, int]:
    """The fastest of all fixed choices: how it went, its connections, its part size."""
    sizes = {planned_bytes(line, size_bytes), *PART_BYTES}
    choices = [(count, size) for count, size in product(CONNECTIONS, sizes) if size_bytes <= size * 10_000]
    runs = [
        (simulate(line, size_bytes=size_bytes, part_bytes=size, connections=count), count, size)
        for count, size in choices
        if size_bytes // size <= 1000
    ]
    return min(runs, key=lambda run: (round(run[0].seconds, 2), run[1]))


def main() -> None:
    """The table: every line and size."""
    print(
        f"{'line':34} {'size':>8} {'bound':>8} {'best fixed':>8} {'by':>14} "
        f"{'planned':>9} {'ratio':>6} {'parts':>5} {'peak':>4} {'end':>4} {'429':>4}"
    )
    words = sys.argv[1:]
    for name, line in LINES.items():
        if words and not any(word in name for word in words):
            continue
        for size_bytes in SIZES_BYTES:
            if size_bytes / line.link_rate > _LONGEST_SECONDS:
                continue
            best, count, part_bytes = best_fixed(line, size_bytes)
            run = simulate(line, size_bytes=size_bytes)
            bound = line.bound_seconds(size_bytes, run.parts)
            print(
                f"{name:34} {format_size(size_bytes):>8} {bound:7.2f}s {best.seconds:8.2f}s "
                f"{f'{count} x {part_bytes / MIB:.0f} MiB':>14} {run.seconds:8.2f}s "
                f"{run.seconds / best.seconds:6.2f} {run.parts:5} {run.peak:4} {run.settled:4} {run.refused:4}",
                flush=True,
            )


if __name__ == "__main__":
    main()
