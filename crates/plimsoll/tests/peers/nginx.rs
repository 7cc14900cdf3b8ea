//! nginx as a server behind Plimsoll: what it answers must arrive unchanged, what is sent must arrive whole.
//!
//! The same requests go to nginx directly and through Plimsoll; the answers may differ only in `Date` and `Connection`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::curl::{self, Outcome};
use crate::need::need;
use crate::process::{Port, Process, scratch, until};
use crate::support::{Client, Plimsoll, get};

const BIG: usize = 1024 * 1024;

struct Nginx {
    process: Process,
    port: Port,
    prefix: PathBuf,
}

impl Nginx {
    fn start(program: &Path) -> Self {
        let port = Port::reserve();
        let prefix = scratch("nginx");
        for folder in ["html/dir", "html/dav"] {
            std::fs::create_dir_all(prefix.join(folder)).expect("the tests' own directory can be written");
        }
        let text = "A line that compresses well.\n".repeat(2000);
        for (file, content) in [
            ("html/big.bin", noise(BIG)),
            ("html/text.txt", text.into_bytes()),
            ("nginx.conf", configuration(&port).into_bytes()),
        ] {
            std::fs::write(prefix.join(file), content).expect("the tests' own directory can be written");
        }
        let mut command = Command::new(program);
        command.arg("-p").arg(&prefix).args(["-e", "error.log", "-c", "nginx.conf"]);
        let process = Process::start("nginx", &mut command);
        until("nginx listens", || std::net::TcpStream::connect(port.address()).is_ok());
        Self { process, port, prefix }
    }

    fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Waits for `count` log lines of a request for `path`; gives the number of the connection each came on.
    fn connections(&self, path: &str, count: usize) -> Vec<String> {
        let numbers = || -> Vec<String> {
            let lines = self.process.lines();
            let of_path = lines.iter().filter(|line| line.split(' ').nth(1) == Some(path));
            of_path.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
        };
        until("nginx's log lines", || numbers().len() >= count);
        numbers()
    }

    fn stored(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.prefix.join("html/dav").join(name)).expect("nginx has stored it")
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.prefix);
    }
}

fn configuration(port: &Port) -> String {
    format!(
        "daemon off; master_process off; pid nginx.pid; error_log error.log warn;
        events {{ worker_connections 512; }}
        http {{
            types {{ text/plain txt; }}
            default_type application/octet-stream;
            log_format peers '$connection $uri';
            access_log /dev/stdout peers;
            client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
            uwsgi_temp_path uwsgi; scgi_temp_path scgi;
            client_max_body_size 64m;
            gzip on; gzip_types text/plain; gzip_proxied any; gzip_min_length 1;
            server {{
                listen {};
                root html;
                location = /moved {{ return 301 /elsewhere; }}
                location = /found {{ return 302 http://other.test/x?y=1; }}
                location /dav/ {{ dav_methods PUT DELETE; }}
            }}
        }}",
        port.address()
    )
}

/// Bytes without a pattern, the same on every run.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let step = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..length).map(step).collect()
}

/// nginx, Plimsoll before it with one worker, and curl.
struct Stage {
    curl: PathBuf,
    nginx: Nginx,
    plimsoll: Plimsoll,
}

impl Stage {
    fn set() -> Option<Self> {
        let (program, curl) = (need("nginx")?, need("curl")?);
        let nginx = Nginx::start(&program);
        let plimsoll = Plimsoll::before(&[nginx.address()]);
        Some(Self { curl, nginx, plimsoll })
    }

    fn ask(&self, at: SocketAddr, path: &str, options: &[&str]) -> Outcome {
        let url = format!("http://{at}{path}");
        let arguments = [&["-H", "Host: site.test"], options, &[&url]].concat();
        curl::run(&self.curl, &arguments)
    }

    fn through(&self, path: &str, options: &[&str]) -> Outcome {
        self.ask(self.plimsoll.address(), path, options)
    }

    /// Asks nginx directly and through Plimsoll; the answers must be the same. Gives the latter.
    #[track_caller]
    fn same(&self, path: &str, options: &[&str]) -> Outcome {
        let mut direct = self.ask(self.nginx.address(), path, options);
        let mut through = self.through(path, options);
        for head in direct.heads.iter_mut().chain(&mut through.heads) {
            let is_one_of = |name: &str, names: [&str; 2]| names.iter().any(|n| name.eq_ignore_ascii_case(n));
            head.fields.retain(|(name, _)| !is_one_of(name, ["date", "connection"]));
            // Framing is written anew and stands last; the others keep their order.
            head.fields.sort_by_key(|(name, _)| is_one_of(name, ["content-length", "transfer-encoding"]));
        }
        assert_eq!((direct.exit, through.exit), (0, 0), "{path} {options:?}");
        assert_eq!(direct.heads, through.heads, "{path} {options:?}");
        assert!(direct.body == through.body, "the bodies of {path} {options:?} differ");
        through
    }
}

#[test]
fn a_static_file_of_nginx_arrives_whole_with_its_length() {
    let Some(stage) = Stage::set() else { return };
    let answer = stage.same("/big.bin", &[]);
    assert_eq!(answer.last().field("content-length"), Some("1048576"));
    assert!(answer.body == noise(BIG), "the bytes differ");
}

#[test]
fn byte_ranges_of_nginx_pass() {
    let Some(stage) = Stage::set() else { return };
    for (range, status, length) in [("100-199", 206, 100), ("1048000-", 206, 576), ("-1", 206, 1)] {
        let answer = stage.same("/big.bin", &["-r", range]);
        assert_eq!((answer.last().status, answer.body.len()), (status, length), "{range}");
        assert!(answer.last().field("content-range").is_some());
    }
    assert_eq!(stage.same("/big.bin", &["-r", "1048576-"]).last().status, 416);
}

#[test]
fn conditional_requests_to_nginx_pass() {
    let Some(stage) = Stage::set() else { return };
    // curl shows the head of HEAD's answer as its body.
    let head = stage.same("/big.bin", &["-I", "-o", "/dev/null"]).last().clone();
    assert_eq!((head.status, head.field("content-length")), (200, Some("1048576")));
    for (name, validator) in [("If-None-Match", "etag"), ("If-Modified-Since", "last-modified")] {
        let field = format!("{name}: {}", head.field(validator).expect("nginx sends it"));
        let answer = stage.same("/big.bin", &["-H", &field]);
        assert_eq!((answer.last().status, answer.body.len()), (304, 0), "{field}");
        assert_eq!(stage.same("/big.bin", &["-H", &field, "-r", "0-9"]).last().status, 304);
    }
    assert_eq!(stage.same("/big.bin", &["-H", "If-Match: \"other\""]).last().status, 412);
}

#[test]
fn compressed_answers_of_unknown_length_pass() {
    let Some(stage) = Stage::set() else { return };
    let raw = stage.same("/text.txt", &["-H", "Accept-Encoding: gzip"]);
    assert_eq!(raw.last().field("transfer-encoding"), Some("chunked"));
    assert_eq!(raw.last().field("content-encoding"), Some("gzip"));
    assert!(raw.body.starts_with(&[0x1f, 0x8b]) && raw.body.len() < 5000);
    let plain = stage.same("/text.txt", &["--compressed"]);
    assert_eq!(plain.body, "A line that compresses well.\n".repeat(2000).as_bytes());
}

#[test]
fn chunks_reach_an_http10_client_as_a_body_until_close() {
    let Some(stage) = Stage::set() else { return };
    let answer = stage.through("/text.txt", &["--http1.0", "--compressed"]);
    assert_eq!((answer.exit, answer.last().field("transfer-encoding")), (0, None));
    assert_eq!(answer.last().field("content-encoding"), Some("gzip"));
    assert_eq!(answer.last().field("connection"), Some("close"));
    assert_eq!(answer.body, "A line that compresses well.\n".repeat(2000).as_bytes());
}

#[test]
fn refusals_and_redirects_of_nginx_pass_unchanged() {
    let Some(stage) = Stage::set() else { return };
    for (path, status, location) in [
        ("/nowhere", 404, None),
        ("/dir/", 403, None),
        ("/dir", 301, Some("http://site.test")),
        ("/moved", 301, Some("http://site.test")),
        ("/found?a=b", 302, Some("http://other.test/x?y=1")),
        ("/a%2fb%00c", 400, None),
    ] {
        let answer = stage.same(path, &[]);
        let head = answer.last();
        assert_eq!(head.status, status, "{path}");
        assert_eq!(head.field("location").is_some(), location.is_some(), "{path}");
        assert!(
            head.field("location").unwrap_or_default().starts_with(location.unwrap_or_default()),
            "{path}"
        );
    }
    assert_eq!(stage.same("/big.bin", &["-X", "POST", "-d", "x=1"]).last().status, 405);
}

#[test]
fn uploads_reach_nginx_byte_for_byte() {
    let Some(stage) = Stage::set() else { return };
    let file = scratch("upload");
    let content = noise(3 * BIG + 17);
    std::fs::write(&file, &content).expect("the tests' own directory can be written");
    let path = file.to_str().expect("a path in UTF-8");
    for (name, options) in [
        ("length", &["-T", path][..]),
        ("chunked", &["-T", path, "-H", "Transfer-Encoding: chunked"]),
        ("unexpecting", &["-T", path, "-H", "Expect:"]),
        ("old", &["-T", path, "--http1.0"]),
    ] {
        let answer = stage.through(&format!("/dav/{name}"), options);
        assert_eq!((answer.exit, answer.last().status), (0, 201), "{name}: {answer:?}");
        assert!(stage.nginx.stored(name) == content, "{name}: what nginx stored differs");
        let back = stage.through(&format!("/dav/{name}"), &[]);
        assert!(back.body == content, "{name}: what comes back differs");
    }
    std::fs::remove_file(&file).expect("it is there");
}

#[test]
fn a_big_body_waits_for_nginx_to_say_continue() {
    let Some(stage) = Stage::set() else { return };
    let file = scratch("upload");
    std::fs::write(&file, noise(2 * BIG)).expect("the tests' own directory can be written");
    let path = file.to_str().expect("a path in UTF-8");
    let options = ["-T", path, "-H", "Expect: 100-continue"];
    let statuses = |answer: &Outcome| answer.heads.iter().map(|head| head.status).collect::<Vec<u16>>();
    assert_eq!(statuses(&stage.through("/dav/big", &options)), [100, 201]);
    let answer = stage.same("/dav/big", &options);
    assert_eq!(statuses(&answer), [100, 204]);
    std::fs::remove_file(&file).expect("it is there");
}

#[test]
fn sequential_requests_share_one_connection_to_nginx() {
    const REQUESTS: usize = 60;
    let Some(stage) = Stage::set() else { return };
    for _ in 0..REQUESTS / 20 {
        // Each client has a connection of its own; the one behind is the worker's.
        let mut client = Client::connect(stage.plimsoll.address());
        for _ in 0..20 {
            client.send(&get("/text.txt"));
            assert_eq!(client.answer().whole().status, 200);
        }
    }
    let connections = stage.nginx.connections("/text.txt", REQUESTS);
    assert_eq!(connections.len(), REQUESTS);
    assert!(connections.iter().all(|number| *number == connections[0]), "{connections:?}");
}
