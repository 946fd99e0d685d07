"""The values that describe one upload."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from async_uploader._api.service import Service
from async_uploader._dispatcher import EventDispatcher
from async_uploader._flow.retries import RetryRunner
from async_uploader._flow.slots import UploadSlots
from async_uploader._options import TransferOptions
from async_uploader._plan import Plan
from async_uploader._sources.protocol import UploadSource

if TYPE_CHECKING:
    from async_uploader._resume.resumption import Resumption


class Job(Struct, frozen=True, kw_only=True):
    """What to upload, and how.

    :param payload: the JSON object that creates the container
    :param slots: limits the parts in flight; shared with other uploads
    """

    source: UploadSource
    plan: Plan
    options: TransferOptions
    payload: Mapping[str, Any]
    slots: UploadSlots


class Context(Struct, frozen=True, kw_only=True):
    """The objects that one upload uses.

    :param resume: records the upload so that a later run can resume it; None if ``resume`` is off
    """

    service: Service
    retries: RetryRunner
    events: EventDispatcher
    resume: Resumption | None = None

    @property
    def can_resume(self) -> bool:
        """Whether a later run can resume this upload."""
        return self.resume is not None and self.resume.can_resume
