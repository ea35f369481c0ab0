//! What stands before a request and before a response, and whole frames of both.
//!
//! ```text
//! frame  size:i32 header message        the size counts what follows it
//! request header  v1  key:i16 version:i16 correlation:i32 client:nullable text
//!                 v2  as v1, then tagged fields; the text keeps its old encoding
//! response header v0  correlation:i32
//!                 v1  as v0, then tagged fields
//! ```

use bytes::Bytes;

use super::fault::{Error, Result};
use super::primitive::{Field, Reader};
use super::write::{Encoded, Writer};
use super::{ApiKey, Request, Versions};

/// Says which request follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// Which API, as it was sent: it need not be known here.
    pub api_key: i16,
    /// Its version.
    pub version: i16,
    /// What the response has to carry.
    pub correlation_id: i32,
    /// The name that the client gives itself.
    pub client_id: Option<String>,
}

impl RequestHeader {
    /// Reads the header of a request; the reader then stands before the message, in its version and encoding.
    ///
    /// A header of an API or version that is not known is read as far as its client id, which all versions share, so that it
    /// can be answered: then the reader's rest means nothing.
    ///
    /// # Errors
    /// Bytes that are no header.
    pub fn read(reader: &mut Reader) -> Result<Self> {
        reader.become_version(1, false);
        let api_key = i16::read(reader, "api_key")?;
        let version = i16::read(reader, "api_version")?;
        let correlation_id = i32::read(reader, "correlation_id")?;
        let client_id = Option::<String>::read(reader, "client_id")?;
        if let Some(versions) = ApiKey::from_code(api_key).map(ApiKey::versions) {
            let flexible = versions.is_flexible(version);
            reader.become_version(version, flexible);
            // An unknown version of ApiVersions is answered, whatever it looks like: KIP-511.
            if versions.contains(version) {
                reader.tagged("request header", &mut |_, _| Ok(()))?;
            }
        }
        Ok(Self { api_key, version, correlation_id, client_id })
    }

    fn write(&self, writer: &mut Writer, flexible: bool) -> Result<()> {
        writer.become_version(self.version, false);
        self.api_key.write(writer, "api_key")?;
        self.version.write(writer, "api_version")?;
        self.correlation_id.write(writer, "correlation_id")?;
        self.client_id.write(writer, "client_id")?;
        writer.become_version(self.version, flexible);
        writer.tagged(&mut |_| Ok(()))
    }
}

/// The response header is the old one for ApiVersions in every version: a client has to be able to read the answer before it
/// knows what the broker speaks (KIP-511).
fn response_header_is_flexible(key: ApiKey, version: i16) -> bool {
    key != ApiKey::ApiVersions && key.versions().is_flexible(version)
}

fn check(key: ApiKey, version: i16) -> Result<Versions> {
    let versions = key.versions();
    if versions.contains(version) {
        return Ok(versions);
    }
    Err(Error::Version { api: key, version, min: versions.min, max: versions.max })
}

/// A whole request with its size before it.
///
/// # Errors
/// The version is not known, or cannot say what the request says.
pub fn encode_request<R: Request>(
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
) -> Result<Encoded> {
    let versions = check(R::KEY, version)?;
    let mut writer = Writer::new(version, false);
    writer.put(&[0; 4]);
    let client_id = client_id.map(str::to_owned);
    let header = RequestHeader { api_key: R::KEY as i16, version, correlation_id, client_id };
    header.write(&mut writer, versions.is_flexible(version))?;
    request.write(&mut writer, R::KEY.name())?;
    writer.finish_frame()
}

/// Reads the message of a request whose header was read by [`RequestHeader::read`]. What stands behind it is not looked at, as
/// Kafka does: librdkafka's request for the metadata of all topics ends with bytes that are none of it.
///
/// # Errors
/// Bytes that are no such message, or another version than those known.
pub fn decode_request<R: Request>(mut reader: Reader) -> Result<R> {
    check(R::KEY, reader.version())?;
    R::read(&mut reader, R::KEY.name())
}

/// A whole response with its size before it.
///
/// # Errors
/// The version is not known, or cannot say what the response says.
pub fn encode_response<R: Request>(
    response: &R::Response,
    version: i16,
    correlation_id: i32,
) -> Result<Encoded> {
    let versions = check(R::KEY, version)?;
    let mut writer = Writer::new(version, false);
    writer.put(&[0; 4]);
    correlation_id.write(&mut writer, "correlation_id")?;
    writer.become_version(version, response_header_is_flexible(R::KEY, version));
    writer.tagged(&mut |_| Ok(()))?;
    writer.become_version(version, versions.is_flexible(version));
    response.write(&mut writer, R::KEY.name())?;
    writer.finish_frame()
}

/// The correlation id of a response, which says what request it answers.
///
/// # Errors
/// Fewer bytes than an id has.
pub fn correlation_id(frame: &Bytes) -> Result<i32> {
    i32::read(&mut Reader::new(frame.clone(), 0, false), "correlation_id")
}

/// Reads a response: everything after its size.
///
/// # Errors
/// Bytes that are no such message, or another version than those known.
pub fn decode_response<R: Request>(frame: Bytes, version: i16) -> Result<(i32, R::Response)> {
    let versions = check(R::KEY, version)?;
    let mut reader = Reader::new(frame, version, false);
    let correlation_id = i32::read(&mut reader, "correlation_id")?;
    reader.become_version(version, response_header_is_flexible(R::KEY, version));
    reader.tagged("response header", &mut |_, _| Ok(()))?;
    reader.become_version(version, versions.is_flexible(version));
    let response = R::Response::read(&mut reader, R::KEY.name())?;
    reader.finish()?;
    Ok((correlation_id, response))
}
