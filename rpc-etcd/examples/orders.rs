//! Servers of one service, and a program that follows them in etcd.
//!
//! In one shell: `cargo run -p rpc-etcd --example orders -- follow grpc://127.0.0.1:2379`
//!
//! In others: `cargo run -p rpc-etcd --example orders -- serve grpc://127.0.0.1:2379`

use std::{env, error::Error, time::Duration};

use rpc_etcd::Etcd;
use rpc_runtime::{Server, discover::Following};
use rpc_services::Health;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<_> = env::args().skip(1).collect();
    let (role, endpoint, user) = match &args[..] {
        [role, endpoint] => (role, endpoint, None),
        [role, endpoint, name, password] => (role, endpoint, Some((name, password))),
        _ => return Err("usage: orders serve|follow grpc://HOST:PORT [USER PASSWORD]".into()),
    };
    let mut etcd = Etcd::builder().endpoint(endpoint);
    if let Some((name, password)) = user {
        etcd = etcd.user(name, password.as_str());
    }
    let etcd = etcd.build()?;
    match role.as_str() {
        "serve" => serve(&etcd).await,
        "follow" => follow(&etcd).await,
        _ => Err(format!("{role}: neither serve nor follow").into()),
    }
}

/// Serves until Ctrl-C or SIGTERM.
async fn serve(etcd: &Etcd) -> Result<(), Box<dyn Error>> {
    let registration = etcd
        .registration("orders")
        .zone("here")
        .ttl(Duration::from_secs(3));
    let server = Server::builder()
        .service(Health::new())
        .listener("tcp://127.0.0.1:0")
        .register(registration)
        .bind()
        .await?;
    println!("serving at {}", server.addresses()[0]);
    println!("{}", server.serve().await?);
    Ok(())
}

/// Prints each list of servers.
async fn follow(etcd: &Etcd) -> Result<(), Box<dyn Error>> {
    let mut servers = Following::new(etcd.resolver("orders"));
    loop {
        match servers.next().await {
            Ok(set) => {
                let mut addresses: Vec<_> = set.iter().map(|server| server.address()).collect();
                addresses.sort_unstable();
                println!("servers: {}", addresses.join(" "));
            }
            Err(error) => eprintln!("the list stays: {error}"),
        }
    }
}
