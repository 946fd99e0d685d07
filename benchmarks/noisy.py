"""Counts how often noise makes the controller open too many connections. Prints a table from simulated uploads.

python -m benchmarks.noisy [RUNS]    default: 200 for each network and condition
"""

from __future__ import annotations

import statistics
import sys
from typing import Final

from async_uploader._limits import GIB, MIB
from async_uploader._plan import MAX_ADAPTIVE_CONCURRENCY
from harness.networks import Network, max_justified, simulate

_RUNS: Final = 200
_SECONDS: Final = 20.0
# Long enough to see whether an upload settles at fewer than it needs.
_FAR_BYTES: Final = GIB


def main() -> None:
    """Print a row for each link, rate of a connection, and condition."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else _RUNS
    print(f"{'link':>9} {'each':>9} {'noise':>10} {'allowed':>8} {'exceeded':>9} {'median':>7} {'most':>5}")
    for link_rate in (2 * MIB, 8 * MIB, 50 * MIB):
        for connection_rate in (MIB, 25 * MIB):
            for condition in ("background", "loaded"):
                network = Network(
                    connection_rate=connection_rate,
                    link_rate=link_rate,
                    noise=(condition, f"{link_rate // MIB} MiB/s"),
                )
                peaks = [
                    simulate(network, size_bytes=4 * GIB, seed=seed, max_seconds=_SECONDS).peak_connections
                    for seed in range(runs)
                ]
                allowed = max_justified(network)
                print(
                    f"{link_rate // MIB:>3} MiB/s {connection_rate // MIB:>3} MiB/s {condition:>10} {allowed:>8} "
                    f"{sum(peak > allowed for peak in peaks):>9} {statistics.median(peaks):>7g} {max(peaks):>5}",
                    flush=True,
                )
    print(f"\n{'far':>19} {'noise':>10} {'ratio to the best fixed number: median':>40} {'worst':>6}")
    for connection_rate in (MIB, 25 * MIB):
        for condition in ("background", "loaded"):
            network = Network(connection_rate=connection_rate, noise=(condition, "50 MiB/s"))
            size_bytes = int(min(_FAR_BYTES, 60 * MAX_ADAPTIVE_CONCURRENCY * connection_rate))
            ratios = [
                simulate(network, size_bytes=size_bytes, seed=seed).seconds
                / min(
                    simulate(network, size_bytes=size_bytes, seed=seed, connections=count).seconds
                    for count in (16, 32)
                )
                for seed in range(runs // 5)
            ]
            print(
                f"{connection_rate // MIB:>13} MiB/s {condition:>10} {statistics.median(ratios):>40.2f} "
                f"{max(ratios):>6.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
