"""Static files with hashed names, the imports between our JavaScript modules included."""

from __future__ import annotations

from typing import Any

from whitenoise.storage import CompressedManifestStaticFilesStorage


class StaticStorage(CompressedManifestStaticFilesStorage):
    """Without this an `import "./feed.js"` would keep the plain name, and a browser could mix versions after an update.

    Only our own modules are rewritten: other packages' files hold what merely looks like an import.
    """

    support_js_module_import_aggregation = True
    _js_module_import_aggregation_patterns: tuple[str, Any] = (
        "js/*.js",
        CompressedManifestStaticFilesStorage._js_module_import_aggregation_patterns[1],  # type: ignore[attr-defined]  # not in the stubs: it is Django's own
    )
