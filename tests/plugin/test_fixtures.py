"""Each fixture is used as its documentation says."""

from __future__ import annotations

import pytest

from .conftest import ALL_PLUGINS, RunTests

BARE = '''
import base64, hashlib, json, urllib.request

def call(url, data=None, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as response:
        return json.load(response)

def upload(service, data):
    """A client that knows only the documentation of the service."""
    key = {"Authorization": "Basic " + base64.b64encode(f"{service.api_key}:".encode()).decode()}
    made = call(f"{service.url}/videos", b'{"title": "Bare"}', **key, **{"Content-Type": "application/json"})
    head = b'--b\\r\\nContent-Disposition: form-data; name="file"; filename="a.mp4"\\r\\n\\r\\n'
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    call(f"{service.url}/videos/{made['videoId']}/source", head + data + b"\\r\\n--b--\\r\\n", **key, **form)
    return made["videoId"]
'''


def test_any_client(run_tests: RunTests) -> None:
    """A sync test with the standard library alone, next to all installed plugins; each has its own emulator."""
    program = f"""{BARE}
import pytest

@pytest.mark.parametrize("_", range(2))
def test_bare(apivideo_emulator, _):
    assert not apivideo_emulator.videos
    video_id = upload(apivideo_emulator, b"all of it")
    video = apivideo_emulator.wait_until_finished(video_id)
    assert video.sha256 == hashlib.sha256(b"all of it").hexdigest()
    assert video.source_path.read_bytes() == b"all of it"
    assert list(apivideo_emulator.videos) == [video_id]
    assert [request.endpoint for request in apivideo_emulator.requests] == ["create", "upload"]
    assert apivideo_emulator.statistics().requests == 2
    assert repr(apivideo_emulator) == f"<RunningEmulator {{apivideo_emulator.url}}>"
"""
    run_tests(program, *ALL_PLUGINS, fresh=True).assert_outcomes(passed=2)


def test_official_client(run_tests: RunTests) -> None:
    """The official Python client, with its own login."""
    program = """
import apivideo, hashlib
from apivideo.api.videos_api import VideosApi

def test_official(apivideo_emulator, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"a video")
    client = apivideo.AuthenticatedApiClient(apivideo_emulator.api_key)
    client.configuration.host = apivideo_emulator.url
    client.connect()
    videos = VideosApi(client)
    video = videos.create({"title": "Official"})
    with (tmp_path / "a.mp4").open("rb") as file:
        videos.upload(video.video_id, file)
    client.rest_client.pool_manager.clear()
    client.close()
    arrived = apivideo_emulator.wait_until_finished(video.video_id)
    assert (arrived.title, arrived.sha256) == ("Official", hashlib.sha256(b"a video").hexdigest())
"""
    run_tests(program).assert_outcomes(passed=1)


def test_environment(run_tests: RunTests, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code and processes that read the environment find the emulator; other settings are hidden."""
    monkeypatch.setenv("APIVIDEO_API_KEY", "the-real-one")
    monkeypatch.setenv("APIVIDEO_UPLOAD_TOKEN", "another-real-one")
    program = """
import asyncio, os, subprocess, sys
from async_uploader import upload

def test_in_process(apivideo_env, apivideo_emulator):
    video = asyncio.run(upload([b"bytes"], title="Here"))
    assert apivideo_emulator.wait_until_finished(video.video_id).title == "Here"
    assert "APIVIDEO_UPLOAD_TOKEN" not in os.environ

def test_other_process(apivideo_env, apivideo_emulator):
    assert apivideo_env == apivideo_emulator.env
    program = "import asyncio, async_uploader as a; asyncio.run(a.upload([b'bytes'], title='There'))"
    subprocess.run([sys.executable, "-c", program], check=True, env=apivideo_env)
    (video,) = apivideo_emulator.videos.values()
    assert video.title == "There"

def test_afterwards():
    assert os.environ["APIVIDEO_API_KEY"] == "the-real-one"
"""
    run_tests(program).assert_outcomes(passed=3)


ASYNCIO = ("-p", "asyncio", "-o", "asyncio_default_fixture_loop_scope=function")
ASYNC = """
import asyncio, pytest

{mark}
async def test_client(apivideo_client, apivideo_emulator):
    async with apivideo_client as client:
        video = await client.upload([b"bytes"], title="Async")
    view = await asyncio.to_thread(apivideo_emulator.wait_until_finished, video.video_id)
    assert view.title == "Async"
    apivideo_emulator.wait_for(lambda emulator: emulator.statistics().uploads_in_flight == 0)
"""


@pytest.mark.parametrize(
    ("mark", "settings"),
    [
        ("@pytest.mark.anyio", ("-o", "anyio_mode=auto")),
        ("@pytest.mark.asyncio", (*ASYNCIO, "-o", "asyncio_mode=strict")),
        ("", (*ASYNCIO, "-o", "asyncio_mode=auto")),
    ],
    ids=["anyio", "pytest-asyncio", "pytest-asyncio, auto"],
)
def test_async_plugins(run_tests: RunTests, mark: str, settings: tuple[str, ...]) -> None:
    """The client is opened in the event loop of the test, whichever plugin runs it."""
    backend = "@pytest.fixture\ndef anyio_backend(): return 'asyncio'\n"
    run_tests(ASYNC.format(mark=mark) + backend, *settings).assert_outcomes(passed=1)


def test_no_async_plugin(run_tests: RunTests) -> None:
    """A client that is not opened needs no event loop, and leaks nothing."""
    program = """
import asyncio

def test_client(apivideo_client, apivideo_emulator):
    async def main():
        async with apivideo_client as client:
            return await client.upload([b"bytes"], title="Plain")
    assert apivideo_emulator.wait_until_finished(asyncio.run(main()).video_id).title == "Plain"

def test_unopened(apivideo_client, apivideo_emulator):
    assert apivideo_client.base_url.rstrip("/") == apivideo_emulator.url
"""
    run_tests(program, "-p", "no:anyio").assert_outcomes(passed=2)


def test_in_parallel(run_tests: RunTests) -> None:
    """The tests of each worker have their own emulators, and reports reach the main process."""
    program = f"""{BARE}
import pytest

@pytest.mark.parametrize("number", range(6))
def test_bare(apivideo_emulator, number):
    video_id = upload(apivideo_emulator, bytes([number]))
    assert list(apivideo_emulator.videos) == [video_id]
    assert number != 3
"""
    result = run_tests(program, "-p", "xdist", "-n", "2", fresh=True)
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.fnmatch_lines(["*api.video emulator at http://*", "POST /videos → 201*"])


def test_scope_of_its_own(run_tests: RunTests) -> None:
    """One emulator for a whole module; nothing of it remains afterwards."""
    program = f"""{BARE}
import pytest, threading
from async_uploader.pytest_plugin import running_emulator

@pytest.fixture(scope="module")
def service():
    before = set(threading.enumerate())
    with running_emulator(rate_limit=100) as service:
        yield service
        path = next(iter(service.videos.values())).source_path
        assert path.exists()
    assert not path.exists()
    assert set(threading.enumerate()) == before

@pytest.mark.parametrize("count", [1, 2])
def test_shared(service, count):
    service.wait_until_finished(upload(service, b"1"))
    assert len(service.videos) == count
"""
    run_tests(program).assert_outcomes(passed=2)


def test_timeout_messages(run_tests: RunTests) -> None:
    """A video that does not exist, and one that is not complete in time."""
    program = """
import asyncio, pytest

def test_waits(apivideo_emulator, apivideo_client):
    with pytest.raises(LookupError, match=r"Video 'viNone' does not exist\\."):
        apivideo_emulator.wait_until_finished("viNone")

    async def create():
        async with apivideo_client as client:
            return (await client.create_video(title="Empty")).video_id

    video_id = asyncio.run(create())
    with pytest.raises(TimeoutError) as late:
        apivideo_emulator.wait_until_finished(video_id, timeout=0)
    assert str(late.value) == f"Not complete after 0 s: video {video_id} ('Empty') is empty, 0 bytes"
"""
    run_tests(program).assert_outcomes(passed=1)


def test_control(run_tests: RunTests) -> None:
    """Reset, the clock and deliveries."""
    program = f"""{BARE}
import pytest

def test_reset(apivideo_emulator):
    upload(apivideo_emulator, b"bytes")
    apivideo_emulator.add_fault("list:cut")
    apivideo_emulator.reset()
    assert not apivideo_emulator.videos and not apivideo_emulator.requests
    assert "list:cut" not in apivideo_emulator._report()

def test_clock(apivideo_emulator):
    upload(apivideo_emulator, b"bytes")
    apivideo_emulator.advance_clock(8 * 86400)
    assert len(apivideo_emulator.videos) == 1
    with pytest.raises(ValueError, match="forwards"):
        apivideo_emulator.advance_clock(-1)
    assert apivideo_emulator.deliveries == ()
"""
    run_tests(program).assert_outcomes(passed=2)
