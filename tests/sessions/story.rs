//! What users do with an application, whatever library it is made of.
//!
//! Nothing is asserted about how long anything takes: a session's life is read from its key and changed there, and the
//! one wait is for a short session to end.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use crate::app::{App, User};
use crate::support::client::Client;
use crate::support::cluster::Cluster;
use crate::support::resp::Value;

/// Life of the sessions, in seconds: longer than any test.
const LONG: u32 = 1_200;
const SHORT: u32 = 1;
/// So many users that every node coordinates the sessions of some.
const USERS: usize = 24;

/// Starts three nodes, and instances of the application by `command` (cluster, the instance's node, seconds of a
/// session's life, HTTP port), and goes through all that a session is for.
pub fn tell(command: impl Fn(&Cluster, usize, u32, u16) -> Command) {
    let mut cluster = Cluster::start(3, &[]);
    let logs = tempfile::tempdir().unwrap();
    let start = |cluster: &Cluster, i: usize, seconds: u32| {
        App::start(&format!("app{i}-{seconds}"), logs.path(), |port| command(cluster, i, seconds, port))
    };
    let apps = [start(&cluster, 0, LONG), start(&cluster, 1, LONG)];
    let mut users: Vec<User> = (0..USERS).map(|number| User::new(&format!("user{number}"))).collect();

    log_in(&mut users, &apps[0]);
    visit(&mut users, &apps, 1);
    touch_and_expire(&cluster, &apps);
    cluster.nodes[2].kill();
    visit(&mut users, &apps, 2);
    log_in(&mut [User::new("late")], &apps[1]);

    cluster.restart(2);
    cluster.nodes[2].must_be_ready();
    cluster.must_settle();
    let third = start(&cluster, 2, LONG);
    visit(&mut users, &[third], 3);
    log_out(&mut users[0], &apps[1], &apps[0]);
    let library = User::new("library").get(&apps[0], "/library");
    assert_eq!(library, (200, "ok".to_owned()));

    let brief = [start(&cluster, 0, SHORT), start(&cluster, 1, SHORT)];
    ends_by_itself(&brief);
}

/// Logging in on one node; without it nothing is shown.
fn log_in(users: &mut [User], app: &App) {
    for user in users {
        assert_eq!(user.get(app, "/me").0, 401, "{} is not known yet", user.name);
        let path = format!("/login?user={}", user.name);
        assert_eq!(user.post(app, &path), (200, "welcome".to_owned()), "{} logs in", user.name);
    }
}

/// The `visit`th visit of each user, made through one instance and read through the next.
fn visit(users: &mut [User], apps: &[App], visit: usize) {
    for (number, user) in users.iter_mut().enumerate() {
        let expected = (200, format!("{} {visit}", user.name));
        assert_eq!(user.post(&apps[number % apps.len()], "/visit"), expected);
        assert_eq!(user.get(&apps[(number + 1) % apps.len()], "/me"), expected);
    }
}

/// A session carries the life that the application wants, reading it renews that, and at its end it is gone.
fn touch_and_expire(cluster: &Cluster, apps: &[App; 2]) {
    let mut client = cluster.nodes[2].client();
    let before = keys(&mut client);
    let mut user = User::new("brief");
    log_in(std::slice::from_mut(&mut user), &apps[0]);
    let after = keys(&mut client);
    let own: Vec<&String> = after.difference(&before).collect();
    let [key] = own.as_slice() else { panic!("one new session, one new key, not {own:?}") };
    let life = pttl(&mut client, key);
    assert!((1..=i64::from(LONG) * 1_000).contains(&life), "a new session lives {life} ms");

    assert_eq!(client.call(&["PEXPIRE", key, "100000"]), Value::Int(1));
    assert_eq!(user.get(&apps[1], "/me").0, 200);
    let touched = pttl(&mut client, key);
    assert!(touched > 100_000, "reading renews a session's life, which is {touched} ms");

    assert_eq!(client.call(&["PEXPIRE", key, "1"]), Value::Int(1));
    while pttl(&mut client, key) != -2 {}
    assert_eq!(user.get(&apps[0], "/me").0, 401, "an expired session is not known");
}

/// Logging out on one node counts on the other at once.
fn log_out(user: &mut User, app: &App, other: &App) {
    assert_eq!(user.post(app, "/logout").0, 200);
    assert_eq!(user.get(other, "/me").0, 401);
}

/// A short session ends without anybody's doing, at every instance.
fn ends_by_itself(apps: &[App; 2]) {
    let mut user = User::new("fleeting");
    assert_eq!(user.post(&apps[0], "/login?user=fleeting").0, 200);
    std::thread::sleep(Duration::from_secs(u64::from(SHORT)) + Duration::from_millis(500));
    assert_eq!(user.get(&apps[1], "/me").0, 401);
}

fn keys(client: &mut Client) -> BTreeSet<String> {
    let reply = client.call(&["KEYS", "*"]);
    reply.items().expect("a list of keys").iter().filter_map(Value::text).collect()
}

fn pttl(client: &mut Client, key: &str) -> i64 {
    match client.call(&["PTTL", key]) {
        Value::Int(ms) => ms,
        other => panic!("PTTL answered {other:?}"),
    }
}
