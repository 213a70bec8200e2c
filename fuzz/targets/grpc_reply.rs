#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rpc_http::fuzz::grpc_reply(data));
