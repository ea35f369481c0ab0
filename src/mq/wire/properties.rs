//! The properties of a message: two bytes of flags, then those that are present. AMQP 0-9-1, 2.3.5.2 and 1.8.

use super::error::Error;
use super::primitive::{Cut, Reader, Writer};
use super::{Output, Table};

/// The lowest two bits are not properties: one says that more flags follow, which no property of `basic` needs.
const FLAGS_UNKNOWN: u16 = 0b11;

/// How a property is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Short,
    Table,
    Octet,
    Time,
}

/// In the order of the flags, the highest bit first.
const SHAPES: [Shape; 14] = [
    Shape::Short,
    Shape::Short,
    Shape::Table,
    Shape::Octet,
    Shape::Octet,
    Shape::Short,
    Shape::Short,
    Shape::Short,
    Shape::Short,
    Shape::Time,
    Shape::Short,
    Shape::Short,
    Shape::Short,
    Shape::Short,
];

/// Where each property stands in [`SHAPES`].
mod at {
    pub const CONTENT_TYPE: usize = 0;
    pub const CONTENT_ENCODING: usize = 1;
    pub const HEADERS: usize = 2;
    pub const DELIVERY_MODE: usize = 3;
    pub const PRIORITY: usize = 4;
    pub const CORRELATION_ID: usize = 5;
    pub const REPLY_TO: usize = 6;
    pub const EXPIRATION: usize = 7;
    pub const MESSAGE_ID: usize = 8;
    pub const TIMESTAMP: usize = 9;
    pub const KIND: usize = 10;
    pub const USER_ID: usize = 11;
    pub const APP_ID: usize = 12;
    pub const CLUSTER_ID: usize = 13;
}

/// Properties as they came, known to be well formed but for the headers, which are looked into when asked for.
/// Every accessor finds its property anew: a broker needs few of them and forwards the bytes as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Properties<'a> {
    flags: u16,
    /// Flags and all that follows them.
    bytes: &'a [u8],
}

impl Default for Properties<'_> {
    /// No properties at all.
    fn default() -> Self {
        Self { flags: 0, bytes: &[0, 0] }
    }
}

impl<'a> Properties<'a> {
    /// The bytes that follow the body size in a content header.
    ///
    /// # Errors
    /// They are cut off, have more behind them, or flags of no property.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let Some((flags, rest)) = bytes.split_first_chunk::<2>() else { return Err(Error::Properties) };
        let flags = u16::from_be_bytes(*flags);
        if flags & FLAGS_UNKNOWN != 0 {
            return Err(Error::Properties);
        }
        let mut reader = Reader::new(rest);
        for at in indices(flags) {
            skip(&mut reader, SHAPES[at]).map_err(|Cut| Error::Properties)?;
        }
        if reader.rest().is_empty() { Ok(Self { flags, bytes }) } else { Err(Error::Properties) }
    }

    /// The bytes as they came.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// True if there are none.
    pub const fn is_empty(&self) -> bool {
        self.flags == 0
    }

    #[inline]
    fn find(&self, wanted: usize) -> Option<Reader<'a>> {
        if self.flags & flag(wanted) == 0 {
            return None;
        }
        let mut reader = Reader::new(self.bytes.get(2..)?);
        // Only flags above the wanted one stand before it.
        for at in indices(self.flags & !(flag(wanted) | (flag(wanted) - 1))) {
            // Never cut off: parse has been here.
            skip(&mut reader, SHAPES[at]).ok()?;
        }
        Some(reader)
    }

    #[inline]
    fn short(&self, wanted: usize) -> Option<&'a [u8]> {
        self.find(wanted)?.short().ok()
    }

    /// MIME type of the body.
    pub fn content_type(&self) -> Option<&'a [u8]> {
        self.short(at::CONTENT_TYPE)
    }

    /// MIME encoding of the body.
    pub fn content_encoding(&self) -> Option<&'a [u8]> {
        self.short(at::CONTENT_ENCODING)
    }

    /// The application's headers.
    ///
    /// # Errors
    /// The table is malformed.
    pub fn headers(&self) -> Result<Option<Table<'a>>, Error> {
        self.find(at::HEADERS).and_then(|mut reader| reader.long().ok()).map(Table::parse).transpose()
    }

    /// 1 transient, 2 persistent.
    #[inline]
    pub fn delivery_mode(&self) -> Option<u8> {
        self.find(at::DELIVERY_MODE)?.u8().ok()
    }

    /// True if the message is to survive a restart.
    #[inline]
    pub fn is_persistent(&self) -> bool {
        self.delivery_mode() == Some(2)
    }

    /// 0 and up; higher is delivered first.
    pub fn priority(&self) -> Option<u8> {
        self.find(at::PRIORITY)?.u8().ok()
    }

    /// Tells to which request a reply belongs.
    pub fn correlation_id(&self) -> Option<&'a [u8]> {
        self.short(at::CORRELATION_ID)
    }

    /// The queue for replies.
    pub fn reply_to(&self) -> Option<&'a [u8]> {
        self.short(at::REPLY_TO)
    }

    /// Milliseconds to live, as text.
    pub fn expiration(&self) -> Option<&'a [u8]> {
        self.short(at::EXPIRATION)
    }

    /// The application's name for the message.
    pub fn message_id(&self) -> Option<&'a [u8]> {
        self.short(at::MESSAGE_ID)
    }

    /// Seconds since 1970.
    pub fn timestamp(&self) -> Option<u64> {
        self.find(at::TIMESTAMP)?.u64().ok()
    }

    /// The application's name for the kind of message: the property `type`.
    pub fn kind(&self) -> Option<&'a [u8]> {
        self.short(at::KIND)
    }

    /// The publishing user; RabbitMQ checks it.
    pub fn user_id(&self) -> Option<&'a [u8]> {
        self.short(at::USER_ID)
    }

    /// The publishing application.
    pub fn app_id(&self) -> Option<&'a [u8]> {
        self.short(at::APP_ID)
    }

    /// Reserved; old clients send it.
    pub fn cluster_id(&self) -> Option<&'a [u8]> {
        self.short(at::CLUSTER_ID)
    }

    /// All properties, to change some and write them anew.
    ///
    /// # Errors
    /// The headers are malformed.
    pub fn fields(&self) -> Result<Fields<'a>, Error> {
        Ok(Fields {
            content_type: self.content_type(),
            content_encoding: self.content_encoding(),
            headers: self.headers()?,
            delivery_mode: self.delivery_mode(),
            priority: self.priority(),
            correlation_id: self.correlation_id(),
            reply_to: self.reply_to(),
            expiration: self.expiration(),
            message_id: self.message_id(),
            timestamp: self.timestamp(),
            kind: self.kind(),
            user_id: self.user_id(),
            app_id: self.app_id(),
            cluster_id: self.cluster_id(),
        })
    }
}

const fn flag(at: usize) -> u16 {
    1 << (15 - at)
}

/// The places of the flags that are set, the highest bit first.
#[inline]
fn indices(mut flags: u16) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = flags.leading_zeros() as usize;
        (at < SHAPES.len()).then(|| {
            flags &= !flag(at);
            at
        })
    })
}

#[inline]
fn skip(reader: &mut Reader<'_>, shape: Shape) -> Result<(), Cut> {
    match shape {
        Shape::Short => drop(reader.short()?),
        Shape::Table => drop(reader.long()?),
        Shape::Octet => drop(reader.u8()?),
        Shape::Time => drop(reader.u64()?),
    }
    Ok(())
}

/// Properties that are being written: taken from a message and changed, or made from nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fields<'a> {
    /// MIME type of the body.
    pub content_type: Option<&'a [u8]>,
    /// MIME encoding of the body.
    pub content_encoding: Option<&'a [u8]>,
    /// The application's headers.
    pub headers: Option<Table<'a>>,
    /// 1 transient, 2 persistent.
    pub delivery_mode: Option<u8>,
    /// 0 and up; higher is delivered first.
    pub priority: Option<u8>,
    /// Tells to which request a reply belongs.
    pub correlation_id: Option<&'a [u8]>,
    /// The queue for replies.
    pub reply_to: Option<&'a [u8]>,
    /// Milliseconds to live, as text.
    pub expiration: Option<&'a [u8]>,
    /// The application's name for the message.
    pub message_id: Option<&'a [u8]>,
    /// Seconds since 1970.
    pub timestamp: Option<u64>,
    /// The application's name for the kind of message: the property `type`.
    pub kind: Option<&'a [u8]>,
    /// The publishing user; RabbitMQ checks it.
    pub user_id: Option<&'a [u8]>,
    /// The publishing application.
    pub app_id: Option<&'a [u8]>,
    /// Reserved; old clients send it.
    pub cluster_id: Option<&'a [u8]>,
}

impl Fields<'_> {
    /// Appends flags and properties: what [`Properties::parse`] reads. Short strings over 255 bytes are cut.
    pub fn encode<O: Output>(&self, out: &mut O) {
        let mut flags = 0;
        let present = [
            self.content_type.is_some(),
            self.content_encoding.is_some(),
            self.headers.is_some(),
            self.delivery_mode.is_some(),
            self.priority.is_some(),
            self.correlation_id.is_some(),
            self.reply_to.is_some(),
            self.expiration.is_some(),
            self.message_id.is_some(),
            self.timestamp.is_some(),
            self.kind.is_some(),
            self.user_id.is_some(),
            self.app_id.is_some(),
            self.cluster_id.is_some(),
        ];
        for (at, present) in present.into_iter().enumerate() {
            if present {
                flags |= flag(at);
            }
        }
        let mut writer = Writer::new(out);
        writer.put(&flags.to_be_bytes());
        let put = |writer: &mut Writer<'_, O>, bytes: Option<&[u8]>| writer.put(bytes.unwrap_or_default());
        let short = |writer: &mut Writer<'_, O>, text: Option<&[u8]>| {
            if let Some(text) = text {
                writer.short(text);
            }
        };
        short(&mut writer, self.content_type);
        short(&mut writer, self.content_encoding);
        if let Some(headers) = self.headers {
            writer.long(headers.as_bytes());
        }
        put(&mut writer, self.delivery_mode.as_ref().map(std::slice::from_ref));
        put(&mut writer, self.priority.as_ref().map(std::slice::from_ref));
        short(&mut writer, self.correlation_id);
        short(&mut writer, self.reply_to);
        short(&mut writer, self.expiration);
        short(&mut writer, self.message_id);
        put(&mut writer, self.timestamp.map(u64::to_be_bytes).as_ref().map(|bytes| bytes.as_slice()));
        short(&mut writer, self.kind);
        short(&mut writer, self.user_id);
        short(&mut writer, self.app_id);
        short(&mut writer, self.cluster_id);
    }

    /// Flags and properties in a buffer of their own.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        bytes
    }
}
