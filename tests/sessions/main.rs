//! Web applications that keep their sessions in rondo with the libraries people use, unchanged.
//!
//! Each application is a few lines in its own language (`express.js`, `flask_app.py`, `django_app.py`, `session.php`)
//! with the same pages: `/login`, `/visit` (changes the session), `/me` (only reads it, which makes libraries extend
//! its life), `/logout` and `/library` (what else the library asks of a server). An instance of it runs for each node,
//! as behind a load balancer, and `story` goes through them as users do: over HTTP, with cookies.
//!
//! `scripts/test` installs the libraries under `target/sessions`; where one is missing its test says SKIPPED, unless
//! `RONDO_REQUIRED` is set. Session locks are not tested: the libraries take them by EVAL.

mod app;
mod story;
#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::cluster::{Cluster, Node};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn installed(path: &str) -> PathBuf {
    root().join("target/sessions").join(path)
}

fn source(name: &str) -> PathBuf {
    root().join("tests/sessions").join(name)
}

/// True when the libraries are there; otherwise says that the test does nothing.
fn is_there(mut probe: Command) -> bool {
    if probe.output().is_ok_and(|output| output.status.success()) {
        return true;
    }
    support::skipped(&format!("{probe:?} does not run; scripts/test installs it"));
    false
}

fn node_js() -> Command {
    let mut command = Command::new("node");
    command.env("NODE_PATH", installed("node_modules"));
    command
}

fn python() -> Command {
    Command::new(installed("python/bin/python"))
}

/// An application that is told its node by the environment.
fn told_by_environment(mut command: Command, file: &str, node: &Node, seconds: u32) -> Command {
    command.arg(source(file)).env("REDIS_PORT", node.port.to_string()).env("SESSION_SECONDS", seconds.to_string());
    command
}

#[test]
fn express_with_connect_redis() {
    let mut probe = node_js();
    probe.args(["-e", "for (const name of ['express', 'express-session', 'connect-redis', 'redis']) require(name)"]);
    if is_there(probe) {
        story::tell(|cluster, i, seconds, _| told_by_environment(node_js(), "express.js", &cluster.nodes[i], seconds));
    }
}

#[test]
fn flask_with_flask_session() {
    let mut probe = python();
    probe.args(["-c", "import flask_session, redis"]);
    if is_there(probe) {
        story::tell(|cluster, i, seconds, _| told_by_environment(python(), "flask_app.py", &cluster.nodes[i], seconds));
    }
}

fn django(backend: &str) {
    let mut probe = python();
    probe.args(["-c", "import django, django_redis"]);
    if is_there(probe) {
        story::tell(|cluster, i, seconds, _| {
            let mut command = told_by_environment(python(), "django_app.py", &cluster.nodes[i], seconds);
            command.env("CACHE_BACKEND", backend);
            command
        });
    }
}

#[test]
fn django_with_its_own_cache() {
    django("django.core.cache.backends.redis.RedisCache");
}

#[test]
fn django_with_django_redis() {
    django("django_redis.cache.RedisCache");
}

/// PHP's own web server with phpredis's session handler.
fn php(handler: &str, path_of: impl Fn(&Cluster, usize) -> String) {
    let mut probe = Command::new("php");
    probe.args(["-r", "exit(class_exists('Redis') ? 0 : 1);"]);
    if is_there(probe) {
        story::tell(|cluster, i, seconds, port| {
            let mut command = Command::new("php");
            for option in [
                format!("session.save_handler={handler}"),
                format!("session.save_path=\"{}\"", path_of(cluster, i)),
                format!("session.gc_maxlifetime={seconds}"),
            ] {
                command.args(["-d", &option]);
            }
            command.arg("-S").arg(format!("127.0.0.1:{port}")).arg(source("session.php"));
            command
        });
    }
}

#[test]
fn php_with_the_handler_of_phpredis() {
    php("redis", |cluster, i| format!("tcp://127.0.0.1:{}", cluster.nodes[i].port));
}

#[test]
fn php_with_the_cluster_handler_of_phpredis() {
    php("rediscluster", |cluster, _| {
        let seeds = cluster.nodes.iter().map(|node| format!("seed[]=127.0.0.1:{}", node.cluster_port));
        format!("{}&timeout=5&read_timeout=5", seeds.collect::<Vec<_>>().join("&"))
    });
}
