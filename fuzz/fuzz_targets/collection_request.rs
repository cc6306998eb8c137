#![no_main]
use lockgate_signing::collection::CollectionRequest;
use lockgate_signing::envelope::Message as _;
libfuzzer_sys::fuzz_target!(|data: &[u8]| { let _ = CollectionRequest::decode(data); });
