#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // Compressed here, so that the fuzzer works on what is inside of the frame.
    let framed = zstd::bulk::compress(data, 1).expect("it fits in memory");
    let _ = lockgate_signing::block::decode_former(&framed);
});
