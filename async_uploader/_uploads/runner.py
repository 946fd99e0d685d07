"""Runs jobs with the services of one client: retries, events, and what makes the upload resumable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from async_uploader._api.service import Service
from async_uploader._dispatcher import EventDispatcher
from async_uploader._flow.rate_limit import RateLimiter
from async_uploader._flow.retries import RetryPolicy, RetryRunner
from async_uploader._models import Video
from async_uploader._options import TransferOptions
from async_uploader._resume.containers import RemoteContainers, SettlingPolicy
from async_uploader._resume.entry import Account
from async_uploader._resume.keyed_session import KeyedSession
from async_uploader._sources.file import FileSource
from async_uploader._sources.protocol import UploadSource

from .job import Context, Job
from .lifecycle import Upload

if TYPE_CHECKING:
    from async_uploader._resume.resumption import Resumption
    from async_uploader._resume.worker import JournalWorker


class Policies(Struct, frozen=True, kw_only=True):
    """Which requests are retried, and how long a client waits for containers of other processes."""

    retry: RetryPolicy
    settling: SettlingPolicy


class JobRunner:
    """Runs the uploads of one client.

    :param account: the account in the journal
    """

    def __init__(self, service: Service, limiter: RateLimiter, *, account: Account, policies: Policies) -> None:
        self._service = service
        self._limiter = limiter
        self._account = account
        self._policies = policies
        self._journal_worker: JournalWorker | None = None

    def close(self) -> None:
        """Close the journal."""
        if self._journal_worker is not None:
            self._journal_worker.close()
            self._journal_worker = None

    async def run(self, job: Job) -> Video:
        """Run one upload.

        :returns: the finished video
        """
        source, options = job.source, job.options
        await source.prepare()
        job = replace(job, payload={"title": source.name, **job.payload})
        events = EventDispatcher(source.name, options.on_event)
        policy = replace(self._policies.retry, max_attempts=options.max_attempts)
        context = Context(
            service=self._service.with_stall(options.stall_timeout),
            retries=RetryRunner(self._limiter, policy, subject=source.name, events=events),
            events=events,
        )
        resumption = self._resumption(source, options, context)
        if resumption is None:
            return await Upload(job, context).run()
        async with resumption as resume:
            return await Upload(job, replace(context, resume=resume)).run()

    def _resumption(self, source: UploadSource, options: TransferOptions, context: Context) -> Resumption | None:
        if not isinstance(source, FileSource):
            return None
        containers = RemoteContainers(context.service, context.retries, self._policies.settling)
        if options.idempotency_key is not None:
            return KeyedSession(
                source,
                key=options.idempotency_key,
                ranges=options.ranges,
                containers=containers,
            )
        if options.resume == "off":
            return None
        # Imported late: only uploads with `resume` need SQLite and file locks.
        from async_uploader._resume.session import ResumeSession  # noqa: PLC0415
        from async_uploader._resume.worker import JournalWorker  # noqa: PLC0415

        self._journal_worker = self._journal_worker or JournalWorker()
        return ResumeSession(
            source,
            options=options,
            account=self._account,
            worker=self._journal_worker,
            containers=containers,
            is_delegated=self._service.delegated,
        )
