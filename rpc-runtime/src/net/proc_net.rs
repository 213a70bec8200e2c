//! Whose process has the other end of a loopback TCP connection, by the tables of sockets that Linux shows.
//!
//! A TCP peer tells nothing of its user; but when it runs on this machine, the kernel knows who made its socket.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, oneshot};

/// The user whose socket at `peer` is connected to ours at `local`; none if that cannot be said for sure.
///
/// # Cancel safety
///
/// Dropping the future abandons the answer.
pub(super) async fn owner(peer: SocketAddr, local: SocketAddr) -> Option<u32> {
    // One at a time in the process: peers that ask again and again cost no more than one thread.
    static ONE: Semaphore = Semaphore::const_new(1);
    let permit = ONE.acquire().await.ok()?;
    let (tell, told) = oneshot::channel();
    // A thread and not the blocking pool: handlers may have filled that, and then a terminate is what is needed.
    let spawned = thread::Builder::new()
        .name("rpc-owner".to_owned())
        .spawn(move || {
            let found = search(&TABLES, Ends::new(peer, local));
            drop(permit);
            // Whoever asked may be gone.
            let _ = tell.send(found);
        });
    let found = match spawned {
        Ok(_) => told.await.ok()?,
        Err(error) => Err(error),
    };
    found.unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot look up whose a loopback connection is");
        None
    })
}

/// Searches `tables`, twice if need be: they are no snapshot, and a row may be passed over while others go.
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

/// The two ends of a connection, as the peer's row has them: its own first.
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

/// The search for the one row that is the peer's.
#[derive(Debug)]
struct Search {
    ends: Ends,
    /// The sockets that it could be, by inode, with their users.
    found: Vec<(u64, u32)>,
    /// How long a table may be.
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

    /// Looks through a table.
    ///
    /// # Errors
    ///
    /// Those of reading; `InvalidData` for what is no table, or no end of it in sight.
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

    /// Looks at a line of a table; one that is no row is nobody's.
    fn line(&mut self, line: &[u8]) {
        let Some(row) = Row::parse(line) else { return };
        // One that is being closed belongs to nobody any more, and shows uid 0; so does inode 0.
        if row.ends != self.ends || row.state != ESTABLISHED || row.inode == 0 {
            return;
        }
        // The tables are no snapshot: a socket may be shown twice, and is still one.
        let found = (row.inode, row.uid);
        if !self.found.contains(&found) && self.found.len() < 2 {
            self.found.push(found);
        }
    }

    /// The owner of the one socket that was found, unless this user namespace does not know them.
    fn owner(&self) -> Option<u32> {
        match self.found[..] {
            [(_, uid)] if uid != super::peer::OVERFLOW_UID => Some(uid),
            _ => None,
        }
    }
}

fn endless() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the table of sockets does not end")
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

/// `0100007F:1F90`: the address word by word, each as a number of this machine; then the port.
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
    // The parser of the standard library takes a sign, too.
    let all = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u32::from_str_radix(digits, 16).ok().filter(|_| all)
}

fn parse_decimal(digits: &str) -> Option<u64> {
    let all = digits.bytes().all(|digit| digit.is_ascii_digit());
    digits.parse().ok().filter(|_| all)
}

/// Those of the process's network namespace. A server that has left it finds no row, and so denies.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
const ESTABLISHED: u32 = 1;
/// No row is as long.
const MAX_LINE: u64 = 1024;
/// Half a million sockets.
const MAX_LEN: u64 = 96 * 1024 * 1024;
const MAX_TIME: Duration = Duration::from_secs(5);
const BUFFER_LEN: usize = 64 * 1024;

#[cfg(test)]
mod tests;
