"""pytest fixtures to test any client of api.video, in any language, against the local service.

``apivideo_emulator``
    A service of this test's own, in a thread: a test need not be asynchronous, nor use our uploader.
``apivideo_env``
    The same service, put into the environment for code that reads its settings there.
``apivideo_client``
    Our own :class:`~async_uploader.Client`, bound to the service; not opened yet.

How the service behaves, a marker says; what it saw, is shown with a test that fails::

    @pytest.mark.apivideo(faults=["part=2,attempt=1:cut"], rate_limit=30)
    def test_a_cut(apivideo_env, apivideo_emulator): ...

This module is loaded in every run of pytest, so it imports nothing until a fixture is asked for.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from inspect import signature
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.from_thread import BlockingPortal

    from . import Client
    from .emulator import Emulator, Fault, RequestRecord, Statistics, VideoView

__all__ = ("RunningEmulator", "apivideo_client", "apivideo_emulator", "apivideo_env", "running_emulator")

_MARKER: Final = (
    "apivideo(*, faults=(), rate_limit=None, rate_window=60, connection_rate=None, link_rate=None, latency=0, "
    "token_ttl=3600, api_key='local-key', port=0, data=None, allowed_hosts=(), tls=False, "
    "video_restore=False): how the service of "
    "apivideo_emulator behaves."
)
_SHOWN_REQUESTS: Final = 20
#: Settings that say where the service is, and not how it behaves: a test seldom needs them.
_SELDOM: Final = ("allowed_hosts", "data", "host", "port", "tls", "video_restore")


class RunningEmulator:
    """A local api.video in a thread of its own: all of it may be called from any other thread.

    Its calls block for as long as they take. Inside an event loop that matters for the two that wait alone: hand
    them to a thread (``await asyncio.to_thread(emulator.wait_until_finished, video_id)``) while an upload of the
    same loop is still under way.

    :ivar url: ``http://HOST:PORT``, the base URL for clients
    :ivar api_key: the key that it accepts
    """

    def __init__(self, emulator: Emulator, portal: BlockingPortal, *, api_key: str, faults: list[Fault]) -> None:
        self._emulator = emulator
        self._portal = portal
        self._faults = faults
        self.url: str = emulator.url
        self.api_key: str = api_key

    def __repr__(self) -> str:
        return f"<RunningEmulator {self.url}>"

    @property
    def env(self) -> dict[str, str]:
        """Environment variables for a client: ``APIVIDEO_BASE_URL`` and ``APIVIDEO_API_KEY``.

        With TLS also ``SSL_CERT_FILE``, which most programs read when they start.
        """
        trusted = {} if self._emulator.ca_file is None else {"SSL_CERT_FILE": str(self._emulator.ca_file)}
        return {"APIVIDEO_BASE_URL": self.url, "APIVIDEO_API_KEY": self.api_key, **trusted}

    @property
    def videos(self) -> Mapping[str, VideoView]:
        """All videos by id, as they are at this moment."""
        return self._portal.call(lambda: dict(self._emulator.videos))

    @property
    def requests(self) -> Sequence[RequestRecord]:
        """The requests that have ended, oldest first; the latest 50,000."""
        return self._portal.call(lambda: self._emulator.requests)

    def statistics(self) -> Statistics:
        """Counters since it was started."""
        return self._portal.call(self._emulator.statistics)

    def wait_until_finished(self, video_id: str, *, timeout: float | None = 30.0) -> VideoView:
        """The video once it is one file of known size and SHA-256, which is a moment after the last answer.

        :param timeout: seconds; None is for ever
        :raises LookupError: there is no such video
        :raises TimeoutError: it is not finished by then
        """
        return self._portal.call(partial(_finished, self._emulator, video_id, timeout))

    def wait_for(self, predicate: Callable[[Emulator], object], *, timeout: float | None = 30.0) -> None:
        """Return once ``predicate(emulator)`` holds; it is asked in the service's thread, at every change.

        :param timeout: seconds; None is for ever
        :raises TimeoutError: it does not hold by then
        """
        self._portal.call(partial(self._emulator.wait_for, predicate, timeout=timeout))

    def add_fault(self, fault: str | Fault) -> None:
        """Have one more thing go wrong.

        :param fault: a :class:`~async_uploader.emulator.Fault`, or its words: ``"part=2:cut"``
        :raises ValueError: it is not possible
        """
        parsed = _fault(fault)
        self._faults.append(parsed)
        self._portal.call(self._emulator.add_fault, parsed)

    def clear_faults(self) -> None:
        """Nothing goes wrong any more."""
        self._faults.clear()
        self._portal.call(self._emulator.clear_faults)

    def expire_tokens(self) -> None:
        """Every access token is expired from now on; refresh tokens still work."""
        self._portal.call(self._emulator.expire_tokens)

    def revoke_refresh_tokens(self) -> None:
        """No refresh token works any more; access tokens live on."""
        self._portal.call(self._emulator.revoke_refresh_tokens)

    def _report(self) -> str:
        """What it saw, for a person: its last requests, its videos, and the faults that never struck."""
        specs = {str(fault): fault.spec for fault in self._faults}
        records = self.requests
        lines = [_request_line(record, specs) for record in records[-_SHOWN_REQUESTS:]] or ["no request has ended"]
        if len(records) > _SHOWN_REQUESTS:
            lines.insert(0, f"… {len(records) - _SHOWN_REQUESTS} requests before these")
        lines += [_video_line(video) for video in self.videos.values()]
        struck = {fault for record in records for fault in record.faults}
        lines += [f"fault '{spec}' has not struck" for name, spec in specs.items() if name not in struck]
        return "\n".join(lines)


@contextmanager
def running_emulator(
    *, faults: str | Fault | Sequence[str | Fault] = (), api_key: str = "local-key", **settings: Any
) -> Iterator[RunningEmulator]:
    """Run a local api.video in a thread while the block lasts; what the fixtures are made of.

    For a fixture of another scope, and for other test runners.

    :param faults: what goes wrong, in words or as :class:`~async_uploader.emulator.Fault`
    :param api_key: the key that it accepts
    :param settings: what else :class:`~async_uploader.emulator.Emulator` takes
    :raises ValueError: an impossible setting or fault
    :raises TypeError: a setting that there is not
    """
    from anyio.from_thread import start_blocking_portal  # noqa: PLC0415

    from .emulator import Emulator, Fault  # noqa: PLC0415
    from .emulator._storage.temporary_directory import unwatch_signals, watch_signals  # noqa: PLC0415

    ordered = [_fault(fault) for fault in ([faults] if isinstance(faults, str | Fault) else faults)]

    async def make() -> Emulator:
        return Emulator(api_key=api_key, faults=ordered, **settings)

    with ExitStack() as stack:
        # Here and not in the emulator's thread: only the main thread may handle signals.
        watch_signals()
        stack.callback(unwatch_signals)
        portal = stack.enter_context(start_blocking_portal())
        emulator = stack.enter_context(portal.wrap_async_context_manager(portal.call(make)))
        yield RunningEmulator(emulator, portal, api_key=api_key, faults=ordered)


@pytest.fixture
def apivideo_emulator(request: pytest.FixtureRequest) -> Iterator[RunningEmulator]:
    """A local api.video for this test alone, set up by ``@pytest.mark.apivideo(…)``."""
    with ExitStack() as stack:
        try:
            running = stack.enter_context(running_emulator(**_settings(request.node)))
        except (TypeError, ValueError) as exc:
            _refuse(str(exc))
        request.node.stash[_RUNNING] = running
        yield running


@pytest.fixture
def apivideo_env(apivideo_emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The local api.video in the environment; the variables that are set, for processes that get none of it."""
    monkeypatch.delenv("APIVIDEO_UPLOAD_TOKEN", raising=False)
    for name, value in apivideo_emulator.env.items():
        monkeypatch.setenv(name, value)
    return apivideo_emulator.env


@pytest.fixture
def apivideo_client(apivideo_emulator: RunningEmulator) -> Client:
    """A client of the local api.video. The test opens it: ``async with apivideo_client as client:``.

    A connection pool belongs to the event loop that it was opened in, and which one runs the test, only the test
    and its plugin know.
    """
    from . import Client  # noqa: PLC0415

    return Client(api_key=apivideo_emulator.api_key, base_url=apivideo_emulator.url)


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", _MARKER)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a test that fails what its service saw."""
    report = yield
    running = item.stash.get(_RUNNING, None)
    if running is not None and report.failed and report.when != "teardown":
        report.sections.append((f"api.video emulator at {running.url}", running._report()))  # noqa: SLF001
    return report


_RUNNING: Final = pytest.StashKey[RunningEmulator]()


def _settings(node: pytest.Item) -> dict[str, Any]:
    """What the markers ask for; of two that set the same, the nearer one has it."""
    from .emulator import Emulator  # noqa: PLC0415

    known = list(signature(Emulator).parameters)
    settings: dict[str, Any] = {}
    for marker in reversed(list(node.iter_markers("apivideo"))):
        if marker.args:
            _refuse(f"its settings have names, as in faults=[…]; {marker.args[0]!r} has none.")
        for name in marker.kwargs.keys() - known:
            ordered = sorted(known, key=lambda name: (name in _SELDOM, name))
            _refuse(f"{name!r} is no setting; known are {', '.join(ordered)}.")
        settings.update(marker.kwargs)
    return settings


def _refuse(why: str) -> NoReturn:
    pytest.fail(f"@pytest.mark.apivideo: {why}", pytrace=False)


def _fault(fault: str | Fault) -> Fault:
    from .emulator import Fault  # noqa: PLC0415

    return Fault.parse(fault) if isinstance(fault, str) else fault


async def _finished(emulator: Emulator, video_id: str, timeout: float | None) -> VideoView:
    try:
        return await emulator.finished(video_id, timeout=timeout)
    except KeyError:
        raise LookupError(f"There is no video {video_id!r}.") from None
    except TimeoutError:
        raise TimeoutError(f"Not finished after {timeout:g} s: {_video_line(emulator.videos[video_id])}") from None


def _request_line(record: RequestRecord, specs: Mapping[str, str]) -> str:
    said = "no answer" if record.status is None else f"{record.status}"
    said += f" {record.problem}" if record.problem else ""
    said += f": {record.detail}" if record.detail else ""
    notes = [record.content_range, f"{record.body_bytes:,} bytes" if record.body_bytes else None]
    notes += [f"attempt {record.attempt}"] if record.attempt > 1 else []
    notes += [f"fault '{specs.get(fault, fault)}'" for fault in record.faults]
    return f"{record.method} {record.path} → {said}  {', '.join(filter(None, notes))}".rstrip()


def _video_line(video: VideoView) -> str:
    size = video.received_bytes if video.size_bytes is None else video.size_bytes
    return f"video {video.video_id} ({video.title!r}) is {video.state}, {size:,} bytes"
