"""Measure uploads, and compare them with other clients, with the goals, and with the committed results.

python -m benchmarks            all goals, in less than ten minutes
python -m benchmarks --update   the same; the results replace the committed ones
python -m benchmarks --full     more clients, servers, sizes and numbers of connections, in about an hour
python -m benchmarks --quick    small sources and two runs, to try the suite itself
python -m benchmarks --only sink-TLS far    some cases; the results of the others are kept
python -m benchmarks --only shared --runs 20

The results are written to build/benchmarks, unless --update or --results is given. The last lines say which ratios
are worse than the committed ones by more than the noise.

Exit codes: 0 nothing is worse; 1 the suite failed; 2 wrong usage; 3 something is worse.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from harness.comparison import Change, compare

from .cases import FULL, QUICK, USUAL, Bench, Scale
from .children import ROOT, own_peak_rss_bytes, run_child
from .emulated import FAR_CONNECTION_RATE
from .goals import evaluate
from .machine import describe
from .nginx import Nginx
from .ratios import ratios
from .sink import Sink
from .sources import Sources, on_cold_disk
from .suite import Samples
from .table import markdown

COMMITTED: Final = ROOT / "benchmarks" / "results"
RESULTS: Final = ROOT / "build" / "benchmarks"
_WORSE: Final = 3
_COMPARABLE: Final = ("cores", "architecture", "python")


def main() -> int:
    """Run the cases, write JSON, a table and plots, and compare.

    :returns: the exit code
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_const", dest="scale", const=FULL, default=USUAL)
    parser.add_argument("--quick", action="store_const", dest="scale", const=QUICK)
    parser.add_argument("--only", nargs="+", metavar="CASE", help="the cases to run (default: all)")
    parser.add_argument("--runs", type=int, help="runs of each case (default: as the scale says)")
    folder = parser.add_mutually_exclusive_group()
    folder.add_argument(
        "--results", type=Path, default=RESULTS, metavar="FOLDER", help="where to write the results"
    )
    folder.add_argument("--update", action="store_const", dest="results", const=COMMITTED)
    arguments = parser.parse_args()
    scale = replace(arguments.scale, runs=arguments.runs) if arguments.runs else arguments.scale
    arguments.results.mkdir(parents=True, exist_ok=True)
    committed = _read(COMMITTED)
    began_at = time.monotonic()
    measured = _measure(scale, arguments.only, arguments.results, is_exact=arguments.runs is not None)
    print(f"Measured in {(time.monotonic() - began_at) / 60:.1f} minutes. Results: {arguments.results}\n")
    return _report(committed, measured, scale)


def _report(committed: dict[str, Any], measured: dict[str, Any], scale: Scale) -> int:
    """Print what is worse than the committed results, and return the exit code."""
    # The title names the sizes. Different sizes cannot be compared.
    titles = {key: case["title"] for key, case in committed.get("cases", {}).items()}
    before, after = (
        {
            key: case["samples"]
            for key, case in document.get("cases", {}).items()
            if titles.get(key) == measured["cases"].get(key, {}).get("title")
        }
        for document in (committed, measured)
    )
    for name in _COMPARABLE:
        one, other = (document.get("machine", {}).get(name) for document in (committed, measured))
        if one != other:
            print(f"The committed results are from another machine: {name} {one}, here {other}.")
    changes = compare(before, after, list(ratios(scale)))
    worse = [change for change in changes if change.is_worse]
    for change in worse:
        print(f"WORSE  {change}")
    print(f"{len(worse)} of {len(changes)} ratios are worse than committed by more than the noise.")
    print(_largest(changes))
    return _WORSE if worse else 0


def _largest(changes: list[Change]) -> str:
    """The change that is closest to being reported, or farthest beyond."""
    if not changes:
        return "No case with the same sizes is committed."
    return f"The largest change: {max(changes, key=lambda change: change.relative)}."


def _measure(scale: Scale, only: list[str] | None, folder: Path, *, is_exact: bool) -> dict[str, Any]:
    """Run the cases, and return the document of results.

    :param is_exact: run each case as often as the scale says, even if it takes long
    """
    machine = describe()
    results, titles = _previous(folder) if only else ({}, {})
    document: dict[str, Any] = {}
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
            results[case.key] = (replace(case, max_runs=None) if is_exact else case).run(scale.runs)
            # After each case, so that an interrupted run keeps its results.
            document = _write(folder, results, titles, machine, scale)
    run_child([sys.executable, "-m", "benchmarks.plots", str(folder / "results.json"), str(folder)])
    print((folder / "table.md").read_text())
    return document


def _read(folder: Path) -> dict[str, Any]:
    """The document of earlier results; empty if there are none."""
    path = folder / "results.json"
    document: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return document


def _previous(folder: Path) -> tuple[dict[str, Samples], dict[str, str]]:
    """The results and titles of the previous run."""
    cases = _read(folder).get("cases", {})
    return {key: case["samples"] for key, case in cases.items()}, {
        key: case["title"] for key, case in cases.items()
    }


def _write(
    folder: Path, results: dict[str, Samples], titles: dict[str, str], machine: dict[str, Any], scale: Scale
) -> dict[str, Any]:
    goals = evaluate(results, scale)
    document = {
        "machine": machine,
        "runs": scale.runs,
        "min_measurable_rss_mb": own_peak_rss_bytes() / 1e6,
        "goals": [{"goal": one.goal, "measured": one.measured, "met": one.met} for one in goals],
        "cases": {key: {"title": titles[key], "samples": samples} for key, samples in results.items()},
    }
    (folder / "results.json").write_text(json.dumps(document, indent=1) + "\n")
    (folder / "table.md").write_text(markdown(results, goals, titles=titles, runs=scale.runs, machine=machine))
    return document


if __name__ == "__main__":
    sys.exit(main())
