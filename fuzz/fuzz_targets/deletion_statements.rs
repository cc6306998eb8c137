#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| { let _ = lockgate_signing::deletion::decode_statements(data); });
