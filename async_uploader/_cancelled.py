"""Whether a task is being cancelled, or code that it calls only raises what looks like it."""

from __future__ import annotations

import asyncio


def is_being_cancelled(exc: BaseException) -> bool:
    """Whether a ``CancelledError`` or ``GeneratorExit`` is meant for the present task.

    If not, the caller's code has raised it, or has waited for something that was cancelled. Passed on, it would
    end one of several tasks in silence, and the others would wait for what that one has not done.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return True  # no loop runs any more; what is left of it is thrown away
    if task is None:
        return True
    # anyio's cancel scopes count here, too: they cancel the task.
    return isinstance(exc, asyncio.CancelledError) and task.cancelling() > 0
