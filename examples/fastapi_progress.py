"""A web application that streams a visitor's file to api.video and reports progress by server-sent events.

A page chooses an id, listens to ``/uploads/ID/events``, and sends the file to ``/uploads/ID``. Two requests are
needed because browsers do not read a response before they have sent the whole body. Run it with any ASGI server::

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
    """The state of one upload, which any number of listeners can follow."""

    def __init__(self) -> None:
        self._state: tuple[str, dict[str, Any]] = ("waiting", {})
        self._changed = asyncio.Event()

    def set_state(self, name: str, **data: Any) -> None:
        """Set the state, and wake all listeners."""
        self._state = (name, data)
        self._changed.set()
        self._changed = asyncio.Event()

    async def follow(self) -> AsyncIterator[str]:
        """Yield the current state and each later one. A slow listener misses some, but never the last."""
        while True:
            (name, data), changed = self._state, self._changed
            yield f"event: {name}\ndata: {json.dumps(data)}\n\n"
            if name in ("video", "error"):
                return
            await changed.wait()


# A job exists as long as an upload or a listener uses it.
jobs: WeakValueDictionary[str, Job] = WeakValueDictionary()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open one client for all requests: they share its connections, bearer token and rate limiter."""
    async with Client() as app.state.client:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/uploads/{job_id}/events")
async def events(job_id: str) -> StreamingResponse:
    """Stream the state of an upload, which need not have started."""
    job = jobs.setdefault(job_id, Job())
    return StreamingResponse(job.follow(), media_type="text/event-stream")


@app.put("/uploads/{job_id}", status_code=201)
async def upload(job_id: str, request: Request, title: str = "Untitled") -> dict[str, str | None]:
    """Upload the body of the request while it is received."""
    job = jobs.setdefault(job_id, Job())
    size_bytes = int(request.headers.get("content-length", 0))

    def on_progress(progress: Progress) -> None:
        job.set_state(
            "progress", acknowledged=progress.acknowledged_bytes, sent=progress.sent_bytes, total=size_bytes
        )

    client: Client = request.app.state.client
    try:
        video = await client.upload(request.stream(), title=title, on_progress=on_progress)
    except UploaderError as exc:
        job.set_state("error", error=str(exc))
        raise HTTPException(400 if isinstance(exc, SourceError) else 502, str(exc)) from exc
    response = {"videoId": video.video_id, "player": video.assets.player}
    job.set_state("video", **response)
    return response
