//! Each case over each transport.

use interop::{Outcome, Over, Site, cases};
use rpc_runtime::Compression;

/// Makes a test for each case, over one transport.
macro_rules! over {
    ($($place:ident($over:ident, $compression:expr);)*) => {$(
        mod $place {
            use super::*;

            async fn site() -> Outcome<Site> {
                Site::open(Over::$over, $compression).await
            }

            facts! {
                empty_unary: nothing_is_answered_with_nothing
                large_unary: a_large_request_has_a_large_reply
                client_streaming: requests_of_a_stream_are_counted_to_the_byte
                server_streaming: replies_of_a_stream_come_in_order_and_then_its_end
                ping_pong: requests_and_replies_take_turns
                half_duplex: replies_may_wait_for_the_end_of_the_requests
                empty_stream: a_stream_without_messages_ends
                cancel_after_begin: a_stream_cancelled_before_its_first_message_is_cancelled_on_both_sides
                cancel_after_first_response: a_stream_cancelled_after_its_first_reply_ends_its_handler
                timeout_on_sleeping_server: a_server_that_sleeps_does_not_outlast_the_deadline
                status_code_and_message: code_and_text_of_a_failure_reach_the_caller
                special_status_message: a_failure_may_speak_of_anything
                custom_metadata: entries_come_back_beside_the_end
                unimplemented_method: a_procedure_that_is_not_there_is_unimplemented
                unimplemented_service: a_service_that_is_not_there_is_unimplemented
            }

            #[tokio::test(crate = "test_support::gate")]
            async fn many_large_calls_on_one_connection_succeed() -> Outcome {
                let site = site().await?;
                cases::rpc_soak(&site, 200, || {}).await?;
                site.close().await
            }

            #[tokio::test(crate = "test_support::gate")]
            async fn many_connections_with_a_large_call_each_succeed() -> Outcome {
                let site = site().await?;
                cases::channel_soak(&site, 30, || {}).await?;
                site.close().await
            }
        }
    )*};
}

macro_rules! facts {
    ($($case:ident: $fact:ident)*) => {
        $(
            #[tokio::test(crate = "test_support::gate")]
            async fn $fact() -> Outcome {
                let site = site().await?;
                cases::$case(&site).await?;
                site.close().await
            }
        )*

        #[test]
        fn all_cases_are_tests() {
            let tests = [$(stringify!($case)),*];
            let all: Vec<_> = cases::ALL.iter().map(|case| case.name).collect();
            assert_eq!(all, tests);
        }
    };
}

over! {
    over_tcp(Tcp, None);
    over_unix(Unix, None);
    over_memory(Mem, None);
    over_grpc(Grpc, None);
    over_tcp_with_zstd(Tcp, Some(Compression::Zstd));
    over_unix_with_lz4(Unix, Some(Compression::Lz4));
    over_memory_with_zstd(Mem, Some(Compression::Zstd));
    over_memory_with_lz4(Mem, Some(Compression::Lz4));
}
