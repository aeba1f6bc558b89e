"""All settings, driven by the environment. docs/configuration in README.md lists what a person may set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import environ

from studio.env import BASE_DIR, broker_urls, cache_url, data_folder, days, secret, stored_secret

env = environ.Env()  # type: ignore[no-untyped-call]  # django-environ is untyped

DATA = data_folder()
DATA.mkdir(mode=0o700, parents=True, exist_ok=True)

DEBUG = env.bool("STUDIO_DEBUG", default=False)
SECRET_KEY = stored_secret("SECRET_KEY", DATA)

STUDIO_HOST = env.str("STUDIO_HOST", default="127.0.0.1")
STUDIO_PORT = env.int("STUDIO_PORT", default=8000)
# The address people use, and the one at which the agent server reaches the studio's MCP endpoint.
STUDIO_URL = env.str("STUDIO_URL", default=f"http://{STUDIO_HOST}:{STUDIO_PORT}").rstrip("/")
STUDIO_INTERNAL_URL = env.str("STUDIO_INTERNAL_URL", default=f"http://127.0.0.1:{STUDIO_PORT}").rstrip("/")
ALLOWED_HOSTS = env.list("STUDIO_ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = [STUDIO_URL, *env.list("STUDIO_TRUSTED_ORIGINS", default=[])]

# Repositories may be registered only below these folders; the studio's own data folder is always refused, except its sample.
STUDIO_REPOSITORY_ROOTS = [
    Path(root).expanduser().resolve() for root in env.list("STUDIO_REPOSITORY_ROOTS", default=[str(Path.home())])
]
STUDIO_WORKSPACE_ROOT = DATA / "workspaces"
STUDIO_SAMPLE_ROOT = DATA / "sample"
# Days that the checkout of a finished task stays in a new project (0: none, empty: for ever), and days that the patch of
# what was not merged stays after somebody was shown it.
STUDIO_WORKSPACE_DAYS = days("STUDIO_WORKSPACE_DAYS", 7)
STUDIO_KEPT_DAYS = days("STUDIO_KEPT_DAYS", 180)
# Free megabytes of the data folder's disk below which the studio says so.
STUDIO_DISK_LOW_MB = env.int("STUDIO_DISK_LOW_MB", default=2048)

# The agent server: an external one by its address, else the managed one, whose endpoint file the `agentserver` command writes.
OPENCODE_URL = env.str("OPENCODE_URL", default="").rstrip("/")
OPENCODE_USERNAME = env.str("OPENCODE_USERNAME", default="opencode")
OPENCODE_PASSWORD = secret("OPENCODE_PASSWORD")
OPENCODE_CA = secret("OPENCODE_CA")  # PEM, when the external server's certificate is signed by an authority of your own
OPENCODE_BIN = env.str("OPENCODE_BIN", default="")
OPENCODE_PASS_ENV = env.list("OPENCODE_PASS_ENV", default=[])
OPENCODE_PRACTICE = env.bool("OPENCODE_PRACTICE", default=False)
# Megabytes above which the managed server is replaced by a fresh process as soon as it is idle; 0: never.
STUDIO_AGENT_MEMORY_MB = env.int("STUDIO_AGENT_MEMORY_MB", default=1500)
# False (`manage.py up --no-agent`): no agent server belongs to this studio, so none is missed.
STUDIO_AGENT = env.bool("STUDIO_AGENT", default=True)

INSTALLED_APPS = [
    "studio.apps.StudioAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "channels",
    "django_fsm",
    "django_htmx",
    "django_structlog",
    "rest_framework",
    "knox",
    "drf_spectacular",
    "csp",
    "studio",
    "agents",
    "workspaces",
    "sessions_app",
    "tasks",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django_structlog.middlewares.RequestMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "studio.middleware.StudioErrors",
]

ROOT_URLCONF = "studio.urls"
ASGI_APPLICATION = "studio.asgi.application"

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "studio.context_processors.page",
            ],
        },
    },
]

SQLITE_OPTIONS = {
    # Every write transaction takes the lock at its start: with the default (deferred) half of the concurrent
    # read-modify-write transactions fail with "database is locked" (libraries.md, fact 4).
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    # A checkpoint waits for the disk inside the commit that fills the log: with 16 MB instead of 4 MB it does so a quarter
    # as often (docs/performance.md).
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON; "
    "PRAGMA wal_autocheckpoint=4000;",
}
DATABASES: dict[str, dict[str, Any]] = {
    "default": env.db_url("DATABASE_URL", default=f"sqlite:///{DATA / 'studio.sqlite3'}"),
}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = SQLITE_OPTIONS
else:
    DATABASES["default"]["CONN_MAX_AGE"] = 60
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "projects"
LOGOUT_REDIRECT_URL = "login"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = STUDIO_URL.startswith("https://")
# Two studios on one host at different ports must not sign each other out.
SESSION_COOKIE_NAME = f"studio_session_{STUDIO_PORT}"
CSRF_COOKIE_NAME = f"studio_csrf_{STUDIO_PORT}"
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "connect-src": ["'self'"],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    },
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 4 * 1024 * 1024

BROKER_URL, CHANNELS_URL = broker_urls(DATA)
CHANNEL_LAYERS = {
    "default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [CHANNELS_URL]}},
}
# Counts requests for the rate limits. It may be down: then nobody is limited (studio/kernel/throttle.py).
CACHES: dict[str, dict[str, Any]] = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": cache_url(CHANNELS_URL),
        "KEY_PREFIX": "studio",
        "OPTIONS": {"socket_timeout": 1, "socket_connect_timeout": 1},
    }
}
CELERY_BROKER_URL = BROKER_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_SOFT_TIME_LIMIT = 280
CELERY_TASK_TIME_LIMIT = 300
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 5
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 900,  # above the hard time limit: jobs never wait for agents
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    "socket_timeout": 10,
    "socket_connect_timeout": 3,
}
CELERY_BEAT_SCHEDULE_FILENAME = str(DATA / "run" / "beat-schedule")
CELERY_BEAT_SCHEDULE = {
    "sweep-sessions": {"task": "sessions.sweep", "schedule": 5.0, "options": {"expires": 10}},
    "sweep-tasks": {"task": "tasks.sweep", "schedule": 5.0, "options": {"expires": 10}},
    "sweep-workspaces": {"task": "workspaces.sweep", "schedule": 5.0, "options": {"expires": 10}},
    "sync-catalog": {"task": "agents.sync_servers", "schedule": 30.0, "options": {"expires": 30}},
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "studio.kernel.api_input.BearerAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["studio.kernel.api_input.BoundedJSONParser"],
    "DEFAULT_METADATA_CLASS": None,
    "URL_FORMAT_OVERRIDE": None,
    "DEFAULT_THROTTLE_CLASSES": ["studio.kernel.throttle.AccountThrottle"],
    "DEFAULT_THROTTLE_RATES": {"user": env.str("STUDIO_API_RATE", default="12000/min")},
    "DEFAULT_PAGINATION_CLASS": "studio.kernel.pagination.StudioPagination",
    "DEFAULT_SCHEMA_CLASS": "studio.kernel.openapi.StudioSchema",
    "EXCEPTION_HANDLER": "studio.kernel.api_errors.handle",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
REST_KNOX = {"TOKEN_TTL": None, "AUTH_HEADER_PREFIX": "Bearer", "MIN_REFRESH_INTERVAL": 60}
SPECTACULAR_SETTINGS = {
    "TITLE": "OpenCode Studio",
    "DESCRIPTION": "Projects, tasks, agent sessions and workspaces of a self-hosted OpenCode Studio.",
    "VERSION": "v1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "COMPONENT_SPLIT_PATCH": False,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "ENUM_NAME_OVERRIDES": {
        "CompletionWay": "tasks.choices.CompletionWay",
        "TaskStatus": "tasks.choices.Status",
        "RunState": "tasks.choices.RunState",
        "RunPhaseState": "tasks.choices.RunPhaseState",
        "FindingState": "tasks.choices.FindingState",
        "TurnState": "sessions_app.models.TurnState",
        "AgentRole": "agents.models.AgentRole",
        "ProjectRole": "studio.kernel.permissions.Role",
        "CommandState": "workspaces.models.CommandState",
        "WorkspaceState": "workspaces.models.WorkspaceState",
        "AskKind": "sessions_app.models.AskKind",
        "AskState": "sessions_app.models.AskState",
        "AskReply": "sessions_app.models.AskReply",
        "BudgetAction": "sessions_app.models.BudgetAction",
        "AskTimeout": "sessions_app.models.AskTimeout",
        "RuleAction": "sessions_app.models.RuleAction",
        "ForgeKind": "workspaces.models.ForgeKind",
        "PullRequestState": "workspaces.models.PullRequestState",
        "ChecksState": "workspaces.models.ChecksState",
        "ReviewSource": "tasks.choices.ReviewSource",
    },
}

STATIC_URL = "static/"
STATIC_ROOT = DATA / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "studio.storage.StaticStorage"},
}
if DEBUG:
    STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}

LANGUAGE_CODE = "en"
USE_I18N = False
TIME_ZONE = "UTC"
USE_TZ = True

from studio.kernel.logs import logging_config  # noqa: E402 -- structlog is set up from the settings above

LOG_JSON = env.bool("STUDIO_LOG_JSON", default=False)
LOGGING = logging_config(json_lines=LOG_JSON, level=os.environ.get("STUDIO_LOG_LEVEL", "INFO"))
DJANGO_STRUCTLOG_CELERY_ENABLED = True
