//! Answers from the catalog as it is at the time of the question.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _, future, stream};
use prost::Message as _;

use super::{
    Answer, ExtensionNumbers, ExtensionRequest, Files, Question, Refusal, Request, Response, SERVICE_V1,
    SERVICE_V1ALPHA, ServiceName, Services,
};
use crate::rpc::backend::{Backend, Call, Event, Format, Payload, Reply, Requests};
use crate::rpc::catalog::{Catalog, Method, Route, SharedCatalog, WeakCatalog};
use crate::rpc::health::standard_routes;
use crate::rpc::schema::Schema;
use crate::rpc::{Code, Status, stats};

/// The routes of both versions of the service, about `catalog`.
pub fn routes(catalog: &SharedCatalog) -> Vec<Route> {
    let backend: Arc<dyn Backend> = Arc::new(Reflection(catalog.downgrade()));
    [SERVICE_V1, SERVICE_V1ALPHA].into_iter().flat_map(|service| standard_routes(service, &backend)).collect()
}

/// The catalog has this backend among its routes: a strong reference would never end.
struct Reflection(WeakCatalog);

impl Backend for Reflection {
    fn call(&self, call: Call) -> BoxFuture<'static, Reply> {
        let requests = match call.requests {
            Requests::One(payload) => stream::once(future::ready(Ok(payload))).boxed(),
            Requests::Stream(stream) => stream,
        };
        let Some(catalog) = self.0.upgrade() else {
            let status = Status::new(Code::Unavailable, "the server is gone");
            return future::ready(Reply::failed(status)).boxed();
        };
        let conversation = Conversation { catalog, method: call.method, requests, sent: HashSet::new() };
        let events = stream::unfold(Some(conversation), |conversation| async move {
            let mut conversation = conversation?;
            let event = conversation.next().await;
            let next = matches!(event, Event::Message(_)).then_some(conversation);
            Some((event, next))
        });
        future::ready(Reply::stream(events.boxed())).boxed()
    }
}

struct Conversation {
    catalog: SharedCatalog,
    method: Arc<Method>,
    requests: BoxStream<'static, Result<Payload, Status>>,
    /// Files the peer has: each is sent once.
    sent: HashSet<String>,
}

impl Conversation {
    async fn next(&mut self) -> Event {
        let end = |status| Event::End { status, trailers: http::HeaderMap::new() };
        let bytes = match self.requests.next().await {
            None => return end(Status::ok()),
            Some(payload) => {
                match payload.and_then(|payload| self.method.input.convert(&payload, Format::Proto)) {
                    Ok(bytes) => bytes,
                    Err(status) => return end(status),
                }
            }
        };
        match Request::decode(bytes) {
            Err(error) => end(Status::new(Code::InvalidArgument, error.to_string())),
            Ok(request) => {
                let answer = self.answer(request.question.as_ref());
                let response = Response {
                    valid_host: request.host.clone(),
                    original_request: Some(request),
                    answer: Some(answer),
                };
                Event::Message(Payload::proto(response.encode_to_vec()))
            }
        }
    }

    fn answer(&mut self, question: Option<&Question>) -> Answer {
        let catalog = self.catalog.load();
        let sources = [&**catalog.schema(), Schema::standard()];
        let files = match question {
            None => Err(refusal(Code::InvalidArgument, "the request asks nothing")),
            Some(Question::ListServices(_)) => return list(&catalog),
            Some(Question::AllExtensionNumbersOfType(name)) => {
                return extension_numbers(&sources, name).unwrap_or_else(Answer::Error);
            }
            Some(Question::FileByFilename(name)) => {
                find(&sources, |schema| schema.pool().file_by_name(name)?.name.clone())
                    .ok_or_else(|| refusal(Code::NotFound, format!("no file '{name}'")))
            }
            Some(Question::FileContainingSymbol(name)) => {
                find(&sources, |schema| schema.file_of_symbol(name))
                    .ok_or_else(|| refusal(Code::NotFound, format!("no symbol '{name}'")))
            }
            Some(Question::FileContainingExtension(extension)) => find(&sources, |schema| {
                file_of_extension(schema, extension)
            })
            .ok_or_else(|| {
                let ExtensionRequest { containing_type, extension_number } = extension;
                refusal(Code::NotFound, format!("'{containing_type}' has no extension {extension_number}"))
            }),
        };
        match files {
            Ok((schema, file)) => {
                Answer::Files(Files { file_descriptor_proto: self.with_imports(schema, file) })
            }
            Err(refusal) => Answer::Error(refusal),
        }
    }

    /// The file, and all it imports that this peer has not been sent: it saves it the questions.
    fn with_imports(&mut self, schema: &Schema, name: String) -> Vec<Bytes> {
        let mut files: Vec<Bytes> = schema.file(&name).cloned().into_iter().collect();
        self.sent.insert(name.clone());
        let mut open = vec![name];
        while let Some(name) = open.pop() {
            let Some(file) = schema.pool().file_by_name(&name) else { continue };
            for import in &file.dependency {
                if !self.sent.contains(import) {
                    self.sent.insert(import.clone());
                    files.extend(schema.file(import).cloned());
                    open.push(import.clone());
                }
            }
        }
        files
    }
}

/// The first schema that knows, with what it knows.
fn find<'a>(
    sources: &[&'a Schema],
    look: impl Fn(&Schema) -> Option<String>,
) -> Option<(&'a Schema, String)> {
    sources.iter().find_map(|&schema| Some((schema, look(schema)?)))
}

fn refusal(code: Code, message: impl Into<String>) -> Refusal {
    Refusal { error_code: code.number().into(), error_message: message.into() }
}

fn list(catalog: &Catalog) -> Answer {
    let services = catalog.routes().map(|route| route.method.service());
    let names: BTreeSet<String> =
        services.filter(|service| *service != stats::SERVICE).map(str::to_owned).collect();
    Answer::Services(Services { service: names.into_iter().map(|name| ServiceName { name }).collect() })
}

fn extension_numbers(sources: &[&Schema], name: &str) -> Result<Answer, Refusal> {
    let known = sources.iter().find_map(|schema| Some((schema, schema.pool().message_index(name)?)));
    let (schema, index) =
        known.ok_or_else(|| refusal(Code::NotFound, format!("no message type '{name}'")))?;
    let numbers = schema
        .pool()
        .extensions_of(index)
        .filter_map(|extension| i32::try_from(extension.field().number()).ok());
    Ok(Answer::ExtensionNumbers(ExtensionNumbers {
        base_type_name: name.to_owned(),
        extension_number: numbers.collect(),
    }))
}

fn file_of_extension(schema: &Schema, wanted: &ExtensionRequest) -> Option<String> {
    let extendee = schema.pool().message_index(&wanted.containing_type)?;
    let number = u32::try_from(wanted.extension_number).ok()?;
    schema.file_of_symbol(schema.pool().extension_for(extendee, number)?.full_name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::backend::{Body, Peer, Protocol};
    use crate::rpc::schema::Input;

    const PROTO: &str = r#"
        syntax = "proto2";
        package demo;
        import "google/protobuf/empty.proto";
        import "google/protobuf/descriptor.proto";
        extend google.protobuf.MethodOptions { optional string route = 50001; }
        service Greeter { rpc Hello(Ask) returns (google.protobuf.Empty) { option (route) = "/hello"; } }
        message Ask { extensions 100 to 200; optional string name = 1; enum Mood { GOOD = 0; } }
        extend Ask { optional int32 more = 150; optional int32 most = 151; }
    "#;

    fn catalog() -> SharedCatalog {
        let input = Input::Text { name: "demo.proto".to_owned(), text: PROTO.to_owned() };
        let schema = Schema::compile_inputs(&[input], &[]).unwrap();
        let shared = SharedCatalog::default();
        let mut catalog = Catalog::new(Arc::new(schema));
        for route in routes(&shared) {
            catalog.insert(route).unwrap();
        }
        shared.store(catalog);
        shared
    }

    async fn ask(catalog: &SharedCatalog, questions: Vec<Question>) -> Vec<Answer> {
        let route = routes(catalog).remove(0);
        let requests = questions.into_iter().map(|question| {
            let request = Request { host: String::new(), question: Some(question) };
            Ok(Payload::proto(request.encode_to_vec()))
        });
        let reply = route.backend.call(Call {
            method: route.method,
            id: 1,
            protocol: Protocol::Grpc,
            peer: Arc::new(Peer { address: "test".to_owned(), tls_subject: None }),
            metadata: http::HeaderMap::new(),
            deadline: None,
            requests: Requests::Stream(stream::iter(requests.collect::<Vec<_>>()).boxed()),
        });
        let Body::Stream(events) = reply.await.body else { panic!("reflection streams") };
        let mut events: Vec<Event> = events.collect().await;
        assert!(matches!(events.pop(), Some(Event::End { status, .. }) if status.is_ok()));
        let decode = |event| match event {
            Event::Message(message) => Response::decode(message.bytes).unwrap().answer.unwrap(),
            Event::End { .. } => panic!("two ends"),
        };
        events.into_iter().map(decode).collect()
    }

    fn file_names(answer: &Answer) -> Vec<String> {
        let Answer::Files(files) = answer else { panic!("{answer:?}") };
        let name = |bytes: &Bytes| prost_types_name(bytes);
        files.file_descriptor_proto.iter().map(name).collect()
    }

    fn prost_types_name(bytes: &Bytes) -> String {
        #[derive(Clone, PartialEq, prost::Message)]
        struct Named {
            #[prost(string, tag = "1")]
            name: String,
        }
        Named::decode(bytes.clone()).unwrap().name
    }

    #[test]
    fn a_server_that_is_gone_leaves_nothing_behind() {
        let shared = catalog();
        let (catalog, weak) = (shared.load(), shared.downgrade());
        drop(shared);
        assert!(weak.upgrade().is_none());
        assert_eq!(Arc::strong_count(&catalog), 1);
    }

    #[tokio::test]
    async fn every_kind_of_symbol_is_found() {
        let symbols = [
            "demo.Greeter",
            "demo.Greeter.Hello",
            "demo.Ask",
            "demo.Ask.name",
            "demo.Ask.Mood",
            "demo.Ask.GOOD",
            "demo.more",
            ".demo.Ask",
        ];
        for symbol in symbols {
            let answers = ask(&catalog(), vec![Question::FileContainingSymbol(symbol.to_owned())]).await;
            assert_eq!(file_names(&answers[0])[0], "demo.proto", "{symbol}");
        }
    }

    #[tokio::test]
    async fn imports_come_along_and_only_once() {
        let symbol = || Question::FileContainingSymbol("demo.Greeter".to_owned());
        let answers = ask(&catalog(), vec![symbol(), symbol()]).await;
        let first: BTreeSet<String> = file_names(&answers[0]).into_iter().collect();
        let expected = ["demo.proto", "google/protobuf/descriptor.proto", "google/protobuf/empty.proto"];
        assert_eq!(first, expected.map(str::to_owned).into());
        assert_eq!(file_names(&answers[1]), ["demo.proto"]);
    }

    #[tokio::test]
    async fn custom_options_survive() {
        let answers = ask(&catalog(), vec![Question::FileByFilename("demo.proto".to_owned())]).await;
        let Answer::Files(files) = &answers[0] else { panic!() };
        assert!(files.file_descriptor_proto[0].windows(6).any(|window| window == b"/hello"));
    }

    #[tokio::test]
    async fn services_and_extensions_are_listed_and_errors_leave_the_stream_open() {
        let extension = |containing_type: &str, extension_number| {
            let containing_type = containing_type.to_owned();
            Question::FileContainingExtension(ExtensionRequest { containing_type, extension_number })
        };
        let answers = ask(
            &catalog(),
            vec![
                Question::FileContainingSymbol("demo.Nobody".to_owned()),
                Question::ListServices(String::new()),
                Question::AllExtensionNumbersOfType("demo.Ask".to_owned()),
                extension("demo.Ask", 150),
                extension("demo.Ask", 160),
                Question::FileContainingSymbol(SERVICE_V1ALPHA.to_owned()),
            ],
        )
        .await;
        assert_eq!(answers[0], Answer::Error(refusal(Code::NotFound, "no symbol 'demo.Nobody'")));
        let names = [SERVICE_V1, SERVICE_V1ALPHA].map(|name| ServiceName { name: name.to_owned() });
        assert_eq!(answers[1], Answer::Services(Services { service: names.to_vec() }));
        let numbers =
            ExtensionNumbers { base_type_name: "demo.Ask".to_owned(), extension_number: vec![150, 151] };
        assert_eq!(answers[2], Answer::ExtensionNumbers(numbers));
        assert_eq!(file_names(&answers[3])[0], "demo.proto");
        assert_eq!(answers[4], Answer::Error(refusal(Code::NotFound, "'demo.Ask' has no extension 160")));
        assert_eq!(file_names(&answers[5]), ["grpc/reflection/v1alpha/reflection.proto"]);
    }
}
