"""The options that say what a video is to be; ``upload`` and ``import`` have them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

from ._flags import JsonFlags
from ._params import PANELS, flags, option, usage_error

if TYPE_CHECKING:
    from async_uploader._types import ContainerDetails

K = TypeVar("K")

_DETAILS, *_ = PANELS


@flags
class DetailFlags(JsonFlags):
    """What a video is to be; the fields are those of ``ContainerDetails``."""

    title: Annotated[str | None, option(panel=_DETAILS, help="What it is called. Default: the source's name.")] = (
        None
    )
    description: Annotated[str | None, option(panel=_DETAILS, help="A few words on it. Default: none.")] = None
    tags: Annotated[
        list[str] | None, option("--tag", panel=_DETAILS, help="A word to find it by. May be repeated.")
    ] = None
    metadata: Annotated[
        list[str] | None,
        option(metavar="KEY=VALUE", panel=_DETAILS, help="Something that you know of it. May be repeated."),
    ] = None
    public: Annotated[
        bool | None, option("--public/--private", panel=_DETAILS, help="Who may see it. Default: everybody.")
    ] = None
    panoramic: Annotated[
        bool | None,
        option("--panoramic/--no-panoramic", panel=_DETAILS, help="Whether it is a 360° video. Default: no."),
    ] = None
    mp4_support: Annotated[
        bool | None,
        option("--mp4-support/--no-mp4-support", panel=_DETAILS, help="Offer an MP4 as well. Default: yes."),
    ] = None
    player_id: Annotated[
        str | None, option(panel=_DETAILS, help="The player to show it with, by its id. Default: the account's.")
    ] = None
    language: Annotated[
        str | None,
        option(panel=_DETAILS, help="What is spoken in it, as a language tag: en, pt-BR. Default: found out."),
    ] = None
    transcript: Annotated[
        bool | None,
        option("--transcript/--no-transcript", panel=_DETAILS, help="Write down what is said. Default: no."),
    ] = None
    transcript_summary: Annotated[
        bool | None,
        option("--transcript-summary/--no-transcript-summary", panel=_DETAILS, help="And sum it up. Default: no."),
    ] = None
    transcript_summary_attributes: Annotated[
        list[str] | None,
        option(
            "--transcript-summary-attribute",
            metavar="NAME",
            panel=_DETAILS,
            help="A part of the summary: abstract or takeaways. May be repeated.",
        ),
    ] = None
    watermark: Annotated[
        list[str] | None,
        option(
            metavar="KEY=VALUE", panel=_DETAILS, help="Which watermark and where: id=…, top=…. May be repeated."
        ),
    ] = None
    clip: Annotated[
        list[str] | None,
        option(
            metavar="KEY=VALUE",
            panel=_DETAILS,
            help="Keep a piece: startTimecode=HH:MM:SS, endTimecode=HH:MM:SS. May be repeated. Default: "
            "all of it.",
        ),
    ] = None

    def details(self) -> ContainerDetails:
        """Keywords of :meth:`~async_uploader.Client.import_video`: those that were given."""
        from async_uploader._types import ContainerDetails

        return self.given(ContainerDetails)

    def given(self, keywords: type[K]) -> K:
        """Those of a typed dictionary's keywords that were given."""
        given: dict[str, Any] = {}
        for name in keywords.__annotations__:  # of a TypedDict: with those that it inherits
            value = getattr(self, name, None)
            if value is not None:
                given[name] = _pairs(name, value) if name in ("metadata", "watermark", "clip") else value
        return cast("K", given)


def _pairs(name: str, texts: Iterable[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise usage_error(f"--{name} must be KEY=VALUE, not {text!r}.")
        if key in pairs:
            raise usage_error(f"--{name} has the key {key!r} twice.")
        pairs[key] = value
    return pairs
