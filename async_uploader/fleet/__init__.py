"""Uploads a catalogue from many processes or machines, placed by Dask (the extra ``fleet``).

Dask only decides where an upload runs. That each item results in one video, whatever fails, is due to its
idempotency key.
"""

from ._fleet import Fleet

__all__ = ("Fleet",)

Fleet.__module__ = __name__  # the name in tracebacks
