"""Bad input gets one plain sentence, before anything is sent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from async_uploader import Client, ConfigurationError, UploadItem, upload
from async_uploader._api.base_url import environment_proxy, parse_base_url
from async_uploader._options import container_payload, split_options
from async_uploader._units import format_size, parse_size
from async_uploader.emulator import Emulator

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"part_size": 5 * MIB - 1}, "part_size must be a whole number from 5,242,880 to 209,715,200 bytes"),
        ({"part_size": 200 * MIB + 1}, r"\(5 MiB to 200 MiB\), not 209715201"),
        ({"part_size": "50MiB"}, "part_size must be a whole number"),
        ({"part_size": True}, "part_size must be a whole number"),
        ({"concurrency": 0}, "concurrency must be a whole number from 1 to 256 parts at once, not 0"),
        ({"concurrency": 257}, "concurrency must be"),
        ({"max_attempts": 0}, "max_attempts must be a whole number from 1"),
        ({"stall_timeout": 0}, "stall_timeout must be a number of seconds above 0, not 0"),
        ({"stall_timeout": math.nan}, "stall_timeout must be"),
        ({"stall_timeout": math.inf}, "stall_timeout must be"),
        ({"ranges": "byte"}, "ranges must be 'part' or 'bytes', not 'byte'"),
        ({"resume": "yes"}, "resume must be 'off', 'local' or 'anywhere', not 'yes'"),
        ({"video_id": "../x"}, "video_id must be letters and digits"),
        ({"title": "  "}, "title must be text that is not empty, not '  '"),
        ({"title": 7}, "title must be text"),
        ({"tags": "holidays"}, "tags must be a list of texts, not 'holidays'"),
        ({"tags": ["a", 1]}, "tags must be a list of texts"),
        ({"metadata": {"k": 1}}, "metadata must be a mapping of texts to texts"),
        ({"metadata": {"": "v"}}, "with no empty key"),
        ({"metadata": [("k", "v")]}, "metadata must be a mapping"),
        ({"public": "yes"}, "public must be True or False, not 'yes'"),
    ],
)
def test_bad_option(options: Mapping[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        split_options(options)
    assert isinstance(caught.value, ValueError)


def test_an_unknown_keyword_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'titel'"):
        split_options({"titel": "x"})
    with pytest.raises(TypeError, match="unexpected keyword argument 'resume'"):
        container_payload({"resume": "off"})


def _refused(is_refused: bool) -> AbstractContextManager[object]:
    return pytest.raises(ConfigurationError, match="cannot be resumed") if is_refused else nullcontext()


@pytest.mark.parametrize(("old", "mode"), [(True, "anywhere"), (False, "off")])
@pytest.mark.parametrize("way", ["upload", "client", "session", "many"])
async def test_old_values_of_resume(tmp_path: Path, old: bool, mode: str, way: str) -> None:
    """They still work, with a warning that points to the caller."""
    path = tmp_path / "movie.mp4"
    path.write_bytes(b"a video")
    options: Any = {"resume": old}
    async with Emulator() as emulator, Client(api_key="local-key", base_url=emulator.url) as client:

        async def call() -> None:
            if way == "upload":
                await upload(path, api_key="local-key", base_url=emulator.url, **options)
            elif way == "client":
                await client.upload(path, **options)
            elif way == "many":
                async for result in client.upload_many([UploadItem(source=path, options=options)]):
                    assert result.video, result.error
            else:
                async with client.upload_session(**options) as session:
                    await session.upload_last_part(b"a video")

        says = f"resume={old} is deprecated; use resume='{mode}'"
        is_refused = way == "session" and old  # a stream cannot be resumed
        with pytest.warns(DeprecationWarning, match=says) as caught, _refused(is_refused):
            await call()
        if way != "many":
            assert [Path(one.filename).name for one in caught] == ["test_options.py"]
        assert split_options({"resume": mode})[0].resume == mode


def test_details_as_the_service_spells_them() -> None:
    assert container_payload(
        {"title": "T", "mp4_support": False, "tags": ("a",), "metadata": {"k": "v"}, "language": None}
    ) == {"title": "T", "mp4Support": False, "tags": ["a"], "metadata": [{"key": "k", "value": "v"}]}


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("production", "https://ws.api.video/"),
        ("sandbox", "https://sandbox.api.video/"),
        ("https://host.example:8443/api", "https://host.example:8443/api/"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/"),
        ("http://localhost", "http://localhost/"),
        ("http://[::1]:80", "http://[::1]/"),
    ],
)
def test_base_url(text: str, url: str) -> None:
    assert str(parse_base_url(text, allow_plain_http=False)) == url


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("ws.api.video", "malformed; expected https://HOST"),
        ("ftp://ws.api.video", "malformed"),
        ("https://", "malformed"),
        ("https://host:99999", "malformed"),
        ("https://user:SECRET@host", "must not contain credentials"),
        ("ftp://user:SECRET@host", "'…@host' is malformed"),
        ("https://host/?a=b", "must not contain credentials, a query"),
        ("http://10.0.0.1", "would send credentials unencrypted"),
        ("http://localhost.evil.example", "would send credentials unencrypted"),
    ],
)
def test_bad_base_url(text: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        parse_base_url(text, allow_plain_http=False)
    assert "SECRET" not in str(caught.value)


def test_plain_http_can_be_insisted_on() -> None:
    assert str(parse_base_url("http://10.0.0.1", allow_plain_http=True)) == "http://10.0.0.1/"


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("https://ws.api.video/", "http://proxy.example:3128"),
        ("https://inside.example/", None),
        ("https://127.0.0.1:1/", None),
        ("https://localhost/", None),
    ],
)
def test_proxy(monkeypatch: pytest.MonkeyPatch, url: str, proxy: str | None) -> None:
    monkeypatch.setenv("https_proxy", "http://me:pass@proxy.example:3128")
    monkeypatch.setenv("no_proxy", "inside.example")
    login = {"Proxy-Authorization": "Basic bWU6cGFzcw=="}
    assert environment_proxy(URL(url)) == ((URL(proxy), login) if proxy else (None, {}))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "No credentials: set APIVIDEO_API_KEY"),
        ({"api_key": "a", "upload_token": "b"}, "not both"),
        ({"api_key": "a\nb"}, "contains invalid characters"),
        ({"api_key": "clé"}, "contains invalid characters"),
    ],
)
def test_bad_credentials(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        Client(**settings)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("title", "cannot set title"), ("tags", "cannot set tags"), ("video_id", "creates its own video")],
)
async def test_an_upload_token_says_nothing_about_the_container(tmp_path: Path, name: str, sentence: str) -> None:
    value: Any = ["x"] if name == "tags" else "x"
    with pytest.raises(ConfigurationError, match=sentence):
        await upload(tmp_path, upload_token="to1", **{name: value})


@pytest.mark.parametrize(
    ("text", "count_bytes"),
    [("52428800", 50 * MIB), ("50MiB", 50 * MIB), ("50 M", 50 * MIB), ("50MB", 50_000_000), ("1.5g", 3 << 29)],
)
def test_size(text: str, count_bytes: int) -> None:
    assert parse_size(text) == count_bytes


@pytest.mark.parametrize("text", ["", "MiB", "-5", "5 parsecs", "1e9", "٥"])
def test_not_a_size(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a size; write it as 50MiB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("count_bytes", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (50 * MIB, "50 MiB"),
        (3 << 29, "1.5 GiB"),
    ],
)
def test_size_as_read(count_bytes: int, text: str) -> None:
    assert format_size(count_bytes) == text
