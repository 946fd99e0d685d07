"""Texts about what bounded uploads, for ``--report``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from async_uploader import events
from async_uploader.events import Bound

#: Smaller shares are not listed.
_MIN_SHARE: Final = 0.005

_NAMES: Final = {
    Bound.BANDWIDTH_LIMIT: "--limit-rate",
    Bound.CONNECTIONS: "each connection",
}
_EXPLANATIONS: Final = {
    Bound.RATE_LIMIT: "the next part waited for the account's rate limit; larger parts need fewer requests",
    Bound.BANDWIDTH_LIMIT: "the limit that you set",
    Bound.PAUSE: "the upload was paused",
    Bound.SOURCE: "waiting for bytes of the disk, stream or object store",
    Bound.CPU: "a processor of this computer was busy with this process, or with other programs",
    Bound.LINK: "the network as a whole; more connections are not faster",
    Bound.CONNECTIONS: "each connection has its own limit; more connections would be faster",
    Bound.NETWORK: "whether more connections would be faster was not measured",
    Bound.SERVICE: "waiting for connections and for responses to requests that it has received",
    Bound.BACKOFF: "waiting before retries of failed requests",
    Bound.OTHER_UPLOADS: "other uploads of this command used all upload slots",
}


def bound_sentence(uploads: Sequence[Sequence[events.UploadEvent]]) -> str | None:
    """``Bound by: rate limit (62 % of the time)``; None if nothing was measured.

    :param uploads: the events of each upload
    """
    shares = combined_shares(uploads)
    if not shares:
        return None
    bound = max(shares, key=lambda bound: shares[bound])
    return f"Bound by: {bound_name(bound)} ({100 * shares[bound]:.0f} % of the time)"


def bound_name(bound: Bound) -> str:
    """The name of a bound at the terminal."""
    return _NAMES.get(bound, str(bound))


def bound_rows(uploads: Sequence[Sequence[events.UploadEvent]]) -> Iterator[tuple[str, str]]:
    """Rows of a table: each bound with its share and an explanation."""
    shares = combined_shares(uploads)
    for bound in sorted(shares, key=lambda bound: -shares[bound]):
        if shares[bound] >= _MIN_SHARE:
            yield bound_name(bound), f"{100 * shares[bound]:.0f} %: {_EXPLANATIONS[bound]}"
    for event in _measured(uploads):
        if len(uploads) == 1 and event.receive_window_share is not None:
            percent = f"{100 * event.receive_window_share:.0f} % of the time with data in flight"
            yield "receive window full", percent


def combined_shares(uploads: Sequence[Sequence[events.UploadEvent]]) -> Mapping[Bound, float]:
    """The share of the time of all uploads by bound; empty if nothing was measured."""
    seconds: defaultdict[Bound, float] = defaultdict(float)
    for event in _measured(uploads):
        for bound, share in event.shares.items():
            seconds[bound] += share * event.seconds
    total = sum(seconds.values())
    return {bound: each / total for bound, each in seconds.items()} if total else {}


def _measured(uploads: Sequence[Sequence[events.UploadEvent]]) -> Iterator[events.UploadMeasured]:
    return (event for upload in uploads for event in upload if isinstance(event, events.UploadMeasured))
