"""The goals, and whether the results meet them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .cases import DEFAULTS, FIXED, MANY, SHARED_LINK_RATE, Scale
from .remote import FEW_CONNECTIONS, READ_ALONE, REMOTE_FAR, REMOTE_FEW, S3, UPLOAD_ALONE, WEB
from .suite import Sample, Samples, Spread, ratio, spread
from .units import MIB

Results = Mapping[str, Samples]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A goal, what was measured, and whether it is met. None: it was not measured."""

    goal: str
    measured: str
    met: bool | None

    @property
    def status(self) -> str:
        """The status for the table."""
        return {True: "met", False: "**not met**", None: "not measured"}[self.met]


def evaluate(results: Results, scale: Scale) -> list[Goal]:
    """Evaluate all goals."""
    return [
        _faster(results, "sink-TLS", "TLS, 4 connections: at least 2.2 times as fast as the official client", 2.2),
        _faster(
            results,
            "sink-plain",
            "Plain HTTP, 4 connections: at least 4 times as fast as the official client",
            4.0,
        ),
        _against_curl(results),
        _at_most(
            "TLS, 4 connections: at most 1.0 CPU seconds per GiB",
            _samples(results, "sink-TLS", FIXED),
            "cpu_seconds_per_gib",
            1.0,
            ".2f",
        ),
        _memory(results, 4, 55, [FIXED, *_sizes(results)]),
        _memory(results, 32, 90, [MANY]),
        _far_choice(results),
        _far_official(results),
        _remote(results, "remote", WEB, "Web over TLS, 8 parts of 100 MiB", 1.18),
        _remote(results, "remote", S3, "S3 over TLS, 8 parts of 100 MiB", 1.18),
        _remote(results, REMOTE_FAR, WEB, "Distant web server and service, defaults", 1.15),
        _remote(results, REMOTE_FAR, S3, "Distant S3 and service, defaults", 1.15),
        _remote(results, REMOTE_FEW, WEB, f"Distant web server and service, {FEW_CONNECTIONS} connections", 1.15),
        _remote(results, REMOTE_FEW, S3, f"Distant S3 and service, {FEW_CONNECTIONS} connections", 1.15),
        _remote_memory(results),
        _shared_rate(results, scale),
        _shared_connections(results),
        _limited(results, scale),
        _wasted(results),
        _flat(results),
        _at_most(
            "Cold disk: event loop blocked for at most 50 ms",
            _samples(results, "cold", FIXED, DEFAULTS),
            "stall_ms",
            50,
            ".0f",
        ),
        _startup(results, "import async_uploader", "`import async_uploader`, whole process", 0.25),
        _startup(results, "1-byte upload", "1-byte upload, whole process", 0.5),
    ]


def _startup(results: Results, name: str, text: str, most_seconds: float) -> Goal:
    samples = _samples(results, "startup", name)
    return _at_most(f"{text}: at most {most_seconds} s", samples, "process_seconds", most_seconds, ".3f")


def _samples(results: Results, key: str, *names: str) -> list[Sample]:
    return [sample for name in names for sample in results.get(key, {}).get(name, ())]


def _sizes(results: Results) -> list[str]:
    return list(results.get("growth", {}))


def _format(found: Spread, form: str, *, unit: str = "") -> str:
    return f"{found.median:{form}}{unit} ({found.low:{form}} to {found.high:{form}})"


def _goal(goal: str, found: Spread | None, is_met: Callable[[Spread], bool], *, form: str, unit: str = "") -> Goal:
    if found is None:
        return Goal(goal=goal, measured="", met=None)
    return Goal(goal=goal, measured=_format(found, form, unit=unit), met=is_met(found))


def _at_most(goal: str, samples: list[Sample], figure: str, limit: float, form: str) -> Goal:
    return _goal(goal, spread(samples, figure), lambda found: found.median <= limit, form=form)


def _faster(results: Results, key: str, goal: str, times: float) -> Goal:
    found = ratio(results.get(key, {}), "official client", FIXED)
    return _goal(goal, found, lambda found: found.median >= times, form=".2f", unit=" times")


def _against_curl(results: Results) -> Goal:
    found = ratio(results.get("nginx-TLS", {}), FIXED, "curl -Z, 4 connections")
    goal = "TLS to nginx, 4 connections: at most 1.1 times the duration of `curl -Z`"
    return _goal(goal, found, lambda found: found.median <= 1.1, form=".2f", unit=" times")


def _memory(results: Results, connections: int, limit_mb: int, names: list[str]) -> Goal:
    """The maximum over all runs, targets and sizes."""
    keys = ("sink-TLS", "sink-plain", "nginx-TLS", "nginx-plain", "growth")
    samples = [sample for key in keys for sample in _samples(results, key, *names)]
    found = spread(samples, "peak_rss_mb")
    goal = f"Peak resident memory, {connections} connections: at most {limit_mb} MB"
    return _goal(goal, found, lambda found: found.high <= limit_mb, form=".0f", unit=" MB")


def _far_choice(results: Results) -> Goal:
    goal = "Distant server, defaults: at most 1.1 times the duration of the best fixed choice"
    samples = results.get("far", {})
    fixed = [name for name in samples if name.startswith("ours,") and name != DEFAULTS]
    if not fixed or not all(samples[name] for name in (*fixed, DEFAULTS)):
        return Goal(goal=goal, measured="", met=None)
    best = min(fixed, key=lambda name: Spread.of([sample["seconds"] for sample in samples[name]]).median)
    found = ratio(samples, DEFAULTS, best)
    assert found is not None
    measured = f"{_format(found, '.2f', unit=' times')} its duration; best: {best.removeprefix('ours, ')}"
    return Goal(goal=goal, measured=measured, met=found.median <= 1.1)


def _far_official(results: Results) -> Goal:
    found = ratio(results.get("far", {}), "official client", DEFAULTS)
    goal = "Distant server, defaults: at least 15 times as fast as the official client"
    return _goal(goal, found, lambda found: found.median >= 15, form=".1f", unit=" times")


def _remote(results: Results, key: str, name: str, setup: str, limit: float) -> Goal:
    """The duration, relative to the slower half of the job alone, within each round."""
    samples = results.get(key, {})
    shares = [
        {"share": ours["seconds"] / max(read["seconds"], upload["seconds"])}
        for ours, read, upload in zip(
            *(samples.get(one, ()) for one in (name, READ_ALONE, UPLOAD_ALONE)), strict=False
        )
    ]
    goal = f"{setup}: at most {limit} times the duration of the slower half (reading, or uploading a file)"
    return _goal(goal, spread(shares, "share"), lambda found: found.median <= limit, form=".2f", unit=" times")


def _remote_memory(results: Results) -> Goal:
    found = spread(_samples(results, "remote", WEB, S3), "peak_rss_mb")
    goal = "Web and S3, 8 parts of 100 MiB: at most 90 MB of peak resident memory"
    return _goal(goal, found, lambda found: found.high <= 90, form=".0f", unit=" MB")


def _shared_rate(results: Results, scale: Scale) -> Goal:
    bound_seconds = scale.network_bytes / SHARED_LINK_RATE
    shares = [{"share": sample["seconds"] / bound_seconds} for sample in _samples(results, "shared", DEFAULTS)]
    goal = f"Shared link of {SHARED_LINK_RATE // MIB} MiB/s, defaults: at most 1.1 times the theoretical minimum"
    return _goal(goal, spread(shares, "share"), lambda found: found.median <= 1.1, form=".2f", unit=" times")


def _shared_connections(results: Results) -> Goal:
    found = spread(_samples(results, "shared", DEFAULTS), "connections")
    return _goal(
        f"Shared link of {SHARED_LINK_RATE // MIB} MiB/s, defaults: at most 6 connections",
        found,
        lambda found: found.high <= 6,
        form=".0f",
    )


def _limited(results: Results, scale: Scale) -> Goal:
    shares = [
        {"share": sample["seconds"] / scale.limit_bound_seconds}
        for sample in _samples(results, "limited", "ours, parts of 5 MiB")
    ]
    goal = f"Rate limit: at most 1.1 times the theoretical minimum of {scale.limit_bound_seconds:g} s"
    return _goal(goal, spread(shares, "share"), lambda found: found.median <= 1.1, form=".2f", unit=" times")


def _wasted(results: Results) -> Goal:
    found = spread(_samples(results, "limited", "ours, parts of 5 MiB", DEFAULTS), "bytes_into_429")
    return _goal(
        "Rate limit: no bytes sent into a 429", found, lambda found: not found.high, form=".0f", unit=" bytes"
    )


def _flat(results: Results) -> Goal:
    goal = "Smallest and largest file: same throughput within 5 %"
    samples = results.get("growth", {})
    if not samples:
        return Goal(goal=goal, measured="", met=None)
    first, *_, last = samples
    found = ratio(samples, last, first, figure="mib_per_second")
    return _goal(goal, found, lambda found: abs(found.median - 1) <= 0.05, form=".2f", unit=" times")
