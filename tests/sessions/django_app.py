"""A web application with sessions in its cache: Django, over its own Redis cache or over django-redis, all unchanged.

Environment: PORT (HTTP), REDIS_PORT (the node this instance talks to), SESSION_SECONDS, CACHE_BACKEND (a class).
"""

import os
from wsgiref.simple_server import WSGIRequestHandler, make_server

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application

BACKEND = os.environ["CACHE_BACKEND"]

settings.configure(
    ALLOWED_HOSTS=["*"],
    CACHES={"default": {"BACKEND": BACKEND, "LOCATION": f"redis://127.0.0.1:{os.environ['REDIS_PORT']}"}},
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="only-for-tests",
    SESSION_COOKIE_AGE=int(os.environ["SESSION_SECONDS"]),
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    SESSION_SAVE_EVERY_REQUEST=True,
)
django.setup()

from django.core.cache import cache  # noqa: E402: only once the settings are there
from django.http import HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402


def of_session(request):
    if "user" not in request.session:
        return HttpResponse(status=401)
    return HttpResponse(f"{request.session['user']} {request.session['visits']}")


def login(request):
    request.session["user"] = request.GET["user"]
    request.session["visits"] = 0
    return HttpResponse("welcome")


def visit(request):
    if "user" in request.session:
        request.session["visits"] += 1
    return of_session(request)


def logout(request):
    request.session.flush()
    return HttpResponse("bye")


def library(_request):
    """The rest of the cache's interface; answers with what is wrong."""
    wrong = [name for name, good in cache_checks() if not good]
    return HttpResponse(f"wrong: {wrong}" if wrong else "ok")


def cache_checks():
    yield "set", cache.set("a", {"one": [1, 2]}, 60) is not False
    yield "get", cache.get("a") == {"one": [1, 2]}
    yield "get default", cache.get("nothing", "default") == "default"
    yield "add", cache.add("b", 1, 60) and not cache.add("b", 2, 60)
    yield "incr", cache.incr("b", 4) == 5 and cache.decr("b") == 4
    yield "touch", cache.touch("a", 120) and not cache.touch("nothing", 120)
    yield "has_key", cache.has_key("a") and "nothing" not in cache
    yield "set_many", not cache.set_many({f"many-{n}": n for n in range(20)}, 60)
    yield "get_many", cache.get_many([f"many-{n}" for n in range(21)]) == {f"many-{n}": n for n in range(20)}
    yield "get_or_set", cache.get_or_set("c", lambda: "made", 60) == "made"
    yield "delete", cache.delete("c") and not cache.delete("c")
    if BACKEND.startswith("django_redis"):
        yield "ttl", 60 < cache.ttl("a") <= 120 and cache.ttl("nothing") == 0
        yield "persist", cache.persist("a") and cache.ttl("a") is None
        yield "expire", cache.expire("a", 60) and 0 < cache.pttl("a") <= 60_000
        yield "set nx, xx", cache.set("d", 1, 60, nx=True) and not cache.set("d", 2, 60, nx=True)
        yield "keys", sorted(cache.keys("many-*")) == sorted(f"many-{n}" for n in range(20))
        yield "iter_keys", sum(1 for _ in cache.iter_keys("many-*")) == 20
        yield "delete_pattern", cache.delete_pattern("many-*") == 20
        yield "hashes", cache.hset("h", "field", "value") == 1 and cache.hkeys("h") == ["field"]
        yield "sets", cache.sadd("s", "x", "y") == 2 and cache.smembers("s") == {"x", "y"}
    yield "delete_many", cache.delete_many(["a", "b"]) in (None, 2)
    yield "gone", cache.get_many(["a", "b"]) == {}


urlpatterns = [
    path("login", login),
    path("visit", visit),
    path("me", of_session),
    path("logout", logout),
    path("library", library),
]


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        """Requests are not logged."""


if __name__ == "__main__":
    make_server("127.0.0.1", int(os.environ["PORT"]), get_wsgi_application(), handler_class=Quiet).serve_forever()
