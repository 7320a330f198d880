use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::de::value::SeqDeserializer;
use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::error::{OutputError, StepError};
use crate::artifact::ArtifactData;
use crate::json;
use crate::limits::MAX_OUTPUT_BYTES;

/// What a step returned: a JSON value or raw bytes. Cloning shares the content.
///
/// The JSON form of bytes is their base64 text (RFC 4648); the artifact and [`StepContext::output`] have the bytes
/// themselves.
///
/// [`StepContext::output`]: crate::StepContext::output
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Output {
    /// A JSON value.
    Json(Arc<Value>),
    /// Raw bytes.
    Bytes(Bytes),
}

impl Output {
    /// The output of a step that the plan goes on without.
    pub(crate) fn null() -> Self {
        Self::Json(Arc::new(Value::Null))
    }

    /// The JSON form.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match self {
            Self::Json(value) => Value::clone(value),
            Self::Bytes(bytes) => Value::String(BASE64_STANDARD.encode(bytes)),
        }
    }

    /// The string form, as artifacts have it: a JSON string without its quotes, everything else as JSON.
    ///
    /// ```
    /// use lunacore::IntoOutput;
    ///
    /// assert_eq!("plain".into_output()?.to_text(), "plain");
    /// assert_eq!(vec!["a", "b"].into_output()?.to_text(), r#"["a","b"]"#);
    /// assert_eq!(().into_output()?.to_text(), "null");
    /// # Ok::<(), lunacore::StepError>(())
    /// ```
    #[must_use]
    pub fn to_text(&self) -> Cow<'_, str> {
        match self {
            Self::Json(value) => match &**value {
                Value::String(text) => Cow::Borrowed(text),
                other => Cow::Owned(other.to_string()),
            },
            Self::Bytes(bytes) => Cow::Owned(BASE64_STANDARD.encode(bytes)),
        }
    }

    /// The content of its artifact: the string form, or the raw bytes.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use lunacore::{ArtifactData, IntoOutput};
    ///
    /// assert_eq!("plain".into_output()?.to_data(), ArtifactData::from("plain"));
    /// assert_eq!(Bytes::from_static(b"raw").into_output()?.to_data(), ArtifactData::from(&b"raw"[..]));
    /// # Ok::<(), lunacore::StepError>(())
    /// ```
    #[must_use]
    pub fn to_data(&self) -> ArtifactData {
        match self {
            Self::Json(_) => ArtifactData::Text(Arc::from(self.to_text())),
            Self::Bytes(bytes) => ArtifactData::Bytes(bytes.clone()),
        }
    }

    /// Refuses what nests too deep, or whose artifact would be over [`MAX_OUTPUT_BYTES`].
    pub(crate) fn check(&self) -> Result<(), OutputError> {
        let bytes = match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Json(value) => match &**value {
                Value::String(text) => text.len(),
                value if json::is_too_deep(value) => return Err(OutputError::TooDeep),
                value => json::size(value),
            },
        };
        if bytes > MAX_OUTPUT_BYTES { Err(OutputError::TooLarge { bytes }) } else { Ok(()) }
    }

    /// Reads the output as a `T`. Bytes can be read as `Bytes`, as a sequence of numbers, or, when they are UTF-8, as
    /// a string; as a `Value` they are their JSON form.
    ///
    /// # Errors
    /// The output does not have the shape of a `T`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        match self {
            Self::Json(value) => T::deserialize(&**value),
            Self::Bytes(bytes) => T::deserialize(BytesReader(bytes)),
        }
    }
}

impl Serialize for Output {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Json(value) => value.serialize(serializer),
            Self::Bytes(bytes) => serializer.serialize_str(&BASE64_STANDARD.encode(bytes)),
        }
    }
}

impl<'de> Deserialize<'de> for Output {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(|value| Self::Json(Arc::new(value)))
    }
}

struct BytesReader<'a>(&'a Bytes);

impl<'de> Deserializer<'de> for BytesReader<'_> {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_string(BASE64_STANDARD.encode(self.0))
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_bytes(self.0)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_bytes(self.0)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Self::Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match std::str::from_utf8(self.0) {
            Ok(text) => visitor.visit_str(text),
            Err(error) => Err(serde::de::Error::custom(format_args!("the bytes are not text: {error}"))),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        let numbers = self.0.iter().map(|byte| (*byte).into_deserializer());
        visitor.visit_seq(SeqDeserializer::<_, Self::Error>::new(numbers))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char unit unit_struct tuple_struct map struct enum identifier ignored_any
    }
}

/// What a callable may return.
///
/// Implemented for `()`, strings, numbers, booleans, `Option`, `Vec`, [`serde_json::Value`], [`Bytes`], [`Json`] around
/// anything that serialises, and `Result` of these with any error that converts into a [`StepError`].
///
/// A `Vec<u8>` is a list of numbers; [`Bytes`] are raw bytes. A closure that only panics needs its type said, `|| -> ()
/// { panic!() }`, since Rust's `!` cannot be an output.
///
/// ```
/// use lunacore::{IntoOutput, Json};
/// use serde::Serialize;
///
/// #[derive(Serialize)]
/// struct Page { title: String, bytes: u64 }
///
/// let output = Json(Page { title: "Home".into(), bytes: 512 }).into_output()?;
/// assert_eq!(output.to_text(), r#"{"bytes":512,"title":"Home"}"#);
/// assert!(f64::NAN.into_output().is_err());
/// # Ok::<(), lunacore::StepError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "a step cannot return `{Self}`",
    label = "not an output",
    note = "return `()`, a string, number, bool, `Option`, `Vec`, `serde_json::Value`, `Bytes` or a `Result` of these",
    note = "wrap a type that implements `serde::Serialize` as `lunacore::Json(value)`"
)]
pub trait IntoOutput {
    /// Converts the value.
    ///
    /// # Errors
    /// The callable's own error, or an [`OutputError`] for what has no JSON form.
    fn into_output(self) -> Result<Output, StepError>;
}

/// A return value that is stored as its JSON form, as `serde_json` makes it: a NaN inside becomes null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<T>(pub T);

fn of_value(value: Value) -> Output {
    Output::Json(Arc::new(value))
}

macro_rules! outputs_by_from {
    ($($type:ty)*) => {$(
        impl IntoOutput for $type {
            fn into_output(self) -> Result<Output, StepError> {
                Ok(of_value(Value::from(self)))
            }
        }
    )*};
}

outputs_by_from! { () bool i8 i16 i32 i64 isize u8 u16 u32 u64 usize String &str Cow<'_, str> Value }

macro_rules! outputs_by_serde {
    ($($type:ty)*) => {$(
        impl IntoOutput for $type {
            fn into_output(self) -> Result<Output, StepError> {
                Json(self).into_output()
            }
        }
    )*};
}

outputs_by_serde! { i128 u128 char Box<str> Arc<str> }

impl IntoOutput for f64 {
    fn into_output(self) -> Result<Output, StepError> {
        match serde_json::Number::from_f64(self) {
            Some(number) => Ok(of_value(Value::Number(number))),
            None => Err(OutputError::NotFinite { number: self }.into()),
        }
    }
}

impl IntoOutput for f32 {
    fn into_output(self) -> Result<Output, StepError> {
        // By way of its shortest text: widened as it is, 0.1 would become 0.10000000149011612.
        self.to_string().parse::<f64>().unwrap_or(f64::NAN).into_output()
    }
}

impl IntoOutput for Bytes {
    fn into_output(self) -> Result<Output, StepError> {
        Ok(Output::Bytes(self))
    }
}

impl IntoOutput for Output {
    fn into_output(self) -> Result<Output, StepError> {
        Ok(self)
    }
}

impl<T: Serialize> IntoOutput for Json<T> {
    fn into_output(self) -> Result<Output, StepError> {
        serde_json::to_value(self.0)
            .map(of_value)
            .map_err(|error| OutputError::NotJson { source: Arc::new(error) }.into())
    }
}

impl<T: IntoOutput> IntoOutput for Option<T> {
    fn into_output(self) -> Result<Output, StepError> {
        self.map_or_else(|| Ok(of_value(Value::Null)), T::into_output)
    }
}

impl<T: IntoOutput> IntoOutput for Vec<T> {
    fn into_output(self) -> Result<Output, StepError> {
        let values: Result<Vec<Value>, StepError> =
            self.into_iter().map(|item| item.into_output().map(into_value)).collect();
        values.map(|values| of_value(Value::Array(values)))
    }
}

impl<T: IntoOutput, E: Into<StepError>> IntoOutput for Result<T, E> {
    fn into_output(self) -> Result<Output, StepError> {
        self.map_err(Into::into)?.into_output()
    }
}

fn into_value(output: Output) -> Value {
    match output {
        Output::Json(value) => Arc::unwrap_or_clone(value),
        bytes @ Output::Bytes(_) => bytes.to_value(),
    }
}
