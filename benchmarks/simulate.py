"""Compare the uploader's plan with the best fixed choice over simulated networks. Prints a table.

python -m benchmarks.simulate [WORD]...    only networks with one of these words in their names
"""

from __future__ import annotations

import sys
from itertools import product

from async_uploader._limits import GIB, MIB
from async_uploader._units import format_size
from harness.networks import NETWORKS, Network, Run, planned_part_bytes, simulate

SIZES_BYTES = (20 * MIB, 100 * MIB, 512 * MIB, 4 * GIB, 30 * GIB)
CONNECTIONS = (1, 2, 4, 8, 16, 32)
PART_BYTES = (5 * MIB, 16 * MIB, 64 * MIB, 200 * MIB)
# Longer uploads give no new information.
_MAX_SECONDS = 1000


def best_fixed(network: Network, size_bytes: int) -> tuple[Run, int, int]:
    """The fastest fixed choice: its result, concurrency and part size."""
    sizes = {planned_part_bytes(network, size_bytes), *PART_BYTES}
    choices = [(count, size) for count, size in product(CONNECTIONS, sizes) if size_bytes <= size * 10_000]
    runs = [
        (simulate(network, size_bytes=size_bytes, part_bytes=size, connections=count), count, size)
        for count, size in choices
        if size_bytes // size <= 1000
    ]
    return min(runs, key=lambda run: (round(run[0].seconds, 2), run[1]))


def main() -> None:
    """Print a row for each network and size."""
    print(
        f"{'network':38} {'size':>8} {'bound':>8} {'best fixed':>8} {'by':>14} "
        f"{'planned':>9} {'ratio':>6} {'parts':>5} {'peak':>4} {'end':>4} {'429':>4}"
    )
    words = sys.argv[1:]
    for name, network in NETWORKS.items():
        if words and not any(word in name for word in words):
            continue
        for size_bytes in SIZES_BYTES:
            if size_bytes / network.link_rate > _MAX_SECONDS:
                continue
            best, count, part_bytes = best_fixed(network, size_bytes)
            run = simulate(network, size_bytes=size_bytes)
            bound = network.bound_seconds(size_bytes, run.parts)
            choice = f"{count} x {part_bytes / MIB:.0f} MiB"
            print(
                f"{name:38} {format_size(size_bytes):>8} {bound:7.2f}s {best.seconds:8.2f}s {choice:>14} "
                f"{run.seconds:8.2f}s {run.seconds / best.seconds:6.2f} {run.parts:5} {run.peak_connections:4} "
                f"{run.final_connections:4} {run.refused:4}",
                flush=True,
            )


if __name__ == "__main__":
    main()
