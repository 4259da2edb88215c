//! What a connection is told to do with a request.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};

use crate::shared::Pending;

/// The whole answer to one request, as HTTP/1.1 and HTTP/2 both understand it.
pub(crate) struct Plan {
    /// How long to wait before it.
    pub(crate) delay: Duration,
    pub(crate) verdict: Verdict,
    /// What is to be tallied when the verdict has been carried out; nothing for requests that are not messages.
    pub(crate) pending: Option<Pending>,
}

pub(crate) enum Verdict {
    Reply(Reply),
    Silent,
    Cut,
    Refuse,
}

/// An answer of status, a few headers and a body.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) retry_after_s: Option<u32>,
    pub(crate) kind: &'static str,
    pub(crate) body: Bytes,
}

pub(crate) const JSON: &str = "application/json; charset=UTF-8";

impl Reply {
    pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            retry_after_s: None,
            kind: JSON,
            body: body.into(),
        }
    }

    pub(crate) fn text(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            retry_after_s: None,
            kind: "text/plain; charset=UTF-8",
            body: body.into(),
        }
    }

    /// The head of the answer; the body goes apart.
    pub(crate) fn head(&self) -> Response<()> {
        let mut head = Response::new(());
        *head.status_mut() = self.status;
        head.headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        if let Some(seconds) = self.retry_after_s {
            head.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"https://accounts.google.com/\"");
            head.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        head
    }
}

impl From<Reply> for Plan {
    fn from(reply: Reply) -> Self {
        Self {
            delay: Duration::ZERO,
            verdict: Verdict::Reply(reply),
            pending: None,
        }
    }
}
