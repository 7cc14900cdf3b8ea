//! What went wrong with an exchange: who, in which phase, and what; and what follows from it.
//!
//! One table each gives the status for the client, the two letters for the log and the words of RFC 9209; nothing else decides
//! them, and nothing is ever found out by comparing texts.

use std::io;

use plimsoll_http::Reason;

/// Who ended an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Client,
    Server,
    Us,
}

/// How far an exchange was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Receiving the request's head.
    Request,
    /// Waiting for a server that has room.
    Queue,
    /// Choosing a server and connecting to it.
    Connect,
    /// Sending the request and waiting for the response's head.
    Head,
    /// Passing the response's body on.
    Data,
    /// After an upgrade.
    Tunnel,
}

/// What happened.
#[derive(Debug)]
pub(crate) enum What {
    /// A message outside the rules.
    Malformed(Reason),
    /// An I/O error.
    Io(io::Error),
    /// The connection ended within a message.
    Closed,
    /// A wait took too long.
    TimedOut,
    /// A body below the minimum rate.
    TooSlow,
    /// A request body over the route's limit.
    BodyTooLarge,
    /// A 101 that nobody asked for.
    UnaskedUpgrade,
    /// More interim responses than allowed.
    TooManyInterim,
    /// No route matches.
    NoRoute,
    /// Every server has all the requests it may have, and nobody waits for one.
    ServersFull,
    /// As many requests wait as may, and none that matters less.
    QueueFull,
    /// No server had room for as long as a request may wait.
    QueueTimeout,
    /// Too many wait for all of them to be served in time.
    QueueOverload,
    /// No server takes requests.
    NoServer,
    /// This process has no descriptor or port left for a connection.
    NoDescriptors,
    /// The client has too many connections.
    TooManyConnections,
    /// The client makes too many requests.
    RateLimited,
    /// This process is short of memory or time.
    Overloaded,
    /// The process stopped before the end.
    Stopped,
}

/// Why an exchange did not end well.
#[derive(Debug)]
pub(crate) struct Error {
    pub(crate) who: Who,
    pub(crate) phase: Phase,
    pub(crate) what: What,
}

/// Every [`Error::reason`] but those of malformed messages, which `plimsoll-http` names.
pub(crate) const OUR_REASONS: [&str; 25] = [
    "header_timeout",
    "body_timeout",
    "client_timeout",
    "connect_timeout",
    "first_byte_timeout",
    "server_timeout",
    "total_timeout",
    "body_too_slow",
    "body_too_large",
    "connect_failed",
    "server_closed",
    "client_closed",
    "unasked_upgrade",
    "too_many_interim_responses",
    "no_route",
    "servers_full",
    "queue_full",
    "queue_timeout",
    "queue_overload",
    "no_server",
    "no_descriptors",
    "too_many_connections",
    "rate_limited",
    "overloaded",
    "stopped",
];

impl Error {
    pub(crate) fn new(who: Who, phase: Phase, what: What) -> Error {
        Error { who, phase, what }
    }

    /// The stable, machine-readable reason.
    pub(crate) fn reason(&self) -> &'static str {
        match (&self.what, self.who, self.phase) {
            (What::Malformed(reason), ..) => reason.name(),
            (What::TimedOut, Who::Client, Phase::Request) => "header_timeout",
            (What::TimedOut, Who::Client, Phase::Head) => "body_timeout",
            (What::TimedOut, Who::Client, _) => "client_timeout",
            (What::TimedOut, Who::Server, Phase::Connect) => "connect_timeout",
            (What::TimedOut, Who::Server, Phase::Head) => "first_byte_timeout",
            (What::TimedOut, Who::Server, _) => "server_timeout",
            (What::TimedOut, Who::Us, _) => "total_timeout",
            (What::TooSlow, ..) => "body_too_slow",
            (What::BodyTooLarge, ..) => "body_too_large",
            (What::Io(_), Who::Server, Phase::Connect) => "connect_failed",
            (What::Io(_) | What::Closed, Who::Server, _) => "server_closed",
            (What::Io(_) | What::Closed, ..) => "client_closed",
            (What::UnaskedUpgrade, ..) => "unasked_upgrade",
            (What::TooManyInterim, ..) => "too_many_interim_responses",
            (What::NoRoute, ..) => "no_route",
            (What::ServersFull, ..) => "servers_full",
            (What::QueueFull, ..) => "queue_full",
            (What::QueueTimeout, ..) => "queue_timeout",
            (What::QueueOverload, ..) => "queue_overload",
            (What::NoServer, ..) => "no_server",
            (What::NoDescriptors, ..) => "no_descriptors",
            (What::TooManyConnections, ..) => "too_many_connections",
            (What::RateLimited, ..) => "rate_limited",
            (What::Overloaded, ..) => "overloaded",
            (What::Stopped, ..) => "stopped",
        }
    }

    /// The status that tells the client, where it can still be told.
    pub(crate) fn status(&self) -> u16 {
        match (&self.what, self.who) {
            (What::Malformed(reason), Who::Client) => reason.status(),
            (What::TimedOut | What::TooSlow, Who::Client) => 408,
            (What::TimedOut, _) => 504,
            (What::BodyTooLarge, _) => 413,
            (What::NoRoute, _) => 404,
            (What::RateLimited, _) => 429,
            (
                What::ServersFull
                | What::QueueFull
                | What::QueueTimeout
                | What::QueueOverload
                | What::NoServer
                | What::NoDescriptors
                | What::Overloaded
                | What::TooManyConnections
                | What::Stopped,
                _,
            ) => 503,
            (_, Who::Client) => 400,
            _ => 502,
        }
    }

    /// HAProxy's two letters: who ended it, in which phase.
    pub(crate) fn letters(&self) -> [u8; 2] {
        let who = match (self.who, &self.what) {
            (_, What::Stopped) => b'K',
            (_, What::NoDescriptors | What::Overloaded) => b'R',
            (
                Who::Client,
                What::Malformed(_) | What::BodyTooLarge | What::TooManyConnections | What::RateLimited,
            ) => b'P',
            (Who::Server, What::Malformed(_) | What::UnaskedUpgrade | What::TooManyInterim) => b'P',
            (Who::Client, What::TimedOut | What::TooSlow) => b'c',
            (Who::Client, _) => b'C',
            (Who::Server | Who::Us, What::TimedOut | What::QueueTimeout) => b's',
            (Who::Server, _) => b'S',
            (Who::Us, What::NoRoute) => b'L',
            (Who::Us, _) => b'S',
        };
        let phase = match self.phase {
            Phase::Request => b'R',
            Phase::Queue => b'Q',
            Phase::Connect => b'C',
            Phase::Head => b'H',
            Phase::Data => b'D',
            Phase::Tunnel => b'T',
        };
        [who, phase]
    }

    /// A sentence for the person who reads the answer.
    pub(crate) fn sentence(&self) -> &'static str {
        match (&self.what, self.who, self.phase) {
            (What::Malformed(_), Who::Client, _) => {
                "The request is not valid HTTP/1.1 as this server accepts it."
            }
            (What::Malformed(_) | What::UnaskedUpgrade | What::TooManyInterim, ..) => {
                "The server behind gave an invalid answer."
            }
            (What::TimedOut, Who::Client, _) | (What::TooSlow, ..) => "The request took too long to arrive.",
            (What::TimedOut, _, Phase::Connect) => "No server behind could be reached in time.",
            (What::TimedOut, ..) => "The server behind did not answer in time.",
            (What::BodyTooLarge, ..) => "The request's body is larger than is allowed here.",
            (What::Io(_), Who::Server, Phase::Connect) => "No server behind could be reached.",
            (What::Io(_) | What::Closed, ..) => "The server behind closed the connection without an answer.",
            (What::NoRoute, ..) => "Nothing is served under this host and path.",
            (What::ServersFull | What::QueueFull | What::QueueTimeout | What::QueueOverload, ..) => {
                "All servers behind are busy. Try again shortly."
            }
            (What::NoServer, ..) => "No server behind takes requests at the moment.",
            (What::NoDescriptors | What::Overloaded, ..) => {
                "This server is out of resources. Try again shortly."
            }
            (What::TooManyConnections, ..) => "Too many connections from this address.",
            (What::RateLimited, ..) => "Too many requests. Try again later.",
            (What::Stopped, ..) => "This server is stopping.",
        }
    }

    /// The error type of RFC 9209 that comes nearest.
    pub(crate) fn proxy_status(&self) -> &'static str {
        match (&self.what, self.who, self.phase) {
            (What::Malformed(_), Who::Client, _)
            | (What::BodyTooLarge | What::TooSlow, ..)
            | (What::TimedOut, Who::Client, _) => "http_request_error",
            (What::Malformed(_) | What::UnaskedUpgrade | What::TooManyInterim, ..) => "http_protocol_error",
            (What::TimedOut, _, Phase::Connect) => "connection_timeout",
            (What::TimedOut, ..) => "http_response_timeout",
            (What::Io(e), _, Phase::Connect) if e.kind() == io::ErrorKind::ConnectionRefused => {
                "connection_refused"
            }
            (What::Io(_), _, Phase::Connect) => "destination_unavailable",
            (What::Io(_) | What::Closed, ..) => "connection_terminated",
            (What::NoRoute, ..) => "destination_not_found",
            (
                What::ServersFull
                | What::QueueFull
                | What::QueueTimeout
                | What::QueueOverload
                | What::TooManyConnections,
                ..,
            ) => "connection_limit_reached",
            (What::NoServer, ..) => "destination_unavailable",
            (What::RateLimited, ..) => "http_request_denied",
            (What::NoDescriptors | What::Overloaded | What::Stopped, ..) => "proxy_internal_error",
        }
    }
}

/// True for errors that say that this process, not the peer, lacks something.
pub(crate) fn is_our_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let shortages =
        [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL, Errno::AGAIN];
    error.raw_os_error().is_some_and(|code| shortages.iter().any(|e| e.raw_os_error() == code))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_list_of_reasons_is_what_errors_give() {
        let whats: [fn() -> What; 18] = [
            || What::Closed,
            || What::TimedOut,
            || What::TooSlow,
            || What::BodyTooLarge,
            || What::UnaskedUpgrade,
            || What::TooManyInterim,
            || What::NoRoute,
            || What::ServersFull,
            || What::QueueFull,
            || What::QueueTimeout,
            || What::QueueOverload,
            || What::NoServer,
            || What::NoDescriptors,
            || What::TooManyConnections,
            || What::RateLimited,
            || What::Overloaded,
            || What::Stopped,
            || What::Io(io::ErrorKind::ConnectionReset.into()),
        ];
        let mut given = BTreeSet::new();
        for phase in [Phase::Request, Phase::Queue, Phase::Connect, Phase::Head, Phase::Data, Phase::Tunnel] {
            for who in [Who::Client, Who::Server, Who::Us] {
                given.extend(whats.iter().map(|what| Error::new(who, phase, what()).reason()));
            }
        }
        assert_eq!(given, BTreeSet::from(OUR_REASONS));
    }
}
