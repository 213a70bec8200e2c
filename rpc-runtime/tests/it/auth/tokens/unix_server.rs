//! Who listens at a Unix socket: a client that sends tokens connects to its own user alone, or to one that it names.

use std::{
    env, fs,
    io::{BufRead, Read},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::UnixListener as StdListener,
    },
    path::PathBuf,
};

use rpc_runtime::{Client, Code, Executed, client::ClientBuilder};
use test_support::{lab::*, unix, within};
use tokio::{io::AsyncReadExt, net::UnixListener};

use super::{ADA, fixed, serve};
use crate::another_user::AnotherUser;

/// The user of this process, as the files that it makes have it.
fn own_uid() -> u32 {
    let path = env::temp_dir().join(format!("rpc-{}-own-uid", std::process::id()));
    fs::write(&path, "").unwrap();
    let uid = fs::metadata(&path).unwrap().uid();
    fs::remove_file(&path).unwrap();
    uid
}

#[tokio::test(crate = "test_support::gate")]
async fn a_token_goes_to_a_server_of_our_own_user_or_of_one_that_is_named() {
    let (lab, server) = serve(&unix("tokens-own-user"), fixed(), |server| server).await;
    for uids in [&[][..], &[own_uid()], &[own_uid() + 1, own_uid()]] {
        let builder: ClientBuilder = Client::builder(&server.address).token(ADA);
        let builder = uids
            .iter()
            .fold(builder, |builder, uid| builder.unix_server_uid(*uid));
        let client = within(builder.connect()).await.unwrap();
        echo(&client, "").await.unwrap();
    }
    assert_eq!(lab.log(), vec!["ada calls echo"; 3]);
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn nothing_goes_to_a_server_of_a_user_that_is_not_named() {
    let address = unix("tokens-not-named");
    let path = address.strip_prefix("unix:").unwrap();
    let listener = UnixListener::bind(path).unwrap();
    let read = tokio::spawn(async move {
        let mut heard = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_to_end(&mut heard).await.unwrap();
        }
        heard
    });
    let other = own_uid() + 1;
    // Also without a token.
    for token in [Some(ADA), None] {
        let builder: ClientBuilder = Client::builder(&address).unix_server_uid(other);
        let builder = match token {
            Some(token) => builder.token(token),
            None => builder,
        };
        let client: Client = builder.connect_lazy();
        let error = echo(&client, "").await.unwrap_err();
        assert_eq!(
            (error.code(), error.executed()),
            (Code::Unauthenticated, Executed::No)
        );
        let expected = format!(
            "cannot connect: the user with uid {} listens at the socket, and not uid {other}: if that is the right server, name \
             its user by ClientBuilder::unix_server_uid",
            own_uid()
        );
        assert_eq!(error.message(), expected);
        within(client.close()).await.unwrap();
    }
    assert!(within(read).await.unwrap().is_empty());
    fs::remove_file(path).unwrap();
}

#[tokio::test(crate = "test_support::gate")]
async fn a_token_does_not_go_to_a_server_of_another_user() {
    let folder = env::temp_dir().join(format!("rpc-{}-other-server", std::process::id()));
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let path = folder.join("socket");
    let variables = [(SOCKET, path.display().to_string())];
    let mut other = match AnotherUser::run(TEST, "server", &variables) {
        Ok(other) => other,
        Err(error) => {
            eprintln!("skipped: only root can start the process of another user: {error}");
            fs::remove_dir(folder).unwrap();
            return;
        }
    };
    let (_to, from) = other.talk();
    let mut lines = from.lines().map_while(Result::ok).filter_map(|line| {
        let said = line.strip_prefix(MARK)?;
        Some(said.trim().to_owned())
    });
    let mut next = move || lines.next().expect("the other process has ended");
    assert_eq!(next(), "listening");

    let address = format!("unix:{}", path.display());
    let try_with =
        async |builder: ClientBuilder| within(builder.fail_fast(true).connect()).await.unwrap_err();
    // Each says what the server has read when the client was gone.
    let error = try_with(Client::builder(&address).token(ADA)).await;
    assert_eq!(next(), "0 bytes, with token: false");
    assert_eq!(error.code(), Code::Unauthenticated);
    let who = format!("the user with uid {} listens at the socket", AnotherUser::UID);
    assert!(error.message().contains(&who), "{error}");
    // Of a source, each call has the token; the connection tells its server apart all the same.
    let source = async || Ok(rpc_runtime::auth::Token::new(ADA));
    let error = try_with(Client::builder(&address).token_source(source)).await;
    assert_eq!(next(), "0 bytes, with token: false");
    assert_eq!(error.code(), Code::Unauthenticated);
    // A client without a token, and one that names the user, speak.
    let error = try_with(Client::builder(&address)).await;
    assert!(next().ends_with("with token: false"));
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    let named = Client::builder(&address)
        .token(ADA)
        .unix_server_uid(AnotherUser::UID);
    let error = try_with(named).await;
    assert!(next().ends_with("with token: true"));
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    drop(other);
    fs::remove_dir_all(folder).unwrap();
}

/// Not a test of its own: the server of another user. It says of each client what it has read.
#[test]
fn listens_as_another_user() {
    let Ok(path) = env::var(SOCKET).map(PathBuf::from) else {
        return;
    };
    let listener = StdListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    println!("\n{MARK} listening");
    for stream in listener.incoming() {
        let mut heard = vec![0; 64 * 1024];
        // The HELLO comes in one write. The client is not answered.
        let len = stream.unwrap().read(&mut heard).unwrap();
        let has_token = heard.windows(ADA.len()).any(|part| part == ADA.as_bytes());
        println!("\n{MARK} {len} bytes, with token: {has_token}");
    }
}

const TEST: &str = "auth::tokens::unix_server::listens_as_another_user";
const SOCKET: &str = "RPC_TEST_OTHER_SERVER";
const MARK: &str = "server:";
