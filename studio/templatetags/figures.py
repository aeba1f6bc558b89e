"""Figures for the eye."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from django import template
from django.utils.dateformat import format as date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

register = template.Library()


@register.filter
def tokens(count: int | None) -> str:
    """A number of tokens in at most four characters and a unit."""
    number = int(count or 0)
    if number < 1_000:
        return str(number)
    if number < 1_000_000:
        return f"{number / 1_000:.1f}k" if number < 10_000 else f"{number // 1_000}k"
    return f"{number / 1_000_000:.1f}M"


@register.filter
def money(amount: Decimal | float | None) -> str:
    """Dollars and cents; up to four digits where cents would say little."""
    value = Decimal(str(amount or 0))
    if not value:
        return "0"
    if value >= Decimal("0.1"):
        return f"{value:,.2f}"
    whole, _, digits = f"{value:.4f}".partition(".")
    return f"{whole}.{digits.rstrip('0').ljust(2, '0')}"


@register.filter
def took(start: datetime | None, end: datetime | None) -> str:
    """The stretch between two times; a dash while one is missing."""
    if start is None or end is None:
        return "–"
    seconds = max(0, int((end - start).total_seconds()))
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


@register.filter
def ticks(sentence: str) -> SafeString:
    """A sentence in which `commands` stand between backticks; everything is escaped."""
    pieces = sentence.split("`")
    if len(pieces) % 2 == 0:
        return format_html_join("", "{}", [(sentence,)])
    return format_html_join(
        "", "{}", ((format_html("<code>{}</code>", one) if at % 2 else one,) for at, one in enumerate(pieces))
    )


@register.filter
def moment(at: datetime | None, form: str = "Y-m-d H:i") -> SafeString | str:
    """A time, as UTC; the page's script writes it in the reader's own time zone. `form` with seconds, or the clock alone."""
    if at is None:
        return "–"
    words = date_format(at.astimezone(UTC), form)
    return format_html(
        '<time datetime="{}" data-form="{}">{} UTC</time>', at.isoformat(timespec="seconds"), form, words
    )
