"""Limits of the service that only the emulator needs, in seconds."""

from __future__ import annotations

from typing import Final

#: How long a container may stay unfinished. The contract, "Creating a container".
UNFINISHED_SECONDS: Final = 7 * 86_400
#: How long a discarded video can be restored. The service's OpenAPI file, `deletesAt`.
DISCARDED_SECONDS: Final = 90 * 86_400
