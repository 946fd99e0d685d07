"""The reasons of system errors, in words."""

from __future__ import annotations


def describe_os_error(error: OSError) -> str:
    """The reason of an error for the middle of a sentence: ``permission denied``."""
    reason = error.strerror or str(error)
    return reason[:1].lower() + reason[1:] if reason[1:2].islower() else reason
