#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| { let _ = lockgate_signing::block::decode_codes(data); });
