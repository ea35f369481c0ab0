//! How messages are written down: one definition is the struct, its defaults, its decoder and its encoder.
//!
//! ```text
//! message! {
//!     /// What it is.
//!     pub struct Partition {
//!         /// What it is.
//!         name: Type [versions; options] = default,
//! ```
//!
//! Versions are a range, `[2..]` or `[0..=12]`. Options: `null N..` says from when on an `Option` may be null; `strict`, that a
//! value that the version cannot say is refused rather than left out; `tag N`, that it is a tagged field (KIP-482).
//! A field that a version does not have is its default when it is decoded.

/// The default of a field.
macro_rules! default {
    () => {
        Default::default()
    };
    ($value:expr) => {
        $value
    };
}

/// Does a version have the field?
macro_rules! present {
    ([$range:expr $(; $($option:tt)*)?], $version:expr) => {
        ($range).contains(&$version)
    };
}

/// Is it among the fields that stand one after another, or among the tagged ones?
macro_rules! placed {
    ([$range:expr; tag $tag:literal $($option:tt)*], plain $plain:tt tagged $tagged:tt) => { placed!(@ $tagged) };
    ([$range:expr $(; $($option:tt)*)?], plain $plain:tt tagged $tagged:tt) => { placed!(@ $plain) };
    (@ { $($code:tt)* }) => { $($code)* };
}

/// The number of a tagged field.
macro_rules! tag {
    ([$range:expr; tag $tag:literal $($option:tt)*]) => {
        $tag
    };
    ([$($other:tt)*]) => {
        0
    };
}

/// Checks a value before it is written, or left out.
macro_rules! checked {
    ([$range:expr $(; tag $tag:literal)? ; null $null:expr $(; $($more:tt)*)?], $value:expr, $type:ty, $default:expr, $version:expr, $name:expr) => {
        if ($range).contains(&$version) && !($null).contains(&$version) && $value.is_null() {
            return Err($crate::log::wire::Error::Null { field: $name, version: $version });
        }
        checked!([$range $(; $($more)*)?], $value, $type, $default, $version, $name);
    };
    ([$range:expr $(; tag $tag:literal)? ; strict], $value:expr, $type:ty, $default:expr, $version:expr, $name:expr) => {
        let default: $type = $default;
        if !($range).contains(&$version) && $value != default {
            return Err($crate::log::wire::Error::NotInVersion { field: $name, version: $version });
        }
    };
    ([$range:expr $(; tag $tag:literal)?], $value:expr, $type:ty, $default:expr, $version:expr, $name:expr) => {};
}

/// Structs of the protocol; see the top of this file.
macro_rules! message {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$field_meta:meta])* $field:ident : $type:ty [$($when:tt)*] $(= $default:expr)? , )*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $type, )*
        }

        impl $crate::log::wire::primitive::Struct for $name {}

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: default!($($default)?), )* }
            }
        }

        impl $crate::log::wire::Field for $name {
            #[allow(unused_variables, reason = "a struct without fields of fixed length asks neither")]
            fn size_min(version: i16, flexible: bool) -> usize {
                usize::from(flexible)
                $( + placed!([$($when)*], plain {
                    if present!([$($when)*], version) {
                        <$type as $crate::log::wire::Field>::size_min(version, flexible)
                    } else {
                        0
                    }
                } tagged { 0 }) )*
            }

            #[allow(unused_variables, unused_mut, reason = "a struct without fields asks nothing")]
            fn read(
                reader: &mut $crate::log::wire::Reader,
                _: &'static str,
            ) -> $crate::log::wire::Result<Self> {
                let version = reader.version();
                let mut message = Self::default();
                $( placed!([$($when)*], plain {
                    if present!([$($when)*], version) {
                        message.$field = <$type as $crate::log::wire::Field>::read(
                            reader,
                            concat!(stringify!($name), ".", stringify!($field)),
                        )?;
                    }
                } tagged {}); )*
                reader.tagged(stringify!($name), &mut |reader, tag| {
                    $( placed!([$($when)*], plain {} tagged {
                        if tag == tag!([$($when)*]) && present!([$($when)*], version) {
                            message.$field = <$type as $crate::log::wire::Field>::read(
                                reader,
                                concat!(stringify!($name), ".", stringify!($field)),
                            )?;
                        }
                    }); )*
                    Ok(())
                })?;
                Ok(message)
            }

            #[allow(unused_variables, reason = "a struct without fields asks nothing")]
            fn write(
                &self,
                writer: &mut $crate::log::wire::Writer,
                _: &'static str,
            ) -> $crate::log::wire::Result<()> {
                let version = writer.version();
                $(
                    checked!([$($when)*], self.$field, $type, default!($($default)?), version,
                        concat!(stringify!($name), ".", stringify!($field)));
                    placed!([$($when)*], plain {
                        if present!([$($when)*], version) {
                            $crate::log::wire::Field::write(
                                &self.$field,
                                writer,
                                concat!(stringify!($name), ".", stringify!($field)),
                            )?;
                        }
                    } tagged {});
                )*
                writer.tagged(&mut |tagged| {
                    $( placed!([$($when)*], plain {} tagged {
                        let default: $type = default!($($default)?);
                        if present!([$($when)*], version) && self.$field != default {
                            tagged.field(
                                tag!([$($when)*]),
                                &self.$field,
                                concat!(stringify!($name), ".", stringify!($field)),
                            )?;
                        }
                    }); )*
                    Ok(())
                })
            }

            #[cfg(test)]
            #[allow(unused_variables, unused_mut, reason = "a struct without fields needs no random numbers")]
            fn sample(rng: &mut fastrand::Rng, version: i16) -> Self {
                let mut message = Self::default();
                $(
                    if present!([$($when)*], version) {
                        message.$field = <$type as $crate::log::wire::Field>::sample(rng, version);
                        // Null where the version has none is not a sample of the version.
                        while message.$field.is_null() && !may_be_null!([$($when)*], version) {
                            message.$field = <$type as $crate::log::wire::Field>::sample(rng, version);
                        }
                    }
                )*
                message
            }
        }
    )*};
}

/// May the field be null in a version?
#[cfg(test)]
macro_rules! may_be_null {
    ([$range:expr $(; tag $tag:literal)? ; null $null:expr $(; $($more:tt)*)?], $version:expr) => {
        ($null).contains(&$version)
    };
    ([$($other:tt)*], $version:expr) => {
        true
    };
}
