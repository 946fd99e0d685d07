"""Render a video, upload it to the emulator in parts, then verify and decode the copy.

`make demo` runs it. It uses the ffmpeg of imageio-ffmpeg, so it needs nothing outside this project's environment.
"""
# ruff: noqa: S603, T201 - runs programs and prints results

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

BITS_PER_SECOND = 17_000_000


def main() -> None:
    """Run the demo, step by step."""
    arguments = _arguments()
    movie, service = arguments.directory / "movie.mp4", arguments.directory / "service"
    shutil.rmtree(service, ignore_errors=True)
    arguments.directory.mkdir(exist_ok=True)

    print(f"1. Rendering {movie}: {arguments.seconds} s of H.264 and AAC", flush=True)
    render(movie, seconds=arguments.seconds)

    print(f"2. Uploading {movie.stat().st_size:,} bytes to an emulator, in parts of 5 MiB", flush=True)
    video_id = upload(movie, service)

    print(f"3. Verifying the copy in {service}", flush=True)
    copy = asyncio.run(find(video_id, service))
    if sha256(copy) != sha256(movie):
        sys.exit(f"The SHA-256 of the copy {copy} differs from that of {movie}.")
    if errors := decoding_errors(copy):
        sys.exit(f"Cannot decode the copy {copy}: {errors}")
    print(f"The copy has the same SHA-256 ({sha256(copy)}) and decodes without error.")
    print(
        "\nTo watch it, start the emulator with its videos, and open the address that it prints:\n"
        f"   $ {shlex.quote(sys.executable)} -m async_uploader emulator --data {shlex.quote(str(service))}"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--directory", type=Path, default=Path("demo"), help="directory of all files (default: demo)"
    )
    parser.add_argument("--seconds", type=int, default=16, help="length of the video in seconds (default: 16)")
    return parser.parse_args()


def render(movie: Path, *, seconds: int) -> None:
    """Render a test picture with a clock, a tone, and noise, which keeps the file large."""
    picture = "testsrc2=size=1280x720:rate=30,noise=alls=20:allf=t"
    video = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-b:v", str(BITS_PER_SECOND)]
    ffmpeg(
        *("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", "sine=frequency=440"),
        *("-t", str(seconds), *video, "-c:a", "aac", "-movflags", "+faststart", "-y", str(movie)),
    )


def upload(movie: Path, service: Path) -> str:
    """Upload with the command line.

    :returns: the videoId
    """
    arguments = ["upload", str(movie), "--local", "--data", str(service), "--part-size", "5MiB", "--json", "-v"]
    print("   $ async-uploader", shlex.join(arguments), flush=True)
    command = [sys.executable, "-m", "async_uploader", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        sys.exit(f"The upload failed, with exit code {done.returncode}.")
    return str(json.loads(done.stdout)["videoId"])


async def find(video_id: str, service: Path) -> Path:
    """Return the file in which the emulator stores the source of a video."""
    async with Emulator(data=service) as emulator:
        copy = emulator.source_path(video_id)
    if copy is None:
        sys.exit(f"The video {video_id} is not complete.")
    return copy


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def decoding_errors(movie: Path) -> str:
    """Decode every frame; returns the errors of ffmpeg, which are empty for a valid video."""
    return ffmpeg("-i", str(movie), "-f", "null", "-")


def ffmpeg(*arguments: str) -> str:
    """Run ffmpeg; returns its error output, and ends the demo if it fails."""
    command = [get_ffmpeg_exe(), "-v", "error", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"ffmpeg failed: {done.stderr.strip()}")
    return done.stderr.strip()


if __name__ == "__main__":
    main()
