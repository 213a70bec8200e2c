//! Sockets that a process is given in the way of systemd.

use std::{net::TcpListener, os::fd::OwnedFd, os::unix::net::UnixListener};

use command_fds::FdMapping;
use rpc_runtime::Client;
use test_support::{lab::*, within};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
};

use crate::child::{line, signal, start};

/// Starts a process that serves at `addresses`, and gives it these sockets, with their names.
async fn given(sockets: Vec<(&str, OwnedFd)>, addresses: &[&str]) -> (Child, Vec<String>) {
    let names: Vec<_> = sockets.iter().map(|(name, _)| *name).collect();
    let count = sockets.len().to_string();
    let mappings = sockets
        .into_iter()
        .zip(3..)
        .map(|((_, parent_fd), child_fd)| FdMapping { parent_fd, child_fd });
    let env = [("LISTEN_FDS", &*count), ("LISTEN_FDNAMES", &names.join(":"))];
    let mut process = start("serves", addresses, mappings.collect(), &env);
    let mut stdout = BufReader::new(process.stdout.take().unwrap()).lines();
    let listening = line(&mut stdout, "listening ").await;
    (process, listening.split(' ').map(str::to_owned).collect())
}

async fn echoes(address: &str) {
    let client = within(Client::connect(address)).await.unwrap();
    assert_eq!(text(&client, &ECHO, "hello").await.unwrap(), "hello");
}

async fn stop(mut process: Child) {
    signal(process.id().unwrap(), "-TERM");
    assert_eq!(within(process.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn sockets_are_served_by_their_names_and_stay_open_between_two_processes() {
    let path = std::env::temp_dir().join(format!("rpc-given-{}", std::process::id()));
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let second = TcpListener::bind("127.0.0.1:0").unwrap();
    let unix = UnixListener::bind(&path).unwrap();
    let place = |socket: &TcpListener| format!("tcp://{}", socket.local_addr().unwrap());
    let expected = [place(&tcp), place(&second), format!("unix:{}", path.display())];
    for _ in 0..2 {
        let sockets = vec![
            ("kv", OwnedFd::from(tcp.try_clone().unwrap())),
            ("local", unix.try_clone().unwrap().into()),
            ("kv", second.try_clone().unwrap().into()),
        ];
        // It connects before the process is there, as after a restart.
        let early = Client::connect_lazy(&expected[0]);
        let early = tokio::spawn(async move { text(&early, &ECHO, "early").await });
        let (process, listening) = given(sockets, &["fd:kv", "fd:local"]).await;
        assert_eq!(listening, expected);
        assert_eq!(within(early).await.unwrap().unwrap(), "early");
        for address in &listening {
            echoes(address).await;
        }
        stop(process).await;
        assert!(path.exists(), "the file belongs to who keeps the socket");
    }
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn a_name_that_was_not_given_is_an_error_with_those_that_were() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let env = [("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "admin")];
    let mapping = FdMapping {
        parent_fd: tcp.into(),
        child_fd: 3,
    };
    let mut process = start("serves", &["fd:kv"], vec![mapping], &env);
    let mut stdout = BufReader::new(process.stdout.take().unwrap()).lines();
    let error = line(&mut stdout, "error ").await;
    assert!(
        error.contains("no socket with the name \"kv\"; it has admin"),
        "{error}"
    );
    assert_eq!(within(process.wait()).await.unwrap().code(), Some(5));
}
