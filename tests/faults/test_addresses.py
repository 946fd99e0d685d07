"""Invalid base URLs and proxies are configuration errors."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Final

import pytest

from async_uploader import (
    ConfigurationError,
)
from async_uploader.cli._main import run
from harness.world import KEY, QuickClient

pytestmark = pytest.mark.anyio

SMALL: Final = b"a small video"


HOSTS: Final = (
    "ws..api.video",
    ".ws.api.video",
    "a" * 64 + ".video",
    "xn--a.video",
    ".".join(["a" * 60] * 5),
    "a b",
)


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host[:15])
async def test_invalid_host_name(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"The base URL .* is malformed: its host name ") as caught:
        QuickClient(api_key=KEY, base_url=f"https://{host}")
    assert str(caught.value).endswith(".")
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:password@{host}:3128")
    with pytest.raises(
        ConfigurationError, match="The HTTPS_PROXY variable is malformed: its host name "
    ) as caught:
        async with QuickClient(api_key=KEY):
            pass
    assert "password" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "proxy", ["socks5://127.0.0.1:1080", "http://", "http://h:99999", "http://[::1", "http://h:0"]
)
async def test_unusable_proxy(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(ConfigurationError, match="The HTTPS_PROXY variable is malformed: "):
        async with QuickClient(api_key=KEY):
            pass


@pytest.mark.parametrize("variable", ["APIVIDEO_BASE_URL", "HTTPS_PROXY"])
def test_invalid_address_is_a_usage_error(
    in_process: Path, variable: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (in_process / "a.mp4").write_bytes(SMALL)
    monkeypatch.setenv("APIVIDEO_API_KEY", KEY)
    monkeypatch.setenv(variable, "https://ws..api.video")
    for command in (["upload", "a.mp4"], ["status", "vi1"], ["delete", "\udcff"]):
        assert run(command) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith("error: ")
