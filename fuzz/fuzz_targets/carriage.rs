#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| { let _ = lockgate_signing::carriage::Carriage::open(data).map(|_| ()); });
