"""Settings of ``@pytest.mark.apivideo``, invalid ones, and the report of a failed test."""

from __future__ import annotations

from pathlib import Path

from .conftest import RunTests


def test_faults(run_tests: RunTests) -> None:
    """As text, as an object, a single one; the nearest marker has precedence; added and removed in the test."""
    program = """
import asyncio, pytest
from async_uploader import ApiError, upload
from async_uploader.emulator import Fault

pytestmark = pytest.mark.apivideo(faults=["create:status=402"], latency=0.001)

def run():
    return asyncio.run(upload([b"bytes"], max_attempts=2))

def test_of_the_module(apivideo_env):
    with pytest.raises(ApiError) as refused:
        run()
    assert refused.value.status == 402

@pytest.mark.apivideo(faults="upload,attempt=1:cut,when=middle")
def test_nearer(apivideo_env, apivideo_emulator):
    run()
    uploads = [request for request in apivideo_emulator.requests if request.endpoint == "upload"]
    assert [request.status for request in uploads] == [None, 201]

@pytest.mark.apivideo(faults=[Fault(endpoint="create", status=418)])
def test_object(apivideo_env, apivideo_emulator):
    with pytest.raises(ApiError) as refused:
        run()
    assert refused.value.status == 418
    apivideo_emulator.clear_faults()
    run()
    apivideo_emulator.add_fault("create:status=403")
    with pytest.raises(ApiError):
        run()

def test_tokens(apivideo_emulator, apivideo_client):
    apivideo_emulator.clear_faults()

    async def main():
        async with apivideo_client as client:
            await client.list_upload_tokens()
            apivideo_emulator.expire_tokens()
            apivideo_emulator.revoke_refresh_tokens()
            await client.list_upload_tokens()

    asyncio.run(main())
    assert apivideo_emulator.statistics().logins == 2
"""
    run_tests(program).assert_outcomes(passed=4)


def test_settings(run_tests: RunTests) -> None:
    """The rate limit, the key, and the directory of the data."""
    program = """
import base64, pytest, urllib.error, urllib.request

def create(service):
    key = base64.b64encode(service.api_key.encode() + b":").decode()
    headers = {"Authorization": f"Basic {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{service.url}/videos", b'{"title": "a"}', headers)
    with urllib.request.urlopen(request) as response:
        return response.status

@pytest.mark.apivideo(rate_limit=1, rate_window=600, api_key="another", data="kept")
def test_limited(apivideo_emulator):
    assert apivideo_emulator.api_key == "another"
    assert [create(apivideo_emulator) for _ in range(2)] == [201, 201]
    with pytest.raises(urllib.error.HTTPError, match="429") as refused:
        create(apivideo_emulator)
    refused.value.close()

def test_kept():
    from pathlib import Path
    assert any(Path("kept").iterdir())
"""
    run_tests(program).assert_outcomes(passed=2)


REFUSED = {
    "faults=['part=2']": "Fault 'part=2' must have the form SELECTORS:ACTIONS, as in 'part=3:status=503'.",
    "faults='part=0:cut'": "Fault 'part=0:cut' is not possible: *",
    "rate_limit=0": "The rate limit must be at least 1 upload per window.",
    "rate=5": "'rate' is not a setting; expected one of api_key, *faults, *rate_limit, *",
    "'part=2:cut'": "settings need names, as in faults=[[]…[]]; 'part=2:cut' has none.",
}


def test_refused(run_tests: RunTests) -> None:
    """Each is one sentence that names the marker, without a traceback of the plugin."""
    program = "import pytest\n" + "\n".join(
        f"@pytest.mark.apivideo({settings})\ndef test_{number}(apivideo_emulator): pass"
        for number, settings in enumerate(REFUSED)
    )
    result = run_tests(program)
    result.assert_outcomes(errors=len(REFUSED))
    result.stdout.fnmatch_lines([f"@pytest.mark.apivideo: {says}" for says in REFUSED.values()])
    result.stdout.no_fnmatch_line("*pytest_plugin.py*")


def test_report_of_a_failed_test(run_tests: RunTests) -> None:
    """The last requests with their faults, the videos, and the unused faults; no secrets."""
    program = """
import asyncio, pytest
from pathlib import Path

@pytest.mark.apivideo(faults=["upload,attempt=1:status=503", "part=9:cut"], api_key="very-secret")
def test_fails(apivideo_emulator, apivideo_client):
    async def main():
        async with apivideo_client as client:
            token = (await client.create_upload_token()).token
            await client.get_upload_token(token)
            await client.upload([b"bytes"], title="Holidays")
            Path("token").write_text(token)
    asyncio.run(main())
    assert not apivideo_emulator.videos

def test_passes(apivideo_emulator):
    pass

def test_fails_without():
    assert False
"""
    result = run_tests(program, "--tb=short")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            "*- api.video emulator at http://127.0.0.1:* -*",
            "POST /auth/api-key → 200  * bytes",
            "GET /upload-tokens/… → 200",
            "POST /videos/vi*/source → 503 server-error  part 1/1, * bytes, fault 'upload,attempt=1:status=503'",
            "POST /videos/vi*/source → 201  part 1/1, * bytes, attempt 2",
            "video vi* ('Holidays') is *, 5 bytes",
            "fault 'part=9:cut' was never triggered",
        ],
        consecutive=False,
    )
    for secret in ("very-secret", Path("token").read_text(encoding="utf-8")):
        assert secret not in result.stdout.str()
    assert result.stdout.str().count("api.video emulator at") == 1


def test_only_the_last_requests_are_shown(run_tests: RunTests) -> None:
    """The last twenty, and the number of those before."""
    program = """
import asyncio

def test_fails(apivideo_client):
    async def main():
        async with apivideo_client as client:
            for _ in range(30):
                await client.list_upload_tokens()
    asyncio.run(main())
    assert False
"""
    result = run_tests(program)
    result.stdout.fnmatch_lines(["… 11 requests before these"])
    assert result.stdout.str().count("GET /upload-tokens → 200") == 20


def test_known_marker_and_fixtures(run_tests: RunTests) -> None:
    """pytest describes them; if they are not used, only the plugin itself is loaded."""
    result = run_tests("", "--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.apivideo(?, faults=(), *"])
    result = run_tests("", "--fixtures")
    result.stdout.fnmatch_lines(["apivideo_emulator*", "apivideo_env*", "apivideo_client*"])
    program = """
import sys

def test_light():
    heavy = {"aiohttp", "opentelemetry", "rich", "async_uploader.emulator", "async_uploader._client"}
    assert "async_uploader.pytest_plugin" in sys.modules
    assert not heavy & set(sys.modules)
"""
    run_tests(program, "-p", "no:anyio", fresh=True).assert_outcomes(passed=1)
