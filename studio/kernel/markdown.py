"""Markdown of people and agents as safe HTML. Agent output is hostile input: it is parsed without HTML, then sanitised."""

from __future__ import annotations

import nh3
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt

from studio.kernel.text import cut

RENDER_LIMIT = 200_000  # characters; longer text is cut before it is parsed
PARSER = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(["table", "strikethrough"])
TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "s",
    "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip


def render(text: str) -> SafeString:
    """`text` as sanitised HTML: no script, no style, no image, links only to http, https and mailto."""
    html = PARSER.render(cut(text, RENDER_LIMIT))
    return mark_safe(  # noqa: S308 -- this is the one place where rendered markdown becomes safe: nh3 has just cleaned it
        nh3.clean(
            html,
            tags=TAGS,
            attributes={"a": {"href"}, "code": {"class"}, "ol": {"start"}},
            url_schemes={"http", "https", "mailto"},
            link_rel="noopener noreferrer nofollow",
        )
    )
