"""A web application that hands a visitor's file on to api.video, and shows how far that is by server-sent events.

A page makes up an id, listens to ``/uploads/ID/events``, and sends the file to ``/uploads/ID``. Browsers hold an
answer back until they have sent all of a body, hence two requests. Run it with any ASGI server::

    APIVIDEO_API_KEY=… uvicorn --app-dir examples fastapi_progress:app
    curl --no-buffer http://127.0.0.1:8000/uploads/1/events &
    curl --upload-file movie.mp4 'http://127.0.0.1:8000/uploads/1?title=Holidays'
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakValueDictionary

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse

from async_uploader import Client, Progress, SourceError, UploaderError


class Job:
    """One visitor's upload: who uploads tells, any number of listeners follow."""

    def __init__(self) -> None:
        self._now: tuple[str, dict[str, Any]] = ("waiting", {})
        self._changed = asyncio.Event()

    def tell(self, name: str, **data: Any) -> None:
        """Something has happened."""
        self._now = (name, data)
        self._changed.set()
        self._changed = asyncio.Event()

    async def follow(self) -> AsyncIterator[str]:
        """The present moment and every later one; who is slow misses some, and never the last."""
        while True:
            (name, data), changed = self._now, self._changed
            yield f"event: {name}\ndata: {json.dumps(data)}\n\n"
            if name in ("video", "error"):
                return
            await changed.wait()


# A job lives as long as somebody uploads or listens.
jobs: WeakValueDictionary[str, Job] = WeakValueDictionary()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One client for all requests: they share its connections, its bearer token and its rate limiter."""
    async with Client() as app.state.client:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/uploads/{job_id}/events")
async def events(job_id: str) -> StreamingResponse:
    """How the upload stands; may be asked for before it begins."""
    job = jobs.setdefault(job_id, Job())
    return StreamingResponse(job.follow(), media_type="text/event-stream")


@app.put("/uploads/{job_id}", status_code=201)
async def upload(job_id: str, request: Request, title: str = "Untitled") -> dict[str, str | None]:
    """Take a file as the request's body, and send it on while it comes in."""
    job = jobs.setdefault(job_id, Job())
    size_bytes = int(request.headers.get("content-length", 0))

    def on_progress(progress: Progress) -> None:
        job.tell("progress", arrived=progress.acknowledged_bytes, sent=progress.sent_bytes, of=size_bytes)

    client: Client = request.app.state.client
    try:
        video = await client.upload(request.stream(), title=title, on_progress=on_progress)
    except UploaderError as exc:
        job.tell("error", error=str(exc))
        raise HTTPException(400 if isinstance(exc, SourceError) else 502, str(exc)) from exc
    answer = {"videoId": video.video_id, "player": video.assets.player}
    job.tell("video", **answer)
    return answer
