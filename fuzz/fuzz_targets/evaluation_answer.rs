#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| { let _ = lockgate_signing::evaluation::EvaluationAnswer::decode(data); });
