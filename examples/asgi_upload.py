"""A web application that streams the files of its visitors to api.video.

The application buffers only the parts in flight, never a whole file. If its connection to the service is slower
than the visitor's, the visitor's upload slows down accordingly. Run it with any ASGI server::

    APIVIDEO_API_KEY=… uvicorn --app-dir examples asgi_upload:app
    curl --data-binary @movie.mp4 'http://127.0.0.1:8000/videos?title=Holidays'
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from async_uploader import Client, SourceError, UploaderError


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Open one client for all requests: they share its connections, bearer token and rate limiter."""
    async with Client() as app.state.client:
        yield


async def create_video(request: Request) -> JSONResponse:
    """Handle ``POST /videos?title=…``, with the file as the body.

    If the visitor disconnects, ``request.stream()`` raises an exception: the upload fails, and the unfinished
    video is deleted.
    """
    client: Client = request.app.state.client
    title = request.query_params.get("title") or "Untitled"
    try:
        video = await client.upload(request.stream(), title=title)
    except SourceError as exc:
        return JSONResponse({"error": str(exc)}, status_code=400)
    except UploaderError as exc:
        return JSONResponse({"error": str(exc)}, status_code=502)
    return JSONResponse({"videoId": video.video_id, "player": video.assets.player}, status_code=201)


app = Starlette(routes=[Route("/videos", create_video, methods=["POST"])], lifespan=lifespan)
