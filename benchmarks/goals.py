"""What is to be reached, each with what was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .cases import DEFAULTS, FIXED, MANY, SHARED_LINK_RATE, Scale
from .suite import Sample, Samples, Spread, ratio, spread
from .units import MIB

Results = Mapping[str, Samples]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A goal, its measurement in words, and whether it was met; None where it was not measured."""

    goal: str
    measured: str
    met: bool | None

    @property
    def verdict(self) -> str:
        """One or two words."""
        return {True: "met", False: "**not met**", None: "not measured"}[self.met]


def judge(results: Results, scale: Scale) -> list[Outcome]:
    """All goals."""
    return [
        _faster(results, "sink-TLS", "TLS, 4 connections, against the official client: 2.2 times as fast", 2.2),
        _faster(results, "sink-plain", "plain, likewise: 4 times", 4.0),
        _against_curl(results),
        _at_most(
            "CPU seconds a GiB over TLS: 1.0",
            _samples(results, "sink-TLS", FIXED),
            "cpu_seconds_a_gib",
            1.0,
            ".2f",
        ),
        _memory(results, 4, 55, [FIXED, *_sizes(results)]),
        _memory(results, 32, 90, [MANY]),
        _far_choice(results),
        _far_official(results),
        _shared_rate(results, scale),
        _shared_connections(results),
        _limited(results, scale),
        _wasted(results),
        _flat(results),
        _at_most(
            "loop stall on a cold disk: 50 ms", _samples(results, "cold", FIXED, DEFAULTS), "stall_ms", 50, ".0f"
        ),
        _at_most(
            "`import async_uploader`, whole process: 250 ms",
            _samples(results, "startup", "import async_uploader"),
            "process_seconds",
            0.25,
            ".3f",
        ),
        _at_most(
            "1-byte upload, whole process: 0.5 s",
            _samples(results, "startup", "1-byte upload"),
            "process_seconds",
            0.5,
            ".3f",
        ),
    ]


def _samples(results: Results, key: str, *names: str) -> list[Sample]:
    return [sample for name in names for sample in results.get(key, {}).get(name, ())]


def _sizes(results: Results) -> list[str]:
    return list(results.get("growth", {}))


def _words(found: Spread, form: str, *, unit: str = "") -> str:
    return f"{found.median:{form}}{unit} ({found.low:{form}} to {found.high:{form}})"


def _outcome(
    goal: str, found: Spread | None, is_met: Callable[[Spread], bool], *, form: str, unit: str = ""
) -> Outcome:
    if found is None:
        return Outcome(goal=goal, measured="", met=None)
    return Outcome(goal=goal, measured=_words(found, form, unit=unit), met=is_met(found))


def _at_most(goal: str, samples: list[Sample], figure: str, limit: float, form: str) -> Outcome:
    return _outcome(goal, spread(samples, figure), lambda found: found.median <= limit, form=form)


def _faster(results: Results, key: str, goal: str, times: float) -> Outcome:
    found = ratio(results.get(key, {}), "official client", FIXED)
    return _outcome(goal, found, lambda found: found.median >= times, form=".2f", unit=" times")


def _against_curl(results: Results) -> Outcome:
    found = ratio(results.get("nginx-TLS", {}), FIXED, "curl -Z, 4 at once")
    goal = "TLS against curl -Z, nginx: 1.1 times its time at most"
    return _outcome(goal, found, lambda found: found.median <= 1.1, form=".2f", unit=" times")


def _memory(results: Results, connections: int, limit_mb: int, names: list[str]) -> Outcome:
    """The worst of all runs, over all targets and sizes."""
    keys = ("sink-TLS", "sink-plain", "nginx-TLS", "nginx-plain", "growth")
    samples = [sample for key in keys for sample in _samples(results, key, *names)]
    found = spread(samples, "peak_rss_mb")
    goal = f"peak resident memory, {connections} connections: {limit_mb} MB"
    return _outcome(goal, found, lambda found: found.high <= limit_mb, form=".0f", unit=" MB")


def _far_choice(results: Results) -> Outcome:
    goal = "far server, defaults against the best fixed choice: within 10 %"
    samples = results.get("far", {})
    fixed = [name for name in samples if name.startswith("ours,") and name != DEFAULTS]
    if not fixed or not all(samples[name] for name in (*fixed, DEFAULTS)):
        return Outcome(goal=goal, measured="", met=None)
    best = min(fixed, key=lambda name: Spread.of([sample["seconds"] for sample in samples[name]]).median)
    found = ratio(samples, DEFAULTS, best)
    assert found is not None
    measured = f"{_words(found, '.2f', unit=' times')} its time; best: {best.removeprefix('ours, ')}"
    return Outcome(goal=goal, measured=measured, met=found.median <= 1.1)


def _far_official(results: Results) -> Outcome:
    found = ratio(results.get("far", {}), "official client", DEFAULTS)
    goal = "far server, defaults against the official client: 15 times as fast"
    return _outcome(goal, found, lambda found: found.median >= 15, form=".1f", unit=" times")


def _shared_rate(results: Results, scale: Scale) -> Outcome:
    bound_seconds = scale.line_bytes / SHARED_LINK_RATE
    shares = [{"share": sample["seconds"] / bound_seconds} for sample in _samples(results, "shared", DEFAULTS)]
    goal = f"shared link of {SHARED_LINK_RATE // MIB} MiB/s, defaults: 1.1 times the link's time at most"
    return _outcome(goal, spread(shares, "share"), lambda found: found.median <= 1.1, form=".2f", unit=" times")


def _shared_connections(results: Results) -> Outcome:
    found = spread(_samples(results, "shared", DEFAULTS), "connections")
    return _outcome("and no more than 6 connections", found, lambda found: found.high <= 6, form=".0f")


def _limited(results: Results, scale: Scale) -> Outcome:
    shares = [
        {"share": sample["seconds"] / scale.limit_bound_seconds}
        for sample in _samples(results, "limited", "ours, parts of 5 MiB")
    ]
    goal = f"rate limit, scaled window: 1.1 times the bound of {scale.limit_bound_seconds:g} s at most"
    return _outcome(goal, spread(shares, "share"), lambda found: found.median <= 1.1, form=".2f", unit=" times")


def _wasted(results: Results) -> Outcome:
    found = spread(_samples(results, "limited", "ours, parts of 5 MiB", DEFAULTS), "bytes_into_429")
    return _outcome("and 0 bytes into a 429", found, lambda found: not found.high, form=".0f", unit=" bytes")


def _flat(results: Results) -> Outcome:
    goal = "the smallest and the largest file: the same rate within 5 %"
    samples = results.get("growth", {})
    if not samples:
        return Outcome(goal=goal, measured="", met=None)
    first, *_, last = samples
    found = ratio(samples, last, first, figure="mib_a_second")
    return _outcome(goal, found, lambda found: abs(found.median - 1) <= 0.05, form=".2f", unit=" times")
