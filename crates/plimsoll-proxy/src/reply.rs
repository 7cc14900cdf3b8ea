//! Answers that Plimsoll gives itself: short, correct, and in the form that the client asks for.
//!
//! Every refusal carries its stable reason twice: in the body, and in `Proxy-Status` (RFC 9209).

use plimsoll_http::emit;

use crate::error::Error;

/// The form of an answer's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Json,
    Html,
}

impl Form {
    /// What the client's `Accept` prefers among the three; the one named first, text if none is.
    pub(crate) fn of(accept: Option<&[u8]>) -> Form {
        let forms =
            [(&b"application/json"[..], Form::Json), (b"text/html", Form::Html), (b"text/plain", Form::Text)];
        let accept = accept.unwrap_or_default();
        let find = |name: &[u8]| accept.windows(name.len()).position(|w| w.eq_ignore_ascii_case(name));
        forms
            .into_iter()
            .filter_map(|(name, form)| find(name).map(|at| (at, form)))
            .min_by_key(|&(at, _)| at)
            .map_or(Form::Text, |(_, form)| form)
    }

    /// The same, from a request's head as we have written it: looked for only when an answer of ours is needed.
    pub(crate) fn in_head(head: &[u8]) -> Form {
        let name = b"accept:";
        let line = head
            .split(|&b| b == b'\n')
            .find(|l| l.len() > name.len() && l[..name.len()].eq_ignore_ascii_case(name));
        Form::of(line.map(|l| &l[name.len()..]))
    }
}

/// What an answer of ours says.
pub(crate) struct Reply<'a> {
    pub(crate) status: u16,
    pub(crate) content_type: &'a str,
    pub(crate) location: Option<&'a [u8]>,
    pub(crate) proxy_status: Option<String>,
    pub(crate) body: &'a [u8],
}

/// How an answer is sent.
#[derive(Clone, Copy)]
pub(crate) struct Sending<'a> {
    /// The `Date`.
    pub(crate) date: &'a str,
    /// Close the connection behind it.
    pub(crate) close: bool,
    /// An HTTP/1.0 client that asked to keep the connection.
    pub(crate) keep_alive_named: bool,
    /// The request was HEAD: no body, but its length.
    pub(crate) to_head: bool,
    /// The field with the request's id.
    pub(crate) request_id: Option<(&'a str, &'a [u8])>,
    /// Whole lines besides.
    pub(crate) fields: &'a [u8],
}

impl Reply<'_> {
    /// Appends the whole message.
    pub(crate) fn write(&self, out: &mut Vec<u8>, sending: Sending<'_>) {
        emit::status_line(out, self.status, phrase(self.status).as_bytes());
        emit::field(out, b"Date", sending.date.as_bytes());
        if !matches!(self.status, 204 | 304) {
            emit::field(out, b"Content-Type", self.content_type.as_bytes());
            emit::number_field(out, b"Content-Length", self.body.len() as u64);
        }
        if let Some(location) = self.location {
            emit::field(out, b"Location", location);
        }
        if let Some(reason) = &self.proxy_status {
            emit::field(out, b"Cache-Control", b"no-store");
            emit::field(out, b"Proxy-Status", reason.as_bytes());
        }
        if self.status == 503 {
            emit::field(out, b"Retry-After", b"1");
        }
        out.extend_from_slice(sending.fields);
        if let Some((name, id)) = sending.request_id {
            emit::field(out, name.as_bytes(), id);
        }
        if sending.close {
            emit::field(out, b"Connection", b"close");
        } else if sending.keep_alive_named {
            emit::field(out, b"Connection", b"keep-alive");
        }
        out.extend_from_slice(b"\r\n");
        if !sending.to_head && !matches!(self.status, 204 | 304) {
            out.extend_from_slice(self.body);
        }
    }
}

/// Appends the answer that tells a client of `error`.
pub(crate) fn write_error(out: &mut Vec<u8>, error: &Error, form: Form, sending: Sending<'_>) {
    let (status, reason) = (error.status(), error.reason());
    let (content_type, body) = error_body(status, reason, error.sentence(), form);
    let reply = Reply {
        status,
        content_type,
        location: None,
        proxy_status: Some(format!("plimsoll; error={}; details=\"{reason}\"", error.proxy_status())),
        body: body.as_bytes(),
    };
    reply.write(out, sending);
}

fn error_body(status: u16, reason: &str, sentence: &str, form: Form) -> (&'static str, String) {
    let title = phrase(status);
    match form {
        Form::Text => ("text/plain; charset=utf-8", format!("{status} {title}: {reason}\n{sentence}\n")),
        Form::Json => (
            "application/json",
            format!("{{\"status\":{status},\"reason\":\"{reason}\",\"message\":\"{sentence}\"}}\n"),
        ),
        Form::Html => (
            "text/html; charset=utf-8",
            format!(
                "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
                 <title>{status} {title}</title><style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto;\
                 padding:0 1rem;color:#222;background:#fff}}h1{{font-size:1.5rem}}code{{color:#666}}\
                 @media(prefers-color-scheme:dark){{body{{color:#ddd;background:#181818}}code{{color:#999}}}}</style>\
                 <h1>{status} {title}</h1><p>{sentence}</p><p><code>{reason}</code></p></html>\n"
            ),
        ),
    }
}

/// The reason phrase of a status; empty for one without a name, as RFC 9112 allows.
pub(crate) fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        418 => "I'm a teapot",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Phase, What, Who};

    #[test]
    fn the_form_is_what_the_client_names_first() {
        assert_eq!(Form::of(None), Form::Text);
        assert_eq!(Form::of(Some(b"*/*")), Form::Text);
        assert_eq!(Form::of(Some(b"text/html,application/xhtml+xml,application/json;q=0.1")), Form::Html);
        assert_eq!(Form::of(Some(b"Application/JSON, text/html")), Form::Json);
        assert_eq!(
            Form::in_head(b"GET / HTTP/1.1\r\nX: text/html\r\naccept: application/json\r\n\r\n"),
            Form::Json
        );
    }

    #[test]
    fn an_error_carries_its_reason_in_body_and_header() {
        let error = Error::new(Who::Us, Phase::Connect, What::ServersFull);
        let sending = Sending {
            date: "D",
            close: true,
            keep_alive_named: false,
            to_head: false,
            request_id: None,
            fields: &[],
        };
        for (form, body) in [
            (Form::Text, "503 Service Unavailable: servers_full\n"),
            (Form::Json, "{\"status\":503,\"reason\":\"servers_full\","),
            (Form::Html, "<!doctype html>"),
        ] {
            let mut out = Vec::new();
            write_error(&mut out, &error, form, sending);
            let text = String::from_utf8(out).expect("text");
            let (head, rest) = text.split_once("\r\n\r\n").expect("a head");
            assert!(rest.starts_with(body), "{rest}");
            assert!(head.contains(&format!("Content-Length: {}\r\n", rest.len())));
            assert!(head.contains("error=connection_limit_reached; details=\"servers_full\""));
            assert!(head.contains("\r\nRetry-After: 1\r\n") && head.contains("\r\nConnection: close"));
        }
    }

    #[test]
    fn head_gets_the_length_but_no_body() {
        let mut out = Vec::new();
        let reply = Reply {
            status: 200,
            content_type: "text/plain",
            location: None,
            proxy_status: None,
            body: b"hello",
        };
        reply.write(
            &mut out,
            Sending {
                date: "D",
                close: false,
                keep_alive_named: false,
                to_head: true,
                request_id: None,
                fields: &[],
            },
        );
        let text = String::from_utf8(out).expect("text");
        assert!(text.contains("Content-Length: 5\r\n") && text.ends_with("\r\n\r\n"));
    }
}
