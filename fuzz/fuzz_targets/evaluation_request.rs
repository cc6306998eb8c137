#![no_main]
use lockgate_signing::envelope::Message as _;
use lockgate_signing::evaluation::EvaluationRequest;
libfuzzer_sys::fuzz_target!(|data: &[u8]| { let _ = EvaluationRequest::decode(data); });
