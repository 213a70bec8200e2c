//! Owner of the other end of a loopback TCP connection, from the socket tables of Linux.
//!
//! TCP does not tell the user of a peer. But if the peer runs on this machine, the kernel knows who made its socket.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, oneshot};

use super::uid::OVERFLOW_UID;

/// Returns the user whose socket at `peer` is connected to ours at `local`; `None` if that is not certain.
///
/// # Cancel safety
///
/// Dropping the future abandons the answer.
pub(super) async fn owner(peer: SocketAddr, local: SocketAddr) -> Option<u32> {
    // One look-up at a time in the process: peers that ask again and again cost no more than one thread.
    static ONE: Semaphore = Semaphore::const_new(1);
    let permit = ONE.acquire().await.ok()?;
    let (tell, told) = oneshot::channel();
    // Not on the blocking pool: handlers may have filled it, and a terminate is needed most just then.
    let spawned = thread::Builder::new()
        .name("rpc-owner".to_owned())
        .spawn(move || {
            let found = search(&TABLES, Ends::new(peer, local));
            drop(permit);
            // The caller may be gone.
            let _ = tell.send(found);
        });
    let found = match spawned {
        Ok(_) => told.await.ok()?,
        Err(error) => Err(error),
    };
    found.unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot look up the owner of a loopback connection");
        None
    })
}

/// Searches `tables`, up to twice: they are not snapshots, and a row may be skipped while others disappear.
fn search(tables: &[&str], ends: Ends) -> io::Result<Option<u32>> {
    let until = Instant::now() + MAX_TIME;
    for _ in 0..2 {
        let mut search = Search::new(ends);
        for table in tables {
            match File::open(table) {
                Ok(file) => search.read(BufReader::with_capacity(BUFFER_LEN, file), until)?,
                // A kernel without IPv6 has one table less.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if !search.found.is_empty() {
            return Ok(search.owner());
        }
    }
    Ok(None)
}

/// The two ends of a connection, from the peer's view: its own end first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ends {
    own: (IpAddr, u16),
    other: (IpAddr, u16),
}

impl Ends {
    fn new(own: SocketAddr, other: SocketAddr) -> Self {
        // An IPv6 socket that talks IPv4 shows ::ffff:127.0.0.1.
        let end = |end: SocketAddr| (end.ip().to_canonical(), end.port());
        Self {
            own: end(own),
            other: end(other),
        }
    }
}

/// The search for the peer's row.
#[derive(Debug)]
struct Search {
    ends: Ends,
    /// The sockets that match, by inode, with their users; at most two.
    found: Vec<(u64, u32)>,
    /// Maximum length of a table, in bytes.
    max_len: u64,
}

impl Search {
    fn new(ends: Ends) -> Self {
        Self {
            ends,
            found: Vec::new(),
            max_len: MAX_LEN,
        }
    }

    /// Searches one table.
    ///
    /// # Errors
    ///
    /// Errors of reading; `InvalidData` if the text is not a table, or has no end in sight.
    fn read(&mut self, table: impl BufRead, until: Instant) -> io::Result<()> {
        let mut table = table.take(self.max_len);
        let mut line = Vec::new();
        loop {
            line.clear();
            if (&mut table).take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            if line.len() as u64 == MAX_LINE || Instant::now() > until {
                return Err(endless());
            }
            self.line(&line);
        }
        if table.limit() == 0 {
            Err(endless())
        } else {
            Ok(())
        }
    }

    /// Checks one line of a table; a line that is not a row is skipped.
    fn line(&mut self, line: &[u8]) {
        let Some(row) = Row::parse(line) else { return };
        // A socket that is being closed has no owner any more and shows uid 0; so does inode 0.
        if row.ends != self.ends || row.state != ESTABLISHED || row.inode == 0 {
            return;
        }
        // A socket may be shown twice, because the tables are not snapshots. It still counts once.
        let found = (row.inode, row.uid);
        if !self.found.contains(&found) && self.found.len() < 2 {
            self.found.push(found);
        }
    }

    /// The owner, if one socket was found and this user namespace knows its user.
    fn owner(&self) -> Option<u32> {
        match self.found[..] {
            [(_, uid)] if uid != OVERFLOW_UID => Some(uid),
            _ => None,
        }
    }
}

fn endless() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the table of sockets is too long to read",
    )
}

/// A row of `/proc/net/tcp` or `tcp6`: `sl local remote st tx:rx tr:when retrnsmt uid timeout inode ...`.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    ends: Ends,
    state: u32,
    uid: u32,
    inode: u64,
}

impl Row {
    fn parse(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?;
        let mut fields = line.split_ascii_whitespace().skip(1);
        let own = parse_end(fields.next()?)?;
        let other = parse_end(fields.next()?)?;
        let state = parse_hex(fields.next()?)?;
        let mut fields = fields.skip(3);
        let uid = parse_decimal(fields.next()?)?;
        let inode = parse_decimal(fields.nth(1)?)?;
        Some(Self {
            ends: Ends { own, other },
            state,
            uid: u32::try_from(uid).ok()?,
            inode,
        })
    }
}

/// Parses `0100007F:1F90`: the address in words, each a number in this machine's byte order; then the port.
fn parse_end(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::try_from(parse_hex(port)?).ok()?;
    let word = |from: usize| Some(parse_hex(address.get(from..from + 8)?)?.to_ne_bytes());
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut octets = [0; 16];
            for (i, octets) in octets.chunks_exact_mut(4).enumerate() {
                octets.copy_from_slice(&word(8 * i)?);
            }
            IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
        }
        _ => return None,
    };
    Some((address, port))
}

fn parse_hex(digits: &str) -> Option<u32> {
    // The standard library's parser would accept a sign, too.
    let all = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u32::from_str_radix(digits, 16).ok().filter(|_| all)
}

fn parse_decimal(digits: &str) -> Option<u64> {
    let all = digits.bytes().all(|digit| digit.is_ascii_digit());
    digits.parse().ok().filter(|_| all)
}

/// The tables of the process's network namespace. A server that has left it finds no row, and so denies.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
const ESTABLISHED: u32 = 1;
/// Longer than any row, in bytes.
const MAX_LINE: u64 = 1024;
/// About half a million sockets, in bytes.
const MAX_LEN: u64 = 96 * 1024 * 1024;
const MAX_TIME: Duration = Duration::from_secs(5);
const BUFFER_LEN: usize = 64 * 1024;

#[cfg(test)]
mod tests;
