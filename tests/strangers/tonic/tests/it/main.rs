//! tonic's client at our server, our client at tonic's server, and a service that moves from one to the other.

mod our_client;
mod their_client;
mod walk;
