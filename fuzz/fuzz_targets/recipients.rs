#![no_main]
use lockgate_signing::text_format::TextFormat as _;
libfuzzer_sys::fuzz_target!(|data: &[u8]| { let _ = lockgate_signing::recipients::Recipients::decode(data); });
