"""Items for which the caller chooses the worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from async_uploader import UploadItem


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class FleetItem(UploadItem):
    """An item that runs only on certain workers, such as those near its source.

    :ivar workers: addresses or names of the workers that may upload it; default: all
    :ivar resources: resources that its worker must have, such as ``{"site-a": 1}`` for workers started with
        ``dask worker --resources "site-a=100"``. Each upload uses up that much while it runs; default: nothing
    """

    workers: Sequence[str] = ()
    resources: Mapping[str, float] = field(default_factory=dict)
