//! The rules can fail: each is fed a file that breaks it.

use crate::source::{Source, blank};
use crate::{
    call_complaints, layer_complaints, length_complaints, listing_complaints, order_complaints, reachable,
    unsafe_complaints, width_complaints, word_complaints,
};

fn at(path: &str, text: &str) -> Source {
    Source::new(path, text)
}

fn tree(store: &str, ring: &str) -> Vec<Source> {
    vec![
        at("src/lib.rs", "//! x\npub mod store;\npub mod ring;\n"),
        at("src/store/mod.rs", store),
        at("src/ring/mod.rs", ring),
    ]
}

#[test]
fn an_upward_import_is_named_with_its_line() {
    let sources = tree("//! x\nuse crate::{base::ids, ring::Ring};\n", "//! x\n");
    assert_eq!(layer_complaints(&sources), ["src/store/mod.rs:2: `store` must not import `ring`"]);
    let sources = tree("//! x\nfn f() { super::ring::g() }\n", "//! x\n");
    assert_eq!(layer_complaints(&sources), ["src/store/mod.rs:2: `store` must not import `ring`"]);
}

#[test]
fn comments_strings_and_tests_import_nothing() {
    let text = "//! crate::ring\nconst A: &str = \"crate::ring\";\n#[cfg(test)]\nmod tests { use crate::ring::x; }\n";
    assert!(layer_complaints(&tree(text, "//! x\n")).is_empty());
}

#[test]
fn an_import_of_what_is_declared_behind_is_found_in_files_and_folders() {
    let with = |bottom: &str, low: &str| {
        vec![
            at("src/lib.rs", "//! x\npub mod store;\n"),
            at("src/store/mod.rs", "//! x\npub mod low;\npub mod high;\npub use high::{B, C};\n"),
            at("src/store/low/mod.rs", "//! x\nuse crate::store::low::deep::A;\npub mod bottom;\npub mod deep;\n"),
            at("src/store/low/bottom.rs", bottom),
            at("src/store/low/deep.rs", low),
            at("src/store/high.rs", "//! x\nuse crate::store::low::A;\n"),
        ]
    };
    let fine = "//! x\nuse crate::store::low::{bottom::A, B};\nuse crate::store::D;\n";
    assert!(order_complaints(&with("//! x\n", fine)).is_empty());
    let found = order_complaints(&with("//! x\nuse super::deep;\n", "//! x\nuse crate::store::high::B;\n"));
    assert_eq!(
        found,
        [
            "src/store/low/bottom.rs:2: must not import `store::low::deep`, which is declared behind it",
            "src/store/low/deep.rs:2: must not import `store::high::B`, which is declared behind it",
        ]
    );
    let found = order_complaints(&with("//! x\n", "//! x\nuse crate::store::C;\n"));
    assert_eq!(found.len(), 1, "also where it is handed on: {found:?}");
}

#[test]
fn a_call_of_a_method_that_stands_higher_is_found() {
    let with = |low: &str| {
        vec![
            at("src/lib.rs", "//! x\npub mod store;\npub mod ring;\n"),
            at(
                "src/store/mod.rs",
                "//! x\npub mod low;\npub mod high;\npub struct A;\nimpl A {\nfn of_all(&self) {}\n}\n",
            ),
            at("src/store/low.rs", low),
            at("src/store/high.rs", "//! x\nimpl<T: B<C>> A<T> {\nfn high(&self) { self.low(); }\n}\n"),
            at("src/ring/mod.rs", "//! x\nimpl Iterator for crate::store::A {\nfn next(&self) {}\n}\n"),
        ]
    };
    let fine =
        "//! x\nimpl A {\nfn low(&self) { self.of_all(); self.low(); self.high.high(); b.high(); self.std(); }\n}\n";
    assert!(call_complaints(&with(fine)).is_empty());
    let found = call_complaints(&with("//! x\nimpl A {\nfn low(&self) {\nself\n.high();\nSelf::next(1) }\n}\n"));
    assert_eq!(
        found,
        [
            "src/store/low.rs:4: must not call `A::high`, which stands in `store::high`",
            "src/store/low.rs:6: must not call `A::next`, which stands in `ring`",
        ]
    );
}

#[test]
fn an_undeclared_file_is_not_reached() {
    let mut sources = tree("//! x\n#[cfg(test)]\nmod tests;\n", "//! x\n");
    sources.push(at("src/store/tests.rs", "//! x\n"));
    sources.push(at("src/store/lost.rs", "//! x\n"));
    let reached = reachable(&sources);
    assert_eq!(reached.get(["store".to_owned(), "tests".to_owned()].as_slice()), Some(&true));
    assert!(!reached.contains_key(["store".to_owned(), "lost".to_owned()].as_slice()));
}

#[test]
fn what_the_table_of_its_folder_does_not_name_is_found() {
    let with = |head: &str| {
        vec![
            at("src/store/mod.rs", head),
            at("src/store/low.rs", "//! x\n"),
            at("src/store/low_tests.rs", "//! x\n"),
            at("src/store/deep/mod.rs", "//! x\n//!\n//! | file | what it is |\n//! |---|---|\n//! | `inner` | x |\n"),
            at("src/store/deep/inner.rs", "//! x\n"),
            at("src/store/deep/inner/tests.rs", "//! x\n"),
        ]
    };
    assert!(listing_complaints(&with("//! x\n//!\n//! | `low`, `deep` | x |\n")).is_empty());
    assert_eq!(
        listing_complaints(&with("//! `low`\n//!\n//! | `mod` | `deep` |\n\n//! | `low` | x |\n")),
        [
            "src/store/mod.rs:1: the table of `src/store` does not name `low`",
            "src/store/mod.rs:1: the table of `src/store` does not name `deep`",
        ]
    );
}

#[test]
fn long_files_and_functions_are_found() {
    let long = format!("//! x\nfn f() {{\n{}}}\n", "let _ = '{';\n".repeat(70));
    assert_eq!(length_complaints(&at("src/a.rs", &long)).len(), 1);
    assert_eq!(length_complaints(&at("src/a.rs", &"//! x\n".repeat(501))).len(), 1);
    let in_tests = format!("//! x\n#[cfg(test)]\nmod tests {{\n{}}}\n", "// x\n".repeat(600));
    assert!(length_complaints(&at("src/a.rs", &in_tests)).is_empty());
}

#[test]
fn wide_comments_are_found_but_not_rows_of_tables() {
    let (word, rest) = ("é ", "x".repeat(111));
    let complaints = |text: &str| width_complaints(&at("src/a.rs", text)).len();
    assert_eq!([complaints(&format!("    // {word}{rest}x\n")), complaints(&format!("    // {word}{rest}\n"))], [1, 0]);
    assert_eq!(
        [complaints(&format!("//! | {rest}{rest} |\n")), complaints(&format!("let a = \"{rest}{rest}\";\n"))],
        [0, 0]
    );
}

#[test]
fn unfinished_work_and_unproven_unsafe_are_found() {
    let note = ["TO", "DO"].concat();
    assert_eq!(word_complaints(&at("src/a.rs", &format!("// {note}: x\n"))).len(), 1);
    assert!(word_complaints(&at("src/a.rs", "let mastodon = 1;\n")).is_empty());
    let bare = at("src/a.rs", "fn f() { unsafe { g() } }\n");
    assert_eq!(unsafe_complaints(&bare, &[]).len(), 1);
    assert_eq!(unsafe_complaints(&bare, &["src/a.rs"]).len(), 1);
    let proven = at("src/a.rs", "// SAFETY: g has no condition.\nfn f() { unsafe { g() } }\n");
    assert!(unsafe_complaints(&proven, &["src/a.rs"]).is_empty());
}

#[test]
fn blanking_keeps_code_and_drops_literals() {
    let text = "let a: &'static str = r#\"fn { \"#; let c = '\\''; let d = b'{'; /* fn /* { */ } */ x()";
    let blank = blank(text);
    assert_eq!(blank.len(), text.len());
    assert!(blank.contains("&'static str") && blank.contains("x()") && !blank.contains('{'));
}
