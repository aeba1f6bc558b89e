"""Settings of the test run: the real ones, with a data folder of this run and no outside agent server."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

_worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
_home = Path(os.environ.setdefault("STUDIO_TEST_HOME", tempfile.mkdtemp(prefix="studio-test-"))) / _worker
_home.mkdir(parents=True, exist_ok=True)
os.environ["STUDIO_HOME"] = str(_home)
os.environ["STUDIO_REPOSITORY_ROOTS"] = tempfile.gettempdir()
os.environ.setdefault("SECRET_KEY", "only-for-tests")
for _name in ("OPENCODE_URL", "OPENCODE_PASSWORD", "REDIS_URL"):
    os.environ.pop(_name, None)

from studio.settings import *  # noqa: E402, F403

STATIC_ROOT.mkdir(exist_ok=True)  # noqa: F405 -- WhiteNoise warns of a folder that is not there
STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}  # noqa: F405
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DATABASES["default"].setdefault("TEST", {})  # noqa: F405
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":  # noqa: F405
    # A file, because several threads and connections use it as they do in production.
    DATABASES["default"]["TEST"]["NAME"] = str(_home / "test.sqlite3")  # noqa: F405
