//! Places where a test kills the program. Without the feature `failpoints` there is nothing here.

/// Dies without any clean-up if `FAILPOINTS` names this place with the action `return`.
#[cfg_attr(not(feature = "failpoints"), inline(always))]
pub(crate) fn failpoint(name: &'static str) {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(name, |_| std::process::abort());
    let _ = name;
}
