//! A gRPC codec that sends bytes which are a Protobuf message already, so that
//! a retry costs no second encoding and no copy of the decoded form.

use std::marker::PhantomData;

use bytes::{BufMut, Bytes};
use prost::Message;
use tonic::{
    Status,
    codec::{BufferSettings, Codec, EncodeBuf, Encoder},
};
use tonic_prost::ProstCodec;

/// Sends bytes, receives the message `Answer`.
pub struct EncodedCodec<Answer> {
    answer: PhantomData<fn() -> Answer>,
}

impl<Answer> Default for EncodedCodec<Answer> {
    fn default() -> Self {
        Self { answer: PhantomData }
    }
}

impl<Answer: Message + Default + Send + 'static> Codec for EncodedCodec<Answer> {
    type Encode = Bytes;
    type Decode = Answer;
    type Encoder = EncodedEncoder;
    type Decoder = <ProstCodec<Answer, Answer> as Codec>::Decoder;

    fn encoder(&mut self) -> EncodedEncoder {
        EncodedEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<Answer, Answer>::raw_decoder(BufferSettings::default())
    }
}

/// Writes the bytes as they are.
pub struct EncodedEncoder;

impl Encoder for EncodedEncoder {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}
