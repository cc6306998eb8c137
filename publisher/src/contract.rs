//! The contract between host and module, held against a component: `wit/extract.wit` is the one source of it.

use lockgate_signing::manifest::INTERFACE;
use wasmparser::{Validator, WasmFeatures};
use wit_component::{ComponentEncoder, DecodedWasm};
use wit_parser::{Resolve, WorldId};

/// The interface that a module is written against.
pub(crate) const EXTRACT_WIT: &str = include_str!("../../wit/extract.wit");
/// Its package; a version follows.
const PACKAGE: &str = "lockgate:extract/";
/// Its world.
const WORLD: &str = "extractor";
/// The largest component that is published, bytes. The agent takes twice as much, so that it can be raised.
pub const COMPONENT_BYTES_MAX: usize = 8 << 20;

/// The file is not a module that a site would run.
#[derive(Debug, thiserror::Error)]
pub enum ContractError {
    /// Neither a core module nor a component.
    #[error("the file is not WebAssembly; give the .wasm file that the compiler wrote")]
    NotWasm,
    /// Too large.
    #[error(
        "the component has {bytes} bytes, and at most {COMPONENT_BYTES_MAX} are published; build with `--release`, and \
         keep tables of codes in codelists"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// A core module that says nothing of its interface.
    #[error(
        "the file is a core module without a `component-type` section: it does not say which interface it is for; \
         write it with lockgate-guest, or with wit-bindgen and wit/extract.wit"
    )]
    NoInterface,
    /// It could not be made a component.
    #[error(
        "the core module cannot be made a component: {0}; it must import nothing but lockgate:extract, so build it for \
         `wasm32-unknown-unknown`, without WASI"
    )]
    Componentise(String),
    /// Not valid, or with features that the host has switched off.
    #[error("the component is not valid for the host: {0}")]
    Invalid(String),
    /// It wants something that the host does not give.
    #[error(
        "the component imports {}, and a module gets nothing but lockgate:extract: no clock, no files, no network, no \
         randomness", .0.join(", ")
    )]
    ForeignImports(Vec<String>),
    /// It is for another version of the interface.
    #[error(
        "the component is for {theirs}, and sites have {ours}; build it with the interface of this release (`wit/extract.wit`, \
         or the `vendor` folder that `module new` writes), or publish it when sites have the newer one"
    )]
    OtherInterface {
        /// What it imports.
        theirs: String,
        /// What is offered.
        ours: &'static str,
    },
    /// It exports something else than `run`.
    #[error("the component exports {}; a module exports `run` and nothing else", .0.join(", "))]
    Exports(Vec<String>),
    /// The names are right and the types are not.
    #[error(
        "the component does not fit wit/extract.wit: {0}; build it again with the interface of this version"
    )]
    Types(String),
    /// The contract itself is broken: a fault of this program.
    #[error("wit/extract.wit cannot be read: {0}; this is a fault of lockgate-publish, please report it")]
    Contract(String),
}

/// Makes a component of a core module; takes a component as it is. No adapters: there is no WASI to adapt.
pub fn componentise(wasm: Vec<u8>) -> Result<Vec<u8>, ContractError> {
    if wasmparser::Parser::is_component(&wasm) {
        return Ok(wasm);
    }
    if !wasmparser::Parser::is_core_wasm(&wasm) {
        return Err(ContractError::NotWasm);
    }
    if wit_component::metadata::decode(&wasm).map_err(not_a_component)?.0.is_none() {
        return Err(ContractError::NoInterface);
    }
    let mut encoder = ComponentEncoder::default();
    encoder.module(&wasm).map_err(not_a_component)?.validate(true);
    encoder.encode().map_err(not_a_component)
}

fn not_a_component(error: impl std::fmt::Display) -> ContractError {
    ContractError::Componentise(format!("{error:#}"))
}

/// Checks that the host would run a component.
pub fn check(component: &[u8]) -> Result<(), ContractError> {
    // 1. Size, before anything reads it.
    if component.len() > COMPONENT_BYTES_MAX {
        return Err(ContractError::TooLarge { bytes: component.len() });
    }
    // 2. The WebAssembly of the host: version 2, without threads, 64-bit memory, garbage collection or relaxed SIMD.
    let features = WasmFeatures::WASM2 | WasmFeatures::COMPONENT_MODEL;
    Validator::new_with_features(features)
        .validate_all(component)
        .map_err(|error| ContractError::Invalid(error.to_string()))?;
    // 3. Names: an import from outside of the contract is named, because it is the commonest mistake.
    let (contract, world) = contract()?;
    let (theirs, their_world) = match wit_component::decode(component) {
        Ok(DecodedWasm::Component(resolve, world)) => (resolve, world),
        Ok(DecodedWasm::WitPackage(..)) => return Err(ContractError::NotWasm),
        Err(error) => return Err(ContractError::Types(format!("{error:#}"))),
    };
    let offered = imports(&contract, world);
    let foreign: Vec<_> =
        imports(&theirs, their_world).into_iter().filter(|name| !offered.contains(name)).collect();
    if let Some(theirs) = foreign.iter().find(|name| name.starts_with(PACKAGE)) {
        return Err(ContractError::OtherInterface { theirs: theirs.clone(), ours: INTERFACE });
    }
    if !foreign.is_empty() {
        return Err(ContractError::ForeignImports(foreign));
    }
    let exports = exports(&theirs, their_world);
    if exports != self::exports(&contract, world) {
        let exports = if exports.is_empty() { vec!["nothing".to_owned()] } else { exports };
        return Err(ContractError::Exports(exports));
    }
    // 4. Types, by the subtyping of the component model: what it imports is what we offer, `run` is what we call. This
    //    also finds imports that WIT cannot say, which step 3 does not see.
    wit_component::targets(&contract, world, component, false)
        .map_err(|error| ContractError::Types(format!("{error:#}")))
}

fn contract() -> Result<(Resolve, WorldId), ContractError> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("extract.wit", EXTRACT_WIT);
    let selected = package.and_then(|package| resolve.select_world(&[package], Some(WORLD)));
    let world = selected.map_err(|error| ContractError::Contract(format!("{error:#}")))?;
    Ok((resolve, world))
}

fn imports(resolve: &Resolve, world: WorldId) -> Vec<String> {
    resolve.worlds[world].imports.keys().map(|key| resolve.name_world_key(key)).collect()
}

fn exports(resolve: &Resolve, world: WorldId) -> Vec<String> {
    resolve.worlds[world].exports.keys().map(|key| resolve.name_world_key(key)).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use wit_component::{StringEncoding, embed_component_metadata};

    use super::*;

    /// A core module whose `run` returns 0: the pointer to a result whose first byte says ok.
    pub(crate) fn core_module() -> Vec<u8> {
        #[rustfmt::skip]
        let bytes = [
            0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00,
            0x01, 0x05, 0x01, 0x60, 0x00, 0x01, 0x7f,                   // type 0: () -> i32
            0x03, 0x02, 0x01, 0x00,                                     // function 0: type 0
            0x05, 0x03, 0x01, 0x00, 0x01,                               // memory 0: one page
            0x07, 0x10, 0x02,                                           // two exports
            0x06, b'm', b'e', b'm', b'o', b'r', b'y', 0x02, 0x00,
            0x03, b'r', b'u', b'n', 0x00, 0x00,
            0x0a, 0x06, 0x01, 0x04, 0x00, 0x41, 0x00, 0x0b,             // i32.const 0
        ];
        bytes.to_vec()
    }

    /// The same, importing `now` of `test:clock/clock`.
    fn core_module_with_a_clock() -> Vec<u8> {
        let mut bytes = core_module();
        #[rustfmt::skip]
        let import = [
            0x02, 0x18, 0x01,
            0x10, b't', b'e', b's', b't', b':', b'c', b'l', b'o', b'c', b'k', b'/', b'c', b'l', b'o', b'c', b'k',
            0x03, b'n', b'o', b'w', 0x00, 0x00,
        ];
        bytes.splice(15..15, import);
        // `run` is function 1 now.
        let run = bytes.windows(3).position(|window| window == b"run").unwrap();
        bytes[run + 4] = 1;
        bytes
    }

    pub(crate) fn for_wit(mut core: Vec<u8>, wit: &str, world: &str) -> Vec<u8> {
        let mut resolve = Resolve::default();
        let package = resolve.push_str("test.wit", wit).unwrap();
        let world = resolve.select_world(&[package], Some(world)).unwrap();
        embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8, false).unwrap();
        core
    }

    /// A component that does nothing, and fits the contract.
    pub(crate) fn component() -> Vec<u8> {
        componentise(for_wit(core_module(), EXTRACT_WIT, WORLD)).unwrap()
    }

    #[test]
    fn a_core_module_for_our_world_becomes_a_component_that_fits() {
        let component = component();
        check(&component).unwrap();
        assert_eq!(componentise(component.clone()).unwrap(), component);
    }

    #[test]
    fn what_does_not_say_its_interface_is_refused() {
        assert!(matches!(componentise(core_module()), Err(ContractError::NoInterface)));
        assert!(matches!(componentise(b"fn main() {}".to_vec()), Err(ContractError::NotWasm)));
    }

    #[test]
    fn an_import_from_outside_is_named() {
        let wit = "package test:clock; interface clock { now: func() -> s32; }
                   world w { import clock; export run: func() -> result<_, string>; }";
        let component = componentise(for_wit(core_module_with_a_clock(), wit, "w")).unwrap();
        match check(&component) {
            Err(ContractError::ForeignImports(names)) => assert_eq!(names, ["test:clock/clock"]),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_component_for_another_version_of_the_interface_is_told_so() {
        let wit = "package lockgate:extract@1.1.0; interface clock { now: func() -> s32; }
                   world w { import clock; export run: func() -> result<_, string>; }";
        let mut core = core_module_with_a_clock();
        let import = b"lockgate:extract/clock@1.1.0";
        let at = core.windows(16).position(|window| window == b"test:clock/clock").unwrap();
        core.splice(at..at + 16, import.iter().copied());
        let longer = (import.len() - 16) as u8;
        // The length of the name, and of the section that it is in.
        core[at - 1] += longer;
        core[at - 3] += longer;
        let component = componentise(for_wit(core, wit, "w")).unwrap();
        match check(&component) {
            Err(ContractError::OtherInterface { theirs, .. }) => {
                assert_eq!(theirs, "lockgate:extract/clock@1.1.0")
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn run_has_the_right_name_and_type() {
        let wit = "package test:other; world w { export run: func() -> u32; }";
        let component = componentise(for_wit(core_module(), wit, "w")).unwrap();
        assert!(matches!(check(&component), Err(ContractError::Types(_))));
        let wit = "package test:other; world w { }";
        let component = componentise(for_wit(core_module(), wit, "w")).unwrap();
        assert!(matches!(check(&component), Err(ContractError::Exports(_))));
    }
}
