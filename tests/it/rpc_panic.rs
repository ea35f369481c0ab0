//! Methods that panic, at once or in the middle of a stream, beside others on the same connection.

use bandy::rpc::wire::envelope;

use crate::rpc_server::{ADA, Answer, request, serve};

#[tokio::test]
async fn a_panicking_method_fails_alone() {
    let server = serve().await;
    let mut client = server.http2().await;
    let ask = |method| request(method, "application/grpc", envelope::encode(0, ADA), &[]);
    let (bad, good) = (client.send_request(ask("Panic")), client.clone().send_request(ask("Echo")));
    let (bad, good) = tokio::join!(bad, good);
    assert_eq!(Answer::read(bad.unwrap()).await.grpc_status().0, "13");
    assert_eq!(Answer::read(good.unwrap()).await.grpc_status().0, "0");
}

#[tokio::test]
async fn a_method_that_panics_in_its_stream_fails_alone() {
    let mut server = serve().await;
    let mut client = server.http2().await;
    let ask = |method| request(method, "application/grpc", envelope::encode(0, ADA), &[]);
    let waits = server.shutdown.spawn(client.send_request(ask("Never")));
    assert_eq!(server.events.recv().await, Some("called"));
    let bad = Answer::read(client.send_request(ask("PanicLater")).await.unwrap()).await;
    assert_eq!((bad.grpc_status().0, &bad.body[..]), ("13", &envelope::encode(0, ADA)[..]));
    let good = Answer::read(client.send_request(ask("Echo")).await.unwrap()).await;
    assert_eq!(good.grpc_status().0, "0");
    assert!(!waits.is_finished(), "a call that has nothing to do with it has ended");
    waits.abort();
    // One connection, two documents: the second is answered.
    let call = |method: &str, id| {
        format!(
            "{{\"jsonrpc\":\"2.0\",\"method\":\"t.T/{method}\",\"params\":{{\"text\":\"a\"}},\"id\":{id}}}\n"
        )
    };
    let replies = server.raw_text(&(call("PanicLater", 1) + &call("Panic", 2) + &call("Echo", 3))).await;
    let mut replies: Vec<&str> = replies.lines().collect();
    replies.sort_unstable();
    assert!(replies[0].contains("-32603") && replies[1].contains("-32603"), "{replies:?}");
    assert_eq!(replies[2], r#"{"jsonrpc":"2.0","result":{"text":"a"},"id":3}"#);
}
