"""Uploads a catalogue from many processes or machines, placed by Dask (the extra ``fleet``).

Dask only decides where an upload runs. That each item results in one video, whatever fails, is due to its
idempotency key.
"""

from ._fleet import Fleet
from ._item import FleetItem
from ._status import WorkerStatus

__all__ = ("Fleet", "FleetItem", "WorkerStatus")

for _each in (Fleet, FleetItem, WorkerStatus):
    _each.__module__ = __name__  # the name in tracebacks
