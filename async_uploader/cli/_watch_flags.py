"""The options of `watch`."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Annotated

from ._detail_flags import DescriptionFlags
from ._params import argument, flags, option, usage_error
from ._transfer_flags import ConnectionFlags, QuietFlags, SelectionFlags
from ._upload_flags import UploadFlags


@flags
class WatchFlags(DescriptionFlags, SelectionFlags, ConnectionFlags, QuietFlags):
    """Options of `watch`. Those that `upload` has, too, have the same meaning there."""

    # They apply to objects in stores and on the web.
    NOT_OFFERED = ("fetch", "key_from_source")

    directory: Annotated[str, argument(metavar="DIR", help="Directory to watch")]
    settle: Annotated[
        float,
        option(metavar="SECONDS", help="Upload a file once it has not changed for this long (default: 2)"),
    ] = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.settle < math.inf:
            raise usage_error(f"--settle must be a number of seconds from 0, not {self.settle!r}.")

    def upload_flags(self) -> UploadFlags:
        """The options of an `upload` of the same files."""
        shared = {field.name for field in fields(UploadFlags)} & vars(self).keys()
        return UploadFlags(sources=[self.directory], **{name: getattr(self, name) for name in shared})
