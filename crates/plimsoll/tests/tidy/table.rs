//! "I am in… I may… I may not…", as data: what each crate may depend on, what it may never name, and the exceptions.
//!
//! The same table stands in `docs/ARCHITECTURE.md` in words. A line is added here only with its reason, and an exception that
//! nothing needs any more fails the tests too.

/// A crate and its rules.
pub(crate) struct Crate {
    pub(crate) name: &'static str,
    /// The workspace's crates that it may depend on: some of those below it, none above.
    pub(crate) below: &'static [&'static str],
    /// Others' crates that production code may depend on; `docs/decisions/` says why each is there.
    pub(crate) others: &'static [&'static str],
    /// Paths that its code never names, tests apart.
    pub(crate) never: &'static [&'static [Never]],
}

/// A path (with all below it) and why it is not for this crate.
pub(crate) struct Never(pub(crate) &'static str, pub(crate) &'static str);

/// A path that one file may name all the same.
pub(crate) struct Except {
    pub(crate) file: &'static str,
    pub(crate) path: &'static str,
    pub(crate) why: &'static str,
}

const CLOCKS: &[Never] = &[
    Never("std::time::Instant", "time is an argument here"),
    Never("std::time::SystemTime", "time is an argument here"),
    Never("std::time::UNIX_EPOCH", "time is an argument here"),
    Never("jiff", "time is an argument here"),
];
const CHANCE: &[Never] = &[
    Never("rand", "dice are an argument here"),
    Never("std::collections::hash_map::RandomState", "the same seed must give the same result"),
    Never("std::hash::RandomState", "the same seed must give the same result"),
];
const TASKS: &[Never] = &[
    Never("tokio", "this crate knows of no runtime"),
    Never("std::thread", "this crate neither spawns nor sleeps"),
];
const SOCKETS: &[Never] = &[
    Never("std::net::TcpStream", "this crate opens no socket"),
    Never("std::net::TcpListener", "this crate opens no socket"),
    Never("std::net::UdpSocket", "this crate opens no socket"),
    Never("std::net::ToSocketAddrs", "this crate asks no name server"),
    Never("std::os::unix::net", "this crate opens no socket"),
    Never("socket2", "this crate opens no socket"),
    Never("rustix", "this crate makes no system call"),
];
const SURROUNDINGS: &[Never] = &[
    Never("std::fs", "this crate opens no file"),
    Never("std::env", "this crate reads no environment"),
    Never("std::process", "this crate knows of no process"),
    Never("std::io", "this crate does no input or output"),
];

pub(crate) const CRATES: &[Crate] = &[
    Crate {
        name: "plimsoll-config",
        below: &[],
        others: &["annotate-snippets", "ipnet", "regex-automata", "serde_json", "strsim", "toml"],
        never: &[CLOCKS, CHANCE, TASKS, SOCKETS, SURROUNDINGS],
    },
    Crate {
        name: "plimsoll-traffic",
        below: &["plimsoll-config"],
        others: &["serde_json", "xxhash-rust"],
        never: &[CLOCKS, CHANCE, TASKS, SOCKETS, SURROUNDINGS],
    },
    Crate {
        name: "plimsoll-http",
        below: &[],
        others: &["memchr", "wide"],
        never: &[
            CHANCE,
            TASKS,
            SURROUNDINGS,
            &[
                Never("std::net", "bytes in, bytes out"),
                Never("std::time", "nothing here depends on time"),
                Never("plimsoll_config", "limits are inputs; policy is not for a codec"),
                Never("plimsoll_traffic", "limits are inputs; policy is not for a codec"),
            ],
        ],
    },
    Crate {
        name: "plimsoll-sim",
        below: &["plimsoll-config", "plimsoll-traffic"],
        others: &["serde", "serde_json", "toml"],
        never: &[CLOCKS, CHANCE, TASKS, SOCKETS, SURROUNDINGS],
    },
    Crate {
        name: "plimsoll-proxy",
        below: &["plimsoll-config", "plimsoll-http", "plimsoll-traffic"],
        others: &["hmac", "ipnet", "jiff", "rustix", "sha2", "socket2", "tokio"],
        never: &[&[
            Never("plimsoll_control", "the data plane does not know who controls it"),
            Never("toml", "configuration arrives as a model"),
            Never("serde", "configuration arrives as a model"),
            Never("std::fs", "the data plane reads no files"),
            Never("std::env", "the data plane is told everything by its snapshot"),
            Never("hyper", "HTTP/1 is `plimsoll-http` here"),
            Never("axum", "HTTP/1 is `plimsoll-http` here"),
        ]],
    },
    Crate {
        name: "plimsoll-control",
        below: &["plimsoll-config", "plimsoll-http", "plimsoll-proxy", "plimsoll-traffic"],
        others: &[
            "axum",
            "glob",
            "hickory-resolver",
            "http-body-util",
            "hyper",
            "hyper-util",
            "listenfd",
            "prost",
            "rustix",
            "rustls",
            "rustls-native-certs",
            "serde_json",
            "tokio",
            "tokio-rustls",
        ],
        never: &[&[
            Never("plimsoll_http", "control touches no live connection or request"),
            Never("plimsoll_sim", "nothing in production uses the simulator"),
        ]],
    },
    Crate {
        name: "plimsoll",
        below: &["plimsoll-config", "plimsoll-control", "plimsoll-proxy", "plimsoll-sim"],
        others: &[
            "clap",
            "clap_complete",
            "clap_mangen",
            "http-body-util",
            "hyper",
            "hyper-util",
            "mimalloc",
            "rustix",
            "serde",
            "serde_json",
            "tokio",
        ],
        never: &[&[
            Never("plimsoll_http", "the program starts the proxy and decides nothing about messages"),
            Never("plimsoll_traffic", "the program starts the proxy and decides nothing about traffic"),
        ]],
    },
];

pub(crate) const EXCEPT: &[Except] = &[
    Except {
        file: "crates/plimsoll-traffic/src/rate.rs",
        path: "std::collections::hash_map::RandomState",
        why: "spreads keys over places so that nobody can choose ones that meet; no answer depends on it while there is room",
    },
    Except {
        file: "crates/plimsoll-control/src/checks/http.rs",
        path: "plimsoll_http",
        why: "what could not be passed on to a client must not pass a check either; its connections are its own",
    },
    Except {
        file: "crates/plimsoll-traffic/src/limit.rs",
        path: "std::collections::hash_map::RandomState",
        why: "spreads addresses over locks so that nobody can choose ones that meet; decides nothing",
    },
    Except {
        file: "crates/plimsoll-http/src/host.rs",
        path: "std::net::Ipv6Addr",
        why: "the standard library's parser of IPv6 literals, which are part of the grammar of `Host`",
    },
    Except {
        file: "crates/plimsoll-proxy/src/log_writer.rs",
        path: "std::fs",
        why: "the access log is written to a file, by a thread of its own",
    },
];

/// Functions beyond the wall, each with the reason why it is better in one piece.
pub(crate) const LONG_FUNCTIONS: &[(&str, &str, &str)] = &[];

/// Files beyond the ceiling, each with its reason.
pub(crate) const LONG_FILES: &[(&str, &str)] = &[];

/// Packages that must not come in, not even through others.
pub(crate) const BANNED_PACKAGES: &[(&str, &str)] = &[
    ("ring", "one cryptography library, and it is to be aws-lc-rs"),
    ("openssl", "rustls is the TLS library"),
    ("openssl-sys", "rustls is the TLS library"),
    ("native-tls", "rustls is the TLS library"),
    ("async-std", "tokio is the runtime"),
    ("smol", "tokio is the runtime"),
];

/// Those of them that the lock file lists because a package of ours has a feature for them that nobody asks for. Nothing builds them.
pub(crate) const LISTED_ONLY: &[&str] = &["ring"]; // hickory-proto's, for DNSSEC and DNS over TLS

/// Packages of which one version must do.
pub(crate) const SINGLE_PACKAGES: &[&str] =
    &["tokio", "rustls", "hyper", "http", "h2", "axum", "socket2", "rustix", "serde"];
