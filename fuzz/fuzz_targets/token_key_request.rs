#![no_main]
use lockgate_signing::delivery::TokenKeyRequest;
use lockgate_signing::envelope::Message as _;
libfuzzer_sys::fuzz_target!(|data: &[u8]| { let _ = TokenKeyRequest::decode(data); });
