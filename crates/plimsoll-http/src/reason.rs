//! Why a message was refused: one closed list for requests and responses.
//!
//! Each reason has a stable name for logs, metrics and error bodies. A request's reason also has the status that answers it;
//! a response's reason always becomes 502, whatever it is.

/// Why a message cannot be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A line ended with LF alone, or CR stood without LF (RFC 9112, 2.2).
    LineEnd,
    /// A control character, NUL included, where text is expected (RFC 9110, 5.5).
    Control,
    /// The request line is not `method SP target SP version`.
    RequestLine,
    /// The method is not a token, or is longer than 32 bytes.
    Method,
    /// The target has a forbidden character or a form that its method does not allow (RFC 9112, 3.2).
    Target,
    /// The target is longer than the limit.
    TargetTooLong,
    /// A version other than HTTP/1.1 and HTTP/1.0.
    Version,
    /// CONNECT or TRACE.
    MethodRefused,
    /// A field line without a colon, with an empty name, or with a name that is no token.
    FieldName,
    /// White space between field name and colon (RFC 9112, 5.1).
    SpaceBeforeColon,
    /// A folded field line (RFC 9112, 5.2).
    ObsFold,
    /// A field name with `_`, where those are refused.
    Underscore,
    /// The header section is longer than the limit.
    HeaderTooLarge,
    /// More fields than the limit.
    TooManyFields,
    /// `Host` is missing, repeated or not `uri-host [":" port]` (RFC 9112, 3.2).
    Host,
    /// The authority of an absolute target is not what `Host` says.
    HostMismatch,
    /// `Content-Length` is repeated or not a plain decimal below 2^63.
    ContentLength,
    /// `Transfer-Encoding` together with `Content-Length` (RFC 9112, 6.1).
    LengthAndChunked,
    /// `Transfer-Encoding` is repeated or in HTTP/1.0.
    TransferEncoding,
    /// A transfer coding other than `chunked`.
    TransferCoding,
    /// A name that differs from a framing field only by `_` for `-`.
    FramingLookalike,
    /// More options in `Connection` than the limit.
    ConnectionOptions,
    /// `Expect` with something other than `100-continue`.
    Expect,
    /// A chunk size is not 1 to 16 hexadecimal digits, or overflows.
    ChunkSize,
    /// A chunk extension outside the grammar.
    ChunkExtension,
    /// Chunk extensions over their budget.
    ChunkExtensionTooLong,
    /// Chunk data is not followed by CRLF.
    ChunkEnd,
    /// A trailer line outside the grammar.
    Trailer,
    /// Trailers over their budget.
    TrailersTooLarge,
    /// The status line is not `HTTP/1.x SP 3DIGIT SP reason`.
    StatusLine,
}

impl Reason {
    /// Every reason, for documentation and metrics.
    pub const ALL: [Reason; 30] = [
        Reason::LineEnd,
        Reason::Control,
        Reason::RequestLine,
        Reason::Method,
        Reason::Target,
        Reason::TargetTooLong,
        Reason::Version,
        Reason::MethodRefused,
        Reason::FieldName,
        Reason::SpaceBeforeColon,
        Reason::ObsFold,
        Reason::Underscore,
        Reason::HeaderTooLarge,
        Reason::TooManyFields,
        Reason::Host,
        Reason::HostMismatch,
        Reason::ContentLength,
        Reason::LengthAndChunked,
        Reason::TransferEncoding,
        Reason::TransferCoding,
        Reason::FramingLookalike,
        Reason::ConnectionOptions,
        Reason::Expect,
        Reason::ChunkSize,
        Reason::ChunkExtension,
        Reason::ChunkExtensionTooLong,
        Reason::ChunkEnd,
        Reason::Trailer,
        Reason::TrailersTooLarge,
        Reason::StatusLine,
    ];

    /// A stable, machine-readable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Reason::LineEnd => "bad_line_end",
            Reason::Control => "control_character",
            Reason::RequestLine => "bad_request_line",
            Reason::Method => "bad_method",
            Reason::Target => "bad_target",
            Reason::TargetTooLong => "target_too_long",
            Reason::Version => "bad_version",
            Reason::MethodRefused => "method_refused",
            Reason::FieldName => "bad_field_name",
            Reason::SpaceBeforeColon => "space_before_colon",
            Reason::ObsFold => "folded_field",
            Reason::Underscore => "underscore_in_field_name",
            Reason::HeaderTooLarge => "header_too_large",
            Reason::TooManyFields => "too_many_fields",
            Reason::Host => "bad_host",
            Reason::HostMismatch => "host_mismatch",
            Reason::ContentLength => "bad_content_length",
            Reason::LengthAndChunked => "length_and_chunked",
            Reason::TransferEncoding => "bad_transfer_encoding",
            Reason::TransferCoding => "unknown_transfer_coding",
            Reason::FramingLookalike => "framing_lookalike",
            Reason::ConnectionOptions => "too_many_connection_options",
            Reason::Expect => "unknown_expectation",
            Reason::ChunkSize => "bad_chunk_size",
            Reason::ChunkExtension => "bad_chunk_extension",
            Reason::ChunkExtensionTooLong => "chunk_extension_too_long",
            Reason::ChunkEnd => "bad_chunk_end",
            Reason::Trailer => "bad_trailer",
            Reason::TrailersTooLarge => "trailers_too_large",
            Reason::StatusLine => "bad_status_line",
        }
    }

    /// The status that answers a request refused for this reason.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Reason::TargetTooLong => 414,
            Reason::HeaderTooLarge | Reason::TooManyFields | Reason::TrailersTooLarge => 431,
            Reason::HostMismatch => 421,
            Reason::Expect => 417,
            Reason::TransferCoding | Reason::MethodRefused => 501,
            Reason::Version => 505,
            _ => 400,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_statuses_are_client_errors() {
        let names: HashSet<_> = Reason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        assert!(Reason::ALL.iter().all(|r| (400..=505).contains(&r.status())));
    }
}
