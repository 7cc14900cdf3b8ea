//! The form of the table: a case, its outcomes, and short ways to write them.
//!
//! `/case` and `/second` in a case's bytes and targets get the number of the run appended, so they may not stand in a
//! body. A field with `evil` in its name or value must never arrive.

/// Raw bytes and what must come of them.
pub(crate) struct Case {
    /// What is tried.
    pub(crate) name: &'static str,
    /// As the client sends them.
    pub(crate) bytes: Vec<u8>,
    /// One for each answer; the last may end the connection.
    pub(crate) outcomes: Vec<Outcome>,
}

impl Case {
    /// Whether an unfinished request may stay at the server.
    pub(crate) fn may_be_cut(&self) -> bool {
        self.outcomes.iter().any(|outcome| matches!(outcome, Outcome::RefusedInBody(_) | Outcome::Abandoned))
    }
}

/// What must come of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// One of these statuses, then the end of the connection; no byte reaches the server.
    Refused(&'static [u16]),
    /// The same, but the head may have reached the server before the fault in the body was seen.
    RefusedInBody(&'static [u16]),
    /// Exactly this request reaches the server and is answered.
    Arrives(Meant),
    /// The RFC and our rules leave the choice.
    Either(&'static [u16], Meant),
    /// One of these statuses or none, then the end of the connection; no byte reaches the server.
    Ends(&'static [u16]),
    /// The client sends FIN: the end of the connection, maybe after an error; never a whole request at the server.
    Abandoned,
}

/// A request as the server is to receive it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Meant {
    /// As spelled.
    pub(crate) method: String,
    /// In origin-form.
    pub(crate) target: String,
    /// Decoded.
    pub(crate) body: Vec<u8>,
    /// Fields that must be there exactly once with this value.
    pub(crate) with: Vec<(&'static str, &'static str)>,
    /// Fields that must not be there.
    pub(crate) without: Vec<&'static str>,
    /// The client's connection ends after the answer.
    pub(crate) closes: bool,
}

impl Meant {
    /// This request without a body.
    pub(crate) fn new(method: &str, target: &str) -> Self {
        let (method, target) = (method.to_owned(), target.to_owned());
        Self { method, target, body: Vec::new(), with: Vec::new(), without: Vec::new(), closes: false }
    }

    /// A plain GET.
    pub(crate) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A POST to `/case`.
    pub(crate) fn post(body: &[u8]) -> Self {
        Self::new("POST", "/case").body(body)
    }

    pub(crate) fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    pub(crate) fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.with.push((name, value));
        self
    }

    pub(crate) fn without(mut self, name: &'static str) -> Self {
        self.without.push(name);
        self
    }

    pub(crate) fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    /// With the run's number in its target.
    pub(crate) fn numbered(&self, number: usize) -> Self {
        let target = numbered(self.target.as_bytes(), number);
        Self { target: String::from_utf8_lossy(&target).into_owned(), ..self.clone() }
    }
}

/// The bytes with the run's number behind each `/case` and `/second`.
pub(crate) fn numbered(bytes: &[u8], number: usize) -> Vec<u8> {
    let mut result = Vec::with_capacity(bytes.len() + 8);
    for (i, &byte) in bytes.iter().enumerate() {
        result.push(byte);
        if bytes[..=i].ends_with(b"/case") || bytes[..=i].ends_with(b"/second") {
            result.extend_from_slice(format!("-{number:04}").as_bytes());
        }
    }
    result
}

/// What an attacker wants to arrive: 35 bytes.
pub(crate) const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// The usual refusal.
pub(crate) const BAD: &[u16] = &[400];
/// An unknown transfer coding may also be "not implemented".
pub(crate) const CODING: &[u16] = &[400, 501];
/// A version that is not ours.
pub(crate) const VERSION: &[u16] = &[400, 505];
/// Too much of something behind the head.
pub(crate) const TOO_MUCH: &[u16] = &[400, 413, 431];

/// A POST to `/case` with these field lines after its Host, each with its line end, and what follows the head.
pub(crate) fn post(fields: impl AsRef<[u8]>, rest: impl AsRef<[u8]>) -> Vec<u8> {
    let head = b"POST /case HTTP/1.1\r\nHost: a\r\n";
    [head, fields.as_ref(), b"\r\n", rest.as_ref()].concat()
}

/// A GET of `/case` with these field lines after its Host, each with its line end.
pub(crate) fn get(fields: impl AsRef<[u8]>) -> Vec<u8> {
    [b"GET /case HTTP/1.1\r\nHost: a\r\n", fields.as_ref(), b"\r\n"].concat()
}

/// A chunked POST to `/case` with this body as it stands on the wire.
pub(crate) fn chunked(body: impl AsRef<[u8]>) -> Vec<u8> {
    post("Transfer-Encoding: chunked\r\n", body)
}

pub(crate) fn refused(name: &'static str, bytes: impl Into<Vec<u8>>, statuses: &'static [u16]) -> Case {
    outcomes(name, bytes, [Outcome::Refused(statuses)])
}

pub(crate) fn refused_in_body(
    name: &'static str,
    bytes: impl Into<Vec<u8>>,
    statuses: &'static [u16],
) -> Case {
    outcomes(name, bytes, [Outcome::RefusedInBody(statuses)])
}

pub(crate) fn arrives(name: &'static str, bytes: impl Into<Vec<u8>>, meant: Meant) -> Case {
    outcomes(name, bytes, [Outcome::Arrives(meant)])
}

pub(crate) fn either(
    name: &'static str,
    bytes: impl Into<Vec<u8>>,
    statuses: &'static [u16],
    meant: Meant,
) -> Case {
    outcomes(name, bytes, [Outcome::Either(statuses, meant)])
}

pub(crate) fn abandoned(name: &'static str, bytes: impl Into<Vec<u8>>) -> Case {
    outcomes(name, bytes, [Outcome::Abandoned])
}

pub(crate) fn outcomes(
    name: &'static str,
    bytes: impl Into<Vec<u8>>,
    outcomes: impl Into<Vec<Outcome>>,
) -> Case {
    Case { name, bytes: bytes.into(), outcomes: outcomes.into() }
}
