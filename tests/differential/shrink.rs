//! Makes a failing sequence short: first only the steps that have to do with the last one's keys, then as few of these
//! as still fail (delta debugging: Zeller and Hildebrandt, 2002).

use crate::generate::{Action, Step};

/// How many replays a reduction may cost.
const REPLAYS_MAX: usize = 400;

/// A short list of steps for which `fails` is true, ending with the last of `steps`; `None` when a replay does not
/// fail.
pub fn shrink(steps: &[Step], mut fails: impl FnMut(&[Step]) -> bool) -> Option<Vec<Step>> {
    let mut replays = 0;
    let mut try_it = |steps: &[Step]| {
        replays += 1;
        replays <= REPLAYS_MAX && fails(steps)
    };
    let mut kept = related(steps);
    if !try_it(&kept) {
        kept = steps.to_vec();
        if !try_it(&kept) {
            return None;
        }
    }
    let mut chunk = kept.len() / 2;
    while chunk > 0 {
        let mut from = 0;
        while from + chunk < kept.len() {
            let without = [&kept[..from], &kept[from + chunk..]].concat();
            if try_it(&without) {
                kept = without;
            } else {
                from += chunk;
            }
        }
        chunk /= 2;
    }
    Some(kept)
}

/// The steps that share an argument with the last one, or act on everything.
fn related(steps: &[Step]) -> Vec<Step> {
    let Some(last) = steps.last() else { return Vec::new() };
    let shares = |step: &Step| {
        let args = step.args();
        let everywhere = matches!(
            args.first().map(|name| name.to_ascii_uppercase()).unwrap_or_default().as_slice(),
            b"SELECT" | b"HELLO" | b"RESET" | b"MULTI" | b"EXEC" | b"DISCARD" | b"FLUSHALL" | b"FLUSHDB" | b"SWAPDB"
        );
        let shared = args.iter().skip(1).any(|arg| last.args().iter().skip(1).any(|other| other == arg));
        everywhere || shared || matches!(step.action, Action::Pause)
    };
    let mut kept: Vec<Step> = steps[..steps.len() - 1].iter().filter(|step| shares(step)).cloned().collect();
    kept.push(last.clone());
    kept
}

#[test]
fn what_matters_is_kept() {
    let step = |line: &str| Step {
        connection: 0,
        action: Action::Command(line.split(' ').map(|word| word.as_bytes().to_vec()).collect()),
    };
    let steps: Vec<Step> = ["SET a 1", "SET b 1", "GET a", "APPEND a x", "GET b", "GET a"].map(step).to_vec();
    let fails = |steps: &[Step]| {
        let has = |name: &[u8]| steps.iter().any(|step| step.args()[0] == name);
        has(b"APPEND") && has(b"GET")
    };
    let short = shrink(&steps, fails).unwrap();
    assert_eq!(short.len(), 2);
    assert!(shrink(&steps, |_| false).is_none());
}
