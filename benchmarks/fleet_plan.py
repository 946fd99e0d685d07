"""Estimates how long a fleet takes. Prints the table of docs/fleet.md, or one case of your own.

python -m benchmarks.fleet_plan
python -m benchmarks.fleet_plan --videos 50000 --megabytes 80 --machines 5 --limits 2 --gigabits 10
"""

from __future__ import annotations

import argparse

from harness.fleet_plan import GIGABIT, Scenario, simulate, table


def main() -> None:
    """Print the table or the case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int)
    parser.add_argument("--megabytes", type=float, default=500.0, help="of a video (default: 500)")
    parser.add_argument("--machines", type=int, default=1, help="default: 1")
    parser.add_argument(
        "--limits", type=int, default=1, help="multiple of the account's standard limits (default: 1)"
    )
    parser.add_argument("--gigabits", type=float, default=1.0, help="per second, of a machine (default: 1)")
    arguments = parser.parse_args()
    if arguments.videos is None:
        print("\n".join(table()))
        return
    scenario = Scenario(
        videos=arguments.videos,
        size_bytes=round(arguments.megabytes * 1_000_000),
        machines=arguments.machines,
        limit_factor=arguments.limits,
        link_rate=arguments.gigabits * GIGABIT,
    )
    estimate = simulate(scenario)
    for name, videos in sorted(scenario.videos_a_minute.items(), key=lambda bound: bound[1]):
        print(f"{name:<12} allows {videos:12,.1f} videos a minute")
    print(
        f"{estimate.seconds / 3600:,.1f} h, {estimate.machine_hours:,.1f} machine hours, bound by {estimate.bound}"
    )


if __name__ == "__main__":
    main()
