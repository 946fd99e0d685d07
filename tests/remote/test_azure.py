"""Objects of Azurite, a real counterpart of Azure Blob Storage."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import obstore
import pytest
from obstore.store import AzureStore, from_url

from async_uploader import RemoteFile, SourceError
from async_uploader.emulator import Emulator
from harness.world import KEY, PART, QuickClient, service

from ..npm import packages  # noqa: TID252 - found however pytest is started
from .azurite import azure_environment, make_container, running_azurite
from .conftest import RunCommand

pytestmark = pytest.mark.anyio


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container of the account."""

    name: str
    store: AzureStore = field(repr=False)  # repr() of this store can raise

    def put(self, key: str, content: bytes) -> str:
        """Store an object, and return its URL."""
        obstore.put(self.store, key, content)
        return f"az://{self.name}/{key}"

    def presigned(self, key: str) -> str:
        """A URL with a shared access signature."""
        return obstore.sign(self.store, "GET", key, timedelta(hours=1))


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the account. Where Azurite cannot be installed, the tests are skipped."""
    try:
        node_modules = packages.install(packages.AZURITE, purpose=packages.NO_AZURITE)
    except packages.NoPackages as error:
        pytest.skip(str(error))
    with running_azurite(node_modules, tmp_path_factory.mktemp("azurite")) as address:
        yield address


@pytest.fixture
def container(azurite: str, monkeypatch: pytest.MonkeyPatch) -> Container:
    """An empty container. The environment has the variables of its account."""
    name = make_container(azurite)
    for variable, text in azure_environment(azurite).items():
        monkeypatch.setenv(variable, text)
    store = from_url(f"az://{name}", client_options={"allow_http": True})
    assert isinstance(store, AzureStore)
    return Container(name=name, store=store)


async def check_uploaded(emulator: Emulator, video_id: str, content: bytes) -> None:
    """Check the bytes of a video."""
    assert (await emulator.finished(video_id)).sha256 == hashlib.sha256(content).hexdigest()


async def test_objects(container: Container, content: bytes) -> None:
    key = "2026/a b, ü?#%41.mp4"
    url = container.put(key, content)
    async with service() as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:
        for source in (url, RemoteFile(container.store, key)):
            video = await client.upload(source, part_size=PART)
            assert video.title == "a b, ü?#%41.mp4"
            await check_uploaded(emulator, video.video_id, content)
        for url, words in (
            (container.put("empty.mp4", b""), "is empty"),
            (f"az://{container.name}/missing.mp4", "does not exist"),
        ):
            with pytest.raises(SourceError, match=words):
                await client.upload(url)
        assert len(emulator.videos) == 2


async def test_a_shared_access_signature(container: Container, content: bytes) -> None:
    container.put("movie.mp4", content)
    url = container.presigned("movie.mp4")
    events: list[object] = []
    async with service() as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:
        video = await client.upload(url, fetch="here", part_size=PART, on_event=events.append)
        assert video.title == "movie.mp4"
        await check_uploaded(emulator, video.video_id, content)
        assert "sig=" in url
        assert "sig=" not in repr((events, video.raw, emulator.requests))


async def test_an_object_that_changes(container: Container, content: bytes) -> None:
    """The store refuses the old version, by ``If-Match``."""
    url = container.put("movie.mp4", content)
    fault = "upload,part=1,times=1:status=503"
    async with service(fault) as emulator, QuickClient(api_key=KEY, base_url=emulator.url) as client:

        def change(event: object) -> None:
            if type(event).__name__ == "RetryScheduled":
                container.put("movie.mp4", os.urandom(len(content)))

        with pytest.raises(SourceError, match="has changed during the upload"):
            await client.upload(url, part_size=PART, concurrency=1, on_event=change)
        assert not emulator.videos


async def test_commands(container: Container, run_upload: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = [container.put(f"films/{name}.mp4", name.encode()) for name in "ab"]
    container.put("other.mp4", b"other")
    async with service() as emulator:
        for machine in ("machine 1", "machine 2"):
            arguments = ("--recursive", f"az://{container.name}/films/", "--key-from-source")
            ended = await run_upload(emulator, *arguments, state=machine)
            assert ended.code == 0, ended.err
            assert sorted(view.title for view in emulator.videos.values()) == ["a.mp4", "b.mp4"]
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", base64.b64encode(b"another key").decode())
        ended = await run_upload(emulator, urls[0], "--no-resume")
        assert ended.code == 1
        assert ended.err.strip() == (f"error: Access to {urls[0]} was denied; check the credentials of the store.")
        assert len(emulator.videos) == 2
