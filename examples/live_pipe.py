"""Upload a recording while it is being made: async-uploader reads the standard output of ffmpeg.

This is the same in a shell::

    ffmpeg … -movflags frag_keyframe+empty_moov -f mp4 - | async-uploader upload - --max-latency 2

The MP4 must be fragmented, since ffmpeg cannot rewind a pipe to write the index at the start. The key is read from
APIVIDEO_API_KEY, and the service from APIVIDEO_BASE_URL.
"""
# ruff: noqa: S603 - runs two programs

from __future__ import annotations

import argparse
import subprocess
import sys

from imageio_ffmpeg import get_ffmpeg_exe


def main() -> int:
    """Record and upload.

    :returns: the exit code of the upload, or 1 if the recording failed
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=20, help="length of the recording in seconds (default: 20)")
    seconds = parser.parse_args().seconds

    recording = subprocess.Popen(record(seconds=seconds), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    upload = ["upload", "-", "--max-latency", "2", "--title", "Live", "--json", "-v"]
    uploading = subprocess.Popen([sys.executable, "-m", "async_uploader", *upload], stdin=recording.stdout)
    assert recording.stdout is not None
    recording.stdout.close()  # only the upload reads the pipe now; if it ends early, ffmpeg ends, too
    return uploading.wait() or min(recording.wait(), 1)


def record(*, seconds: int) -> list[str]:
    """Return an ffmpeg command that records a test picture in real time."""
    picture = "testsrc2=size=640x360:rate=30,noise=alls=40:allf=t"
    sizes = ["-b:v", "25M", "-minrate", "25M", "-maxrate", "25M", "-bufsize", "2M"]
    return [
        *(get_ffmpeg_exe(), "-v", "error", "-re", "-f", "lavfi", "-i", picture, "-t", str(seconds)),
        *("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "30", *sizes),
        *("-movflags", "frag_keyframe+empty_moov", "-f", "mp4", "-"),
    ]


if __name__ == "__main__":
    sys.exit(main())
