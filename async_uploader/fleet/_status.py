"""The state of the workers of a fleet."""

from __future__ import annotations

from msgspec import Struct


class WorkerStatus(Struct, frozen=True, kw_only=True):
    """The state of a worker, by its last report, which is at most a second old.

    :ivar address: its address in the cluster
    :ivar uploads: number of items of this fleet that it is uploading
    :ivar parts_in_flight: number of their parts in flight
    :ivar delivered_bytes: bytes that it has delivered for this fleet
    """

    address: str
    uploads: int = 0
    parts_in_flight: int = 0
    delivered_bytes: int = 0
