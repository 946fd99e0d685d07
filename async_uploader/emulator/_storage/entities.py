"""What an account has besides videos and tokens: webhooks and watermarks."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Webhook:
    """A subscription: the events that are posted to a URL, signed with a secret."""

    webhook_id: str
    created_s: float
    events: tuple[str, ...]
    url: str
    secret: str = field(repr=False)

    @property
    def entity_id(self) -> str:
        return self.webhook_id


@dataclass(frozen=True, slots=True)
class Watermark:
    """An image, of which only the length is kept: the emulator draws nothing into videos."""

    watermark_id: str
    created_s: float
    media_type: str
    size_bytes: int

    @property
    def entity_id(self) -> str:
        return self.watermark_id
