"""The ratios that a run is compared by with the committed results (:mod:`harness.comparison`)."""

from __future__ import annotations

from collections.abc import Iterator

from harness.comparison import Ratio

from .cases import CHECKSUM, CURL, DEFAULTS, FIXED, OFFICIAL_CLIENT, STREAM, Scale
from .remote import S3, UPLOAD_ALONE, WEB


def ratios(scale: Scale) -> Iterator[Ratio]:
    """All of them. Entries that other software determines, or a theoretical bound, are the references."""
    for figure in ("seconds", "cpu_seconds"):
        for case in ("sink-TLS", "sink-plain"):
            yield Ratio(case, FIXED, figure, CURL)
        for entry in (FIXED, CHECKSUM, STREAM):
            yield Ratio("options", entry, figure, CURL)
        for count in scale.files:
            yield Ratio(f"files-{count}", DEFAULTS, figure, OFFICIAL_CLIENT)
        for entry in (WEB, S3):
            yield Ratio("remote", entry, figure, UPLOAD_ALONE)
        for entry in ("import async_uploader", "import its Client", "1-byte upload"):
            yield Ratio("startup", entry, figure, "import aiohttp")
        yield Ratio("cold", DEFAULTS, figure, FIXED)
    yield Ratio("far", DEFAULTS, "seconds", "ours, 32 x 16 MiB")
