"""All exceptions that the package raises.

::

    UploaderError
    ├── ConfigurationError       a setting is wrong or missing; nothing was sent (also a ValueError)
    ├── SourceError              the source is missing, empty, unreadable, too big, or has changed
    │   └── SourceUnavailable    a remote source gives no usable response for now
    ├── ApiError                 the service refused a request
    │   └── AuthenticationError  the service did not accept the credentials
    ├── TransportError           there was no usable response
    │   └── SlowConnectionError  a connection was replaced; its part is sent again
    ├── ConflictError            the container holds data that this upload did not send
    └── UploadFailed             the upload into an existing container failed; the cause is chained
        └── SourceFailed         the same, because of the source (also a SourceError)

Cancellation is never wrapped. The message of an error is one or two sentences that you can show to users. It never
contains credentials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

from ._parsing import single_line
from ._public import public

# Nobody reads a message with more problems than this. `ApiError.problems` has all of them.
_MAX_PROBLEMS_IN_MESSAGE: Final = 10


@public
class UploaderError(Exception):
    """Base class of all errors of this package. All of them can be pickled.

    Raised itself if the service's response is unexpected, and for an unexpected exception of a callback
    in :meth:`Client.upload_many`.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls the class with `args`, which does not work with keyword-only parameters.
        return _unpickle, (type(self), self.args, self.__dict__)


def _unpickle(kind: type[UploaderError], args: tuple[Any, ...], state: dict[str, Any]) -> UploaderError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


@public
class ConfigurationError(UploaderError, ValueError):
    """A parameter, option or environment variable is invalid or missing. Nothing was sent.

    Also raised if a :class:`Client` is used before it is opened, after it is closed, or outside of its event loop.
    """


@public
class SourceError(UploaderError):
    """The source is missing, empty, unreadable, too big, being uploaded by another process, or has changed."""


@public
class SourceUnavailable(SourceError):
    """A remote source gives no usable response for now: a lost connection, a stall, or a 5xx.

    Reading it is retried like a request to the service. If that does not help, the upload can be resumed.
    """


@public
class ApiError(UploaderError):
    """The service refused a request.

    :ivar status: HTTP status
    :ivar type: URL of the description of the problem (RFC 9457); its last segment is the :attr:`slug`
    :ivar title: summary by the service, in one line
    :ivar name: attribute that was refused, or None
    :ivar detail: explanation by the service, or None
    :ivar problems: further problems, as JSON objects of the service
    :ivar retry_after_seconds: seconds that the service asks to wait, by ``Retry-After``, and for a 429 also by
        ``X-RateLimit-Retry-After``; None if it does not say
    """

    def __init__(
        self,
        *,
        status: int,
        title: str,
        type: str | None = None,  # noqa: A002 - the name in RFC 9457
        name: str | None = None,
        detail: str | None = None,
        problems: Sequence[Mapping[str, Any]] = (),
        retry_after_seconds: float | None = None,
    ) -> None:
        self.status = status
        self.type = type
        self.title = title
        self.name = name
        self.detail = detail
        self.problems: tuple[Mapping[str, Any], ...] = tuple(problems)
        self.retry_after_seconds = retry_after_seconds
        super().__init__(self._message())

    def with_detail(self, detail: str) -> Self:
        """Return a copy of this error with one more sentence in its ``detail``."""
        return type(self)(
            status=self.status,
            title=self.title,
            type=self.type,
            name=self.name,
            detail=f"{self.detail.rstrip('.')}. {detail}" if self.detail else detail,
            problems=self.problems,
            retry_after_seconds=self.retry_after_seconds,
        )

    @property
    def slug(self) -> str:
        """Short name of the problem in the service's error catalogue, or an empty string."""
        return (self.type or "").rstrip("/").rpartition("/")[2]

    def _message(self) -> str:
        text = f"The service responded with {self.status}: {self.title.rstrip('.')}"
        if self.name:
            text += f" ({self.name})"
        if self.detail:
            text += f". {self.detail.rstrip('.')}"
        for problem in self.problems[:_MAX_PROBLEMS_IN_MESSAGE]:
            title, name = single_line(problem.get("title")), single_line(problem.get("name"))
            if title and (title, name) != (self.title, self.name):
                text += f"; {name}: {title}" if name else f"; {title}"
        return text.rstrip(".") + "."


@public
class AuthenticationError(ApiError):
    """The service did not accept the credentials: status 401, 403, or a refused login."""


@public
class TransportError(UploaderError):
    """There was no usable response: the connection could not be made, was lost, or stalled.

    :ivar reason: cause, as part of a sentence
    :ivar maybe_received: whether the service may have received the request, so that its outcome is unknown
    :ivar retryable: whether a retry can succeed; False for an untrusted certificate, for example
    :ivar unreachable: whether the host name was not found or the connection was refused, and the service has never
        responded to this client, so that the base URL is probably wrong
    :ivar unreadable: whether there was a 2xx response with an unexpected body, such as the page of a proxy
    """

    def __init__(
        self, reason: str, *, maybe_received: bool, retryable: bool = True, unreadable: bool = False
    ) -> None:
        super().__init__(
            f"The service responded with {reason}." if unreadable else f"No response from the service: {reason}."
        )
        self.unreadable = unreadable
        self.unreachable: bool = False
        self.reason = reason
        self.maybe_received = maybe_received
        self.retryable = retryable


@public
class SlowConnectionError(TransportError):
    """A connection was much slower than the others at the same time. Its part is sent again on another one.

    :param factor: how many times slower it was
    """

    def __init__(self, factor: float) -> None:
        super().__init__(f"its connection was {factor:,.0f} times slower than the others", maybe_received=True)


@public
class ConflictError(UploaderError):
    """The container holds, or may hold, data that this upload did not send. The container is left unchanged.

    The cause (``__cause__``) of an :class:`UploadFailed`, if another program writes to the same video, or if a
    retry could create a second video.
    """


@public
class UploadFailed(UploaderError):
    """The upload into an existing container failed. The cause is chained (``__cause__``).

    :ivar video_id: the container; None if it is not known
    :ivar part_number: the part that failed; None if it was not a single part
    :ivar parts_done: number of acknowledged parts
    :ivar parts_total: number of all parts; None if it is not known
    :ivar acknowledged_bytes: size of the acknowledged parts in bytes
    :ivar total_bytes: size of the source in bytes; None if it is not known
    :ivar resumable: whether the container was kept, so that the upload can be resumed
    :ivar advice: a sentence about the container, and what to do next; may be empty
    """

    def __init__(
        self,
        message: str,
        *,
        video_id: str | None,
        part_number: int | None = None,
        parts_done: int = 0,
        parts_total: int | None = None,
        acknowledged_bytes: int = 0,
        total_bytes: int | None = None,
        resumable: bool = False,
    ) -> None:
        super().__init__(message)
        self.video_id = video_id
        self.part_number = part_number
        self.parts_done = parts_done
        self.parts_total = parts_total
        self.acknowledged_bytes = acknowledged_bytes
        self.total_bytes = total_bytes
        self.resumable = resumable
        self.advice = ""

    def __str__(self) -> str:
        return f"{super().__str__()} {self.advice}".rstrip()


@public
class SourceFailed(UploadFailed, SourceError):
    """The upload failed because of its source: it changed, ended early, or raised an exception."""


def error_type(error: BaseException) -> str:
    """Return an error as one word: the status of an :class:`ApiError`, else the name of the class.

    For an :class:`UploadFailed`, return the word of its cause.
    """
    if isinstance(error, UploadFailed) and error.__cause__ is not None:
        return error_type(error.__cause__)
    return str(error.status) if isinstance(error, ApiError) else type(error).__name__


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later.

    That is after a 408, 429 or 5xx, a retryable transport error, or a failure of a remote source.
    """
    match error:
        case TransportError():
            return error.retryable
        case ApiError():
            return error.status in (408, 429) or error.status >= 500
        case SourceUnavailable():
            return True
        case _:
            return False
