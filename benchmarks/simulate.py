"""How near the climb comes to the best fixed choice, on models of lines. Prints a table.

python -m benchmarks.simulate
"""

from __future__ import annotations

from async_uploader._limits import GIB, MIB
from async_uploader._plan import MOST_CONNECTIONS, plan_parts

from .lines import LINES, simulate

SIZES = {"100 MiB": 100 * MIB, "512 MiB": 512 * MIB, "4 GiB": 4 * GIB}
FIXED = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


def main() -> None:
    """The table: every line and size."""
    print(
        f"{'line':36} {'size':>8} {'bound':>8} {'best fixed':>16} {'climb':>8} {'ratio':>6} {'peak':>5} {'end':>4}"
    )
    for name, line in LINES.items():
        for label, size_bytes in SIZES.items():
            part_bytes = plan_parts(size_bytes).part_bytes
            best_seconds, best = min(
                (simulate(line, size_bytes=size_bytes, part_bytes=part_bytes, connections=count).seconds, count)
                for count in FIXED
            )
            run = simulate(line, size_bytes=size_bytes, part_bytes=part_bytes)
            bound = line.bound_seconds(size_bytes, MOST_CONNECTIONS)
            print(
                f"{name:36} {label:>8} {bound:7.2f}s {best_seconds:8.2f}s by {best:>3} {run.seconds:7.2f}s "
                f"{run.seconds / best_seconds:6.2f} {run.peak:5} {run.settled:4}"
            )


if __name__ == "__main__":
    main()
