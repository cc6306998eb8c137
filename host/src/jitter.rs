//! Pauses that differ from agent to agent, so that those that lost a server together do not come back together.

use std::time::Duration;

/// A random half to whole of a pause.
pub(crate) fn jittered(pause: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness the pause is whole, which is only less polite.
    let share = getrandom::fill(&mut byte).map_or(1.0, |()| 0.5 + f64::from(byte[0]) / 512.0);
    pause.mul_f64(share)
}
