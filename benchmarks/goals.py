"""The goals, and whether the results meet them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .cases import (
    CHECKSUM,
    CURL,
    DEFAULTS,
    FIXED,
    LIMIT_RATE,
    LIMITED,
    LINK_RATES,
    MANY,
    OFFICIAL_CLIENT,
    STREAM,
    Scale,
)
from .remote import FEW_CONNECTIONS, READ_ALONE, REMOTE_FAR, REMOTE_FEW, S3, UPLOAD_ALONE, WEB
from .suite import Sample, Samples, Spread, ratio, spread
from .units import size_text

Results = Mapping[str, Samples]

_CPU = "cpu_seconds_per_gib"


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
    main, middle, many = size_text(scale.main_bytes), size_text(scale.middle_bytes), max(scale.files)
    tls, plain, options = (results.get(key, {}) for key in ("sink-TLS", "sink-plain", "options"))
    files = results.get(f"files-{many}", {})
    curl = "`curl -Z`, 4 connections"
    return [
        _times(f"TLS, {main}: at most 1.05 times the duration of {curl}", ratio(tls, FIXED, CURL), 1.05),
        _times(
            f"TLS, {main}: at most 0.85 times the CPU time of {curl}", ratio(tls, FIXED, CURL, figure=_CPU), 0.85
        ),
        _times(
            f"Plain HTTP, {main}: at least 4.2 times as fast as the official client",
            ratio(plain, OFFICIAL_CLIENT, FIXED),
            4.2,
            is_at_least=True,
        ),
        _times(f"Plain HTTP, {main}: at most 1.05 times the duration of {curl}", ratio(plain, FIXED, CURL), 1.05),
        _times(
            f"TLS, {middle}, start-up included: at most 1.1 times the CPU time of {curl}",
            ratio(options, FIXED, CURL, figure="cpu_seconds"),
            1.1,
        ),
        _times(
            f"{many:,} files of 64 KiB: no more time than the official client",
            ratio(files, DEFAULTS, OFFICIAL_CLIENT),
            1.0,
        ),
        _at_most(f"{many:,} files of 64 KiB: at most 60 MB", files.get(DEFAULTS, ()), "peak_rss_mb", 60),
        _memory(results, "4 connections", 55, [FIXED]),
        _memory(results, "32 connections", 90, [MANY]),
        _far_choice(results),
        *(_connections(results, size_text(rate)) for rate in LINK_RATES),
        _times(
            f"`--checksum`, {middle}: at most 1.5 times the duration without", ratio(options, CHECKSUM, FIXED), 1.5
        ),
        _at_most(
            f"Stream, {middle}: at most 125 MB (64 MiB of buffer)", options.get(STREAM, ()), "peak_rss_mb", 125
        ),
        _limit_rate(results, scale),
        _remote(results, "remote", WEB, "Web over TLS, 8 parts of 100 MiB", 1.18),
        _remote(results, "remote", S3, "S3 over TLS, 8 parts of 100 MiB", 1.18),
        _remote(results, REMOTE_FAR, WEB, "Distant web server and service, defaults", 1.15),
        _remote(results, REMOTE_FAR, S3, "Distant S3 and service, defaults", 1.15),
        _remote(results, REMOTE_FEW, WEB, f"Distant web server and service, {FEW_CONNECTIONS} connections", 1.15),
        _remote(results, REMOTE_FEW, S3, f"Distant S3 and service, {FEW_CONNECTIONS} connections", 1.15),
        _at_most(
            "Web and S3, 8 parts of 100 MiB: at most 90 MB of peak resident memory",
            _samples(results, "remote", WEB, S3),
            "peak_rss_mb",
            90,
        ),
        _limited(results, scale),
        _wasted(results),
        _at_most(
            "Cold disk: event loop blocked for at most 50 ms",
            _samples(results, "cold", FIXED, DEFAULTS),
            "stall_ms",
            50,
        ),
        _startup(results, "import async_uploader", "`import async_uploader`, whole process", 0.25),
        _startup(results, "1-byte upload", "1-byte upload, whole process", 0.4),
    ]


def _startup(results: Results, name: str, text: str, most_seconds: float) -> Goal:
    found = spread(_samples(results, "startup", name), "process_seconds")
    return _goal(
        f"{text}: at most {most_seconds} s",
        found,
        lambda found: found.median <= most_seconds,
        form=".3f",
        unit=" s",
    )


def _samples(results: Results, key: str, *names: str) -> list[Sample]:
    return [sample for name in names for sample in results.get(key, {}).get(name, ())]


def _format(found: Spread, form: str, *, unit: str = "") -> str:
    return f"{found.median:{form}}{unit} ({found.low:{form}} to {found.high:{form}})"


def _goal(goal: str, found: Spread | None, is_met: Callable[[Spread], bool], *, form: str, unit: str = "") -> Goal:
    if found is None:
        return Goal(goal=goal, measured="", met=None)
    return Goal(goal=goal, measured=_format(found, form, unit=unit), met=is_met(found))


def _times(goal: str, found: Spread | None, limit: float, *, is_at_least: bool = False) -> Goal:
    """The median of a ratio."""
    return _goal(
        goal,
        found,
        lambda found: found.median >= limit if is_at_least else found.median <= limit,
        form=".2f",
        unit=" times",
    )


def _at_most(goal: str, samples: Sequence[Sample], figure: str, limit: float) -> Goal:
    """The maximum over all runs."""
    return _goal(goal, spread(samples, figure), lambda found: found.high <= limit, form=".0f")


def _memory(results: Results, setting: str, limit_mb: int, names: list[str]) -> Goal:
    keys = ("sink-TLS", "sink-plain", "nginx-TLS", "nginx-plain", "options")
    samples = [sample for key in keys for sample in _samples(results, key, *names)]
    return _at_most(f"Peak resident memory, {setting}: at most {limit_mb} MB", samples, "peak_rss_mb", limit_mb)


def _far_choice(results: Results) -> Goal:
    """The worst run: each one has to find a good number of connections."""
    goal = "Distant server, defaults: at most 1.1 times the duration of the best fixed choice, in each run"
    samples = results.get("far", {})
    fixed = [name for name in samples if name.startswith("ours,") and name != DEFAULTS]
    if not fixed or not all(samples[name] for name in (*fixed, DEFAULTS)):
        return Goal(goal=goal, measured="", met=None)
    best = min(fixed, key=lambda name: Spread.of([sample["seconds"] for sample in samples[name]]).median)
    found = ratio(samples, DEFAULTS, best)
    assert found is not None
    measured = f"{_format(found, '.2f', unit=' times')} its duration; best: {best.removeprefix('ours, ')}"
    return Goal(goal=goal, measured=measured, met=found.high <= 1.1)


def _connections(results: Results, rate: str) -> Goal:
    names = [name for name in results.get("shared", {}) if name.startswith(f"{rate}/s")]
    goal = f"Shared link of {rate}/s, quiet, loaded and real TCP: at most 8 connections"
    return _at_most(goal, _samples(results, "shared", *names), "connections", 8)


def _limit_rate(results: Results, scale: Scale) -> Goal:
    bound_seconds = scale.network_bytes / LIMIT_RATE
    shares = [{"share": sample["seconds"] / bound_seconds} for sample in _samples(results, "limit-rate", LIMITED)]
    goal = "`--limit-rate 50MiB`: at most 1.1 times the theoretical minimum"
    return _times(goal, spread(shares, "share"), 1.1)


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
    return _times(goal, spread(shares, "share"), limit)


def _limited(results: Results, scale: Scale) -> Goal:
    shares = [
        {"share": sample["seconds"] / scale.limit_bound_seconds}
        for sample in _samples(results, "limited", "ours, parts of 5 MiB")
    ]
    goal = f"Rate limit: at most 1.1 times the theoretical minimum of {scale.limit_bound_seconds:g} s"
    return _times(goal, spread(shares, "share"), 1.1)


def _wasted(results: Results) -> Goal:
    found = spread(_samples(results, "limited", "ours, parts of 5 MiB", DEFAULTS), "bytes_into_429")
    return _goal(
        "Rate limit: no bytes sent into a 429", found, lambda found: not found.high, form=".0f", unit=" bytes"
    )
