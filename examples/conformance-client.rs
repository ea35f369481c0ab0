//! A client under test for Connect's conformance suite: reads calls on stdin, makes them with the library,
//! reports on stdout. Run by `tests/interop/connectconformance-client.sh`.
//!
//! Usage: conformance-client PROTOSET, the suite's schema as a serialized `FileDescriptorSet`.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use bandy::rpc::client::{
    CallOptions, Ending, HttpClient, HttpProtocol, HttpVersion, Receiver, Sender, Target,
};
use bandy::rpc::schema::Schema;
use bandy::rpc::wire::Encoding;
use bandy::rpc::{Code, Format, Payload, Status};
use bandy::shutdown::Shutdown;
use bandy::transport::tls::{IdentityFiles, TlsClientOptions};
use bandy::transport::{Address, TlsClient};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

const PACKAGE: &str = "connectrpc.conformance.v1";
/// Calls at the same time.
const JOBS: usize = 16;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let path = std::env::args().nth(1).ok_or("usage: conformance-client PROTOSET")?;
    let schema = Arc::new(Schema::from_descriptor_set(&std::fs::read(path)?)?);
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(&schema))
}

/// Reads requests until stdin ends, answering each as it is done.
async fn run(schema: &Arc<Schema>) -> Result<(), Failure> {
    let (tx, mut requests) = tokio::sync::mpsc::channel::<Bytes>(JOBS);
    let reader = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
        let mut stdin = std::io::stdin().lock();
        let mut size = [0; 4];
        while stdin.read_exact(&mut size).is_ok() {
            let mut message = vec![0; u32::from_be_bytes(size) as usize];
            stdin.read_exact(&mut message)?;
            if tx.blocking_send(message.into()).is_err() {
                break;
            }
        }
        Ok(())
    });
    let permits = Arc::new(tokio::sync::Semaphore::new(JOBS));
    let shutdown = Shutdown::new();
    while let Some(message) = requests.recv().await {
        let permit = Arc::clone(&permits).acquire_owned().await?;
        let (schema, tasks) = (Arc::clone(schema), shutdown.clone());
        shutdown.spawn(async move {
            let response = respond(&schema, &message, tasks).await;
            let mut framed = u32::try_from(response.len()).unwrap_or(0).to_be_bytes().to_vec();
            framed.extend_from_slice(&response);
            let mut stdout = std::io::stdout().lock();
            if stdout.write_all(&framed).and_then(|()| stdout.flush()).is_err() {
                std::process::exit(1);
            }
            drop(permit);
        });
    }
    reader.await??;
    drop(permits.acquire_many(u32::try_from(JOBS)?).await?);
    Ok(())
}

async fn respond(schema: &Schema, message: &Bytes, shutdown: Shutdown) -> Bytes {
    let request = to_json(schema, &format!("{PACKAGE}.ClientCompatRequest"), message);
    let (name, result) = match request {
        Ok(request) => {
            let name = request["testName"].clone();
            (name, Test { schema, request: &request }.run(shutdown).await)
        }
        Err(error) => (Value::Null, Err(error)),
    };
    let response = match result {
        Ok(result) => json!({"testName": name, "response": result}),
        Err(error) => json!({"testName": name, "error": {"message": error.to_string()}}),
    };
    to_proto(schema, &format!("{PACKAGE}.ClientCompatResponse"), &response).unwrap_or_else(|error| {
        let response = json!({"testName": name, "error": {"message": error.to_string()}});
        to_proto(schema, &format!("{PACKAGE}.ClientCompatResponse"), &response).expect("strings encode")
    })
}

fn to_json(schema: &Schema, type_name: &str, bytes: &Bytes) -> Result<Value, Failure> {
    let message = schema.message(type_name).ok_or_else(|| format!("no type {type_name}"))?;
    let json = message.convert(&Payload::proto(bytes.clone()), Format::Json)?;
    Ok(serde_json::from_slice(&json)?)
}

fn to_proto(schema: &Schema, type_name: &str, value: &Value) -> Result<Bytes, Failure> {
    let message = schema.message(type_name).ok_or_else(|| format!("no type {type_name}"))?;
    Ok(message.convert(&Payload::json(value.to_string()), Format::Proto)?)
}

/// One test case.
struct Test<'a> {
    schema: &'a Schema,
    request: &'a Value,
}

/// What came back.
#[derive(Default)]
struct Outcome {
    headers: HeaderMap,
    payloads: Vec<Value>,
    unsent: usize,
    ending: Option<Ending>,
}

/// When to give the call up.
enum Cancel {
    Never,
    BeforeCloseSend,
    AfterCloseSend(Duration),
    AfterResponses(usize),
}

impl Test<'_> {
    async fn run(&self, shutdown: Shutdown) -> Result<Value, Failure> {
        let client = HttpClient::new(self.target()?, shutdown);
        let path = format!("{}/{}", self.text("service"), self.text("method"));
        let options = self.options()?;
        let messages = self.messages(options.format)?;
        let outcome = match self.text("streamType") {
            "STREAM_TYPE_UNARY" => self.unary(&client, &path, &messages, &options).await?,
            "STREAM_TYPE_SERVER_STREAM" => self.server_stream(&client, &path, &messages, &options).await?,
            _ => self.stream(&client, &path, &messages, &options).await?,
        };
        self.report(&outcome)
    }

    fn text(&self, field: &str) -> &str {
        self.request[field].as_str().unwrap_or_default()
    }

    fn millis(&self, field: &str) -> Option<Duration> {
        self.request[field].as_u64().map(Duration::from_millis)
    }

    fn target(&self) -> Result<Target, Failure> {
        let port =
            self.request["port"].as_u64().and_then(|port| u16::try_from(port).ok()).ok_or("no port")?;
        let protocol = match self.text("protocol") {
            "PROTOCOL_GRPC" => HttpProtocol::Grpc,
            "PROTOCOL_GRPC_WEB" => HttpProtocol::GrpcWeb,
            "PROTOCOL_CONNECT" => HttpProtocol::Connect,
            other => return Err(format!("unknown protocol {other}").into()),
        };
        let mut target = Target::grpc(Address::tcp(self.text("host"), port)).protocol(protocol);
        target.version = match self.text("httpVersion") {
            "HTTP_VERSION_2" => HttpVersion::H2,
            "HTTP_VERSION_1" => HttpVersion::H1,
            other => return Err(format!("unknown version {other}").into()),
        };
        match self.tls()? {
            Some(tls) => Ok(target.tls(tls)),
            None => Ok(target),
        }
    }

    /// The suite gives certificates as bytes, the library takes files, as commands do.
    fn tls(&self) -> Result<Option<TlsClient>, Failure> {
        let bytes = |value: &Value| STANDARD.decode(value.as_str().unwrap_or_default());
        let authority = bytes(&self.request["serverTlsCert"])?;
        if authority.is_empty() {
            return Ok(None);
        }
        let folder = tempfile::tempdir()?;
        let file = |name: &str, bytes: &[u8]| -> std::io::Result<std::path::PathBuf> {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes)?;
            Ok(path)
        };
        let credentials = &self.request["clientTlsCreds"];
        let identity = match credentials {
            Value::Null => None,
            credentials => Some(IdentityFiles {
                certificate: file("cert.pem", &bytes(&credentials["cert"])?)?,
                key: file("key.pem", &bytes(&credentials["key"])?)?,
            }),
        };
        let options = TlsClientOptions {
            ca: Some(file("ca.pem", &authority)?),
            identity,
            ..TlsClientOptions::default()
        };
        Ok(Some(TlsClient::new(&options)?))
    }

    fn options(&self) -> Result<CallOptions, Failure> {
        let mut metadata = HeaderMap::new();
        for header in self.request["requestHeaders"].as_array().into_iter().flatten() {
            let name = HeaderName::try_from(header["name"].as_str().unwrap_or_default())?;
            for value in header["value"].as_array().into_iter().flatten() {
                metadata.append(name.clone(), HeaderValue::try_from(value.as_str().unwrap_or_default())?);
            }
        }
        let limit = self.request["messageReceiveLimit"].as_u64().unwrap_or(0);
        Ok(CallOptions {
            metadata,
            timeout: self.millis("timeoutMs"),
            format: if self.text("codec") == "CODEC_JSON" { Format::Json } else { Format::Proto },
            compression: match self.text("compression") {
                "COMPRESSION_GZIP" => Encoding::Gzip,
                "COMPRESSION_ZSTD" => Encoding::Zstd,
                "COMPRESSION_DEFLATE" => Encoding::Deflate,
                _ => Encoding::Identity,
            },
            message_size_max: if limit == 0 { 64 << 20 } else { usize::try_from(limit)? },
            get: self.request["useGetHttpMethod"] == true,
            trace: false,
        })
    }

    fn messages(&self, format: Format) -> Result<Vec<Bytes>, Failure> {
        let messages = self.request["requestMessages"].as_array().into_iter().flatten();
        let encode = |any: &Value| -> Result<Bytes, Failure> {
            let mut message = any.clone();
            let url = message.as_object_mut().and_then(|it| it.shift_remove("@type")).unwrap_or_default();
            let type_name = url.as_str().and_then(|url| url.rsplit('/').next()).unwrap_or_default();
            match format {
                Format::Json => Ok(message.to_string().into()),
                Format::Proto => to_proto(self.schema, type_name, &message),
            }
        };
        messages.map(encode).collect()
    }

    fn cancel(&self) -> Cancel {
        let cancel = &self.request["cancel"];
        if !cancel["beforeCloseSend"].is_null() {
            Cancel::BeforeCloseSend
        } else if let Some(millis) = cancel["afterCloseSendMs"].as_u64() {
            Cancel::AfterCloseSend(Duration::from_millis(millis))
        } else if let Some(count) = cancel["afterNumResponses"].as_u64() {
            Cancel::AfterResponses(usize::try_from(count).unwrap_or(usize::MAX))
        } else {
            Cancel::Never
        }
    }

    async fn delay(&self) {
        if let Some(delay) = self.millis("requestDelayMs") {
            tokio::time::sleep(delay).await;
        }
    }

    async fn unary(
        &self,
        client: &HttpClient,
        path: &str,
        messages: &[Bytes],
        options: &CallOptions,
    ) -> Result<Outcome, Failure> {
        self.delay().await;
        let call = client.unary(path, messages.first().ok_or("no message")?, options);
        let reply = match self.cancel() {
            Cancel::AfterCloseSend(after) => match before(Instant::now() + after, call).await {
                Some(reply) => reply,
                None => return Ok(Outcome { ending: Some(cancelled()), ..Outcome::default() }),
            },
            _ => call.await,
        };
        let payloads = reply.message.iter().map(|message| self.payload(message, options.format));
        let payloads = payloads.collect::<Result<_, _>>()?;
        Ok(Outcome { headers: reply.headers, payloads, unsent: 0, ending: Some(reply.ending) })
    }

    async fn server_stream(
        &self,
        client: &HttpClient,
        path: &str,
        messages: &[Bytes],
        options: &CallOptions,
    ) -> Result<Outcome, Failure> {
        self.delay().await;
        let mut outcome = Outcome::default();
        match client.server_stream(path, messages.first().ok_or("no message")?, options).await {
            Ok(receiver) => self.receive(receiver, None, &mut outcome, options.format).await?,
            Err(ending) => outcome.ending = Some(ending),
        }
        Ok(outcome)
    }

    async fn stream(
        &self,
        client: &HttpClient,
        path: &str,
        messages: &[Bytes],
        options: &CallOptions,
    ) -> Result<Outcome, Failure> {
        let mut outcome = Outcome { unsent: messages.len(), ..Outcome::default() };
        let (mut sender, mut receiver) = match client.stream(path, options).await {
            Ok(both) => both,
            Err(ending) => {
                outcome.ending = Some(ending);
                return Ok(outcome);
            }
        };
        let full_duplex = self.text("streamType") == "STREAM_TYPE_FULL_DUPLEX_BIDI_STREAM";
        for message in messages {
            self.delay().await;
            if sender.send(message).await.is_err() {
                break;
            }
            outcome.unsent -= 1;
            if full_duplex {
                match receiver.message().await {
                    Some(message) => outcome.payloads.push(self.payload(&message, options.format)?),
                    None => break,
                }
                if matches!(self.cancel(), Cancel::AfterResponses(count) if outcome.payloads.len() >= count) {
                    return self.give_up(sender, receiver, outcome);
                }
            }
        }
        if matches!(self.cancel(), Cancel::BeforeCloseSend) {
            return self.give_up(sender, receiver, outcome);
        }
        sender.finish().await;
        let client_stream = self.text("streamType") == "STREAM_TYPE_CLIENT_STREAM";
        if client_stream && !matches!(self.cancel(), Cancel::AfterCloseSend(_)) {
            let reply = receiver.unary().await;
            outcome.headers = reply.headers;
            if let Some(message) = &reply.message {
                outcome.payloads.push(self.payload(message, options.format)?);
            }
            outcome.ending = Some(reply.ending);
            return Ok(outcome);
        }
        self.receive(receiver, Some(sender), &mut outcome, options.format).await?;
        Ok(outcome)
    }

    fn give_up(
        &self,
        mut sender: Sender,
        receiver: Receiver,
        mut outcome: Outcome,
    ) -> Result<Outcome, Failure> {
        sender.cancel();
        drop(receiver);
        outcome.ending = Some(cancelled());
        Ok(outcome)
    }

    async fn receive(
        &self,
        mut receiver: Receiver,
        mut sender: Option<Sender>,
        outcome: &mut Outcome,
        format: Format,
    ) -> Result<(), Failure> {
        let give_up_at = match self.cancel() {
            Cancel::AfterCloseSend(after) => Some(Instant::now() + after),
            _ => None,
        };
        loop {
            if matches!(self.cancel(), Cancel::AfterResponses(count) if outcome.payloads.len() >= count) {
                if let Some(sender) = &mut sender {
                    sender.cancel();
                }
                outcome.ending = Some(cancelled());
                outcome.headers = receiver.headers().await.clone();
                return Ok(());
            }
            let message = match give_up_at {
                Some(at) => match before(at, receiver.message()).await {
                    Some(message) => message,
                    None => {
                        outcome.ending = Some(cancelled());
                        return Ok(());
                    }
                },
                None => receiver.message().await,
            };
            match message {
                Some(message) => outcome.payloads.push(self.payload(&message, format)?),
                None => {
                    let (headers, ending) = receiver.end().await;
                    outcome.headers = headers;
                    outcome.ending = Some(ending);
                    return Ok(());
                }
            }
        }
    }

    /// The payload within a response message.
    fn payload(&self, message: &Bytes, format: Format) -> Result<Value, Failure> {
        let kind = match self.text("method") {
            "ServerStream" => "ServerStreamResponse",
            "ClientStream" => "ClientStreamResponse",
            "BidiStream" => "BidiStreamResponse",
            "IdempotentUnary" => "IdempotentUnaryResponse",
            "Unimplemented" => "UnimplementedResponse",
            _ => "UnaryResponse",
        };
        let json = match format {
            Format::Proto => to_json(self.schema, &format!("{PACKAGE}.{kind}"), message)?,
            Format::Json => serde_json::from_slice(message)?,
        };
        Ok(match json.get("payload") {
            Some(payload) => payload.clone(),
            None => json!({}),
        })
    }

    fn report(&self, outcome: &Outcome) -> Result<Value, Failure> {
        let mut result = json!({
            "responseHeaders": headers_json(&outcome.headers),
            "payloads": outcome.payloads,
            "numUnsentRequests": outcome.unsent,
        });
        if let Some(ending) = &outcome.ending {
            result["responseTrailers"] = headers_json(&ending.trailers);
            if !ending.status.is_ok() {
                result["error"] = self.error(&ending.status)?;
            }
        }
        Ok(result)
    }

    fn error(&self, status: &Status) -> Result<Value, Failure> {
        let detail = |detail: &bandy::rpc::status::Detail| -> Result<Value, Failure> {
            // Read as an Any by hand: its JSON would need the type, which the suite does not always send.
            let mut value = to_json(self.schema, &detail.type_name, &detail.value)?;
            let url = format!("type.googleapis.com/{}", detail.type_name);
            match value.as_object_mut() {
                Some(object) => {
                    object.insert("@type".to_owned(), url.into());
                    Ok(value)
                }
                None => Ok(json!({"@type": url, "value": value})),
            }
        };
        let details: Vec<Value> = status.details.iter().map(detail).collect::<Result<_, _>>()?;
        let code = format!("CODE_{}", status.code.connect_name().to_uppercase());
        Ok(json!({"code": code, "message": status.message, "details": details}))
    }
}

/// What `work` has come to before `at`. A process that has not run for a while finds both the answer and its
/// deadline: the deadline came first, and a canceller on time would never have seen the answer.
async fn before<T>(at: Instant, work: impl Future<Output = T>) -> Option<T> {
    let outcome = timeout_at(at, work).await.ok()?;
    (Instant::now() < at).then_some(outcome)
}

fn cancelled() -> Ending {
    Ending::given_up(Status::new(Code::Canceled, "given up"))
}

fn headers_json(headers: &HeaderMap) -> Value {
    let one = |name: &HeaderName| {
        let values = headers.get_all(name).iter().map(|value| match std::str::from_utf8(value.as_bytes()) {
            Ok(text) => text.to_owned(),
            Err(_) => STANDARD.encode(value.as_bytes()),
        });
        json!({"name": name.as_str(), "value": values.collect::<Vec<_>>()})
    };
    headers.keys().map(one).collect()
}
