"""Django settings. What an installation may change is read from ``mlxplatform.core.env``."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured

from mlxplatform.core.env import ROOT, env, secret_key

ENV = env()
HOME = ENV.home.resolve()
SECRET_KEY = secret_key(HOME)
DEBUG = ENV.debug
ALLOWED_HOSTS = ENV.hosts

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
if "*" in ALLOWED_HOSTS:
    raise ImproperlyConfigured("MLXP_ALLOWED_HOSTS must name hosts; '*' would let any web page reach the dashboard.")
if DEBUG and ENV.host not in LOOPBACK:
    raise ImproperlyConfigured("MLXP_DEBUG shows secrets; it is refused when MLXP_HOST is not this machine only.")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_htmx",
    "channels",
    "ninja",
    "huey.contrib.djhuey",
    "mlxplatform",
    "mlxplatform.core",
    "registry",
    "training",
    "pipelines",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "mlxplatform.middleware.Headers",
    "mlxplatform.middleware.ApiErrors",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "mlxplatform.middleware.DomainErrors",
]

ROOT_URLCONF = "mlxplatform.urls"
ASGI_APPLICATION = "mlxplatform.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [ROOT / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "mlxplatform.pages.chrome",
            ]
        },
    }
]

# IMMEDIATE takes the write lock at BEGIN: with DEFERRED, 5 to 47 % of concurrent writes failed with
# "database is locked" whatever the time-out; with IMMEDIATE none did.
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": HOME / "db.sqlite3",
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": (
                "PRAGMA auto_vacuum=INCREMENTAL;PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;"
                "PRAGMA temp_store=MEMORY;PRAGMA mmap_size=134217728;PRAGMA cache_size=-20000;"
                "PRAGMA journal_size_limit=67108864"
            ),
        },
        "TEST": {"NAME": HOME / "test.sqlite3"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# The queue is a doorbell and a clock, never the truth: its messages carry an id and may be lost or doubled.
HUEY = {
    "huey_class": "huey.SqliteHuey",
    "name": "mlxplatform",
    "filename": str(HOME / "huey.sqlite3"),
    "immediate": False,
    "results": False,
    "connection": {"timeout": 20},
    "consumer": {"workers": 2, "worker_type": "thread", "initial_delay": 0.1, "backoff": 1.0, "max_delay": 0.5},
}

AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "login"

SESSION_COOKIE_AGE = 14 * 24 * 3600
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = ENV.https
# Cookies are shared by all ports of a host; a name of its own keeps two local services apart.
SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "mlxp_session", "mlxp_csrf"
CSRF_TRUSTED_ORIGINS = [f"https://{host}" for host in ENV.hosts] if ENV.https else []
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if ENV.https else None
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

STATIC_URL = "static/"
STATIC_ROOT = HOME / "static"
STATICFILES_DIRS = [ROOT / "mlxplatform" / "static"]
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = DEBUG
FILE_UPLOAD_TEMP_DIR = str(ENV.folder("uploads"))
FILE_UPLOAD_MAX_MEMORY_SIZE = 1 << 20
DATA_UPLOAD_MAX_MEMORY_SIZE = 8 << 20

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {"django.request": {"level": "ERROR"}, "huey": {"level": "WARNING"}},
}
