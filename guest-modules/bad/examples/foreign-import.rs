//! Imports a clock, which is not part of the interface.

#[allow(
    missing_docs,
    unreachable_pub,
    unsafe_code,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package lockgate:foreign;

            world foreign {
                include lockgate:extract/extractor@1.0.0;
                import wasi:clocks/monotonic-clock@0.2.0;
            }

            package wasi:clocks@0.2.0 {
                interface monotonic-clock {
                    now: func() -> u64;
                }
            }
        ",
        world: "lockgate:foreign/foreign",
        generate_all,
    });
}

/// The module.
#[derive(Debug)]
pub struct Module;

impl bindings::Guest for Module {
    fn run() -> Result<(), String> {
        let now = bindings::wasi::clocks::monotonic_clock::now();
        Err(format!("it is {now}"))
    }
}

#[cfg(target_family = "wasm")]
#[allow(unsafe_code, reason = "the component's exports are symbols without mangling")]
const _: () = {
    bindings::export!(Module with_types_in bindings);
};
