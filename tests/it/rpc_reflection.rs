//! Servers whose reflection is made to hurt whoever asks: the client gives up with an error, after work that has a bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bandy::rpc::backend::{Backend, Call, Event, Format, Payload, Peer, Reply, Requests};
use bandy::rpc::catalog::{Catalog, Route, SharedCatalog};
use bandy::rpc::reflection::{Answer, Files, Question, Request, Response, SERVICE_V1, ServiceName, Services};
use bandy::rpc::schema::Schema;
use bandy::rpc::server::{Options, Server};
use bandy::shutdown::Shutdown;
use bandy::transport::{Acceptor, Address, Listener};
use buffa::Message as _;
use buffa_descriptor::generated::descriptor::FileDescriptorProto;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::{self, BoxFuture, FutureExt as _};
use prost::Message as _;

use crate::support::{Home, bandy};

/// What the file of that number imports, as numbers.
type Imports = fn(u64) -> std::ops::Range<u64>;

/// Has a file for every name, and counts how often it is asked.
struct Hostile {
    imports: Imports,
    questions: Arc<AtomicUsize>,
}

fn answer(imports: Imports, question: &Question) -> Answer {
    let number = match question {
        Question::ListServices(_) => {
            return Answer::Services(Services {
                service: vec![ServiceName { name: "hostile.S".to_owned() }],
            });
        }
        Question::FileByFilename(name) => name.trim_end_matches(".proto").parse().unwrap(),
        _ => 0,
    };
    let name = |number: u64| format!("{number}.proto");
    let file = FileDescriptorProto {
        name: Some(name(number)),
        dependency: imports(number).map(name).collect(),
        ..Default::default()
    };
    Answer::Files(Files { file_descriptor_proto: vec![Bytes::from(file.encode_to_vec())] })
}

impl Backend for Hostile {
    fn call(&self, call: Call) -> BoxFuture<'static, Reply> {
        let Requests::Stream(requests) = call.requests else { panic!("reflection is a stream") };
        let (imports, questions) = (self.imports, Arc::clone(&self.questions));
        let events = requests.map(move |payload| {
            questions.fetch_add(1, Ordering::Relaxed);
            let bytes = call.method.input.convert(&payload.unwrap(), Format::Proto).unwrap();
            let question = Request::decode(bytes).unwrap().question.unwrap();
            let answer = Some(answer(imports, &question));
            let response = Response { valid_host: String::new(), original_request: None, answer };
            Event::Message(Payload::proto(response.encode_to_vec()))
        });
        future::ready(Reply::stream(events.boxed())).boxed()
    }
}

/// Lists the methods of such a server, in vain; returns how many questions that took.
async fn questions_of_ls(imports: Imports) -> usize {
    let (schema, questions) = (Arc::new(Schema::standard().clone()), Arc::new(AtomicUsize::new(0)));
    let backend: Arc<dyn Backend> = Arc::new(Hostile { imports, questions: Arc::clone(&questions) });
    let mut catalog = Catalog::new(Arc::clone(&schema));
    for method in schema.methods().filter(|method| method.service() == SERVICE_V1) {
        catalog.insert(Route { method: Arc::new(method), backend: Arc::clone(&backend) }).unwrap();
    }
    let shutdown = Shutdown::new();
    let server = Server::new(SharedCatalog::new(catalog), Options::default(), shutdown.clone());
    let listener = Listener::bind(&Address::tcp("127.0.0.1", 0)).await.unwrap();
    let Address::Tcp { host, port } = listener.address().unwrap() else { panic!("TCP was asked for") };
    shutdown.spawn(Acceptor::default().run(listener, shutdown.clone(), move |stream| {
        let server = Arc::clone(&server);
        async move {
            let peer = Arc::new(Peer { address: stream.peer(), tls_subject: None });
            server.serve_connection(stream, peer).await;
        }
    }));
    let ran = tokio::task::spawn_blocking(move || {
        bandy("rpc ls --timeout 60s -e").arg(format!("grpc://{host}:{port}")).home(&Home::new()).runs()
    });
    ran.await.unwrap().exits(1).complains("over the limit of 4000 files");
    questions.load(Ordering::Relaxed)
}

#[tokio::test]
async fn files_that_import_ever_more_files_end_with_an_error() {
    // Each has a thousand that nobody else has.
    let questions = questions_of_ls(|number| 1000 * number + 1..1000 * number + 1001).await;
    // The list, a symbol, and no file over the limit.
    assert!(questions <= 4_010, "{questions}");
}

#[tokio::test]
async fn a_file_with_a_hundred_thousand_imports_is_an_error_at_once() {
    let questions = questions_of_ls(|number| number + 1..number + 100_001).await;
    assert!(questions <= 2, "{questions}");
}
