use super::*;

/// The row of a client at 127.0.0.1:50000 (C350) that is connected to 127.0.0.1:8080 (1F90), as a little-endian machine
/// shows it.
fn row(state: &str, uid: &str, inode: &str) -> String {
    let tail = "1 0000000000000000 20 4 30 10 -1";
    format!(
        "   7: {} {} {state} 00000000:00000000 00:00000000 00000000 {uid:>5}        0 {inode} {tail}\n",
        end("127.0.0.1:50000"),
        end("127.0.0.1:8080"),
    )
}

/// One end, as this machine's kernel writes it.
fn end(text: &str) -> String {
    let end: SocketAddr = text.parse().unwrap();
    let octets = match end.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let words = octets
        .chunks(4)
        .map(|word| format!("{:08X}", u32::from_ne_bytes(word.try_into().unwrap())));
    format!("{}:{:04X}", words.collect::<String>(), end.port())
}

fn ends() -> Ends {
    Ends::new(
        "127.0.0.1:50000".parse().unwrap(),
        "127.0.0.1:8080".parse().unwrap(),
    )
}

fn owner_in(tables: &[&str]) -> Option<u32> {
    let mut search = Search::new(ends());
    for table in tables {
        search.read(table.as_bytes(), far()).unwrap();
    }
    search.owner()
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(600)
}

const HEADER: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout \
                      inode                                                     \n";

#[test]
#[cfg(target_endian = "little")]
fn a_table_as_linux_prints_it_is_read() {
    // Copied from a machine: a listener, the server's end, the client's end, one in TIME_WAIT.
    let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode                                                     
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 3090 1 000000005b1888a1 100 0 0 10 0                      
   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 3091 1 000000005b1888a2 20 4 30 10 -1                     
   2: 0100007F:C350 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1001        0 3092 1 000000005b1888a3 20 4 30 10 -1                     
   3: 0100007F:B46A 0100007F:AE03 06 00000000:00000000 03:00000865 00000000     0        0 0 3 0000000016f38e13                                      
";
    assert_eq!(owner_in(&[table]), Some(1001), "the peer's row, not ours");
}

#[test]
#[cfg(target_endian = "little")]
fn an_ipv6_socket_that_talks_ipv4_is_in_the_other_table() {
    let table = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0000000000000000FFFF00000100007F:C350 0000000000000000FFFF00000100007F:1F90 01 00000000:00000000 00:00000000 00000000  1001        0 77 1 0
";
    assert_eq!(owner_in(&[HEADER, table]), Some(1001));
    let table = "   0: 00000000000000000000000001000000:C350 00000000000000000000000001000000:1F90 01 0:0 0:0 0  7 0 77 1 0\n";
    let mut search = Search::new(Ends::new(
        "[::1]:50000".parse().unwrap(),
        "[::1]:8080".parse().unwrap(),
    ));
    search.read(table.as_bytes(), far()).unwrap();
    assert_eq!(search.owner(), Some(7));
}

#[test]
fn only_an_established_socket_with_an_owner_counts() {
    assert_eq!(owner_in(&[HEADER, &row("01", "1001", "5")]), Some(1001));
    assert_eq!(
        owner_in(&[&row("01", "0", "0")]),
        None,
        "an orphan shows uid 0, as root does"
    );
    for state in [
        "02", "03", "04", "05", "06", "07", "08", "09", "0A", "0B", "0C", "00",
    ] {
        assert_eq!(owner_in(&[&row(state, "0", "5")]), None, "state {state}");
    }
    assert_eq!(owner_in(&[]), None);
    assert_eq!(owner_in(&[HEADER]), None);
}

#[test]
fn a_user_unknown_to_this_namespace_is_no_owner() {
    assert_eq!(owner_in(&[&row("01", "65534", "5")]), None);
}

#[test]
fn two_matching_sockets_are_ambiguous_and_a_repeated_row_is_one() {
    let (one, other) = (row("01", "1001", "5"), row("01", "1001", "6"));
    assert_eq!(owner_in(&[&one, &other]), None, "in two tables");
    assert_eq!(owner_in(&[&format!("{one}{other}{one}")]), None);
    assert_eq!(owner_in(&[&format!("{one}{one}")]), Some(1001));
    assert_eq!(
        owner_in(&[&format!("{one}{}", row("01", "7", "5"))]),
        None,
        "of two users"
    );
}

#[test]
fn each_end_must_fit_exactly() {
    let fits = row("01", "1001", "5");
    for (from, to) in [
        ("127.0.0.1:50000", "127.0.0.1:50001"),
        ("127.0.0.1:50000", "127.0.0.2:50000"),
        ("127.0.0.1:8080", "127.0.0.1:8081"),
        ("127.0.0.1:8080", "127.0.0.3:8080"),
    ] {
        assert_eq!(owner_in(&[&fits.replace(&end(from), &end(to))]), None, "{to}");
    }
    let swapped = fits.replace(&end("127.0.0.1:50000"), "x");
    let swapped = swapped.replace(&end("127.0.0.1:8080"), &end("127.0.0.1:50000"));
    let swapped = swapped.replace("x", &end("127.0.0.1:8080"));
    assert_eq!(owner_in(&[&swapped]), None, "that is our own end");
}

#[test]
fn a_malformed_row_is_no_owner_and_no_panic() {
    let fits = row("01", "1001", "5");
    // A row that is cut at any byte is either not a row or still complete.
    for len in 0..fits.len() {
        let owner = owner_in(&[&fits[..len]]);
        assert!(owner.is_none() || fits[..len].contains(" 5"), "{len}");
    }
    // A row with any one byte wrong never names another user.
    for at in 0..fits.len() {
        for byte in [0, b' ', b':', b'-', b'+', b'\n', b'G', 0xff] {
            let mut bytes = fits.clone().into_bytes();
            bytes[at] = byte;
            let mut search = Search::new(ends());
            search.read(&bytes[..], far()).unwrap();
            let owner = search.owner();
            // A blank or an end of line inside the user's number makes two fields of it.
            assert!(
                matches!(owner, None | Some(1001 | 0 | 1 | 10 | 100 | 11 | 101)),
                "{at} {byte}"
            );
        }
    }
    for bad in [
        row("01", "-1", "5"),
        row("01", "+1001", "5"),
        row("01", "4294967296", "5"),
        row("01", "1001", "99999999999999999999999"),
        row("+1", "1001", "5"),
        row("1FFFFFFFF", "1001", "5"),
        row("", "1001", "5"),
        fits.replace(&end("127.0.0.1:8080"), "0100007F1F90"),
        fits.replace(&end("127.0.0.1:8080"), "0100007F:"),
        fits.replace(&end("127.0.0.1:8080"), ":1F90"),
        fits.replace(&end("127.0.0.1:8080"), "0100007F:11F90"),
        fits.replace(&end("127.0.0.1:8080"), "0100007f00:1F90"),
        fits.replace(&end("127.0.0.1:8080"), "é000007F:1F90"),
    ] {
        assert_eq!(owner_in(&[&bad]), None, "{bad}");
    }
}

#[test]
fn an_endless_table_is_given_up() {
    let endless = vec![b'x'; 4096];
    let mut search = Search::new(ends());
    let error = search.read(&endless[..], far()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let past = Instant::now() - Duration::from_millis(1);
    let error = search.read(HEADER.as_bytes(), past).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    search.max_len = 10_000;
    let zeros = BufReader::new(io::repeat(b'\n'));
    let error = search.read(zeros, far()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn our_own_client_is_found_in_either_table() {
    use tokio::net::{TcpListener, TcpSocket};
    let own = crate::net::own_uid();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = TcpSocket::new_v4().unwrap().connect(address).await.unwrap();
    let (server, peer) = listener.accept().await.unwrap();
    assert_eq!(owner(peer, server.local_addr().unwrap()).await, own);
    // Without a peer there is no owner, even if TIME_WAIT leaves rows.
    drop(client);
    assert_eq!(owner(peer, server.local_addr().unwrap()).await, None);
}
