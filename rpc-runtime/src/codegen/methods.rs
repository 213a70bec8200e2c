//! Methods that all generated types of one kind share: clients, calls, servers.
//!
//! They stand here once, as macros, and not in every generated file. A stub must not have the name of a method of a call:
//! rpc-codegen lists those names, and a test of its own compares that list with this file.

/// Gives a generated client, a struct around `client`, the methods that every client has. `list` has its procedures.
#[doc(hidden)]
#[macro_export]
macro_rules! __client_methods {
    ($client:ident, $list:ident) => {
        impl $client {
            /// Connects to a server, for example `tcp://127.0.0.1:5005` or `unix:/run/app.sock`.
            ///
            /// # Errors
            ///
            /// Fails at once if no server listens there or if the peer does not speak the protocol.
            ///
            /// # Cancel safety
            ///
            /// Dropping the future closes the connection.
            pub async fn connect(
                address: impl ::core::convert::AsRef<str>,
            ) -> ::core::result::Result<Self, $crate::Error> {
                $crate::Client::connect(address).await.map(Self::new)
            }

            /// Creates a client that connects at its first call, and tries until the deadline of each call.
            pub fn connect_lazy(address: impl ::core::convert::AsRef<str>) -> Self {
                Self::new($crate::Client::connect_lazy(address))
            }

            /// Returns a builder: more addresses, limits, services that the server may call.
            pub fn builder(address: impl ::core::convert::AsRef<str>) -> $crate::client::ClientBuilder<Self> {
                $crate::client::ClientBuilder::new(address)
            }

            /// Creates a client on a channel that other clients may share.
            pub fn new(client: $crate::Client) -> Self {
                Self {
                    client: client.with_procedures(&$list),
                }
            }

            /// Returns the channel; clients of other services of the same server can share it.
            pub fn client(&self) -> &$crate::Client {
                &self.client
            }

            /// Asks the server to terminate, and waits until it is drained.
            ///
            /// # Errors
            ///
            /// PERMISSION_DENIED if the server lets other peers terminate it, UNIMPLEMENTED if it lets none.
            ///
            /// # Cancel safety
            ///
            /// Dropping the future stops the wait; a drain that has begun goes on.
            pub async fn terminate(&self) -> ::core::result::Result<$crate::DrainReport, $crate::Error> {
                self.client.terminate().await
            }

            /// Pings the server, and returns the round-trip time.
            ///
            /// # Errors
            ///
            /// UNAVAILABLE if the connection is lost, DEADLINE_EXCEEDED if no answer comes in time.
            ///
            /// # Cancel safety
            ///
            /// Dropping the future has no other effect.
            pub async fn ping(&self) -> ::core::result::Result<::core::time::Duration, $crate::Error> {
                self.client.ping().await
            }

            /// Waits until the operating system has taken every frame of earlier calls.
            ///
            /// # Errors
            ///
            /// UNAVAILABLE, once, if earlier one-way calls may be lost.
            ///
            /// # Cancel safety
            ///
            /// Dropping the future has no other effect.
            pub async fn flush(&self) -> ::core::result::Result<(), $crate::Error> {
                self.client.flush().await
            }

            /// Waits until the server has read every earlier one-way call, and returns their account so far.
            ///
            /// # Errors
            ///
            /// UNAVAILABLE, once, if earlier one-way calls may be lost.
            ///
            /// # Cancel safety
            ///
            /// Dropping the future has no other effect.
            pub async fn barrier(&self) -> ::core::result::Result<$crate::Account, $crate::Error> {
                self.client.barrier().await
            }

            /// Waits until every earlier one-way call has ended on the server, and returns their account.
            ///
            /// It waits at most as long as the client's timeout. Default: 30 s.
            ///
            /// # Errors
            ///
            /// DEADLINE_EXCEEDED if some have not ended in time; UNAVAILABLE, once, if earlier one-way calls may be lost.
            ///
            /// # Cancel safety
            ///
            /// Dropping the future has no other effect.
            pub async fn settled(&self) -> ::core::result::Result<$crate::Account, $crate::Error> {
                self.client.settled().await
            }

            /// Closes the channel for all clones: writes what was sent, and lets open calls finish.
            ///
            /// # Errors
            ///
            /// DEADLINE_EXCEEDED if open calls had to be cut, UNAVAILABLE if not all could be written.
            ///
            /// # Cancel safety
            ///
            /// Dropping the future stops the wait; the channel closes all the same.
            pub async fn close(&self) -> ::core::result::Result<(), $crate::Error> {
                self.client.close().await
            }
        }

        impl ::core::convert::From<$crate::Client> for $client {
            fn from(client: $crate::Client) -> Self {
                Self::new(client)
            }
        }
    };
}

/// Gives the type behind `send()`, a struct around `call`, its options and the built-in procedure.
#[doc(hidden)]
#[macro_export]
macro_rules! __send_methods {
    ($send:ident) => {
        $crate::__call_options!($send);

        impl $send<'_> {
            /// Asks the server to terminate, and does not wait for the drain.
            pub async fn terminate(self) -> ::core::result::Result<(), $crate::Error> {
                self.call.send_terminate().await
            }
        }
    };
}

/// Gives the type behind `send_recv()`, a struct around `call`, its options and the built-in procedure.
#[doc(hidden)]
#[macro_export]
macro_rules! __send_recv_methods {
    ($send_recv:ident) => {
        $crate::__call_options!($send_recv);

        impl $send_recv<'_> {
            /// Fails the call when its streams carry no message for this long, in either direction.
            ///
            /// The time in which messages wait here to be read does not count. A call without streams ignores it.
            pub fn idle_timeout(self, timeout: ::core::time::Duration) -> Self {
                Self {
                    call: self.call.idle_timeout(timeout),
                }
            }

            /// Says that the call may run twice without harm, so that a client of several servers may try it on another one.
            pub fn idempotent(self) -> Self {
                Self {
                    call: self.call.idempotent(),
                }
            }

            /// Limits each try of a call that may run twice on one of several servers. Default: unlimited.
            pub fn attempt_timeout(self, timeout: ::core::time::Duration) -> Self {
                Self {
                    call: self.call.attempt_timeout(timeout),
                }
            }

            /// Asks the server to terminate, and waits until it is drained.
            pub async fn terminate(self) -> ::core::result::Result<$crate::DrainReport, $crate::Error> {
                self.call.terminate().await
            }
        }
    };
}

/// Gives a struct around `call` the options that one-way calls and calls with a reply share.
#[doc(hidden)]
#[macro_export]
macro_rules! __call_options {
    ($stubs:ident) => {
        impl $stubs<'_> {
            /// Limits the whole call; `None` removes the limit. Default: the client's timeout, usually 30 s.
            pub fn timeout(
                self,
                timeout: impl ::core::convert::Into<::core::option::Option<::core::time::Duration>>,
            ) -> Self {
                Self {
                    call: self.call.timeout(timeout),
                }
            }

            /// Fails the call with UNAVAILABLE if its server is away, in place of waiting for it.
            pub fn fail_fast(self) -> Self {
                Self {
                    call: self.call.fail_fast(),
                }
            }

            /// Waits until the deadline for a server that is away, even if the client fails fast.
            pub fn wait_for_ready(self) -> Self {
                Self {
                    call: self.call.wait_for_ready(),
                }
            }

            /// Gives the call a key, by which a client of several servers may pick one.
            pub fn hash_key(self, key: impl ::core::convert::AsRef<[u8]>) -> Self {
                Self {
                    call: self.call.hash_key(key),
                }
            }

            /// Adds an entry of metadata, which the handler can read.
            pub fn metadata(
                self,
                key: impl ::core::convert::Into<::std::string::String>,
                value: impl ::core::convert::Into<$crate::Bytes>,
            ) -> Self {
                Self {
                    call: self.call.metadata(key, value),
                }
            }

            /// Lets the call belong to a trace that has begun elsewhere.
            pub fn trace_context(self, trace: $crate::trace::TraceContext) -> Self {
                Self {
                    call: self.call.trace_context(trace),
                }
            }

            /// Ends the call no later than the call of `cx`, even in a task that the handler spawned.
            pub fn within(self, cx: &$crate::Context) -> Self {
                Self {
                    call: self.call.within(cx),
                }
            }

            /// Inherits nothing from the handler that makes the call: for a call that several callers share.
            pub fn detached(self) -> Self {
                Self {
                    call: self.call.detached(),
                }
            }

            /// Sends the call before or after others that wait. Default: the procedure's priority.
            pub fn priority(self, priority: $crate::Priority) -> Self {
                Self {
                    call: self.call.priority(priority),
                }
            }
        }
    };
}

/// Gives a generated server, a struct around an `Arc` named `service`, what every server has.
#[doc(hidden)]
#[macro_export]
macro_rules! __server_methods {
    ($server:ident, $service:ident, $implementor:ident) => {
        impl<$implementor: $service> $server<$implementor> {
            /// Serves `service`, which may be an `Arc` that the program shares.
            pub fn new(service: $implementor) -> Self {
                Self {
                    service: ::std::sync::Arc::new(service),
                }
            }
        }

        impl<$implementor> ::core::clone::Clone for $server<$implementor> {
            fn clone(&self) -> Self {
                Self {
                    service: ::std::sync::Arc::clone(&self.service),
                }
            }
        }

        impl<$implementor> ::core::fmt::Debug for $server<$implementor> {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                // A user's type need not have a `Debug`, and may hold secrets.
                f.debug_struct(::core::stringify!($server))
                    .finish_non_exhaustive()
            }
        }
    };
}
