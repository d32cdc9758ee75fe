//! The live page in a real browser: headless Chromium loads it from one node of three, and the document that its script
//! has made is read.
//!
//! Without a Chromium the test says SKIPPED, unless `RONDO_REQUIRED` is set; `scripts/test` installs Debian's.

#[path = "support/mod.rs"]
mod support;

use std::process::Command;
use std::time::Duration;

use support::cluster::Cluster;
use support::resp::Value;
use support::wait_for;

const PATIENCE: Duration = Duration::from_secs(90);

/// The browser's command; `None` when there is none.
fn chromium() -> Option<&'static str> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = names.into_iter().find(|name| Command::new(name).arg("--version").output().is_ok());
    if found.is_none() {
        support::skipped("there is no Chromium; scripts/test installs it");
    }
    found
}

/// The document after its script has run for some seconds of the browser's own time.
fn document(chromium: &str, url: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new("timeout")
        .args([
            "60",
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--virtual-time-budget=4000",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(url)
        .output()
        .expect("timeout starts");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What stands in a tile, as `(value, note)`.
fn tile(document: &str, name: &str) -> (String, String) {
    let (_, rest) = document.split_once(&format!("data-tile=\"{name}\"")).expect("the tile");
    let text = |tag: &str, nth: usize| {
        let rest = rest.split(&format!("<{tag}>")).nth(nth).expect("the tag");
        rest.split('<').next().unwrap_or_default().to_owned()
    };
    (text("b", 1), text("small", 2))
}

fn count(document: &str, word: &str) -> usize {
    document.matches(word).count()
}

#[test]
fn any_node_shows_the_whole_cluster_and_what_is_wrong_with_it() {
    let Some(chromium) = chromium() else { return };
    let mut cluster = Cluster::start(3, &["--cluster-name", "shown <b>here</b>"]);
    let mut client = cluster.nodes[0].client();
    for number in 0..40 {
        assert_eq!(client.call(&["SET", &format!("page:{number}"), "value"]), Value::Simple(b"OK".to_vec()));
    }
    let page = format!("http://{}/", cluster.nodes[1].addr(cluster.nodes[1].admin_port));

    let document = wait_for(PATIENCE, || {
        let document = document(chromium, &page);
        document.contains("data-state=\"healthy\"").then_some(document)
    });
    let document = document.expect("the page shows a healthy cluster");
    assert_eq!(count(&document, "<tr data-node="), 3, "{document}");
    assert_eq!(count(&document, "data-condition=\"up\""), 3, "{document}");
    assert_eq!(tile(&document, "keys"), ("120".into(), "copies on all nodes".into()), "40 keys, three copies of each");
    assert_eq!(tile(&document, "slots unserved"), ("0".into(), "all agree on the ring".into()));
    assert!(document.contains(">3 of 3</text>") && document.contains(">N 3  W 2  R 2</text>"), "{document}");
    let paths = count(&document, "<path d=\"M");
    assert_eq!(
        paths, 7,
        "every node runs slots; of two other holders the lowest id is never the last, nor the highest the first"
    );
    assert!(document.contains("shown &lt;b&gt;here&lt;/b&gt;"), "what nodes say is text, not markup: {document}");
    assert!(!document.contains("class=\"advice"), "nothing is wrong: {document}");

    cluster.nodes[2].kill();
    let down = wait_for(PATIENCE, || {
        let found = self::document(chromium, &page);
        (count(&found, "data-condition=\"down\"") == 1 && found.contains("data-state=\"unhealthy\"")).then_some(found)
    });
    let down = down.expect("the page shows the dead node");
    assert!(down.contains("class=\"advice warning\"") && down.contains("Start it again"), "{down}");
    assert!(down.contains(">2 of 3</text>"), "{down}");
    assert_eq!(tile(&down, "slots unserved").0, "0", "the others stand in");
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let cluster = Cluster::start(1, &[]);
    let (status, page) = support::client::http_get(cluster.nodes[0].admin_port, "/").expect("the page");
    assert_eq!(status, 200);
    // The one namespace that SVG needs is no address to load from; links to other nodes are made from their names.
    let text = page.replace("http://www.w3.org/2000/svg", "").replace("`http://${host}", "");
    for word in ["http://", "https://", "//cdn", "@import", " src="] {
        assert!(!text.contains(word), "{word} in the page");
    }
}
