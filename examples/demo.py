"""Renders a real video, uploads it to a local service in parts, and looks at what arrived.

Run by `make demo`. Needs nothing but this project's environment: the ffmpeg is the one of imageio-ffmpeg.
"""
# ruff: noqa: S603, T201 - it runs the programs that it shows, and talks

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from imageio_ffmpeg import get_ffmpeg_exe

from async_uploader.emulator import Emulator

BITS_A_SECOND = 17_000_000


def main() -> None:
    """The demo, step by step."""
    arguments = _arguments()
    movie, service = arguments.directory / "movie.mp4", arguments.directory / "service"
    shutil.rmtree(service, ignore_errors=True)
    arguments.directory.mkdir(exist_ok=True)

    print(f"1. Rendering {movie}: {arguments.seconds} s of H.264 and AAC", flush=True)
    render(movie, seconds=arguments.seconds)

    print(f"2. Uploading its {movie.stat().st_size:,} bytes to a local service, in parts of 5 MiB", flush=True)
    video_id = upload(movie, service)

    print(f"3. Looking at what {service} has received", flush=True)
    copy = asyncio.run(find(video_id, service))
    if sha256(copy) != sha256(movie):
        sys.exit(f"The copy {copy} has another SHA-256 than {movie}.")
    if trouble := decoding_errors(copy):
        sys.exit(f"The copy {copy} does not decode: {trouble}")
    print(f"The copy has the same SHA-256 ({sha256(copy)}) and decodes without error.")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path("demo"), help="where everything goes")
    parser.add_argument("--seconds", type=int, default=16, help="the video's length")
    return parser.parse_args()


def render(movie: Path, *, seconds: int) -> None:
    """A test picture with a clock, noise (so that it does not compress away), and a tone."""
    picture = "testsrc2=size=1280x720:rate=30,noise=alls=20:allf=t"
    video = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-b:v", str(BITS_A_SECOND)]
    ffmpeg(
        *("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", "sine=frequency=440"),
        *("-t", str(seconds), *video, "-c:a", "aac", "-movflags", "+faststart", "-y", str(movie)),
    )


def upload(movie: Path, service: Path) -> str:
    """Upload as a user does at the shell.

    :return: the new video's id
    """
    arguments = ["upload", str(movie), "--local", "--data", str(service), "--part-size", "5MiB", "--json", "-v"]
    print("   $ async-uploader", shlex.join(arguments), flush=True)
    command = [sys.executable, "-m", "async_uploader", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        sys.exit(f"The upload failed, with exit code {done.returncode}.")
    return str(json.loads(done.stdout)["videoId"])


async def find(video_id: str, service: Path) -> Path:
    """The file that the service keeps as a video's source."""
    async with Emulator(data=service) as emulator:
        copy = emulator.source_path(video_id)
    if copy is None:
        sys.exit(f"The video {video_id} has not come together.")
    return copy


def sha256(path: Path) -> str:
    """A file's SHA-256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def decoding_errors(movie: Path) -> str:
    """What ffmpeg complains about when it decodes every frame; nothing, for a good video."""
    return ffmpeg("-i", str(movie), "-f", "null", "-")


def ffmpeg(*arguments: str) -> str:
    """Run ffmpeg; returns its complaints, and ends the demo if it could not do its work."""
    command = [get_ffmpeg_exe(), "-v", "error", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"ffmpeg failed: {done.stderr.strip()}")
    return done.stderr.strip()


if __name__ == "__main__":
    main()
