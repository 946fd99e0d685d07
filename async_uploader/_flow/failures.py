"""How many connections to give up when connections fail. Pure: time is an argument."""

from __future__ import annotations

import math

from .concurrency_policy import ConcurrencyPolicy


class Failures:
    """Counts failed connections: some are forgiven, the others reduce the number of connections."""

    def __init__(self, policy: ConcurrencyPolicy) -> None:
        self._policy = policy
        self._last_at = -math.inf
        self._count = 0.0
        self._second_began_at, self._fewest = -math.inf, 1

    def fewest_after(self, now: float, connections: int) -> int | None:
        """Count a failure; return the minimum number of connections to keep, or None if it is forgiven."""
        policy = self._policy
        forgiven = (now - self._last_at) * connections / policy.forgiven_seconds
        self._last_at, self._count = now, max(0.0, self._count - forgiven) + 1
        if now - self._second_began_at >= 1:
            self._second_began_at = now
            self._fewest = connections - max(1, int(connections * policy.reduction_ratio))
        return max(1, self._fewest) if self._count > max(1, connections * policy.forgiven_ratio) else None
