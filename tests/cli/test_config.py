"""Settings from files: ``.env`` and ``config.toml``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.service import KEY, Service

from .conftest import MIB, Cli, within

MakeFile = Callable[..., Path]


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[[str], Path]:
    """Write the user's configuration file."""

    def write(text: str) -> Path:
        path = tmp_path / "config" / "async-uploader" / "config.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


WriteConfig = Callable[[str], Path]


def ranges_of(service: Service) -> set[str | None]:
    """The Content-Range headers of all parts."""
    return {record.content_range for record in service.emulator.requests if record.endpoint == "upload"}


# The configuration file


def test_defaults_from_the_configuration_file(
    cli: Cli, service: Service, make_file: MakeFile, write_config: WriteConfig
) -> None:
    """It sets options of any type and the base URL; names have - or _."""
    write_config(
        f'base-url = "{service.emulator.url}"\n'
        "[upload]\n"
        'part_size = "6MiB"\nranges = "bytes"\ntag = ["sea"]\npublic = false\nstall-timeout = 20\n'
        'metadata = ["place=Crete"]\n'
    )
    done = cli("upload", make_file("x.mp4", 7 * MIB), APIVIDEO_API_KEY=KEY)
    assert done.returncode == 0, done.stderr
    assert f"bytes 0-{6 * MIB - 1}/{7 * MIB}" in ranges_of(service)
    (video,) = service.emulator.videos.values()
    found = service.request(lambda client: client.get_video(video.video_id)).raw
    assert (found["tags"], found["public"]) == (["sea"], False)
    assert found["metadata"] == [{"key": "place", "value": "Crete"}]


def test_precedence(
    cli: Cli, service: Service, make_file: MakeFile, write_config: WriteConfig, tmp_path: Path
) -> None:
    """Options, then the environment, then .env, then the configuration file."""
    write_config('base-url = "http://127.0.0.1:1"\n[upload]\nranges = "bytes"\n')
    (tmp_path / ".env").write_text(f"APIVIDEO_API_KEY={KEY}\nAPIVIDEO_BASE_URL={service.emulator.url}\n")
    path = make_file("x.mp4", 10)
    assert cli("upload", path, "--ranges=part").returncode == 0
    assert ranges_of(service) == {"part 1/1"}
    wrong = {"APIVIDEO_BASE_URL": "nonsense"}
    refused = cli("upload", path, **wrong)
    assert (refused.returncode, "'nonsense' is malformed" in refused.stderr) == (2, True)
    assert cli("upload", path, "--base-url", service.emulator.url, **wrong).returncode == 0


def test_a_local_upload_ignores_the_base_url(cli: Cli, make_file: MakeFile, write_config: WriteConfig) -> None:
    """A base URL in the configuration file does not contradict --local."""
    write_config('base-url = "https://ws.example.invalid"\n')
    assert cli("upload", make_file("x.mp4", 10), "--local").returncode == 0


def test_another_configuration_file(
    cli: Cli, make_file: MakeFile, write_config: WriteConfig, tmp_path: Path
) -> None:
    """An option or a variable replaces the user's file; the file must exist."""
    write_config("this is not read")
    (tmp_path / "other.toml").write_text("[emulator]\nport = 70000\n")
    for done in (
        cli("--config=other.toml", "emulator"),
        cli("emulator", APIVIDEO_UPLOADER_CONFIG="other.toml"),
    ):
        assert done.returncode == 2
        assert done.stderr.startswith("error: other.toml: port of [emulator]: 70000 is not in the range")
    done = cli("--config=missing.toml", "emulator")
    assert done.returncode == 2
    assert done.stderr.startswith("error: Cannot read the configuration file missing.toml: no such file")


def test_a_configuration_file_that_is_a_fifo(cli: Cli, tmp_path: Path) -> None:
    """A FIFO without a writer is refused, as waiting could take forever. A pipe is read."""
    os.mkfifo(tmp_path / "fifo")
    with within(10):
        refused = cli("--config=fifo", "uploads")
    assert refused.returncode == 2
    expected = "error: Cannot read the configuration file fifo: it is a FIFO without a writer."
    assert refused.stderr.splitlines()[0] == expected
    reader, writer = os.pipe()
    os.write(writer, b"[emulator]\nport = 70000\n")
    os.close(writer)
    with os.fdopen(reader) as stdin:
        done = cli("--config=/dev/stdin", "emulator", stdin=stdin)
    assert done.stderr.startswith("error: /dev/stdin: port of [emulator]: 70000 is not in the range")


WRONG = {
    "not TOML": ("upload", "is not valid TOML: "),
    "unknown table": ("[uplaod]\n", "there is no setting 'uplaod'; did you mean 'upload'?"),
    "unknown key": ("[upload]\nconcurency = 3\n", "'concurency'; did you mean 'concurrency'?"),
    "an option of one command": ("[upload]\ntitle = 'x'\n", "there is no setting of [upload] 'title'"),
    "text for a number": ("[upload]\nconcurrency = 'many'\n", "[upload] must be a whole number, not 'many'."),
    "boolean for a number": ("[upload]\nconcurrency = true\n", "[upload] must be a whole number, not True."),
    "out of range": ("[upload]\nconcurrency = 0\n", "[upload]: concurrency must be a whole number from 1"),
    "invalid value": ("[upload]\nranges = 'parts'\n", "ranges of [upload]: ranges must be 'part' or 'bytes'"),
    "invalid size": ("[upload]\npart-size = 'big'\n", "part-size of [upload]: 'big' is not a size"),
    "number for a boolean": ("[upload]\npublic = 1\n", "public of [upload] must be true or false, not 1."),
    "number in a list": ("[upload]\ntag = [1]\n", "tag of [upload] must be a list of strings, not [1]."),
    "number for a URL": ("base-url = 1\n", "base-url must be a string, not 1."),
    "a key": (f"api-key = '{KEY}'\n", "in a configuration file. Set the environment variable APIVIDEO_API_KEY."),
    "a key in a table": (f"[upload]\napi_key = '{KEY}'\n", "api-key is not allowed"),
    "a token": ("[upload]\nupload-token = 'to1'\n", "Set the environment variable APIVIDEO_UPLOAD_TOKEN."),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_invalid_settings(
    online: Cli, service: Service, make_file: MakeFile, write_config: WriteConfig, text: str, message: str
) -> None:
    """The message names the file, the setting and the expected value; nothing is sent."""
    path = write_config(text)
    done = online("upload", make_file("x.mp4", 10))
    assert done.returncode == 2
    error, _hint = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert str(path) in error
    assert message in error
    assert KEY not in done.stderr
    assert not service.emulator.requests


# .env


def test_the_key_from_env(cli: Cli, service: Service, make_file: MakeFile, tmp_path: Path) -> None:
    """A key and a base URL; comments, quotes and export are allowed."""
    (tmp_path / ".env").write_text(
        f"# my account\nexport APIVIDEO_API_KEY='{KEY}'\nAPIVIDEO_BASE_URL=\"{service.emulator.url}\"\nOTHER=1\n"
    )
    done = cli("upload", make_file("x.mp4", 10))
    assert done.returncode == 0, done.stderr
    assert service.titles() == ["x.mp4"]


def test_env_does_not_replace_a_credential(
    online: Cli, service: Service, make_file: MakeFile, tmp_path: Path
) -> None:
    """Nor does it send one elsewhere: its base URL counts only if it has a credential, too."""
    path = make_file("x.mp4", 10)
    for text in (
        "APIVIDEO_API_KEY=other\n",
        "APIVIDEO_UPLOAD_TOKEN=to1\n",
        "APIVIDEO_BASE_URL=http://127.0.0.1:1\n",
    ):
        (tmp_path / ".env").write_text(text)
        assert online("upload", path).returncode == 0


@pytest.mark.parametrize("more", ["", "APIVIDEO_API_KEY=bait\n"])
def test_env_cannot_redirect_a_key(cli: Cli, tmp_path: Path, more: str) -> None:
    """A key of the environment is not sent to the base URL of a .env."""
    (tmp_path / ".env").write_text(f"APIVIDEO_BASE_URL=nonsense\n{more}")
    done = cli("upload", "missing.mp4", APIVIDEO_API_KEY=KEY)
    assert "missing.mp4 does not exist" in done.stderr
    assert ("'nonsense' is malformed" in cli("upload", "missing.mp4").stderr) == bool(more)


def test_an_env_of_a_parent_is_not_read(cli: Cli, make_file: MakeFile, tmp_path: Path) -> None:
    """Only the .env of the current directory counts."""
    (tmp_path.parent / ".env").write_text(f"APIVIDEO_API_KEY={KEY}\n")
    try:
        done = cli("upload", make_file("x.mp4", 10))
    finally:
        (tmp_path.parent / ".env").unlink()
    assert done.returncode == 2
    assert "No credentials" in done.stderr
