"""The control endpoints: test suites in any language reset the emulator, inject faults and read its state.

Like the page, they need no key, refuse requests of other sites, and are not logged.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import web

from async_uploader.emulator._faults import Fault
from async_uploader.emulator._http.responses import json_response, problem_response
from async_uploader.emulator._problems import Problem
from async_uploader.emulator._rules import PartRange, parse_content_range
from async_uploader.emulator._secrets import mask_headers, mask_secrets

from .page import PREFIX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from async_uploader.emulator._faults import FaultInjector
    from async_uploader.emulator._records import RequestLog, RequestRecord
    from async_uploader.emulator._storage.store import Store
    from async_uploader.emulator._storage.video import Video
    from async_uploader.emulator._webhook_sender import Delivery, WebhookSender

MAX_BODY_BYTES: Final = 1 << 20

Handler = Callable[..., Awaitable[web.Response]]


class Control:
    """Serves the control endpoints.

    :param reset: resets the emulator
    """

    def __init__(
        self,
        store: Store,
        log: RequestLog,
        faults: FaultInjector,
        *,
        webhooks: WebhookSender,
        api_key: str,
        reset: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._log = log
        self._faults = faults
        self._webhooks = webhooks
        self._api_key = api_key
        self._reset_emulator = reset
        table: dict[str, dict[str, Handler]] = {
            "reset": {"POST": self._reset},
            "faults": {"GET": self._list_faults, "POST": self._add_faults, "DELETE": self._clear_faults},
            "faults/([0-9]{1,9})": {"DELETE": self._remove_fault},
            "requests": {"GET": self._list_requests},
            "requests/([0-9]{1,9})": {"GET": self._get_request},
            "videos": {"GET": self._list_videos},
            "videos/([^/]+)": {"DELETE": self._delete_video},
            "deliveries": {"GET": self._list_deliveries},
            "clock": {"POST": self._advance_clock},
        }
        self._routes = [(re.compile(f"{PREFIX}/{path}"), methods) for path, methods in table.items()]

    def find(self, request: web.BaseRequest) -> Awaitable[web.Response] | None:
        """An awaitable for the response; None if the request is not for a control endpoint."""
        for pattern, methods in self._routes:
            if match := pattern.fullmatch(request.path):
                return self._respond(request, methods, match.groups())
        return None

    async def _respond(
        self, request: web.BaseRequest, methods: dict[str, Handler], values: tuple[str, ...]
    ) -> web.Response:
        handler = methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            response = problem_response(Problem("method-not-allowed"))
            response.headers["Allow"] = ", ".join(sorted(methods))
        else:
            try:
                response = await handler(request, *values)
            except Problem as problem:
                response = problem_response(problem)
        response.headers["Cache-Control"] = "no-store"
        return response

    async def _reset(self, _: web.BaseRequest) -> web.Response:
        await self._reset_emulator()
        return web.Response(status=204)

    # Faults

    async def _list_faults(self, _: web.BaseRequest) -> web.Response:
        return json_response(200, self._fault_views())

    async def _add_faults(self, request: web.BaseRequest) -> web.Response:
        """Add all faults of the request, or none if one is invalid."""
        for fault in _parse_faults(await _read_json(request)):
            self._faults.add(fault)
        self._log.notifier.notify()
        return json_response(201, self._fault_views())

    async def _clear_faults(self, _: web.BaseRequest) -> web.Response:
        self._faults.clear()
        self._log.notifier.notify()
        return web.Response(status=204)

    async def _remove_fault(self, _: web.BaseRequest, number: str) -> web.Response:
        if not self._faults.remove(int(number)):
            raise Problem("resource-not-found", name="fault")
        self._log.notifier.notify()
        return web.Response(status=204)

    def _fault_views(self) -> list[dict[str, object]]:
        return [
            {"spec": mask_secrets(fault.spec, self._api_key), "triggered": count}
            for fault, count in self._faults.counts()
        ]

    # State

    async def _list_requests(self, _: web.BaseRequest) -> web.Response:
        # There may be 50,000 records: a thread formats them.
        records = tuple(self._log.records)
        return json_response(200, msgspec.Raw(await self._store.workers.run_body(self._encode_records, records)))

    def _encode_records(self, records: Sequence[RequestRecord]) -> bytes:
        return msgspec.json.encode([self._request_view(record) for record in records])

    def _request_view(self, record: RequestRecord) -> dict[str, object]:
        return {
            "method": record.method,
            "path": mask_secrets(record.path, self._api_key),
            "endpoint": record.endpoint,
            "status": record.status,
            "problem": record.problem,
            "detail": None if record.detail is None else mask_secrets(record.detail, self._api_key),
            "part": _part_number(record.content_range),
            "attempt": record.attempt,
            "bytes": record.body_bytes,
            "fault": mask_secrets(record.fault_specs[-1], self._api_key) if record.fault_specs else None,
            "seconds": round(record.ended_s - record.started_s, 6),
        }

    async def _get_request(self, _: web.BaseRequest, number: str) -> web.Response:
        """One of the latest requests, with its headers."""
        headers = self._log.headers.get(int(number))
        record = next((found for found in reversed(self._log.records) if found.number == int(number)), None)
        if record is None or headers is None:
            raise Problem("resource-not-found", name="request")
        view = self._request_view(record) | {
            "range": record.content_range,
            "faults": [mask_secrets(spec, self._api_key) for spec in record.fault_specs],
            "request_headers": mask_headers(headers.request, self._api_key),
            "response_headers": mask_headers(headers.response, self._api_key),
        }
        return json_response(200, view)

    async def _delete_video(self, _: web.BaseRequest, video_id: str) -> web.Response:
        await self._store.delete(self._store.video(video_id))
        return web.Response(status=204)

    async def _list_videos(self, _: web.BaseRequest) -> web.Response:
        return json_response(200, [_video_view(video) for video in self._store.videos.values()])

    # Webhooks and the clock

    async def _list_deliveries(self, _: web.BaseRequest) -> web.Response:
        return json_response(200, [_delivery_view(delivery) for delivery in self._webhooks.deliveries])

    async def _advance_clock(self, request: web.BaseRequest) -> web.Response:
        payload = await _read_json(request)
        seconds = payload.get("advance_seconds") if isinstance(payload, dict) and len(payload) == 1 else None
        if not isinstance(seconds, int | float) or isinstance(seconds, bool):
            raise Problem("invalid-payload", detail='Use {"advance_seconds": SECONDS}.')
        try:
            self._store.clock.advance(seconds)
        except ValueError as error:
            raise Problem("invalid-attribute", name="advance_seconds", detail=str(error)) from error
        await self._store.delete_expired()
        self._log.notifier.notify()
        return web.Response(status=204)


async def _read_json(request: web.BaseRequest) -> object:
    body = bytearray()
    while block := await request.content.readany():
        if len(body) <= MAX_BODY_BYTES:  # the rest is read and dropped, so that the client reads the response
            body += block
    if len(body) > MAX_BODY_BYTES:
        raise Problem("invalid-payload", detail=f"The body has at most {MAX_BODY_BYTES} bytes.")
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise Problem("invalid-payload", detail="The body must be JSON.") from error


def _parse_faults(payload: object) -> list[Fault]:
    """Parse `{"spec": SPEC}`, `{"spec": [SPEC, …]}`, or a list of these.

    :raises Problem: a fault is invalid
    """
    faults = []
    for item in payload if isinstance(payload, list) else [payload]:
        if not isinstance(item, dict) or item.keys() != {"spec"}:
            raise Problem("invalid-payload", detail='Use {"spec": "SELECTORS:ACTIONS"}, or a list of these.')
        specs: list[Any] = item["spec"] if isinstance(item["spec"], list) else [item["spec"]]
        for spec in specs:
            if not isinstance(spec, str):
                raise Problem("invalid-attribute", name="spec", detail="A spec must be a string.")
            try:
                faults.append(Fault.parse(spec))
            except ValueError as error:
                raise Problem("invalid-attribute", name="spec", detail=str(error)) from error
    return faults


def _part_number(content_range: str | None) -> int | None:
    """The part number of a Content-Range; None for byte ranges, whole files and malformed headers."""
    try:
        parsed = parse_content_range(content_range)
    except Problem:
        return None
    return parsed.number if isinstance(parsed, PartRange) else None


def _video_view(video: Video) -> dict[str, object]:
    ranges = [part.range for part in video.upload.stored_parts()]
    return {
        "video_id": video.container.video_id,
        "state": video.state,
        "size_bytes": video.container.size_bytes,
        "sha256": video.container.sha256,
        "parts": [found.number for found in ranges if isinstance(found, PartRange)],
    }


def _delivery_view(delivery: Delivery) -> dict[str, object]:
    return {
        "webhook_id": delivery.webhook_id,
        "event": delivery.event,
        "video_id": delivery.video_id,
        "url": delivery.url,
        "attempt": delivery.attempt,
        "status": delivery.status,
        "error": delivery.error,
        "payload": delivery.payload,
        "signature": delivery.signature,
        "seconds": delivery.seconds,
    }
