//! Bringing every member's load into bounds by nudging its rate.
//!
//! A member's rate divides its distances: a higher rate, more slots. The rule: count the loads; every member outside
//! the tolerance has its rate multiplied by (bound / load); repeat. Members inside are left alone, because every change
//! of a rate moves slots, and a rate that stays the weight is the same in the ring before and after a newcomer. A
//! member that is out on the same side twice running takes longer steps: a load near one copy of each slot reacts
//! little.
//!
//! Deterministic: the same loads give the same rates, and nothing here depends on order.

/// A load may be this far from what is due, as a fraction of it, before its rate is touched. The promise is 10 %.
const TOLERANCE: f64 = 0.09;
/// Where a load that was out of bounds is steered to.
const TARGET: f64 = 0.085;
/// One or two slots are not worth a nudge, however small the due.
const SLACK_SLOTS: f64 = 1.0;
/// How much longer each further step in one direction is, and the longest.
const STEP_GROWTH: f64 = 1.5;
const STEP_MAX: f64 = 8.0;
/// Loads that cannot be brought into bounds end here.
const ROUNDS_MAX: usize = 32;

/// Rates under which `load` is near `due` (in slots), starting from the weights.
///
/// `load` places the slots by the rates it is given and counts them for each member; the last call of it was made with
/// the rates that are returned.
pub(super) fn balance(weights: &[f64], due: &[f64], mut load: impl FnMut(&[f64]) -> Vec<u32>) -> Vec<f64> {
    let mut rates = weights.to_vec();
    // The step of each member in the round before: its sign is the direction, 0 is none.
    let mut steps = vec![0.0f64; weights.len()];
    for _ in 0..ROUNDS_MAX {
        let mut is_balanced = true;
        let loads = load(&rates);
        for (((rate, step), &due), load) in rates.iter_mut().zip(&mut steps).zip(due).zip(loads) {
            let load = f64::from(load);
            if (load - due).abs() <= (due * TOLERANCE).max(SLACK_SLOTS) {
                *step = 0.0;
                continue;
            }
            is_balanced = false;
            let bound = if load > due { due * (1.0 + TARGET) } else { due * (1.0 - TARGET) };
            let wanted = bound / load.max(1.0) - 1.0;
            let length = if *step * wanted > 0.0 { (step.abs() * STEP_GROWTH).min(STEP_MAX) } else { 1.0 };
            *step = length.copysign(wanted);
            *rate *= (1.0 + wanted * length).clamp(0.5, 2.0);
        }
        if is_balanced {
            return rates;
        }
    }
    load(&rates);
    rates
}
