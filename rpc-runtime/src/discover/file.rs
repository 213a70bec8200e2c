//! File: the endpoints that a text file lists.

use std::{
    collections::BTreeSet,
    fs,
    future::Future,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::Duration,
};

use tokio::time;

use super::{Endpoint, Found, Resolver};
use crate::{
    Code, Error,
    base::look_ups::LookUps,
    net::{self, Address, Mistake, check_host},
};

/// Finds the servers of a service in a text file: one endpoint a line. The target `file:///path` means one.
///
/// ```text
/// # address       what is known of it
/// 10.0.0.7:5005   weight=2 zone=eu-west-1a
/// 10.0.0.8:5005   zone=eu-west-1b version=1.4   # any key and value
/// tls://kv-3:5005 server_name=kv.example.com
/// ```
///
/// An address without a scheme gets that of the client. `weight`, `zone` and `server_name` are those of an [`Endpoint`], and other keys
/// are its metadata. What follows a `#` at the beginning of a word is a comment.
///
/// ```
/// use rpc_runtime::discover::{Endpoint, File, Following};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), rpc_runtime::Error> {
/// let path = std::env::temp_dir().join(format!("kv-{}.endpoints", std::process::id()));
/// std::fs::write(&path, "10.0.0.7:5005 weight=2\n").expect("the folder is writable");
/// let endpoints = Following::new(File::new(&path)).next().await?;
/// assert_eq!(endpoints, [Endpoint::new("10.0.0.7:5005").with_weight(2)]);
/// # std::fs::remove_file(&path).expect("it is there");
/// # Ok(())
/// # }
/// ```
///
/// # Changes
///
/// The file is read each second, on a thread of its own. Write a new file beside it, and rename that: then no client reads half of it.
///
/// A file that cannot be read, or that has a mistake, is an error with the number of the line. The client keeps the endpoints that it has,
/// and the file is still read each second. A file of zero bytes is an error, too, because it may be one that is being written. To say
/// that there are no servers, write a comment and nothing else.
///
/// A file may have 1 MiB. A client takes at most 10,000 endpoints.
///
/// # In a simulation
///
/// The file is a real one, and is read in place, so that each run of a seed reads it at the same times.
#[derive(Clone, Debug)]
pub struct File {
    path: Arc<Path>,
}

impl File {
    /// Follows the file at `path`, which is relative to the current folder of the process if it is not absolute.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into().into(),
        }
    }

    /// Follows the file of a target: its path after `file:///`.
    pub(super) fn of_target(path: &str) -> Self {
        // On Windows it begins with a drive, and no slash precedes that.
        match Path::new(path).is_absolute() {
            true => Self::new(path),
            false => Self::new(format!("/{path}")),
        }
    }

    /// Follows the file by `read`.
    async fn follow_by<R>(&self, found: &Found, read: impl Fn() -> R) -> Result<(), Error>
    where
        R: Future<Output = io::Result<Arc<[u8]>>>,
    {
        // Errors are told, and not returned: a file that is corrected is read within a second.
        let mut seen = None;
        loop {
            let now = match time::timeout(READ_WITHIN, read()).await {
                Ok(Ok(text)) => Ok(text),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("no answer within {READ_WITHIN:?}")),
            };
            if seen.as_ref() != Some(&now) {
                match now.as_deref().map_err(String::clone).and_then(parse) {
                    Ok(endpoints) => found.set(endpoints),
                    Err(why) => {
                        let text = format!("cannot read the endpoints of {}: {why}", self.path.display());
                        found.tell(Err(Error::local(Code::Unavailable, text)));
                    }
                }
                seen = Some(now);
            }
            found.wait(EVERY).await;
        }
    }
}

impl Resolver for File {
    async fn follow(&self, found: &Found) -> Result<(), Error> {
        static FILES: LazyLock<LookUps<Arc<Path>, Arc<[u8]>>> =
            LazyLock::new(|| LookUps::new("rpc-endpoints", read));
        if net::is_simulated() {
            return self.follow_by(found, || async { read(&self.path) }).await;
        }
        self.follow_by(found, || FILES.find(&self.path)).await
    }
}

fn read(path: &Arc<Path>) -> io::Result<Arc<[u8]>> {
    let mut bytes = Vec::new();
    let most = MAX_LEN as u64 + 1;
    fs::File::open(path)?.take(most).read_to_end(&mut bytes)?;
    match bytes.len() {
        ..=MAX_LEN => Ok(bytes.into()),
        _ => Err(io::Error::other("it has more than 1 MiB")),
    }
}

/// Returns the endpoints of a file.
///
/// # Errors
///
/// A line is no endpoint: the error says which one, and why.
fn parse(bytes: &[u8]) -> Result<Vec<Endpoint>, String> {
    if bytes.is_empty() {
        return Err("it is empty; write a comment to say that there are no servers".to_owned());
    }
    // Some editors of Windows begin a file with it.
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let mut endpoints = Vec::new();
    let mut addresses = BTreeSet::new();
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        let endpoint = std::str::from_utf8(line)
            .map_err(|_| "it is not UTF-8".to_owned())
            .and_then(parse_line)
            .map_err(|why| format!("line {number}: {why}"))?;
        let Some(endpoint) = endpoint else { continue };
        if !addresses.insert(endpoint.address().to_owned()) {
            let address = endpoint.address();
            return Err(format!(
                "line {number}: {address} is listed twice; write one line for it"
            ));
        }
        endpoints.push(endpoint);
    }
    Ok(endpoints)
}

/// Returns the endpoint of a line; none for an empty line or a comment.
///
/// # Errors
///
/// The line is no endpoint: the error says why, and what to write.
fn parse_line(line: &str) -> Result<Option<Endpoint>, String> {
    let mut words = line.split_whitespace().take_while(|word| !word.starts_with('#'));
    let Some(address) = words.next() else {
        return Ok(None);
    };
    check_address(address)?;
    let mut keys = BTreeSet::new();
    let endpoint = words.try_fold(Endpoint::new(address), |endpoint, word| {
        let pair = word.split_once('=').filter(|(key, _)| !key.is_empty());
        let (key, value) = pair.ok_or_else(|| format!("{word:?} is no key with a value; write key=value"))?;
        if value.is_empty() {
            return Err(format!("{key} has no value; write {key}=value"));
        }
        if !keys.insert(key) {
            return Err(format!("{key} is given twice; write it once"));
        }
        Ok(match key {
            "weight" => endpoint.with_weight(parse_weight(value)?),
            "zone" => endpoint.with_zone(value),
            "server_name" => endpoint.with_server_name(value),
            _ => endpoint.with_metadata(key, value),
        })
    })?;
    Ok(Some(endpoint))
}

fn parse_weight(value: &str) -> Result<u32, String> {
    let refused = |_| {
        format!(
            "weight={value} is not a number from 0 to {}; write weight=2",
            u32::MAX
        )
    };
    value.parse().map_err(refused)
}

/// Checks an address as far as that does not depend on the client: it has no scheme, or a scheme of ours.
fn check_address(address: &str) -> Result<(), String> {
    if address.contains('=') && !address.contains(':') {
        return Err(format!(
            "no address stands before {address}; write address {address}"
        ));
    }
    if OUR_SCHEMES.iter().any(|scheme| address.starts_with(scheme)) {
        return match Address::parse(address) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.message().to_owned()),
        };
    }
    // Protocols of clients have schemes of their own.
    if address.contains("://") || address.starts_with("grpc+unix:") {
        return Ok(());
    }
    check_host(address).map_err(|Mistake { why, proposal }| {
        let proposal = proposal.as_deref().unwrap_or("host:port");
        format!("bad address {address:?}: {why}; write {proposal}")
    })
}

/// How often the file is read.
const EVERY: Duration = Duration::from_secs(1);
/// Time limit for reading it. Its thread goes on, and the next reading waits for the same answer.
const READ_WITHIN: Duration = Duration::from_secs(10);
/// The longest file, in bytes.
const MAX_LEN: usize = 1 << 20;
/// What addresses begin with that no protocol of the client changes.
const OUR_SCHEMES: [&str; 5] = ["tcp://", "tls://", "unix:", "pipe:", "mem:"];
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

#[cfg(test)]
mod tests {
    use std::{
        env,
        future::pending,
        process,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use tokio::time::Instant;

    use super::*;
    use crate::{discover::Following, net::os::HAS_PIPES};

    /// A file that is read as the script says, which knows how many readings came before.
    struct Scripted(AtomicUsize, fn(usize) -> io::Result<&'static str>);

    impl Resolver for Scripted {
        async fn follow(&self, found: &Found) -> Result<(), Error> {
            let read = || async { Ok((self.1)(self.0.fetch_add(1, Relaxed))?.as_bytes().into()) };
            File::new("kv.endpoints").follow_by(found, read).await
        }
    }

    fn scripted(script: fn(usize) -> io::Result<&'static str>) -> Following {
        Following::new(Scripted(AtomicUsize::new(0), script))
    }

    fn endpoints(text: &str) -> Vec<Endpoint> {
        parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn each_line_is_an_endpoint() {
        let text = "\u{feff}# all servers\r\n\
                    10.0.0.7:5005\r\n\
                    \n\
                    \t[::1]:5005  weight=2 zone=a version=1.4=x # the old one\n\
                    mem:a#b server_name=kv.example.com\n\
                    grpc://kv:80 weight=0 #comment";
        let expected = [
            Endpoint::new("10.0.0.7:5005"),
            Endpoint::new("[::1]:5005")
                .with_weight(2)
                .with_zone("a")
                .with_metadata("version", "1.4=x"),
            Endpoint::new("mem:a#b").with_server_name("kv.example.com"),
            Endpoint::new("grpc://kv:80").with_weight(0),
        ];
        assert_eq!(endpoints(text), expected);
        assert_eq!(endpoints("# none now"), []);
    }

    #[test]
    fn a_mistake_is_told_with_its_line_and_what_to_write() {
        for (text, says) in [
            (
                "",
                "it is empty; write a comment to say that there are no servers",
            ),
            (
                "\n\n10.0.0.7",
                "line 3: bad address \"10.0.0.7\": the port is missing; write 10.0.0.7:<port>",
            ),
            (
                "mem:a\ntcp://kv",
                "line 2: bad address \"tcp://kv\": the port is missing; write tcp://kv:<port>",
            ),
            (
                "weight=2 mem:a",
                "line 1: no address stands before weight=2; write address weight=2",
            ),
            (
                "mem:a weight=-1",
                "line 1: weight=-1 is not a number from 0 to 4294967295; write weight=2",
            ),
            ("mem:a weight=", "line 1: weight has no value; write weight=value"),
            (
                "mem:a =2",
                "line 1: \"=2\" is no key with a value; write key=value",
            ),
            ("mem:a b", "line 1: \"b\" is no key with a value; write key=value"),
            ("mem:a b=1 b=2", "line 1: b is given twice; write it once"),
            (
                "mem:a\nmem:b\nmem:a zone=b",
                "line 3: mem:a is listed twice; write one line for it",
            ),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(says.to_owned()), "{text}");
        }
        assert_eq!(parse(b"mem:a\nmem:\xff").unwrap_err(), "line 2: it is not UTF-8");
    }

    #[tokio::test(start_paused = true)]
    async fn a_mistake_is_told_once_and_keeps_nobody_from_the_corrected_file() {
        let mut following = scripted(|turn| match turn {
            0 => Ok("mem:a"),
            1..10 => Ok("mem:b weight=x"),
            10..20 => Err(io::Error::new(io::ErrorKind::NotFound, "no such file")),
            _ => Ok("mem:b"),
        });
        let start = Instant::now();
        assert_eq!(following.next().await.unwrap(), [Endpoint::new("mem:a")]);
        let first = following.next().await.unwrap_err();
        assert_eq!(
            first.to_string(),
            "UNAVAILABLE: cannot read the endpoints of kv.endpoints: line 1: weight=x is not a number from 0 to 4294967295; \
             write weight=2"
        );
        let second = following.next().await.unwrap_err();
        assert_eq!(
            second.message(),
            "cannot read the endpoints of kv.endpoints: no such file"
        );
        assert_eq!(following.next().await.unwrap(), [Endpoint::new("mem:b")]);
        // Twenty pauses of a second; timers of tokio count in milliseconds.
        assert_eq!(start.elapsed().as_secs(), 20);
    }

    /// A file on a disk that does not answer.
    struct Hanging;

    impl Resolver for Hanging {
        async fn follow(&self, found: &Found) -> Result<(), Error> {
            File::new("kv.endpoints").follow_by(found, pending).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_is_told_after_ten_seconds() {
        let start = Instant::now();
        let error = Following::new(Hanging).next().await.unwrap_err();
        assert_eq!(
            error.message(),
            "cannot read the endpoints of kv.endpoints: no answer within 10s"
        );
        assert_eq!(start.elapsed().as_secs(), 10);
    }

    /// A file of this test, removed at its end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            Self(env::temp_dir().join(format!("rpc-{}-{name}", process::id())))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_file(&self.0).unwrap();
        }
    }

    #[tokio::test]
    async fn a_file_that_is_replaced_by_rename_is_read_again() {
        let file = Scratch::new("renamed.endpoints");
        fs::write(&file.0, "mem:a").unwrap();
        let mut following = Following::new(File::new(&file.0));
        assert_eq!(following.next().await.unwrap(), [Endpoint::new("mem:a")]);
        let beside = file.0.with_extension("new");
        // As long as the other, so only what it says tells the two apart.
        fs::write(&beside, "mem:b").unwrap();
        fs::rename(&beside, &file.0).unwrap();
        assert_eq!(following.next().await.unwrap(), [Endpoint::new("mem:b")]);
    }

    #[test]
    fn a_file_may_have_a_mebibyte() {
        let file = Scratch::new("long.endpoints");
        fs::write(&file.0, vec![b'#'; MAX_LEN]).unwrap();
        assert_eq!(read(&file.0.as_path().into()).unwrap().len(), MAX_LEN);
        fs::write(&file.0, vec![b'#'; MAX_LEN + 1]).unwrap();
        assert_eq!(
            read(&file.0.as_path().into()).unwrap_err().to_string(),
            "it has more than 1 MiB"
        );
    }

    #[test]
    fn the_path_of_a_target_is_absolute() {
        let root = if HAS_PIPES { "C:/" } else { "/" };
        let target = format!("{}etc/kv", root.trim_start_matches('/'));
        assert_eq!(*File::of_target(&target).path, *Path::new(root).join("etc/kv"));
    }
}
