"""Distinguishes a cancellation of the current task from a ``CancelledError`` that other code raises."""

from __future__ import annotations

import asyncio


def is_being_cancelled(exc: BaseException) -> bool:
    """Whether a ``CancelledError`` or ``GeneratorExit`` is a cancellation of the current task.

    If not, the caller's code has raised it, or has awaited something that was cancelled. It must become an
    ordinary error then: as a cancellation, it would end one of several tasks silently, and the others would wait
    forever.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return True  # the loop has ended, and its generators are being closed
    if task is None:
        return True
    # This includes anyio's cancel scopes, because they cancel the task.
    return isinstance(exc, asyncio.CancelledError) and task.cancelling() > 0
