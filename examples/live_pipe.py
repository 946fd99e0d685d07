"""Uploads a recording while it is being made: ffmpeg writes to standard output, async-uploader reads from it.

With any ffmpeg, a camera and a shell it is one line::

    ffmpeg … -movflags frag_keyframe+empty_moov -f mp4 - | async-uploader upload - --max-latency 2

MP4 has to be fragmented, since a pipe cannot be rewound to write an index at the start. The key is taken from
APIVIDEO_API_KEY, the service from APIVIDEO_BASE_URL.
"""
# ruff: noqa: S603 - it runs two programs

from __future__ import annotations

import argparse
import subprocess
import sys

from imageio_ffmpeg import get_ffmpeg_exe


def main() -> int:
    """Record and upload.

    :return: the exit code: that of the upload, or 1 if the recording failed
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=20, help="how long to record")
    seconds = parser.parse_args().seconds

    recording = subprocess.Popen(record(seconds=seconds), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    upload = ["upload", "-", "--max-latency", "2", "--title", "Live", "--json", "-v"]
    uploading = subprocess.Popen([sys.executable, "-m", "async_uploader", *upload], stdin=recording.stdout)
    assert recording.stdout is not None
    recording.stdout.close()  # its only reader is the upload now: if that ends early, so does the recording
    return uploading.wait() or min(recording.wait(), 1)


def record(*, seconds: int) -> list[str]:
    """A command that writes so many seconds of a test picture, in as many seconds."""
    picture = "testsrc2=size=640x360:rate=30,noise=alls=40:allf=t"
    sizes = ["-b:v", "25M", "-minrate", "25M", "-maxrate", "25M", "-bufsize", "2M"]
    return [
        *(get_ffmpeg_exe(), "-v", "error", "-re", "-f", "lavfi", "-i", picture, "-t", str(seconds)),
        *("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "30", *sizes),
        *("-movflags", "frag_keyframe+empty_moov", "-f", "mp4", "-"),
    ]


if __name__ == "__main__":
    sys.exit(main())
