"""Measure uploads, and compare them with other clients and with the goals.

python -m benchmarks            the cases of the goals, in about 20 minutes
python -m benchmarks --full     all cases
python -m benchmarks --quick    small sources and three runs, to try the suite itself
python -m benchmarks --only sink-TLS far    some cases; the results of the others are kept
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from .cases import FULL, QUICK, USUAL, Bench, Scale
from .children import own_peak_rss_bytes, run_child
from .emulated import FAR_CONNECTION_RATE
from .goals import evaluate
from .machine import describe
from .nginx import Nginx
from .sink import Sink
from .sources import Sources, on_cold_disk
from .suite import Samples
from .table import markdown

RESULTS: Final = Path(__file__).resolve().parent / "results"


def main() -> None:
    """Run the cases, and write JSON, a table and plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_const", dest="scale", const=FULL, default=USUAL)
    parser.add_argument("--quick", action="store_const", dest="scale", const=QUICK)
    parser.add_argument("--only", nargs="+", metavar="CASE", help="the cases to run (default: all)")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="FOLDER", help="the directory for the results"
    )
    arguments = parser.parse_args()
    arguments.results.mkdir(parents=True, exist_ok=True)
    print(_measure(arguments.scale, arguments.only, arguments.results))


def _measure(scale: Scale, only: list[str] | None, folder: Path) -> str:
    machine = describe()
    results, titles = _previous(folder) if only else ({}, {})
    text = ""
    with ExitStack() as stack:
        sources = stack.enter_context(Sources())
        run_child([sys.executable, "-m", "benchmarks.certificates", str(sources.folder)])
        bench = Bench(
            scale=scale,
            sources=sources,
            nginx=stack.enter_context(
                Nginx(
                    sources.folder / "nginx",
                    certificates=sources.folder,
                    files=sources.files,
                    far_connection_rate=FAR_CONNECTION_RATE,
                )
            ),
            sink=stack.enter_context(Sink(certificates=sources.folder)),
            cold=stack.enter_context(on_cold_disk(scale.cold_bytes)),
        )
        for case in bench.cases():
            if only and case.key not in only:
                continue
            titles[case.key] = case.title
            results[case.key] = case.run(scale.runs)
            # After each case, so that an interrupted run keeps its results.
            text = _write(folder, results, titles, machine, scale)
    run_child([sys.executable, "-m", "benchmarks.plots", str(folder / "results.json"), str(folder)])
    return text


def _previous(folder: Path) -> tuple[dict[str, Samples], dict[str, str]]:
    """The results and titles of the previous run."""
    path = folder / "results.json"
    cases = json.loads(path.read_text())["cases"] if path.exists() else {}
    return {key: case["samples"] for key, case in cases.items()}, {
        key: case["title"] for key, case in cases.items()
    }


def _write(
    folder: Path, results: dict[str, Samples], titles: dict[str, str], machine: dict[str, Any], scale: Scale
) -> str:
    goals = evaluate(results, scale)
    document = {
        "machine": machine,
        "runs": scale.runs,
        "min_measurable_rss_mb": own_peak_rss_bytes() / 1e6,
        "goals": [{"goal": one.goal, "measured": one.measured, "met": one.met} for one in goals],
        "cases": {key: {"title": titles[key], "samples": samples} for key, samples in results.items()},
    }
    (folder / "results.json").write_text(json.dumps(document, indent=1) + "\n")
    text = markdown(results, goals, titles=titles, runs=scale.runs, machine=machine)
    (folder / "table.md").write_text(text)
    return text


if __name__ == "__main__":
    main()
