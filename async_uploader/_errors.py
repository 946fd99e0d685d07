"""Everything that the uploader raises.

::

    UploaderError
    ├── ConfigurationError   a setting is wrong or missing; nothing was sent (also a ValueError)
    ├── SourceError          the source is missing, empty, unreadable, too big, or has changed
    ├── ApiError             the service answered, and refused
    │   └── AuthenticationError
    ├── TransportError       the service gave no usable answer
    └── UploadFailed         a container exists, and the upload into it did not finish
        └── SourceFailed     … because of the source (also a SourceError)

Cancellation is never wrapped. An error's text is one or two plain sentences that can be shown to a user as
they are; it never contains a credential.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

from ._parsing import sentence

# More of them make no sentence that anybody reads. All are in `ApiError.problems`.
_MAX_PROBLEMS_SAID: Final = 10


class UploaderError(Exception):
    """Base of all errors of this package. Can be pickled, for programs of several processes."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are made again by calling their class with `args`, which keyword-only parameters do not allow.
        return _made_again, (type(self), self.args, self.__dict__)


def _made_again(kind: type[UploaderError], args: tuple[Any, ...], state: dict[str, Any]) -> UploaderError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class ConfigurationError(UploaderError, ValueError):
    """A parameter, flag or environment variable is wrong or missing. Raised before anything is sent."""


class SourceError(UploaderError):
    """The source cannot be uploaded: missing, empty, unreadable, too big, or changed while it was read."""


class ApiError(UploaderError):
    """The service refused a request.

    :ivar status: the HTTP status
    :ivar type: the URL of the problem's description; its last segment is the slug
    :ivar title: the service's own one-line summary
    :ivar name: the attribute that was refused, where the service names one
    :ivar detail: the service's own explanation, where it gives one
    :ivar problems: further problems, as the service gave them
    :ivar retry_after_seconds: how long the service asks to wait (``Retry-After``, and on a 429 also
        ``X-RateLimit-Retry-After``)
    """

    def __init__(
        self,
        *,
        status: int,
        title: str,
        type: str | None = None,  # noqa: A002 - the name that RFC 9457 gives it
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
        super().__init__(self._sentence())

    def with_detail(self, detail: str) -> Self:
        """The same refusal with more to say."""
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
        """The problem's short name in the service's error catalogue, or an empty string."""
        return (self.type or "").rstrip("/").rpartition("/")[2]

    def _sentence(self) -> str:
        text = f"The service answered {self.status}: {self.title.rstrip('.')}"
        if self.name:
            text += f" ({self.name})"
        if self.detail:
            text += f". {self.detail.rstrip('.')}"
        for problem in self.problems[:_MAX_PROBLEMS_SAID]:
            title, name = sentence(problem.get("title")), sentence(problem.get("name"))
            if title and (title, name) != (self.title, self.name):
                text += f"; {name}: {title}" if name else f"; {title}"
        return text.rstrip(".") + "."


class AuthenticationError(ApiError):
    """The service did not accept the credentials (401, 403, or a refused login)."""


class TransportError(UploaderError):
    """No usable answer came back: the connection failed, broke or stalled.

    :ivar reason: what happened, as a part of a sentence
    :ivar maybe_received: the request may have reached the service all the same, so that its outcome is unknown
    :ivar retryable: trying again can help; it cannot when, say, a certificate is not trusted
    :ivar unreadable: there was a response, its status says success, and its body is something else: a proxy's page
    """

    def __init__(
        self, reason: str, *, maybe_received: bool, retryable: bool = True, unreadable: bool = False
    ) -> None:
        super().__init__(
            f"The service answered {reason}." if unreadable else f"No answer from the service: {reason}."
        )
        self.unreadable = unreadable
        self.reason = reason
        self.maybe_received = maybe_received
        self.retryable = retryable


class UploadFailed(UploaderError):
    """The upload into an existing container did not finish. The cause is chained.

    :ivar video_id: the container
    :ivar part_number: the part that failed, where it was one part's failure
    :ivar parts_done: parts that the service has acknowledged
    :ivar parts_total: parts in all, where it was known
    :ivar acknowledged_bytes: bytes of the acknowledged parts
    :ivar total_bytes: the source's size, where it was known
    :ivar resumable: the container was kept, and the same upload with ``resume`` goes on
    :ivar advice: what became of the container, and what to do
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


class SourceFailed(UploadFailed, SourceError):
    """The source could not be read to its end, or is not what it was when the upload began."""


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later: after a 408, 429 or 5xx, or a retryable transport error."""
    match error:
        case TransportError():
            return error.retryable
        case ApiError():
            return error.status in (408, 429) or error.status >= 500
        case _:
            return False
