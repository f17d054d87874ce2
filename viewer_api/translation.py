"""Words for people, in their language: gettext catalogues, read as they are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from babel import Locale, negotiate_locale
from babel.messages.pofile import read_po
from babel.numbers import format_decimal, format_percent
from fastapi import Request

LANGUAGES = {"en": "English", "de": "Deutsch", "vi": "Tiếng Việt"}
COOKIE = "language"
_FOLDER = Path(__file__).parent / "locale"


@dataclass(frozen=True, slots=True)
class Words:
    """A language: its messages, and how it writes dates and numbers."""

    language: str
    messages: dict[str, str]

    def __call__(self, message: str, **values: object) -> str:
        """Return the message in this language, or as it is; ``%(name)s`` is filled in."""
        text = self.messages.get(message) or message
        return text % values if values else text

    def when(self, at: float | None) -> str:
        """Return a time since 1970 UTC as date and time of this machine's zone.

        Year, month, day in every language, as dates of studies: nobody takes 11/12 for 12/11.
        """
        return "–" if at is None else f"{datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M}"

    def percent(self, share: float) -> str:
        """Return a share with one decimal."""
        return format_percent(share, "#,##0.0%", locale=self.language)

    def number(self, value: float, decimals: int = 0) -> str:
        """Return a number as this language writes it."""
        form = f"#,##0.{'0' * decimals}" if decimals else "#,##0"
        return format_decimal(value, form, locale=self.language)


@lru_cache(maxsize=len(LANGUAGES))
def words(language: str) -> Words:
    """Return one of :data:`LANGUAGES`; English needs no catalogue."""
    if language == "en":
        return Words("en", {})
    with (_FOLDER / language / "pacsight.po").open("rb") as file:
        catalogue = read_po(file, locale=Locale.parse(language))
    return Words(
        language,
        {str(one.id): str(one.string) for one in catalogue if one.id and not one.fuzzy},
    )


def words_of(request: Request) -> Words:
    """Return the language that a person chose, or the browser's."""
    chosen = request.cookies.get(COOKIE)
    if chosen in LANGUAGES:
        return words(chosen)
    wanted = [
        part.split(";")[0].strip().replace("-", "_")
        for part in request.headers.get("accept-language", "").split(",")
    ]
    return words(negotiate_locale([one for one in wanted if one], list(LANGUAGES)) or "en")


Translate = Callable[..., str]


def _(message: str) -> str:
    """Mark a message for the catalogues; it is translated where it is shown."""
    return message
