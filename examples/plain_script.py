"""Upload a file and print its videoId and its player: the simplest script.

Set the key, and optionally the service (default: production)::

    APIVIDEO_API_KEY=… APIVIDEO_BASE_URL=sandbox python examples/plain_script.py movie.mp4
"""
# ruff: noqa: T201 - prints its result

import asyncio
import sys

from async_uploader import UploaderError, upload

try:
    video = asyncio.run(upload(sys.argv[1], title="Holidays", resume="local"))
except UploaderError as error:
    sys.exit(str(error))
print(video.video_id, video.assets.player)
