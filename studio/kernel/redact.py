"""Takes secrets out of text before it is logged or stored."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any

PATTERNS = [
    re.compile(r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{8,}"),
    re.compile(r"\b(sk|pk|ghp|gho|ghs|glpat|xox[abpr])[-_][A-Za-z0-9_-]{10,}"),
    re.compile(r"(?i)\b(api[_-]?key|password|passwd|secret|token|auth_token)(\"?\s*[=:]\s*\"?)[^\s\"',;&]{4,}"),
    re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"),
]
SECRET_KEYS = re.compile(r"(?i)(password|secret|token|authorization|api_?key)")


def redact(text: str) -> str:
    """`text` with credentials replaced by `[redacted]`."""
    for pattern in PATTERNS:
        text = pattern.sub(lambda match: f"{match.group(1)} [redacted]" if match.lastindex else "[redacted]", text)
    return text


def redact_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: redacts values under secret-sounding keys and secrets inside text."""
    for key, value in event.items():
        if SECRET_KEYS.search(key):
            event[key] = "[redacted]"
        elif isinstance(value, str):
            event[key] = redact(value)
    return event
