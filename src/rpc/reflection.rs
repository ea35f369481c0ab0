//! The reflection service, both versions: its messages, the server's answers, the client's questions.
//!
//! v1 and v1alpha differ in nothing but the package name, so one set of messages serves both.

pub mod cache;
pub mod fetch;
mod server;

use bytes::Bytes;

pub use fetch::Fetch;
pub use server::routes;

/// Full name of the service, version 1.
pub const SERVICE_V1: &str = "grpc.reflection.v1.ServerReflection";
/// Full name of the service as it was called before.
pub const SERVICE_V1ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection";

/// `ServerReflectionRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    /// Ignored by everyone.
    #[prost(string, tag = "1")]
    pub host: String,
    /// What is asked.
    #[prost(oneof = "Question", tags = "3, 4, 5, 6, 7")]
    pub question: Option<Question>,
}

/// What can be asked.
#[derive(Clone, PartialEq, Eq, Hash, prost::Oneof)]
pub enum Question {
    /// A file by the name it is imported by.
    #[prost(string, tag = "3")]
    FileByFilename(String),
    /// The file that declares a fully qualified name.
    #[prost(string, tag = "4")]
    FileContainingSymbol(String),
    /// The file that declares an extension.
    #[prost(message, tag = "5")]
    FileContainingExtension(ExtensionRequest),
    /// All extension numbers of a message type.
    #[prost(string, tag = "6")]
    AllExtensionNumbersOfType(String),
    /// All services.
    #[prost(string, tag = "7")]
    ListServices(String),
}

/// `ExtensionRequest`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct ExtensionRequest {
    /// Full name of the extended message.
    #[prost(string, tag = "1")]
    pub containing_type: String,
    /// The extension's number.
    #[prost(int32, tag = "2")]
    pub extension_number: i32,
}

/// `ServerReflectionResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Response {
    /// The request's host.
    #[prost(string, tag = "1")]
    pub valid_host: String,
    /// The request.
    #[prost(message, optional, tag = "2")]
    pub original_request: Option<Request>,
    /// The answer.
    #[prost(oneof = "Answer", tags = "4, 5, 6, 7")]
    pub answer: Option<Answer>,
}

/// What can be answered.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Answer {
    /// Files.
    #[prost(message, tag = "4")]
    Files(Files),
    /// Extension numbers.
    #[prost(message, tag = "5")]
    ExtensionNumbers(ExtensionNumbers),
    /// Services.
    #[prost(message, tag = "6")]
    Services(Services),
    /// An error; the stream goes on.
    #[prost(message, tag = "7")]
    Error(Refusal),
}

/// `FileDescriptorResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Files {
    /// Serialized FileDescriptorProtos.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub file_descriptor_proto: Vec<Bytes>,
}

/// `ExtensionNumberResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExtensionNumbers {
    /// Full name of the extended message.
    #[prost(string, tag = "1")]
    pub base_type_name: String,
    /// The numbers.
    #[prost(int32, repeated, tag = "2")]
    pub extension_number: Vec<i32>,
}

/// `ListServiceResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Services {
    /// The services.
    #[prost(message, repeated, tag = "1")]
    pub service: Vec<ServiceName>,
}

/// `ServiceResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ServiceName {
    /// Full name.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// `ErrorResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Refusal {
    /// A gRPC status code.
    #[prost(int32, tag = "1")]
    pub error_code: i32,
    /// For a person.
    #[prost(string, tag = "2")]
    pub error_message: String,
}
