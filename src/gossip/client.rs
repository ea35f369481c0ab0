//! A command's side of Serf's agent protocol: ask a node, ours or a real agent.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::wire::ipc::{IPC_BYTES_MAX, Request, read_header};
use super::wire::msgpack::{Fault, Reader};
use crate::transport::{Address, ConnectOptions, Stream};

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// How long a node may take for its first words, which cost it nothing.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a node did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not there.
    #[error(transparent)]
    Connect(#[from] crate::transport::Error),
    /// The connection broke.
    #[error("the connection is lost: {0}")]
    Lost(String),
    /// Somebody accepts connections, and then says nothing.
    #[error(
        "it accepts connections, but did not answer the first words of Serf's agent protocol within {0:?}"
    )]
    Mute(Duration),
    /// It refused.
    #[error("{0}")]
    Refused(String),
    /// What it answered makes no sense.
    #[error("it answers what is not Serf's agent protocol: {0}")]
    Malformed(#[from] Fault),
}

impl Error {
    /// Whether the node does not know the command: then it is not one of ours.
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Refused(error) if error.starts_with("Unsupported command"))
    }

    /// Whether the node does not know a kind of events. Serf, `invalidFilterErr`.
    pub fn is_foreign_kind(&self) -> bool {
        matches!(self, Self::Refused(error) if error.starts_with("Invalid event filter"))
    }
}

/// A connection to a node.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    buffer: Vec<u8>,
    sequence: u64,
    /// The stream that runs.
    stream_sequence: Option<u64>,
    /// What came of it before the answer to something that was asked meanwhile.
    aside: VecDeque<Vec<u8>>,
}

/// What has been read.
enum Found<T> {
    /// What was waited for, or the error instead.
    Wanted(Result<T, String>),
    /// A record of the stream that runs.
    OfStream,
    /// An answer that nobody waits for any more.
    Nothing,
}

impl Client {
    /// Connects and shakes hands; with a key if the agent wants one.
    ///
    /// # Errors
    /// Nobody is there, or it speaks something else.
    pub async fn connect(
        address: &Address,
        options: &ConnectOptions,
        key: Option<&str>,
    ) -> Result<Self, Error> {
        let stream = Stream::connect_with(address, options).await?;
        let mut client =
            Self { stream, buffer: Vec::new(), sequence: 0, stream_sequence: None, aside: VecDeque::new() };
        let greeting = async {
            client.ask(&Request::Handshake, |_| Ok(())).await?;
            if let Some(key) = key {
                client.ask(&Request::Auth { key: key.to_owned() }, |_| Ok(())).await?;
            }
            Ok(())
        };
        let greeted = tokio::time::timeout(GREETING_TIMEOUT, greeting).await;
        greeted.unwrap_or(Err(Error::Mute(GREETING_TIMEOUT)))?;
        Ok(client)
    }

    async fn send(&mut self, request: &Request) -> Result<u64, Error> {
        self.sequence += 1;
        let mut bytes = Vec::new();
        request.write(self.sequence, &mut bytes);
        let sent = async {
            self.stream.write_all(&bytes).await?;
            self.stream.flush().await
        };
        sent.await.map_err(|error| Error::Lost(error.to_string()))?;
        Ok(self.sequence)
    }

    /// Asks, and reads the body of the answer.
    ///
    /// # Errors
    /// The connection is lost, the node refuses, or answers something else.
    pub async fn ask<T>(
        &mut self,
        request: &Request,
        body: impl Fn(&mut Reader<'_>) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        let sequence = self.send(request).await?;
        self.answer(sequence, body).await
    }

    /// Asks something of all nodes of a cluster. That not all of them did it is told beside what each of them said.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn ask_all<T>(
        &mut self,
        request: &Request,
        body: impl Fn(&mut Reader<'_>) -> Result<T, Fault>,
    ) -> Result<(T, Option<String>), Error> {
        let sequence = self.send(request).await?;
        let read = |reader: &mut Reader<'_>, error: String| {
            // Serf, handleKeyRequest: "1/3 nodes reported failure".
            match error.is_empty() || error.contains(" nodes reported ") {
                true => Ok(Ok((body(reader)?, Some(error).filter(|error| !error.is_empty())))),
                false => Ok(Err(error)),
            }
        };
        self.read_answer(sequence, read).await
    }

    /// Asks for the one stream of a connection. [`Self::next_record`] reads what comes.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn start(&mut self, request: &Request) -> Result<(), Error> {
        let sequence = self.send(request).await?;
        self.answer(sequence, |_| Ok(())).await?;
        self.stream_sequence = Some(sequence);
        Ok(())
    }

    /// The next record of the stream. It may be dropped where it waits.
    ///
    /// # Errors
    /// As [`Self::ask`]; there is no stream.
    pub async fn next_record<T>(
        &mut self,
        body: impl Fn(&mut Reader<'_>) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        if let Some(frame) = self.aside.pop_front() {
            let mut reader = Reader::new(&frame);
            let (_, error) = read_header(&mut reader)?;
            return if error.is_empty() { Ok(body(&mut reader)?) } else { Err(Error::Refused(error)) };
        }
        let Some(sequence) = self.stream_sequence else { return Err(Error::Lost("no stream".to_owned())) };
        self.answer(sequence, body).await
    }

    async fn answer<T>(
        &mut self,
        wanted: u64,
        body: impl Fn(&mut Reader<'_>) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        let read = |reader: &mut Reader<'_>, error: String| match error.is_empty() {
            true => Ok(Ok(body(reader)?)),
            false => Ok(Err(error)),
        };
        self.read_answer(wanted, read).await
    }

    /// Reads what is for `wanted`, and sets aside what the stream brings before it. `read_body` is given the error of the header
    /// and what follows it.
    async fn read_answer<T>(
        &mut self,
        wanted: u64,
        read_body: impl Fn(&mut Reader<'_>, String) -> Result<Result<T, String>, Fault>,
    ) -> Result<T, Error> {
        loop {
            let mut reader = Reader::new(&self.buffer);
            let read = read_header(&mut reader).and_then(|(sequence, error)| {
                let is_of_stream = Some(sequence) == self.stream_sequence;
                // A body that comes with an error all the same is an answer without a number, which nobody waits for.
                Ok(match sequence == wanted {
                    true => Found::Wanted(read_body(&mut reader, error)?),
                    false if is_of_stream => {
                        if error.is_empty() {
                            reader.skip()?;
                        }
                        Found::OfStream
                    }
                    false => Found::Nothing,
                })
            });
            let used = reader.position();
            match read {
                Ok(Found::Wanted(answer)) => {
                    self.buffer.drain(..used);
                    return answer.map_err(Error::Refused);
                }
                Ok(Found::OfStream) => self.aside.push_back(self.buffer.drain(..used).collect()),
                Ok(Found::Nothing) => drop(self.buffer.drain(..used)),
                Err(Fault::Incomplete { .. }) if self.buffer.len() < IPC_BYTES_MAX => self.read().await?,
                Err(fault) => return Err(fault.into()),
            }
        }
    }

    async fn read(&mut self) -> Result<(), Error> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let lost = |why: String| Error::Lost(why);
        let length = self.stream.read(&mut chunk).await.map_err(|error| lost(error.to_string()))?;
        if length == 0 {
            return Err(lost("the node closed it".to_owned()));
        }
        self.buffer.extend_from_slice(&chunk[..length]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gossip::wire::ipc::{KeysReply, StreamRecord, write_header};
    use crate::transport::Listener;

    /// The next request; its number.
    async fn request(stream: &mut Stream, buffer: &mut Vec<u8>) -> u64 {
        loop {
            let mut reader = Reader::new(buffer);
            if let Ok((sequence, _)) = Request::read(&mut reader) {
                let used = reader.position();
                buffer.drain(..used);
                return sequence;
            }
            assert_ne!(stream.read_buf(buffer).await.unwrap(), 0);
        }
    }

    #[tokio::test]
    async fn the_body_of_a_refusal_does_not_get_into_the_next_answer() {
        let listener = Listener::bind(&Address::tcp("127.0.0.1", 0)).await.unwrap();
        let address = listener.address().unwrap();
        let node = tokio::spawn(async move {
            let (mut stream, mut buffer) = (listener.accept().await.unwrap(), Vec::new());
            for error in ["", "Key not found", ""] {
                let sequence = request(&mut stream, &mut buffer).await;
                let mut reply = Vec::new();
                write_header(&mut reply, sequence, error);
                if !error.is_empty() {
                    KeysReply::default().write(&mut reply);
                }
                stream.write_all(&reply).await.unwrap();
            }
        });
        let mut client = Client::connect(&address, &ConnectOptions::default(), None).await.unwrap();
        let refused = client.ask(&Request::ListKeys, KeysReply::read).await.unwrap_err();
        assert_eq!(refused.to_string(), "Key not found");
        client.ask(&Request::Stop { stop: 1 }, |_| Ok(())).await.unwrap();
        node.await.unwrap();
    }

    #[tokio::test]
    async fn what_a_stream_brings_before_an_answer_is_read_after_it() {
        let listener = Listener::bind(&Address::tcp("127.0.0.1", 0)).await.unwrap();
        let address = listener.address().unwrap();
        let node = tokio::spawn(async move {
            let (mut stream, mut buffer) = (listener.accept().await.unwrap(), Vec::new());
            let mut sequences = Vec::new();
            for asked in ["handshake", "stream", "respond"] {
                let sequence = request(&mut stream, &mut buffer).await;
                sequences.push(sequence);
                let mut reply = Vec::new();
                if asked == "respond" {
                    for name in ["one", "two"] {
                        write_header(&mut reply, sequences[1], "");
                        let record = StreamRecord { name: name.to_owned(), ..StreamRecord::default() };
                        record.write(&mut reply);
                    }
                }
                write_header(&mut reply, sequence, "");
                stream.write_all(&reply).await.unwrap();
            }
            let mut reply = Vec::new();
            write_header(&mut reply, sequences[1], "it is over");
            stream.write_all(&reply).await.unwrap();
        });
        let mut client = Client::connect(&address, &ConnectOptions::default(), None).await.unwrap();
        client.start(&Request::Stream { kinds: "*".to_owned() }).await.unwrap();
        let respond = Request::Respond { id: 1, payload: bytes::Bytes::new() };
        client.ask(&respond, |_| Ok(())).await.unwrap();
        for name in ["one", "two"] {
            assert_eq!(client.next_record(StreamRecord::read).await.unwrap().name, name);
        }
        let over = client.next_record(StreamRecord::read).await.unwrap_err();
        assert_eq!(over.to_string(), "it is over");
        node.await.unwrap();
    }
}
