"""Languages of captions and chapters: IETF tags with dashes, and their own names."""

from __future__ import annotations

import re
from typing import Final

from async_uploader.emulator._problems import Problem

_TAG: Final = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8}){0,3}")
_NAMES: Final = {
    "ar": "العربية", "ca": "català", "cs": "čeština", "da": "dansk", "de": "Deutsch", "el": "Ελληνικά",
    "en": "English", "es": "español", "fa": "فارسی", "fi": "suomi", "fr": "français", "he": "עברית",
    "hi": "हिन्दी", "hr": "hrvatski", "hu": "magyar", "it": "italiano", "ja": "日本語", "ko": "한국어",
    "nl": "Nederlands", "nn": "norsk nynorsk", "no": "norsk", "pl": "polski", "pt": "português", "ru": "русский",
    "sk": "slovenčina", "sl": "slovenščina", "sr": "српски", "sv": "svenska", "tr": "Türkçe", "uk": "українська",
    "vi": "Tiếng Việt", "zh": "中文",
}  # fmt: skip


def check_language(tag: str) -> None:
    """:raises Problem: this is no language tag"""
    if not _TAG.fullmatch(tag):
        detail = "Use a language tag with dashes, such as en, fr-CA or zh-Hans-CN."
        raise Problem("invalid-attribute", name="language", detail=detail)


def language_name(tag: str) -> str:
    """The language's own name, with what follows its first subtag; the tag itself for other languages."""
    primary, _, rest = tag.partition("-")
    name = _NAMES.get(primary.lower(), primary)
    return f"{name} ({rest})" if rest else name
