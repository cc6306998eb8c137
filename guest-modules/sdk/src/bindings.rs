//! The interface `lockgate:extract` as wit-bindgen writes it. Modules use the rest of this crate; these types are
//! public because the batches are theirs.

#![allow(
    missing_docs,
    unreachable_pub,
    unsafe_code,
    clippy::allow_attributes_without_reason,
    clippy::missing_safety_doc,
    reason = "generated"
)]

wit_bindgen::generate!({
    path: "../../wit",
    world: "extractor",
    pub_export_macro: true,
    export_macro_name: "export",
    default_bindings_module: "lockgate_guest::bindings",
    additional_derives: [PartialEq],
});
