"""Static files with hashed names, the imports between our JavaScript modules included."""

from __future__ import annotations

from whitenoise.storage import CompressedManifestStaticFilesStorage


class StaticStorage(CompressedManifestStaticFilesStorage):
    """Without this an `import "./feed.js"` would keep the plain name, and a browser could mix versions after an update."""

    support_js_module_import_aggregation = True
