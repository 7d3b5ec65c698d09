//! The answers of a server stream as newline-delimited JSON: one a line, as they
//! come. A stream that fails ends with a line that has the error.

use bytes::{Buf, Bytes, BytesMut};
use futures::stream;
use http::{HeaderValue, Response, header::CACHE_CONTROL, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use prost_reflect::{DescriptorPool, FieldDescriptor, MessageDescriptor};
use tonic::{Code, Status, body::Body};

use super::{FRAME_HEADER, MAX_ANSWER_BYTES, unreadable};
use crate::{body::AnswerBody, refusal::Refusal, table::Binding, transcode::answer};

/// What is still to come of an answer.
struct Lines {
    /// None once it has ended.
    upstream: Option<AnswerBody<Body>>,
    buffer: BytesMut,
    output: MessageDescriptor,
    field: Option<FieldDescriptor>,
    pool: DescriptorPool,
    request_id: String,
}

/// The response to a call whose headers have no status.
pub fn response(
    upstream: AnswerBody<Body>,
    binding: &Binding,
    pool: &DescriptorPool,
    request_id: &str,
) -> Response<Body> {
    let lines = Lines {
        upstream: Some(upstream),
        buffer: BytesMut::new(),
        output: binding.rpc.output.clone(),
        field: binding.response_body.clone(),
        pool: pool.clone(),
        request_id: request_id.to_owned(),
    };
    let frames = stream::unfold(lines, |mut lines| async move {
        let line = lines.next().await?;
        Some((Ok::<_, Status>(Frame::data(line)), lines))
    });
    let mut response = Response::new(Body::new(StreamBody::new(frames)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Lines {
    /// The next line; none after the last.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let upstream = self.upstream.as_mut()?;
            match frame(&mut self.buffer) {
                Ok(Some(message)) => {
                    return Some(match answer::write(&self.output, self.field.as_ref(), &message) {
                        Ok(mut json) => {
                            json.push(b'\n');
                            json.into()
                        }
                        Err(error) => {
                            let text = error.to_string();
                            self.fail(kit::status::error(Code::Internal, "UNREADABLE_ANSWER", text, &[]))
                        }
                    });
                }
                Ok(None) => {}
                Err(status) => return Some(self.fail(status)),
            }
            match upstream.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    Err(frame) => {
                        let status = frame.trailers_ref().and_then(Status::from_header_map);
                        let status = status.unwrap_or_else(|| unreadable("no status at its end"));
                        return self.end(status);
                    }
                },
                Some(Err(status)) => return Some(self.fail(status)),
                None => return self.end(unreadable("no status at its end")),
            }
        }
    }

    fn end(&mut self, status: Status) -> Option<Bytes> {
        if status.code() != Code::Ok {
            return Some(self.fail(status));
        }
        if !self.buffer.is_empty() {
            return Some(self.fail(unreadable("half a message at its end")));
        }
        self.upstream = None;
        None
    }

    /// The last line.
    fn fail(&mut self, status: Status) -> Bytes {
        self.upstream = None;
        let mut json = Refusal::from(status).json(&self.pool, &self.request_id);
        json.push(b'\n');
        json.into()
    }
}

/// Takes a whole message off the buffer, if there is one.
fn frame(buffer: &mut BytesMut) -> Result<Option<Bytes>, Status> {
    let Some([flag, length @ ..]) = buffer.first_chunk::<FRAME_HEADER>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if *flag != 0 {
        return Err(unreadable("a compressed message in it"));
    }
    if length > MAX_ANSWER_BYTES {
        let message = format!("a message of the answer is larger than {MAX_ANSWER_BYTES} bytes");
        return Err(kit::status::error(Code::ResourceExhausted, "ANSWER_TOO_LARGE", message, &[]));
    }
    if buffer.len() < FRAME_HEADER + length {
        return Ok(None);
    }
    buffer.advance(FRAME_HEADER);
    Ok(Some(buffer.split_to(length).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_as_they_become_whole() {
        let mut buffer = BytesMut::new();
        let mut taken = Vec::new();
        for byte in b"\0\0\0\0\x02hi\0\0\0\0\0\0\0\0\0\x01!" {
            buffer.extend_from_slice(&[*byte]);
            while let Some(message) = frame(&mut buffer).unwrap() {
                taken.push(message);
            }
        }
        assert_eq!(taken, ["hi", "", "!"]);
        assert!(buffer.is_empty());
        for broken in [&b"\x01\0\0\0\x02hi"[..], b"\0\xff\0\0\0"] {
            assert!(frame(&mut BytesMut::from(broken)).is_err());
        }
    }
}
