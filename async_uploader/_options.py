"""The options of an upload, validated before anything is sent.

:func:`split_options` divides :class:`~async_uploader.UploadOptions` into :class:`TransferOptions` and the payload
of ``POST /videos``.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec
from msgspec import Struct

from ._control import UploadControl
from ._errors import ConfigurationError
from ._limits import MAX_PART_BYTES, MIN_PART_BYTES
from ._models import MARK_SHA256, camel
from ._progress import OnProgress
from ._sidecars import Sidecar, parse_sidecars
from ._types import Fetch, ImportOptions, OnVideo, Ranges, ResumeMode, UploadOptions
from ._units import format_size
from .events import OnEvent

MAX_CONCURRENCY: Final = 256
MAX_ATTEMPTS: Final = 1_000
MAX_KEY_CHARACTERS: Final = 200
DEFAULT_MAX_ATTEMPTS: Final = 8
DEFAULT_STALL_TIMEOUT_SECONDS: Final = 30.0


class TransferOptions(Struct, frozen=True, kw_only=True):
    """How a container is filled; see :meth:`~async_uploader.Client.upload`.

    :raises ConfigurationError: a value is invalid
    """

    idempotency_key: str | None = None
    key_from_source: bool = False
    video_id: str | None = None
    ranges: Ranges = "part"
    part_size: int | None = None
    concurrency: int | None = None
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    stall_timeout: float = DEFAULT_STALL_TIMEOUT_SECONDS
    resume: ResumeMode = "off"
    fetch: Fetch = "service"
    keep_finished: bool = False
    checksum: bool = False
    control: UploadControl | None = None
    max_latency: float | None = None
    on_progress: OnProgress | None = None
    on_video: OnVideo | None = None
    on_event: OnEvent | None = None
    captions: Mapping[str, Any] | None = None
    chapters: Mapping[str, Any] | None = None
    thumbnail: Any = None

    @property
    def sidecars(self) -> tuple[Sidecar, ...]:
        """The files to add to the finished video."""
        return parse_sidecars(self.captions, self.chapters, self.thumbnail)

    def __post_init__(self) -> None:
        if self.ranges not in ("part", "bytes"):
            raise ConfigurationError(f"ranges must be 'part' or 'bytes', not {self.ranges!r}.")
        if self.part_size is not None:
            _check_whole("part_size", self.part_size, MIN_PART_BYTES, MAX_PART_BYTES, unit="bytes")
        if self.concurrency is not None:
            _check_whole("concurrency", self.concurrency, 1, MAX_CONCURRENCY, unit="parts at once")
        _check_whole("max_attempts", self.max_attempts, 1, MAX_ATTEMPTS, unit="attempts")
        if not _is_positive(self.stall_timeout):
            raise ConfigurationError(
                f"stall_timeout must be a number of seconds above 0, not {self.stall_timeout!r}."
            )
        if self.max_latency is not None and not _is_positive(self.max_latency):
            raise ConfigurationError(f"max_latency must be a number of seconds above 0, not {self.max_latency!r}.")
        if self.resume not in ("off", "local", "anywhere"):
            raise ConfigurationError(f"resume must be 'off', 'local' or 'anywhere', not {self.resume!r}.")
        if self.fetch not in ("here", "service"):
            raise ConfigurationError(f"fetch must be 'here' or 'service', not {self.fetch!r}.")
        if not isinstance(self.keep_finished, bool):
            raise ConfigurationError(f"keep_finished must be True or False, not {self.keep_finished!r}.")
        if not isinstance(self.checksum, bool):
            raise ConfigurationError(f"checksum must be True or False, not {self.checksum!r}.")
        if not isinstance(self.control, UploadControl | None):
            raise ConfigurationError(f"control must be an UploadControl, not {self.control!r}.")
        if self.video_id is not None and not str(self.video_id).isalnum():
            raise ConfigurationError(f"video_id must be letters and digits, not {self.video_id!r}.")
        parse_sidecars(self.captions, self.chapters, self.thumbnail)
        self._check_key()

    def _check_key(self) -> None:
        if not isinstance(self.key_from_source, bool):
            raise ConfigurationError(f"key_from_source must be True or False, not {self.key_from_source!r}.")
        if self.idempotency_key is not None:
            check_idempotency_key(self.idempotency_key)
        has_key = self.idempotency_key is not None or self.key_from_source
        if has_key and self.video_id is not None:
            raise ConfigurationError(
                "The video is determined by idempotency_key or by video_id; remove one of them."
            )


def check_idempotency_key(key: object) -> None:
    """Check an idempotency key.

    :raises ConfigurationError: it is not 1 to 200 printable characters
    """
    if not isinstance(key, str) or not 1 <= len(key) <= MAX_KEY_CHARACTERS or not key.isprintable():
        raise ConfigurationError(
            f"idempotency_key must be 1 to {MAX_KEY_CHARACTERS} printable characters, not {key!r}."
        )


def check_limit_rate(bytes_per_second: object) -> None:
    """Check the upper bound of the bytes sent per second; None is no bound.

    :raises ConfigurationError: it is not a number from 1
    """
    is_number = _is_positive(bytes_per_second) and not isinstance(bytes_per_second, bool)
    if bytes_per_second is not None and not (is_number and cast("float", bytes_per_second) >= 1):
        raise ConfigurationError(
            f"limit_rate must be a number of bytes per second from 1, not {bytes_per_second!r}."
        )


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value < math.inf


def _check_whole(name: str, value: object, low: int, high: int, *, unit: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        span = f"{low:,} to {high:,} {unit}"
        if unit == "bytes":
            span += f" ({format_size(low)} to {format_size(high)})"
        raise ConfigurationError(f"{name} must be a whole number from {span}, not {value!r}.")


# Packages whose frames can be between the caller's frame and this module's.
_INTERNAL: Final = frozenset({"anyio", "async_uploader", "asyncio", "concurrent", "contextlib"})
_TRANSFER_FIELDS: Final = frozenset(TransferOptions.__struct_fields__)
_DEFAULT_OPTIONS: Final = TransferOptions()
_DETAIL_TYPES: Final[Mapping[str, tuple[Any, str]]] = {
    "title": (str, "text that is not empty"),
    "description": (str, "text"),
    "tags": (list[str], "a list of texts"),
    "metadata": (dict[str, str], "a mapping of texts to texts, with no empty key"),
    "public": (bool, "True or False"),
    "panoramic": (bool, "True or False"),
    "mp4_support": (bool, "True or False"),
    "player_id": (str, "text"),
    "language": (str, "a language tag such as 'en'"),
    "transcript": (bool, "True or False"),
    "transcript_summary": (bool, "True or False"),
    "transcript_summary_attributes": (list[str], "a list of 'abstract' and 'takeaways'"),
    "watermark": (dict[str, str], "a mapping of texts to texts"),
    "clip": (dict[str, str], "a mapping of texts to texts"),
}


def split_options(options: Mapping[str, Any]) -> tuple[TransferOptions, dict[str, Any]]:
    """Divide upload options into those of the transfer and the payload of ``POST /videos``.

    :raises TypeError: an option is unknown
    :raises ConfigurationError: a value is invalid
    """
    unknown = sorted(options.keys() - _TRANSFER_FIELDS - _DETAIL_TYPES.keys())
    if unknown:
        raise TypeError(f"upload() got an unexpected keyword argument {unknown[0]!r}")
    fields = {key: options[key] for key in options.keys() & _TRANSFER_FIELDS}
    if isinstance(fields.get("resume"), bool):
        fields["resume"] = _resume_mode(is_on=fields["resume"])
    transfer = TransferOptions(**fields)
    if transfer.checksum and MARK_SHA256 in (options.get("metadata") or ()):
        raise ConfigurationError(f"checksum sets the metadata entry {MARK_SHA256!r}; remove it from metadata.")
    return transfer, container_payload({key: options[key] for key in options.keys() & _DETAIL_TYPES.keys()})


def import_options(options: UploadOptions) -> ImportOptions:
    """Return the options of a video that the service imports from a URL.

    :raises TypeError: an option is unknown
    :raises ConfigurationError: a value is invalid, or an option of the transfer is given
    """
    transfer, _ = split_options(options)
    for name in sorted(options.keys() & _TRANSFER_FIELDS - {"idempotency_key"}):
        if getattr(transfer, name) != getattr(_DEFAULT_OPTIONS, name):
            raise ConfigurationError(
                f"{name} does not apply to a URL, which the service imports itself; remove {name}."
            )
    applicable = {"idempotency_key", *_DETAIL_TYPES}
    return cast("ImportOptions", {name: value for name, value in options.items() if name in applicable})


def _resume_mode(*, is_on: bool) -> ResumeMode:
    """Translate ``resume=True`` and ``resume=False``, the values of earlier versions."""
    mode: ResumeMode = "anywhere" if is_on else "off"
    message = f"resume={is_on} is deprecated; use resume={mode!r}"
    warnings.warn(message, DeprecationWarning, stacklevel=_caller_stacklevel())
    return mode


def _caller_stacklevel() -> int:
    """Return the ``stacklevel``, for the calling function, of the line that called the package.

    Coroutines are awaited at varying depths, and run by the event loop's frames, so they cannot be counted.
    """
    level, frame = 1, sys._getframe(1)  # noqa: SLF001 - `inspect` reads source files for each frame
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _INTERNAL:
        level, frame = level + 1, frame.f_back
    return level


def container_payload(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return the payload of ``POST /videos`` for details with Python names. A value of None is omitted.

    :raises TypeError: there is no such detail
    :raises ConfigurationError: a detail has the wrong type, or is empty although it must not be
    """
    unknown = sorted(details.keys() - _DETAIL_TYPES.keys())
    if unknown:
        raise TypeError(f"got an unexpected keyword argument {unknown[0]!r}")
    payload: dict[str, Any] = {}
    for name, value in details.items():
        if value is None:
            continue
        kind, words = _DETAIL_TYPES[name]
        try:
            checked = msgspec.convert(value, kind)
        except msgspec.ValidationError as exc:
            raise ConfigurationError(f"{name} must be {words}, not {value!r}.") from exc
        if (name == "title" and not checked.strip()) or (name == "metadata" and not all(map(str.strip, checked))):
            raise ConfigurationError(f"{name} must be {words}, not {value!r}.")
        if name == "metadata":
            checked = [{"key": key, "value": text} for key, text in checked.items()]
        payload[camel(name)] = checked
    return payload


def check_delegated(options: TransferOptions, payload: Mapping[str, Any]) -> None:
    """Refuse what an upload token cannot do, instead of ignoring it.

    :raises ConfigurationError: a detail of the container, or ``video_id``, is given
    """
    named = sorted(payload)
    if named:
        raise ConfigurationError(
            f"An upload token cannot set {', '.join(named)}: its videos are named after the file. Use an API key."
        )
    if options.video_id is not None:
        raise ConfigurationError("An upload token creates its own video; video_id needs an API key.")
    if options.sidecars:
        labels = ", ".join(sidecar.label for sidecar in options.sidecars)
        raise ConfigurationError(f"An upload token cannot add {labels}; they need an API key.")
    if options.checksum:
        raise ConfigurationError(
            "An upload token cannot change the metadata of its video; checksum needs an API key."
        )
    if options.idempotency_key is not None or options.key_from_source:
        raise ConfigurationError("An upload token cannot look for a video; idempotency_key needs an API key.")
