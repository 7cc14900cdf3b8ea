//! Asking an agent for its server's word: connect, send what it is to be sent, read one line.
//!
//! In goes where it is, out comes the word, or why there is none. An agent that is silent, trickles, never ends its line or sends megabytes costs one connection for its
//! `timeout` and some kilobytes. That it cannot be asked says nothing about its server: what it said before stays in force.

use std::time::Duration;

use plimsoll_config::defaults::{AGENT_LINE, AGENT_READ};
use plimsoll_config::model::{Address, Agent, How};
use plimsoll_traffic::Word;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::due::Kind;
use super::question::{Question, Trouble, dial, said};

/// Whom to ask, and how.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asking {
    at: Address,
    agent: Agent,
}

/// Something to be done for a server now and then.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Errand {
    /// It is checked.
    Check(Box<Question>),
    /// Its agent is asked.
    Agent(Asking),
}

/// What came of it.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    /// The check passed.
    Pass,
    /// The agent answered.
    Word(Word),
}

impl Errand {
    pub(super) async fn run(&self) -> Result<Found, Trouble> {
        match self {
            Errand::Check(question) => question.ask().await.map(|()| Found::Pass),
            Errand::Agent(asking) => asking.ask().await.map(Found::Word),
        }
    }

    /// The usual time from one to the next.
    pub(super) fn every(&self) -> Duration {
        match self {
            Errand::Check(question) => question.check.every,
            Errand::Agent(asking) => asking.agent.every,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Errand::Agent(_) => Kind::Agent,
            Errand::Check(question) if matches!(question.check.how, How::Program(_)) => Kind::Program,
            Errand::Check(_) => Kind::Check,
        }
    }

    pub(super) fn is_agents(&self) -> bool {
        self.kind() == Kind::Agent
    }
}

impl Asking {
    /// `None` where there is no address that an agent could be at.
    pub(super) fn of(agent: &Agent, server: &Address) -> Option<Asking> {
        let ip = match (agent.address, server) {
            (Some(ip), _) => ip,
            (None, Address::Socket(address)) => address.ip(),
            (None, Address::Name(..) | Address::Unix(_)) => return None,
        };
        Some(Asking { at: Address::Socket((ip, agent.port).into()), agent: agent.clone() })
    }

    async fn ask(&self) -> Result<Word, Trouble> {
        let answered = timeout(self.agent.timeout, self.talk()).await;
        answered.unwrap_or_else(|_| {
            Err(Trouble::Server(format!("no whole line within {} ms", self.agent.timeout.as_millis())))
        })
    }

    async fn talk(&self) -> Result<Word, Trouble> {
        let mut stream = dial(&self.at, !self.agent.send.is_empty()).await?;
        if !self.agent.send.is_empty() {
            stream.write_all(self.agent.send.as_bytes()).await.map_err(|e| broken(&e))?;
        }
        line(&mut stream).await.map(|line| Word::parse(&line))
    }
}

/// Reads up to the first line's end, CR or LF.
async fn line(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, Trouble> {
    let mut read = Vec::new();
    loop {
        let from = read.len();
        read.reserve(AGENT_READ);
        if stream.read_buf(&mut read).await.map_err(|e| broken(&e))? == 0 {
            return Err(Trouble::Server("its line has no end".to_owned()));
        }
        if let Some(end) = read[from..].iter().position(|byte| b"\r\n".contains(byte)) {
            read.truncate(from + end);
            return Ok(read);
        }
        if read.len() > AGENT_LINE {
            return Err(Trouble::Server(format!("its line is longer than {} KiB", AGENT_LINE >> 10)));
        }
    }
}

fn broken(error: &std::io::Error) -> Trouble {
    Trouble::Server(format!("the connection broke: {}", said(error)))
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    /// What comes of bytes that are sent whole; then the connection ends.
    fn read(bytes: &[u8]) -> Result<Vec<u8>, Trouble> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut ours, mut theirs) = duplex(1 << 20);
            theirs.write_all(bytes).await.unwrap();
            theirs.shutdown().await.unwrap();
            line(&mut ours).await
        })
    }

    #[test]
    fn a_line_ends_at_the_first_cr_or_lf() {
        assert_eq!(read(b"up 75%\ndown\n").unwrap(), b"up 75%");
        assert_eq!(read(b"up\r\n").unwrap(), b"up");
        assert_eq!(read(b"\n").unwrap(), b"");
        let long = [vec![b' '; 2_000], b"drain\n".to_vec()].concat();
        assert_eq!(read(&long).unwrap(), long[..long.len() - 1]);
    }

    #[test]
    fn a_line_without_an_end_is_none_as_in_haproxy() {
        assert_eq!(read(b"down"), Err(Trouble::Server("its line has no end".to_owned())));
        assert_eq!(read(b""), Err(Trouble::Server("its line has no end".to_owned())));
    }

    #[test]
    fn a_line_that_is_too_long_is_given_up() {
        let expected = Err(Trouble::Server("its line is longer than 4 KiB".to_owned()));
        assert_eq!(read(&vec![b'x'; 1 << 20]), expected);
    }

    #[test]
    fn an_agent_is_beside_its_server_unless_its_address_is_said() {
        let agent = Agent {
            port: 9,
            address: None,
            every: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            send: String::new(),
        };
        let server = Address::Socket(([10, 0, 0, 1], 80).into());
        let at = |ip: [u8; 4]| Address::Socket((ip, 9).into());
        assert_eq!(Asking::of(&agent, &server).unwrap().at, at([10, 0, 0, 1]));
        let unix = Address::Unix("/run/a.sock".into());
        assert_eq!(Asking::of(&agent, &unix), None);
        let elsewhere = Agent { address: Some([10, 0, 0, 9].into()), ..agent };
        assert_eq!(Asking::of(&elsewhere, &unix).unwrap().at, at([10, 0, 0, 9]));
    }
}
