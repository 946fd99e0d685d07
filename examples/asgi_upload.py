"""A web application that hands a visitor's file on to api.video while it comes in.

The body is never written to a file as a whole, and no more of it is kept than what is on its way: when the way to
the service is slower than the visitor's, the visitor has to wait. Run it with any ASGI server::

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
    """One client for all requests: they share its connections, its bearer token and its rate limiter."""
    async with Client() as app.state.client:
        yield


async def create_video(request: Request) -> JSONResponse:
    """``POST /videos?title=…`` with the file as its body.

    A visitor who goes away in the middle ends ``request.stream()`` with an error, and so the upload: its half of a
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
