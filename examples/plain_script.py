"""Uploads a file and prints where it can be watched: the script to begin with.

Run it with a key, and the service of your choice (production, if you name none)::

    APIVIDEO_API_KEY=… APIVIDEO_BASE_URL=sandbox python examples/plain_script.py movie.mp4
"""
# ruff: noqa: T201 - it talks

import asyncio
import sys

from async_uploader import UploaderError, upload

try:
    video = asyncio.run(upload(sys.argv[1], title="Holidays", resume="local"))
except UploaderError as error:
    sys.exit(str(error))
print(video.video_id, video.assets.player)
