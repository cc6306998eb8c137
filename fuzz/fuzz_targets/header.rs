#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| { let _ = lockgate_signing::envelope::Envelope::<lockgate_signing::bundle::BundleHeader>::read(data).map(|_| ()); });
