#![no_main]
use lockgate_signing::envelope::Message as _;
libfuzzer_sys::fuzz_target!(|data: &[u8]| { let _ = lockgate_signing::deletion::DeletionStatement::decode(data); });
