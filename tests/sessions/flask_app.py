"""A web application with sessions: Flask and flask-session over redis-py, all unchanged.

Environment: PORT (HTTP), REDIS_PORT (the node this instance talks to), SESSION_SECONDS.
"""

import os
from datetime import timedelta

from flask import Flask, abort, request, session
from flask_session import Session
from redis import Redis

app = Flask(__name__)
app.config.update(
    SESSION_TYPE="redis",
    SESSION_REDIS=Redis("127.0.0.1", int(os.environ["REDIS_PORT"])),
    PERMANENT_SESSION_LIFETIME=timedelta(seconds=int(os.environ["SESSION_SECONDS"])),
)
Session(app)


def of_session():
    if "user" not in session:
        abort(401)
    return f"{session['user']} {session['visits']}"


@app.post("/login")
def login():
    session["user"] = request.args["user"]
    session["visits"] = 0
    return "welcome"


@app.post("/visit")
def visit():
    of_session()
    session["visits"] += 1
    return of_session()


@app.get("/me")
def me():
    return of_session()


@app.post("/logout")
def logout():
    of_session()
    session.clear()
    return "bye"


@app.get("/library")
def library():
    """A new session id against session fixation: the data moves to another key."""
    session["user"], session["visits"] = "moved", 0
    before = session.sid
    app.session_interface.regenerate(session)
    return "ok" if session.sid != before and session["user"] == "moved" else "not regenerated"


if __name__ == "__main__":
    app.run("127.0.0.1", int(os.environ["PORT"]))
