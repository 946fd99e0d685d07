"""The limits of api.video, each with its source.

The uploader plans with them, and the emulator enforces them.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

# "Progressive upload" in the service's guides: every part except the last has at least 5 MiB, and no part has more
# than 200 MiB. The same limits apply to byte ranges, and the upper one to an upload in one request.
MIN_PART_BYTES: Final = 5 * MIB
MAX_PART_BYTES: Final = 200 * MIB

# Part numbers run from 1 to 10,000 (error catalogue, `part-too-high-allowed`).
MAX_PARTS: Final = 10_000

# A thumbnail has at most 8 MiB (OpenAPI description of the service, `POST /videos/{videoId}/thumbnail`).
MAX_THUMBNAIL_BYTES: Final = 8 * MIB

# The guides say 30 GiB per video, but the error catalogue 52,428,800,000 bytes. We refuse only what the
# service refuses.
MAX_VIDEO_BYTES: Final = 52_428_800_000

# Requests per minute of an account, in production ("Rate limits" in the guides).
RATE_WINDOW_SECONDS: Final = 60
UPLOADS_A_MINUTE: Final = 100
WRITES_A_MINUTE: Final = 200
READS_A_MINUTE: Final = 500

# `expires_in` of a bearer token, and the page sizes of every listing.
TOKEN_TTL_SECONDS: Final = 3600
DEFAULT_PAGE_SIZE: Final = 25
MAX_PAGE_SIZE: Final = 100
MAX_UPLOAD_TOKEN_TTL_SECONDS: Final = 2_147_483_647
