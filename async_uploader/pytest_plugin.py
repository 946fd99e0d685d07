"""pytest fixtures that test any client of api.video, in any language, with the emulator.

``apivideo_emulator``
    An emulator for one test, in a thread: the test can be sync or async, and use any client.
``apivideo_env``
    The same emulator in the environment, for code that reads its settings there.
``apivideo_client``
    A :class:`~async_uploader.Client` of this emulator, not open yet.

A marker sets faults and limits. If a test fails, its report shows the requests that the emulator received::

    @pytest.mark.apivideo(faults=["part=2,attempt=1:cut"], rate_limit=30)
    def test_a_cut(apivideo_env, apivideo_emulator): ...

pytest loads this module in every run, so it imports nothing until a fixture is used.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.from_thread import BlockingPortal

    from . import Client
    from .emulator import Delivery, Emulator, Fault, RequestRecord, Statistics, VideoView

__all__ = ("RunningEmulator", "apivideo_client", "apivideo_emulator", "apivideo_env", "running_emulator")

_MARKER: Final = (
    "apivideo(*, faults=(), rate_limit=None, rate_window=60, connection_rate=None, link_rate=None, latency=0, "
    "listing_lag=0, token_ttl=3600, api_key='local-key', port=0, data=None, allowed_hosts=(), tls=False, "
    "video_restore=False): settings of the emulator of apivideo_emulator."
)
_REPORTED_REQUESTS: Final = 20
#: Settings that few tests need; error messages list them last.
_RARE_SETTINGS: Final = ("allowed_hosts", "data", "host", "port", "tls", "video_restore")


class RunningEmulator:
    """An emulator that runs in a thread. Call its methods from any other thread.

    The methods block. In an event loop, call those that wait in a thread, so that uploads can continue:
    ``await asyncio.to_thread(emulator.wait_until_finished, video_id)``.

    :ivar url: base URL for clients: ``http://HOST:PORT``
    :ivar api_key: the API key that it accepts
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
        """All videos by their ids, in their current state."""
        return self._portal.call(lambda: dict(self._emulator.videos))

    @property
    def requests(self) -> Sequence[RequestRecord]:
        """The last 50,000 requests that have ended, oldest first."""
        return self._portal.call(lambda: self._emulator.requests)

    @property
    def deliveries(self) -> Sequence[Delivery]:
        """The attempts to deliver events to webhooks, oldest first; the latest 1,000."""
        return self._portal.call(lambda: self._emulator.deliveries)

    def statistics(self) -> Statistics:
        """Return the counters since the start of the emulator."""
        return self._portal.call(self._emulator.statistics)

    def wait_until_finished(self, video_id: str, *, timeout: float | None = 30.0) -> VideoView:
        """Wait until a video is complete: its parts are joined shortly after the last response.

        :param video_id: id of the video
        :param timeout: limit in seconds (default: 30); None for no limit
        :returns: the video, with its size and SHA-256
        :raises LookupError: the video does not exist
        :raises TimeoutError: the video is not complete in time
        """
        return self._portal.call(partial(_finished, self._emulator, video_id, timeout))

    def wait_for(self, predicate: Callable[[Emulator], object], *, timeout: float | None = 30.0) -> None:
        """Wait until ``predicate(emulator)`` is true.

        :param predicate: called in the thread of the emulator, after every change
        :param timeout: limit in seconds (default: 30); None for no limit
        :raises TimeoutError: the predicate is not true in time
        """
        self._portal.call(partial(self._emulator.wait_for, predicate, timeout=timeout))

    def add_fault(self, fault: str | Fault) -> None:
        """Add a fault.

        :param fault: a :class:`~async_uploader.emulator.Fault`, or a fault spec: ``"part=2:cut"``
        :raises ValueError: the fault is invalid
        """
        parsed = _fault(fault)
        self._faults.append(parsed)
        self._portal.call(self._emulator.add_fault, parsed)

    def clear_faults(self) -> None:
        """Remove all faults."""
        self._faults.clear()
        self._portal.call(self._emulator.clear_faults)

    def reset(self) -> None:
        """Forget videos, tokens, webhooks, faults, requests and rate-limit windows. Requests in flight are cut."""
        self._faults.clear()
        self._portal.call(self._emulator.reset)

    def advance_clock(self, seconds: float) -> None:
        """Move the clock forwards. Tokens and unfinished containers expire by it.

        :raises ValueError: ``seconds`` is negative or not finite
        """
        self._portal.call(self._emulator.advance_clock, seconds)

    def expire_tokens(self) -> None:
        """Expire all access tokens. Refresh tokens stay valid."""
        self._portal.call(self._emulator.expire_tokens)

    def revoke_refresh_tokens(self) -> None:
        """Revoke all refresh tokens. Access tokens stay valid."""
        self._portal.call(self._emulator.revoke_refresh_tokens)

    def _report(self) -> str:
        """Return a text for the report of a failed test: the last requests, all videos, and the unused faults."""
        specs = {str(fault): fault.spec for fault in self._faults}
        records = self.requests
        lines = [_request_line(record, specs) for record in records[-_REPORTED_REQUESTS:]] or ["no requests"]
        if len(records) > _REPORTED_REQUESTS:
            lines.insert(0, f"… {len(records) - _REPORTED_REQUESTS} requests before these")
        lines += [_video_line(video) for video in self.videos.values()]
        triggered = {fault for record in records for fault in record.faults}
        lines += [f"fault '{spec}' was never triggered" for name, spec in specs.items() if name not in triggered]
        return "\n".join(lines)


@contextmanager
def running_emulator(
    *, faults: str | Fault | Sequence[str | Fault] = (), api_key: str = "local-key", **settings: Any
) -> Iterator[RunningEmulator]:
    """Run an emulator in a thread during the ``with`` block, for fixtures of another scope and other test runners.

    :param faults: faults, as :class:`~async_uploader.emulator.Fault` or as fault specs
    :param api_key: the API key that it accepts (default: ``local-key``)
    :param settings: other settings of :class:`~async_uploader.emulator.Emulator`
    :raises ValueError: a setting or a fault is invalid
    :raises TypeError: a setting is unknown
    """
    from anyio.from_thread import start_blocking_portal  # noqa: PLC0415

    from .emulator import Emulator, Fault  # noqa: PLC0415
    from .emulator._storage.temporary_directory import unwatch_signals, watch_signals  # noqa: PLC0415

    parsed = [_fault(fault) for fault in ([faults] if isinstance(faults, str | Fault) else faults)]

    async def make() -> Emulator:
        return Emulator(api_key=api_key, faults=parsed, **settings)

    with ExitStack() as stack:
        # In this thread, not in that of the emulator: only the main thread can handle signals.
        watch_signals()
        stack.callback(unwatch_signals)
        portal = stack.enter_context(start_blocking_portal())
        emulator = stack.enter_context(portal.wrap_async_context_manager(portal.call(make)))
        yield RunningEmulator(emulator, portal, api_key=api_key, faults=parsed)


@pytest.fixture
def apivideo_emulator(request: pytest.FixtureRequest) -> Iterator[RunningEmulator]:
    """An emulator for one test, with the settings of ``@pytest.mark.apivideo(…)``."""
    with ExitStack() as stack:
        try:
            running = stack.enter_context(running_emulator(**_settings(request.node)))
        except (TypeError, ValueError) as exc:
            _refuse(str(exc))
        request.node.stash[_RUNNING] = running
        yield running


@pytest.fixture
def apivideo_env(apivideo_emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The emulator in the environment of this process. The value is these variables, for other processes."""
    monkeypatch.delenv("APIVIDEO_UPLOAD_TOKEN", raising=False)
    for name, value in apivideo_emulator.env.items():
        monkeypatch.setenv(name, value)
    return apivideo_emulator.env


@pytest.fixture
def apivideo_client(apivideo_emulator: RunningEmulator) -> Client:
    """A client of the emulator. The test opens it in its event loop: ``async with apivideo_client as client:``."""
    from . import Client  # noqa: PLC0415

    return Client(api_key=apivideo_emulator.api_key, base_url=apivideo_emulator.url)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", _MARKER)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what the emulator received to the report of a failed test."""
    report = yield
    running = item.stash.get(_RUNNING, None)
    if running is not None and report.failed and report.when != "teardown":
        report.sections.append((f"api.video emulator at {running.url}", running._report()))  # noqa: SLF001
    return report


_RUNNING: Final = pytest.StashKey[RunningEmulator]()


def _settings(node: pytest.Item) -> dict[str, Any]:
    """Return the settings of all markers of a test; the nearest marker has precedence."""
    from .emulator import EmulatorOptions  # noqa: PLC0415

    known = list(EmulatorOptions.__annotations__)
    settings: dict[str, Any] = {}
    for marker in reversed(list(node.iter_markers("apivideo"))):
        if marker.args:
            _refuse(f"settings need names, as in faults=[…]; {marker.args[0]!r} has none.")
        for name in marker.kwargs.keys() - known:
            ordered = sorted(known, key=lambda name: (name in _RARE_SETTINGS, name))
            _refuse(f"{name!r} is not a setting; expected one of {', '.join(ordered)}.")
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
        raise LookupError(f"Video {video_id!r} does not exist.") from None
    except TimeoutError:
        raise TimeoutError(f"Not complete after {timeout:g} s: {_video_line(emulator.videos[video_id])}") from None


def _request_line(record: RequestRecord, specs: Mapping[str, str]) -> str:
    result = "no response" if record.status is None else f"{record.status}"
    result += f" {record.problem}" if record.problem else ""
    result += f": {record.detail}" if record.detail else ""
    notes = [record.content_range, f"{record.body_bytes:,} bytes" if record.body_bytes else None]
    notes += [f"attempt {record.attempt}"] if record.attempt > 1 else []
    notes += [f"fault '{specs.get(fault, fault)}'" for fault in record.faults]
    return f"{record.method} {record.path} → {result}  {', '.join(filter(None, notes))}".rstrip()


def _video_line(video: VideoView) -> str:
    size = video.received_bytes if video.size_bytes is None else video.size_bytes
    return f"video {video.video_id} ({video.title!r}) is {video.state}, {size:,} bytes"
