//! The table is sound, every row reaches [`Settings`], layers win in their order, and mistakes are named.

use super::*;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

fn no_files(path: &Path) -> io::Result<String> {
    Err(io::Error::new(io::ErrorKind::NotFound, format!("no {}", path.display())))
}

fn flags(list: &[(&str, &str)]) -> Sources {
    let flag = |(name, value): &(&str, &str)| ((*name).to_owned(), vec![(*value).to_owned()]);
    Sources { flags: list.iter().map(flag).collect(), ..Sources::default() }
}

fn with_flags(list: &[(&str, &str)]) -> Result<Settings, String> {
    let loaded = load(&flags(list), &no_files).map_err(|problems| problems.to_string())?;
    let config = Config::new(loaded).map_err(|problems| problems.to_string())?;
    Ok(Settings::clone(&config.settings()))
}

fn config(file: &str) -> Config {
    let sources = Sources { file: Some("rondo.conf".into()), ..Sources::default() };
    Config::new(load(&sources, &|_| Ok(file.to_owned())).unwrap()).unwrap()
}

#[test]
fn names_are_unique_and_rows_stand_by_section() {
    let names: Vec<_> = OPTIONS.iter().map(|opt| opt.name).chain(ALIASES.iter().map(|(old, _)| *old)).collect();
    let others = FIXED.iter().chain(REFUSED).map(|fixed| fixed.name).chain(SKIPPED.iter().copied());
    let all: Vec<_> = names.into_iter().chain(others).collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    assert!(all.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-' || b == b'_')));
    assert!(OPTIONS.windows(2).all(|pair| pair[0].section <= pair[1].section));
    assert!(OPTIONS.iter().all(|opt| !opt.help.is_empty() && !opt.help.ends_with('.')));
}

#[test]
fn defaults_parse_and_what_is_shown_reads_back() {
    let loaded = load(&Sources::default(), &no_files).unwrap();
    for (opt, entry) in OPTIONS.iter().zip(loaded.entries) {
        let shown = entry.value.to_string();
        assert_eq!(opt.kind.parse_text(&shown, None), Ok(entry.value), "{}", opt.name);
    }
}

#[test]
fn every_row_reaches_the_settings() {
    let plain = with_flags(&[]).unwrap();
    for opt in OPTIONS {
        let other = match opt.kind {
            Kind::YesNo if opt.default == "yes" => "no",
            Kind::YesNo => "yes",
            // Above every default and below every quorum's replicas.
            Kind::Int { .. } if opt.name == "replicas" => "4",
            Kind::Int { .. } if opt.name.ends_with("quorum") => "1",
            Kind::Int { max, .. } if max < 77 => "5",
            Kind::Int { .. } => "77",
            Kind::Bytes { .. } => "77mb",
            Kind::Millis { .. } => "77s",
            Kind::Float { .. } => "7.5",
            Kind::Choice(words) => words.iter().find(|word| **word != opt.default).unwrap(),
            Kind::Text | Kind::Name | Kind::Secret => "other",
            Kind::Port => "7777",
            Kind::Binds => "10.1.2.3",
            Kind::Peers => "localhost:1",
            Kind::Percentiles => "77",
            Kind::BufferLimits => "normal 1 2 3",
            Kind::Events => "KEA",
        };
        let words = other.split(' ').map(str::to_owned).collect();
        let sources = Sources { flags: vec![(opt.name.to_owned(), words)], ..Sources::default() };
        let changed = Config::new(load(&sources, &no_files).unwrap()).unwrap();
        assert_ne!(**changed.settings(), plain, "{} is in the table and nowhere else", opt.name);
    }
}

#[test]
fn the_later_layer_wins_and_says_so() {
    let text = "# c\nmaxmemory 1mb\ninclude more.conf\ncluster-name 'a b'\n";
    let read = |path: &Path| match path.to_str() {
        Some("rondo.conf") => Ok(text.to_owned()),
        Some("more.conf") => Ok("MAXCLIENTS 5\nlfu-decay-time 20".to_owned()),
        _ => no_files(path),
    };
    let sources = Sources {
        file: Some("rondo.conf".into()),
        env: vec![
            ("RONDO_LFU_DECAY_TIME".into(), "30".into()),
            ("RONDO_MAXCLIENTS".into(), "6".into()),
            ("LFU_DECAY_TIME".into(), "x".into()),
        ],
        flags: vec![("maxclients".into(), vec!["7".into()])],
    };
    let config = Config::new(load(&sources, &read).unwrap()).unwrap();
    let origins: BTreeMap<_, _> =
        config.describe().into_iter().map(|(name, value, origin)| (name, (value, origin.to_string()))).collect();
    assert_eq!(origins["maxmemory"], ("1048576".into(), "rondo.conf:2".into()));
    assert_eq!(origins["cluster-name"], ("a b".into(), "rondo.conf:4".into()));
    assert_eq!(origins["lfu-decay-time"], ("30".into(), "environment variable RONDO_LFU_DECAY_TIME".into()));
    assert_eq!(origins["maxclients"], ("7".into(), "command line".into()));
    assert_eq!(origins["timeout"].1, "default");
}

#[test]
fn all_mistakes_are_reported_together() {
    let text = "maxmemroy 1gb\nport x\nzone \"a\nreplicas 99\ninclude nowhere.conf\nuser default off\nzone 'a b'\n";
    let read = |path: &Path| if path.ends_with("rondo.conf") { Ok(text.to_owned()) } else { no_files(path) };
    let sources = Sources {
        file: Some("rondo.conf".into()),
        env: vec![("RONDO_CLUSTER_SECRET".into(), "fine".into()), ("RONDO_PORT".into(), "tcp://10.0.0.1:6379".into())],
        flags: vec![("bind".into(), vec!["a..b".into()])],
    };
    let problems = load(&sources, &read).unwrap_err().to_string();
    let expected = [
        "rondo.conf:1: unknown option 'maxmemroy' (did you mean 'maxmemory'?)",
        "rondo.conf:2: port x: argument couldn't be parsed into an integer",
        "rondo.conf:3: unbalanced quotes",
        "rondo.conf:4: replicas 99: argument must be between 1 and 16 inclusive",
        "cannot read nowhere.conf: no nowhere.conf",
        "rondo.conf:6: user: rondo has one password (requirepass) and no users yet",
        "rondo.conf:7: zone \"a b\": argument must be at most 255 bytes without blanks, commas and control characters",
        "environment variable RONDO_PORT: port tcp://10.0.0.1:6379: argument couldn't be parsed into an integer",
        "command line: bind a..b: 'a..b' is neither an IP address nor the name of one",
    ];
    assert_eq!(problems.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_file_that_includes_itself_ends() {
    let sources = Sources { file: Some("loop.conf".into()), ..Sources::default() };
    let problems = load(&sources, &|_| Ok("include loop.conf".into())).unwrap_err().to_string();
    assert_eq!(problems, "loop.conf:1: files include each other more than 16 deep");
}

#[test]
fn files_are_included_by_wildcards_as_in_redis() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("a.conf", "timeout 1\nmaxmemory 8"), ("b.conf", "maxmemory 7"), (".c.conf", "maxmemory 9")] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    std::fs::create_dir(dir.path().join("d.conf")).unwrap();
    let loaded = |patterns: &[&str]| {
        let line = |pattern: &&str| format!("include {}\n", dir.path().join(pattern).display());
        let main: String = patterns.iter().map(line).collect();
        let sources = Sources { file: Some("main.conf".into()), ..Sources::default() };
        let read = |path: &Path| match path.to_str() {
            Some("main.conf") => Ok(main.clone()),
            _ => std::fs::read_to_string(path),
        };
        let config = load(&sources, &read).map(|loaded| Config::new(loaded).unwrap());
        config.map(|config| (config.settings().maxmemory, config.settings().timeout_s)).map_err(|e| e.to_string())
    };
    assert_eq!(loaded(&["*.conf"]), Ok((7, 1)), "in the order of their names, without hidden ones");
    assert_eq!(loaded(&["[!b].conf"]), Ok((8, 1)));
    assert_eq!(loaded(&["?.conf", "a.co[n]f"]), Ok((8, 1)));
    assert_eq!(loaded(&["nosuch*.conf", "*/*.conf"]), Ok((0, 0)), "none is no mistake");
    std::fs::write(dir.path().join("b.conf"), format!("include {}/*.conf", dir.path().display())).unwrap();
    let loop_ended = loaded(&["*.conf"]).unwrap_err();
    assert_eq!(loop_ended.lines().count(), 1, "{loop_ended}");
    assert!(loop_ended.ends_with("b.conf:1: files include each other more than 16 deep"), "{loop_ended}");
}

#[test]
fn a_name_is_bound_by_its_first_ipv4_address_and_shown_as_it_was_given() {
    let config = config("bind localhost -LOCALHOST ::1\n");
    let ips: Vec<String> = config.settings().bind.iter().map(|bind| bind.ip.to_string()).collect();
    assert_eq!(ips, ["127.0.0.1", "127.0.0.1", "::1"]);
    assert_eq!(config.get(["bind"], false), [("bind".to_owned(), "localhost -LOCALHOST ::1".to_owned())]);
    assert!(["", "-", "a..b", "-a..b", "1.2.3.4.5", "::x"].iter().all(|text| Bind::parse(text).is_err()));
}

#[test]
fn what_redis_knows_and_we_do_not_is_one_warning_beside_one_for_each_wish_that_is_not_met() {
    let text =
        "io-threads 4\nsave 900 1\nsave \"\"\nappendonly no\nreplicaof 10.0.0.1 6379\ntcp-backlog 128\nio-threads 2\n";
    let sources = Sources {
        file: Some("redis.conf".into()),
        env: vec![("RONDO_SERVICE_HOST".into(), "10.0.0.1".into())],
        ..Sources::default()
    };
    let loaded = load(&sources, &|_| Ok(text.to_owned())).unwrap();
    let expected = [
        "save stays '': rondo keeps data in memory and on other nodes, not in files",
        "replicaof stays '': rondo has no primary and no replica: every node takes writes",
        "options of Redis that change nothing here: io-threads",
        "environment variables that name no option: RONDO_SERVICE_HOST",
    ];
    assert_eq!(loaded.warnings, expected);
}

#[test]
fn one_processor_is_left_to_what_serves_no_clients() {
    let workers: Vec<_> = [1, 2, 3, 16].into_iter().map(workers_for).collect();
    assert_eq!(workers, [1, 1, 2, 15]);
    assert_eq!(with_flags(&[("workers", "9")]).unwrap().workers, 9, "what is given holds");
}

#[test]
fn ports_are_derived_unless_given() {
    let ports = |list: &[(&str, &str)]| with_flags(list).map(|settings| settings.ports);
    assert_eq!(ports(&[]), Ok(Ports { port: 6379, cluster: 7379, admin: 9379, peer: 16379 }));
    let given = ports(&[("port", "7000"), ("admin-port", "0"), ("peer-port", "5")]);
    assert_eq!(given, Ok(Ports { port: 7000, cluster: 8000, admin: 0, peer: 5 }));
    let high = "peer-port is auto and would be above 65535 (60000 + 10000): give it, or a smaller port";
    assert_eq!(ports(&[("port", "60000")]), Err(high.into()));
    assert_eq!(
        ports(&[("port", "6379"), ("cluster-port", "9379")]),
        Err("cluster-port and admin-port are both 9379".into())
    );
    assert!(ports(&[("port", "0")]).unwrap_err().contains("there is no port to derive it from"));
}

#[test]
fn the_peer_port_is_open_only_with_a_secret() {
    let loopback_only = with_flags(&[("bind", "0.0.0.0")]).unwrap();
    assert_eq!(loopback_only.peer_bind(), [Bind::parse("127.0.0.1").unwrap()]);
    let open = with_flags(&[("bind", "0.0.0.0"), ("cluster-secret", "s")]).unwrap();
    assert_eq!(open.peer_bind(), open.bind);
    let join = with_flags(&[("join", "10.0.0.1:16379")]).unwrap_err();
    assert_eq!(
        join,
        "join 10.0.0.1:16379 needs a cluster-secret: without one the peer port is open to this machine only"
    );
    assert!(with_flags(&[("join", "[::1]:16379,localhost:16380")]).is_ok());
}

#[test]
fn quorums_above_the_replicas_are_refused() {
    let error = with_flags(&[("replicas", "1")]).unwrap_err();
    assert_eq!(error, "write-quorum is 2, more than the 1 replicas\nread-quorum is 2, more than the 1 replicas");
}

#[test]
fn lines_of_a_file_give_the_values_that_redis_makes_of_them() {
    let limits = |normal: &str| format!("{normal} slave 268435456 67108864 60 pubsub 33554432 8388608 60");
    let (limit, percentiles) = ("client-output-buffer-limit", "latency-tracking-info-percentiles");
    for (name, given, value) in [
        (limit, "", Some(limits("normal 1073741824 0 0"))),
        (limit, "\"\"", None),
        (limit, "\"normal  1 2 3\"", Some(limits("normal 1 2 3"))),
        (limit, "normal 1   2 3  ", Some(limits("normal 1 2 3"))),
        (limit, "normal 1 2 \" 3\"", Some(limits("normal 1 2 3"))),
        (limit, "\"normal\" 1 2 \"\" ", Some(limits("normal 1 2 0"))),
        (percentiles, "\"50  99\"", Some("50 99".to_owned())),
        (percentiles, "\"\"", Some(String::new())),
        (percentiles, "", Some(String::new())),
        (percentiles, "50 \"\"", None),
        ("maxmemory", "\"\"", Some("0".to_owned())),
        ("maxmemory", "", None),
        ("maxmemory", "kb", Some("0".to_owned())),
        ("maxmemory", "-1", None),
        ("maxmemory", "\" 5\"", None),
    ] {
        let text = format!("{name} {given}\n");
        let sources = Sources { file: Some("rondo.conf".into()), ..Sources::default() };
        let loaded = load(&sources, &|_| Ok(text.clone())).ok().and_then(|loaded| Config::new(loaded).ok());
        let found = loaded.map(|config| config.get([name], false).remove(0).1);
        assert_eq!(found, value, "{text}");
    }
}

#[test]
fn config_get_answers_as_redis_does() {
    let config = config("requirepass secret\ncluster-secret key\n");
    let get = |pattern: &str| config.get([pattern], false);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(get("MaxMemory"), [pair("MaxMemory", "0")]);
    assert_eq!(get("hash-max-*-entries").len(), 2);
    assert_eq!(get("nothing"), []);
    assert_eq!(get("save"), [pair("save", "")]);
    assert_eq!(get("cluster-port"), [pair("cluster-port", "7379")]);
    assert_eq!(get("*pass"), [pair("requirepass", "secret")]);
    assert_eq!(get("cluster-secret"), [pair("cluster-secret", "(hidden)")]);
    assert_eq!(config.get(["cluster-enabled"], true), [pair("cluster-enabled", "yes")]);
    assert_eq!(config.get(["MaxMemory", "maxm*ory", "MAXMEMORY"], false), [pair("MaxMemory", "0")]);
    let limits = "normal 1073741824 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60";
    assert_eq!(get("client-output-buffer-limit"), [pair("client-output-buffer-limit", limits)]);
}

#[test]
fn what_config_set_changes_is_told_without_secrets() {
    let config = config("");
    let change = |option, before: &str, after: &str| Change { option, before: before.into(), after: after.into() };
    let set = |pairs: &[(&str, &str)]| config.set(pairs).unwrap();
    assert_eq!(
        set(&[("requirepass", "sesame"), ("Maxmemory", "1mb")]),
        [change("requirepass", "", "(hidden)"), change("maxmemory", "0", "1048576")]
    );
    assert_eq!(
        set(&[("requirepass", "opener"), ("maxmemory", "1mb")]),
        [change("requirepass", "(hidden)", "(hidden)")]
    );
    assert_eq!(set(&[("appendonly", "no")]), []);
}

#[test]
fn what_the_machine_cannot_bear_is_refused_and_changes_nothing() {
    let config = config("maxclients 500\n");
    config.correct("maxclients", Value::Int(300));
    assert_eq!((config.settings().maxclients, config.get(["maxclients"], false)[0].1.as_str()), (300, "300"));
    let origin = |config: &Config| config.describe().into_iter().find(|(name, ..)| *name == "maxclients").unwrap().2;
    assert!(matches!(origin(&config), Origin::File { .. }), "{:?}", origin(&config));
    config.on_check("maxclients", |settings| match settings.maxclients {
        ..=300 => Ok(()),
        _ => Err("try with 300".to_owned()),
    });
    let error = config.set(&[("timeout", "7"), ("MaxClients", "301")]).unwrap_err().text();
    let expected = "CONFIG SET failed (possibly related to argument 'maxclients') - try with 300";
    assert_eq!((String::from_utf8(error).unwrap().as_str(), config.settings().timeout_s), (expected, 0));
    assert!(config.set(&[("maxclients", "299")]).is_ok() && config.set(&[("timeout", "7")]).is_ok());
}

#[test]
fn config_set_is_all_or_nothing_with_redis_texts() {
    let config = config("");
    let refused = [
        (vec![("nosuch", "1")], "Unknown option or number of arguments for CONFIG SET - 'nosuch'"),
        (vec![("lfu-decay-time", "20"), ("maxmemory", "abc")], "'maxmemory') - argument must be a memory value"),
        (vec![("maxmemory", "1"), ("MAXMEMORY", "2")], "'MAXMEMORY') - duplicate parameter"),
        (vec![("databases", "16")], "'databases') - can't set immutable config"),
        (vec![("maxclients", "0")], "'maxclients') - argument must be between 1 and 4294967295 inclusive"),
        (vec![("protected-mode", "x")], "'protected-mode') - argument must be 'yes' or 'no'"),
        (vec![("loglevel", "foo")], "- argument(s) must be one of the following: debug, verbose, notice, warning"),
        (vec![("notify-keyspace-events", "KZ")], "- Invalid event class character. Use 'Ag$lshzxeKEtmdn'."),
        (
            vec![("client-output-buffer-limit", "normal 1")],
            "- Wrong number of arguments in buffer limit configuration.",
        ),
        (vec![("appendonly", "yes")], "'appendonly') - rondo keeps data in memory"),
        (vec![("Lua-Time-Limit", "9")], "'Lua-Time-Limit') - rondo has nothing that this option of Redis would change"),
        (vec![("hz", "20")], "'hz') - background work runs as often as it is needed"),
        (vec![("tombstone-horizon-ms", "0")], "'tombstone-horizon-ms') - argument must be between 1000 and"),
        (
            vec![("maxmemory", "1"), ("Write-Quorum", "4"), ("timeout", "1")],
            "'write-quorum') - write-quorum is 4, more than the 3 replicas",
        ),
    ];
    for (pairs, expected) in refused {
        let error = String::from_utf8(config.set(&pairs).unwrap_err().text()).unwrap();
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(config.settings().lfu_decay_time_min, 1);

    let told = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let hook = told.clone();
    config.on_change(move |settings| hook.store(settings.maxmemory, std::sync::atomic::Ordering::Relaxed));
    config.set(&[("maxmemory", "1K"), ("save", ""), ("client-output-buffer-limit", "replica 1mb 1kb 3")]).unwrap();
    assert_eq!(told.load(std::sync::atomic::Ordering::Relaxed), 1_000);
    assert_eq!(config.settings().client_output_buffer_limit.replica.hard_bytes, 1 << 20);
    assert_eq!(config.settings().client_output_buffer_limit.pubsub.soft_seconds, 60);
}

#[test]
fn event_classes_show_as_redis_shows_them() {
    for (given, shown) in [("AKE", "AKE"), ("KEnm", "nKEm"), ("xgnKE", "gxnKE"), ("Eg$lshzxetdKm", "AKEm"), ("", "")] {
        let classes = EventClasses::parse(given).unwrap();
        assert_eq!(classes.to_string(), shown);
        assert_eq!(EventClasses::parse(shown), Ok(classes));
    }
    assert!(EventClasses::parse("Kx").is_ok_and(|set| set.has('x') && set.has('K') && !set.has('E')));
}

#[test]
fn rewrite_changes_the_file_and_only_what_differs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rondo.conf");
    std::fs::write(&path, "# mine\nmaxmemory 5\nhz 20\n").unwrap();
    let sources = Sources {
        file: Some(path.clone()),
        env: vec![("RONDO_REQUIREPASS".into(), "hush".into())],
        flags: vec![("cluster-name".into(), vec!["a b".into()])],
    };
    let config = Config::new(load(&sources, &|path| std::fs::read_to_string(path)).unwrap()).unwrap();
    config.set(&[("maxmemory", "7kb"), ("client-output-buffer-limit", "pubsub 1 2 3")]).unwrap();
    config.rewrite().unwrap();
    let expected = "# mine\nmaxmemory 7168\nhz 20\n# Generated by CONFIG REWRITE\nclient-output-buffer-limit normal \
                    1073741824 0 0 slave 268435456 67108864 60 pubsub 1 2 3\ncluster-name \"a b\"\n";
    assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    let without = Config::new(load(&Sources::default(), &no_files).unwrap()).unwrap();
    assert_eq!(without.rewrite().unwrap_err().to_string(), "The server is running without a config file");
}

#[test]
fn the_page_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/base/config/OPTIONS.md");
    if std::env::var_os("RONDO_TEST_WRITE_PAGES").is_some() {
        std::fs::write(&path, markdown()).unwrap();
    }
    let page = std::fs::read_to_string(path).unwrap();
    assert!(page == markdown(), "run the tests with RONDO_TEST_WRITE_PAGES=1 to write OPTIONS.md anew");
}

#[test]
fn the_length_up_to_which_hashes_are_compact_is_a_memory_value_under_both_names() {
    assert_eq!(config("hash-max-ziplist-value 1kb\n").settings().hash_max_listpack_value, 1_024);
    assert_eq!(with_flags(&[("hash-max-listpack-value", "2kb")]).unwrap().hash_max_listpack_value, 2_048);
    for given in ["x", "-1"] {
        let error = with_flags(&[("hash-max-listpack-value", given)]).unwrap_err();
        assert!(error.contains("argument must be a memory value"), "{error}");
    }
}
