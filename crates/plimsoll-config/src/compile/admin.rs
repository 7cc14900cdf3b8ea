//! The admin addresses: where, who may open a Unix socket, and the token without which nothing beyond this machine is bound.
//!
//! A token (or another secret, see `SECRETS`) itself never stands in a configuration's text: problems quote lines, and `plimsoll config` prints values. It is named by a
//! file or an environment variable, and both show only the name.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::Compiler;
use crate::address::{Fault, parse_admin};
use crate::defaults::ADMIN_MODE;
use crate::model::{Admin, AdminBind, Secret, Token};
use crate::node::{Field, Fields, Node, Written};
use crate::problem::{Code, Problem};
use crate::source::{At, Source};

/// A key whose value is nobody's business.
pub(crate) struct Confidential {
    pub(crate) table: &'static str,
    pub(crate) key: &'static str,
    /// What messages call it.
    called: &'static str,
    /// A variable and a file as examples.
    examples: (&'static str, &'static str),
}

/// All of them.
pub(crate) static SECRETS: [Confidential; 2] = [ADMIN_TOKEN, STICKY_SECRET];

const ADMIN_TOKEN: Confidential = Confidential {
    table: "admin",
    key: "token",
    called: "the admin token",
    examples: ("ADMIN_TOKEN", "/etc/plimsoll/admin.token"),
};
pub(super) const STICKY_SECRET: Confidential = Confidential {
    table: "sticky",
    key: "secret",
    called: "the sticky secret",
    examples: ("STICKY_SECRET", "/etc/plimsoll/sticky.secret"),
};

impl Confidential {
    /// How to write it.
    pub(super) fn example(&self) -> String {
        let Confidential { key, examples: (variable, file), .. } = self;
        format!("`{key} = {{ file = \"{file}\" }}` or `{key} = \"${{{variable}}}\"`")
    }
}

impl Compiler<'_> {
    pub(super) fn admin(&mut self, root: &Fields) -> Option<Admin> {
        let table = root.table("admin")?;
        let mut binds: Vec<(AdminBind, At)> = Vec::new();
        for written in table.items("bind").iter().filter_map(Node::text) {
            let Some(bind) = self.accept(parse_admin(written.text), written.at) else { continue };
            match binds.iter().find(|(other, _)| *other == bind) {
                Some((_, first)) => {
                    let message = format!("the admin address `{}` stands here twice", written.text);
                    let problem = Problem::new(Code::Duplicate, written.at, message);
                    self.report.error(problem.also(*first, "first here").help("remove one".to_owned()));
                }
                None => binds.push((bind, written.at)),
            }
        }
        let has_unix = binds.iter().any(|(bind, _)| matches!(bind, AdminBind::Unix(_)));
        let mode = self.mode(table, has_unix || binds.is_empty());
        let token = self.secret(&ADMIN_TOKEN, table);
        if !table.probably_has("token") {
            binds.iter().for_each(|(bind, at)| self.check_reach(bind, *at));
        }
        let audit = self.read(table.text("audit"), parse_audit);
        Some(Admin { binds: binds.into_iter().map(|(bind, _)| bind).collect(), mode: mode?, token, audit })
    }

    /// An address that other machines reach takes a token.
    fn check_reach(&mut self, bind: &AdminBind, at: At) {
        let AdminBind::Socket(address) = bind else { return };
        if !address.ip().is_loopback() {
            let message =
                format!("other machines can reach the admin address `{address}`, which has no token");
            let problem = Problem::new(Code::MissingKey, at, message);
            self.report.error(problem.help(format!(
                "add {}, or write \"127.0.0.1:{}\"",
                ADMIN_TOKEN.example(),
                address.port()
            )));
        }
    }

    fn mode(&mut self, table: &Fields, has_unix: bool) -> Option<u32> {
        let field = table.find("mode")?;
        // The default may stand there: `plimsoll config` prints it.
        let is_default = field.node.text().is_some_and(|written| written.text == ADMIN_MODE);
        if !is_default && !has_unix {
            let problem =
                Problem::new(Code::KeyConflict, field.at, "`mode` has no meaning without a Unix socket");
            self.report.error(
                problem.help("leave it out, or add \"unix:/run/plimsoll/admin.sock\" to `bind`".to_owned()),
            );
        }
        self.read(field.node.text(), parse_mode)
    }

    /// Where a secret is.
    pub(super) fn secret(&mut self, secret: &Confidential, table: &Fields) -> Option<Token> {
        let field = table.find(secret.key)?;
        if let Some(fields) = field.node.fields() {
            let file = fields.text("file")?;
            return self.accept(parse_file(file.text, secret), file.at).map(|path| Token::File(path.into()));
        }
        let Written { text, at } = field.node.text()?;
        let checked = Secret::new(text).map_err(|reason| {
            Fault::new(Code::BadValue, format!("{} {reason}", secret.called))
                .help("make one with `openssl rand -hex 32`")
        });
        self.accept(checked, at).map(Token::Text)
    }

    /// The text of a secret is a reference to the environment and nothing else. Asked before its value is judged, which comes from there.
    pub(super) fn check_is_referred_to(&mut self, secret: &Confidential, root: &Fields, sources: &[Source]) {
        let table = root.find(secret.table);
        let found = table.and_then(|table| table.node.fields()).and_then(|fields| fields.find(secret.key));
        let (Some(table), Some(Field { node, .. })) = (table, found) else { return };
        if node.text().is_some() && as_written(node, sources).is_none() {
            // Not at the secret's own line, which would be shown.
            let message = format!("{} stands in the configuration itself", secret.called);
            let Confidential { key, examples: (variable, _), .. } = secret;
            self.report.error(Problem::new(Code::BadValue, table.at, message).help(format!(
                "write `{key} = {{ file = \"…\" }}` or `{key} = \"${{{variable}}}\"`, and take another {key}: this one may have been seen"
            )));
        }
    }

    /// The admin address would lose against a listener that covers it.
    pub(super) fn check_admin(&mut self, root: &Fields, bound: &[(SocketAddr, At)]) {
        let items = root.table("admin").map_or(&[][..], |fields| fields.items("bind"));
        for written in items.iter().filter_map(Node::text) {
            let Ok(AdminBind::Socket(admin)) = parse_admin(written.text) else { continue };
            if let Some((_, at)) = bound.iter().find(|(other, _)| covers(*other, admin)) {
                let message = format!("a listener takes the admin address `{}`", written.text);
                let problem = Problem::new(Code::Duplicate, written.at, message).also(*at, "the listener");
                self.report.error(problem.help("give one of them another port".to_owned()));
            }
        }
    }
}

/// A secret as it stands in the text, quotes included, if that is one reference without a default: what may be shown of it.
pub(crate) fn as_written<'a>(node: &Node, sources: &'a [Source]) -> Option<&'a str> {
    let text = sources.get(node.at.file)?.text.get(node.at.start..node.at.end)?;
    let name = text.trim_matches(['"', '\'']).strip_prefix("${")?.strip_suffix('}')?;
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (is_name && text.len() > name.len() + 3).then_some(text)
}

/// Octal, at most `0777`; the owner reads and writes.
fn parse_mode(text: &str) -> Result<u32, Fault> {
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    match u32::from_str_radix(text, 8) {
        Ok(mode) if octal && mode <= 0o777 && mode & 0o600 == 0o600 => Ok(mode),
        _ => Err(Fault::new(Code::BadValue, format!("`{text}` is no mode for a socket"))
            .help("write \"0600\" for its owner, \"0660\" for its group too")),
    }
}

fn parse_file(text: &str, secret: &Confidential) -> Result<String, Fault> {
    if text.is_empty() || text.contains('\0') {
        return Err(Fault::new(Code::BadValue, "`file` names no file")
            .help(format!("write a path: \"{}\"", secret.examples.1)));
    }
    Ok(text.to_owned())
}

fn parse_audit(text: &str) -> Result<PathBuf, Fault> {
    if text.is_empty() || text.contains('\0') {
        return Err(Fault::new(Code::BadValue, "`audit` names no file")
            .help("write a path: \"/var/log/plimsoll/audit.log\""));
    }
    Ok(PathBuf::from(text))
}

fn covers(listener: SocketAddr, admin: SocketAddr) -> bool {
    let every = match listener.ip() {
        IpAddr::V6(ip) => ip.is_unspecified(),
        IpAddr::V4(ip) => ip.is_unspecified() && admin.is_ipv4(),
    };
    // The other way round the admin address would take what is the listener's.
    let all = admin.ip().is_unspecified() && (admin.is_ipv6() || listener.is_ipv4());
    admin.port() != 0 && listener.port() == admin.port() && (every || all || listener.ip() == admin.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ipv4_alone_does_not_cover_ipv6() {
        assert!(covers(address("[::]:80"), address("127.0.0.1:80")));
        assert!(!covers(address("0.0.0.0:80"), address("[::1]:80")));
        assert!(covers(address("127.0.0.1:80"), address("[::]:80")));
        assert!(!covers(address("[::1]:80"), address("0.0.0.0:80")));
    }

    #[test]
    fn a_mode_is_octal_and_lets_the_owner_in() {
        assert_eq!((parse_mode("0600").unwrap(), parse_mode("660").unwrap()), (0o600, 0o660));
        for wrong in ["", "0", "600x", "0o600", "1777", "0060", "+600", "888"] {
            assert!(parse_mode(wrong).is_err(), "{wrong}");
        }
    }
}
