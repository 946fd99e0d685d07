"""The options that describe a video, shared by `upload`, `import` and `watch`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar, cast

from ._flags import JsonFlags, ServiceFlags
from ._params import PANELS, flags, option, usage_error

if TYPE_CHECKING:
    from async_uploader import ImportOptions

K = TypeVar("K")

# Options that are given as KEY=VALUE, with these words in error messages.
_MAPPINGS: Final = {
    "metadata": "KEY=VALUE",
    "watermark": "KEY=VALUE",
    "clip": "KEY=VALUE",
    "captions": "LANG=FILE",
    "chapters": "LANG=FILE",
}

_DETAILS, _, _TRANSFER, _, _ = PANELS


@flags
class DescriptionFlags(ServiceFlags):
    """Details that many videos can share. The fields are those of ``ContainerDetails``, except the title."""

    description: Annotated[str | None, option(panel=_DETAILS, help="Description of the video (default: none)")] = (
        None
    )
    tags: Annotated[
        list[str] | None,
        option("--tag", panel=_DETAILS, help="Tag of the video (default: none). May be repeated."),
    ] = None
    metadata: Annotated[
        list[str] | None,
        option(
            metavar="KEY=VALUE",
            panel=_DETAILS,
            help="Metadata entry of the video (default: none). May be repeated.",
        ),
    ] = None
    public: Annotated[
        bool | None,
        option("--public/--private", panel=_DETAILS, help="Visibility of the video (default: public)"),
    ] = None
    panoramic: Annotated[
        bool | None,
        option("--panoramic/--no-panoramic", panel=_DETAILS, help="Mark as a 360° video (default: no)"),
    ] = None
    mp4_support: Annotated[
        bool | None,
        option("--mp4-support/--no-mp4-support", panel=_DETAILS, help="Also offer an MP4 file (default: yes)"),
    ] = None
    player_id: Annotated[
        str | None, option(panel=_DETAILS, help="Player of the video, by its id (default: the account's player)")
    ] = None
    language: Annotated[
        str | None,
        option(panel=_DETAILS, help="Spoken language, as a tag such as en or pt-BR (default: detected)"),
    ] = None
    transcript: Annotated[
        bool | None,
        option("--transcript/--no-transcript", panel=_DETAILS, help="Create a transcript (default: no)"),
    ] = None
    transcript_summary: Annotated[
        bool | None,
        option(
            "--transcript-summary/--no-transcript-summary",
            panel=_DETAILS,
            help="Create a summary of the transcript (default: no)",
        ),
    ] = None
    transcript_summary_attributes: Annotated[
        list[str] | None,
        option(
            "--transcript-summary-attribute",
            metavar="NAME",
            panel=_DETAILS,
            help="Part of the summary: abstract or takeaways (default: the service's choice). May be repeated.",
        ),
    ] = None
    watermark: Annotated[
        list[str] | None,
        option(
            metavar="KEY=VALUE",
            panel=_DETAILS,
            help="Watermark id or position, such as id=… or top=5px (default: none). May be repeated.",
        ),
    ] = None
    clip: Annotated[
        list[str] | None,
        option(
            metavar="KEY=VALUE",
            panel=_DETAILS,
            help="Keep only a clip: startTimecode=HH:MM:SS, endTimecode=HH:MM:SS (default: the whole video). "
            "May be repeated.",
        ),
    ] = None

    def given(self, keywords: type[K]) -> K:
        """The keys of a ``TypedDict`` that were given as options, with their values."""
        given: dict[str, Any] = {}
        for name in keywords.__annotations__:  # a TypedDict's own and inherited keys
            value = getattr(self, name, None)
            if value is not None:
                given[name] = _parse_pairs(name, value) if name in _MAPPINGS else value
        return cast("K", given)


@flags
class DetailFlags(DescriptionFlags, JsonFlags):
    """Details of a video, and its key. The fields are those of ``ImportOptions``."""

    title: Annotated[
        str | None, option(panel=_DETAILS, help="Title of the video (default: the name of the source)")
    ] = None

    idempotency_key: Annotated[
        str | None,
        option(
            metavar="KEY",
            panel=_TRANSFER,
            help="All commands with this key result in one video, on any machine and at any time: 1-200 printable "
            "characters (default: none)",
        ),
    ] = None

    def import_options(self) -> ImportOptions:
        """Keyword arguments of :meth:`~async_uploader.Client.import_video`: only those that were given."""
        from async_uploader import ImportOptions

        return self.given(ImportOptions)


def _parse_pairs(name: str, texts: Iterable[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise usage_error(f"--{name} must be {_MAPPINGS[name]}, not {text!r}.")
        if key in pairs:
            kind = _MAPPINGS[name].partition("=")[0]
            raise usage_error(f"--{name} has the {'language' if kind == 'LANG' else 'key'} {key!r} twice.")
        pairs[key] = value
    return pairs
