//! The table: each caller at each door, with what is expected and why.

/// What the caller asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    Terminate,
    /// An ordinary call.
    Call,
}

/// Where the server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// TCP on loopback.
    Tcp,
    /// TCP on every address of the machine. The caller comes over loopback.
    World,
    /// A Unix socket with the mode that the server gives it.
    Unix,
    /// A Unix socket that each user of the machine may write to.
    OpenUnix,
    /// TLS on loopback. The server asks for no certificate.
    Tls,
    /// TLS on loopback. The server asks for a certificate of its CA.
    Mtls,
    /// A `mem:` name.
    Mem,
}

/// The policy of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    Default,
    Loopback,
    /// A function that knows a token; at [`Door::Mtls`] one that knows a SPIFFE id.
    Custom,
    Disabled,
    /// The default, and each call needs a bearer token, which the caller says once for its connection.
    ConnectionTokens,
    /// The same, and the caller says it with each call.
    CallTokens,
    /// A policy that lets operators in, for terminate, too: the server's user, and one SPIFFE id.
    Roles,
    /// The same, and the bearer token of each call says who is one.
    TokenRoles,
}

/// Who calls, and what is wrong with the proof, token or certificate that the caller shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    Good,
    /// As long as the right one, and another.
    Bad,
    /// Shows nothing.
    Absent,
    /// The last byte is another.
    OneOff,
    /// The last byte is missing.
    Prefix,
    /// One byte too many.
    Longer,
    /// Capitals for small letters, and the other way round.
    OtherCase,
    /// A certificate that has expired; a proof that was made for an earlier connection.
    Expired,
    /// Another user of this machine, who shows all that a good caller shows and that this user can have.
    OtherUser,
}

/// The way from the caller to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Direct,
    /// Passes bytes on, over the same transport.
    Tunnel,
    /// Ends the caller's TLS. It talks to a TLS server by TLS, with a certificate of its own.
    TlsProxy,
    /// Listens on a Unix socket for a server on TCP or TLS, and on TCP for a server on a Unix socket.
    Converter,
}

/// What a caller shows at a door to be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Credential {
    Nothing,
    /// Of the server's key.
    Proof,
    Token,
    Certificate,
    ConnectionToken,
    CallToken,
}

impl Credential {
    pub(super) fn of(asks: Asks, door: Door, rule: Rule) -> Self {
        match (asks, door, rule) {
            (_, _, Rule::TokenRoles) => Self::CallToken,
            (_, Door::Tcp | Door::Tls, Rule::Roles) => Self::Nothing,
            (Asks::Call, _, Rule::ConnectionTokens) => Self::ConnectionToken,
            (Asks::Call, _, Rule::CallTokens) => Self::CallToken,
            (_, Door::Mtls, _) => Self::Certificate,
            (Asks::Call, ..) => Self::Nothing,
            (_, _, Rule::Custom) => Self::Token,
            (_, Door::Tcp | Door::Tls, _) => Self::Proof,
            _ => Self::Nothing,
        }
    }
}

/// What is expected, and why.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    pub(super) expected: Expected,
    pub(super) because: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    Allowed,
    /// Refused with this code, not executed; the text contains this.
    Refused(&'static str, &'static str),
    /// No connection; the text contains this.
    Unconnected(&'static str),
    /// There is no such caller.
    Moot,
}

const fn allowed(because: &'static str) -> Cell {
    let expected = Expected::Allowed;
    Cell { expected, because }
}

const fn denied(text: &'static str, because: &'static str) -> Cell {
    let expected = Expected::Refused("PERMISSION_DENIED", text);
    Cell { expected, because }
}

const fn unauthenticated(text: &'static str, because: &'static str) -> Cell {
    let expected = Expected::Refused("UNAUTHENTICATED", text);
    Cell { expected, because }
}

const fn unconnected(text: &'static str, because: &'static str) -> Cell {
    let expected = Expected::Unconnected(text);
    Cell { expected, because }
}

const KEY: Cell = allowed("its proof shows that it can read the server's key");
const UID: Cell =
    allowed("the kernel says that the process at the other end of the socket runs as the server's user");
const OWN: Cell = allowed("it is in the server's process");
const ALL: Cell = allowed("this policy trusts each process of the machine, and so what passes through them");
const TOK: Cell = allowed("the policy knows the token, and asks for nothing else");
const CRT: Cell = allowed("the policy knows the name in the certificate, and asks for nothing else");
const OPN: Cell = allowed("the server has no policy for calls");

const BEA: Cell = allowed("the server knows the token, and it came where nobody else can read it");

const ROL: Cell = allowed("the policy knows an operator");
const NOB: Cell = unauthenticated(
    "is not known: send credentials that this server accepts",
    "neither the transport nor a token says who calls",
);

const NON: Cell = denied(
    "and this request has no proof",
    "it has made no proof of the server's key",
);
const BAD: Cell = denied(
    "its proof was not made with the key of this server for this connection",
    "another key or another connection gives another proof",
);
const FAR: Cell = denied(
    DENIED,
    "other machines reach this listener, so it gives no challenge to prove anything with",
);
const USR: Cell = denied(DENIED, "the kernel says that another user has connected");
const TKN: Cell = denied(DENIED, "it does not show the token");
const WHO: Cell = denied(
    DENIED,
    "the name in the certificate of the one that has connected is another",
);

const LOG: Cell = unauthenticated("this call needs a token", "it shows no token");
const UNK: Cell = unauthenticated("the token is not valid", "the server does not know the token");
const PLN: Cell = unauthenticated(
    "the token came over plain TCP",
    "others can read plain TCP, so the token is no secret",
);

const HID: Cell = Cell {
    expected: Expected::Refused(
        "UNIMPLEMENTED",
        "this server has no procedure rpc.control.v1.Control/rpc_terminate: is it an older build, or was the service not \
         added to it? It serves lab.v1.Lab",
    ),
    because: "a disabled terminate looks like one that does not exist",
};

const ANY: Cell = unconnected(
    "certificate is signed by no CA that it trusts",
    "a CA that the server does not trust may write any name",
);
const SHY: Cell = unconnected(
    "it requires a certificate, and we have none",
    "the server takes only clients with a certificate",
);
const OLD: Cell = unconnected(
    "our certificate has expired",
    "a certificate that has expired says nothing",
);
const DIR: Cell = unconnected(
    "Permission denied",
    "the OS lets no other user write to the socket",
);

const ___: Cell = Cell {
    expected: Expected::Moot,
    because: "nothing is shown there, or nobody can come that way",
};

const DENIED: &str = "this peer may not terminate the server";

/// The callers of [`DIRECT`], in the order of its columns.
pub(super) const CALLERS: [Caller; 9] = [
    Caller::Good,
    Caller::Bad,
    Caller::Absent,
    Caller::OneOff,
    Caller::Prefix,
    Caller::Longer,
    Caller::OtherCase,
    Caller::Expired,
    Caller::OtherUser,
];

/// A row of [`DIRECT`].
pub(super) type Direct = (Asks, Door, Rule, [Cell; 9]);

/// Callers that connect to the server itself.
#[rustfmt::skip]
pub(super) const DIRECT: &[Direct] = &[
    //                                                  good bad absent off prefix long case expired other user
    // A server makes a challenge, and a client a proof, only for the default.
    (Asks::Terminate, Door::Tcp,      Rule::Default,  [KEY, BAD, NON, BAD, BAD, BAD, BAD, BAD, NON]),
    (Asks::Terminate, Door::Tcp,      Rule::Loopback, [ALL, ALL, ALL, ___, ___, ___, ___, ___, ALL]),
    (Asks::Terminate, Door::Tcp,      Rule::Custom,   [TOK, TKN, TKN, TKN, TKN, TKN, TKN, ___, TOK]),
    (Asks::Terminate, Door::Tcp,      Rule::Disabled, [HID, HID, HID, ___, ___, ___, ___, ___, HID]),
    (Asks::Terminate, Door::World,    Rule::Default,  [FAR, ___, ___, ___, ___, ___, ___, ___, FAR]),
    (Asks::Terminate, Door::World,    Rule::Loopback, [ALL, ___, ___, ___, ___, ___, ___, ___, ALL]),
    (Asks::Terminate, Door::World,    Rule::Custom,   [TOK, TKN, TKN, TKN, TKN, TKN, TKN, ___, TOK]),
    (Asks::Terminate, Door::World,    Rule::Disabled, [HID, ___, ___, ___, ___, ___, ___, ___, HID]),
    (Asks::Terminate, Door::Unix,     Rule::Default,  [UID, ___, ___, ___, ___, ___, ___, ___, DIR]),
    (Asks::Terminate, Door::Unix,     Rule::Loopback, [UID, ___, ___, ___, ___, ___, ___, ___, DIR]),
    (Asks::Terminate, Door::Unix,     Rule::Custom,   [TOK, TKN, TKN, TKN, TKN, TKN, TKN, ___, DIR]),
    (Asks::Terminate, Door::Unix,     Rule::Disabled, [HID, ___, ___, ___, ___, ___, ___, ___, DIR]),
    (Asks::Terminate, Door::OpenUnix, Rule::Default,  [UID, ___, ___, ___, ___, ___, ___, ___, USR]),
    (Asks::Terminate, Door::OpenUnix, Rule::Loopback, [UID, ___, ___, ___, ___, ___, ___, ___, USR]),
    (Asks::Terminate, Door::OpenUnix, Rule::Custom,   [TOK, TKN, TKN, TKN, TKN, TKN, TKN, ___, TOK]),
    (Asks::Terminate, Door::OpenUnix, Rule::Disabled, [HID, ___, ___, ___, ___, ___, ___, ___, HID]),
    (Asks::Terminate, Door::Tls,      Rule::Default,  [KEY, BAD, NON, BAD, BAD, BAD, BAD, BAD, NON]),
    (Asks::Terminate, Door::Tls,      Rule::Loopback, [ALL, ALL, ALL, ___, ___, ___, ___, ___, ALL]),
    (Asks::Terminate, Door::Tls,      Rule::Custom,   [TOK, TKN, TKN, TKN, TKN, TKN, TKN, ___, TOK]),
    (Asks::Terminate, Door::Tls,      Rule::Disabled, [HID, HID, HID, ___, ___, ___, ___, ___, HID]),
    // The first two ask for no name: a valid certificate opens the connection, and then the proof decides, or nothing.
    (Asks::Terminate, Door::Mtls,     Rule::Default,  [KEY, ANY, SHY, KEY, KEY, KEY, KEY, OLD, NON]),
    (Asks::Terminate, Door::Mtls,     Rule::Loopback, [ALL, ANY, SHY, ALL, ALL, ALL, ALL, OLD, ALL]),
    (Asks::Terminate, Door::Mtls,     Rule::Custom,   [CRT, ANY, SHY, WHO, WHO, WHO, WHO, OLD, CRT]),
    (Asks::Terminate, Door::Mtls,     Rule::Disabled, [HID, ANY, SHY, HID, HID, HID, HID, OLD, HID]),
    (Asks::Terminate, Door::Mem,      Rule::Default,  [OWN, ___, ___, ___, ___, ___, ___, ___, ___]),
    (Asks::Terminate, Door::Mem,      Rule::Loopback, [OWN, ___, ___, ___, ___, ___, ___, ___, ___]),
    (Asks::Terminate, Door::Mem,      Rule::Custom,   [TOK, TKN, TKN, TKN, TKN, TKN, TKN, ___, ___]),
    (Asks::Terminate, Door::Mem,      Rule::Disabled, [HID, ___, ___, ___, ___, ___, ___, ___, ___]),

    (Asks::Call,      Door::Tcp,      Rule::Default,  [OPN, ___, ___, ___, ___, ___, ___, ___, OPN]),
    (Asks::Call,      Door::World,    Rule::Default,  [OPN, ___, ___, ___, ___, ___, ___, ___, OPN]),
    (Asks::Call,      Door::Unix,     Rule::Default,  [OPN, ___, ___, ___, ___, ___, ___, ___, DIR]),
    (Asks::Call,      Door::OpenUnix, Rule::Default,  [OPN, ___, ___, ___, ___, ___, ___, ___, OPN]),
    (Asks::Call,      Door::Tls,      Rule::Default,  [OPN, ___, ___, ___, ___, ___, ___, ___, OPN]),
    (Asks::Call,      Door::Mtls,     Rule::Default,  [OPN, ANY, SHY, OPN, OPN, OPN, OPN, OLD, OPN]),
    (Asks::Call,      Door::Mem,      Rule::Default,  [OPN, ___, ___, ___, ___, ___, ___, ___, ___]),

    (Asks::Call, Door::Tcp,      Rule::ConnectionTokens, [PLN, PLN, LOG, PLN, PLN, PLN, PLN, ___, PLN]),
    (Asks::Call, Door::Unix,     Rule::ConnectionTokens, [BEA, UNK, LOG, UNK, UNK, UNK, UNK, ___, DIR]),
    (Asks::Call, Door::OpenUnix, Rule::ConnectionTokens, [BEA, UNK, LOG, UNK, UNK, UNK, UNK, ___, BEA]),
    (Asks::Call, Door::Tls,      Rule::ConnectionTokens, [BEA, UNK, LOG, UNK, UNK, UNK, UNK, ___, BEA]),
    (Asks::Call, Door::Mtls,     Rule::ConnectionTokens, [BEA, UNK, LOG, UNK, UNK, UNK, UNK, ___, BEA]),
    (Asks::Call, Door::Mem,      Rule::ConnectionTokens, [BEA, UNK, LOG, UNK, UNK, UNK, UNK, ___, ___]),

    (Asks::Call, Door::Tcp,      Rule::CallTokens,       [PLN, PLN, LOG, PLN, PLN, PLN, PLN, ___, PLN]),
    (Asks::Call, Door::Unix,     Rule::CallTokens,       [BEA, UNK, LOG, UNK, UNK, UNK, UNK, ___, DIR]),
    (Asks::Call, Door::OpenUnix, Rule::CallTokens,       [BEA, UNK, LOG, UNK, UNK, UNK, UNK, ___, BEA]),
    (Asks::Call, Door::Tls,      Rule::CallTokens,       [BEA, UNK, LOG, UNK, UNK, UNK, UNK, ___, BEA]),
    (Asks::Call, Door::Mtls,     Rule::CallTokens,       [BEA, UNK, LOG, UNK, UNK, UNK, UNK, ___, BEA]),
    (Asks::Call, Door::Mem,      Rule::CallTokens,       [BEA, UNK, LOG, UNK, UNK, UNK, UNK, ___, ___]),

    (Asks::Terminate, Door::Tcp,      Rule::Roles,    [NOB, ___, ___, ___, ___, ___, ___, ___, NOB]),
    (Asks::Terminate, Door::Unix,     Rule::Roles,    [ROL, ___, ___, ___, ___, ___, ___, ___, DIR]),
    (Asks::Terminate, Door::OpenUnix, Rule::Roles,    [ROL, ___, ___, ___, ___, ___, ___, ___, NOB]),
    (Asks::Terminate, Door::Tls,      Rule::Roles,    [NOB, ___, ___, ___, ___, ___, ___, ___, NOB]),
    (Asks::Terminate, Door::Mtls,     Rule::Roles,    [ROL, ANY, SHY, NOB, NOB, NOB, NOB, OLD, ROL]),
    (Asks::Terminate, Door::Mem,      Rule::Roles,    [ROL, ___, ___, ___, ___, ___, ___, ___, ___]),
    (Asks::Call,      Door::Tcp,      Rule::Roles,    [NOB, ___, ___, ___, ___, ___, ___, ___, NOB]),
    (Asks::Call,      Door::Unix,     Rule::Roles,    [ROL, ___, ___, ___, ___, ___, ___, ___, DIR]),
    (Asks::Call,      Door::OpenUnix, Rule::Roles,    [ROL, ___, ___, ___, ___, ___, ___, ___, NOB]),
    (Asks::Call,      Door::Tls,      Rule::Roles,    [NOB, ___, ___, ___, ___, ___, ___, ___, NOB]),
    (Asks::Call,      Door::Mtls,     Rule::Roles,    [ROL, ANY, SHY, NOB, NOB, NOB, NOB, OLD, ROL]),
    (Asks::Call,      Door::Mem,      Rule::Roles,    [ROL, ___, ___, ___, ___, ___, ___, ___, ___]),

    (Asks::Terminate, Door::Tcp,      Rule::TokenRoles, [PLN, PLN, LOG, PLN, PLN, PLN, PLN, ___, PLN]),
    (Asks::Terminate, Door::Unix,     Rule::TokenRoles, [ROL, UNK, LOG, UNK, UNK, UNK, UNK, ___, DIR]),
    (Asks::Terminate, Door::OpenUnix, Rule::TokenRoles, [ROL, UNK, LOG, UNK, UNK, UNK, UNK, ___, ROL]),
    (Asks::Terminate, Door::Tls,      Rule::TokenRoles, [ROL, UNK, LOG, UNK, UNK, UNK, UNK, ___, ROL]),
    (Asks::Terminate, Door::Mem,      Rule::TokenRoles, [ROL, UNK, LOG, UNK, UNK, UNK, UNK, ___, ___]),
    (Asks::Call,      Door::Tls,      Rule::TokenRoles, [ROL, UNK, LOG, UNK, UNK, UNK, UNK, ___, ROL]),
];

/// The callers of [`PROXIED`], in the order of its columns for each way.
pub(super) const PROXIED_CALLERS: [Caller; 3] = [Caller::Good, Caller::Absent, Caller::OtherUser];

/// The ways of [`PROXIED`], in the order of its columns.
pub(super) const WAYS: [Way; 3] = [Way::Tunnel, Way::TlsProxy, Way::Converter];

/// A row of [`PROXIED`].
pub(super) type Proxied = (Asks, Door, Rule, [[Cell; 3]; 3]);

/// Callers that come through a proxy, which runs as the server's user on the server's machine.
#[rustfmt::skip]
pub(super) const PROXIED: &[Proxied] = &[
    //                                                 tunnel            TLS proxy         converter
    //                                                 good absent other good absent other good absent other user
    // A client that knows only a Unix socket makes no proof.
    (Asks::Terminate, Door::Tcp,   Rule::Default,  [[KEY, NON, NON], [KEY, NON, NON], [NON, NON, NON]]),
    (Asks::Terminate, Door::Tcp,   Rule::Loopback, [[ALL, ALL, ALL], [ALL, ALL, ALL], [ALL, ALL, ALL]]),
    (Asks::Terminate, Door::Tcp,   Rule::Custom,   [[TOK, TKN, TOK], [TOK, TKN, TOK], [TOK, TKN, TOK]]),
    (Asks::Terminate, Door::Tcp,   Rule::Disabled, [[HID, HID, HID], [HID, HID, HID], [HID, HID, HID]]),
    (Asks::Terminate, Door::World, Rule::Default,  [[FAR, ___, FAR], [FAR, ___, FAR], [FAR, ___, FAR]]),
    // The kernel names the proxy. Who lets others talk to a Unix socket as the server's user lets them terminate the server.
    (Asks::Terminate, Door::Unix,  Rule::Default,  [[UID, ___, UID], [UID, ___, UID], [UID, ___, UID]]),
    (Asks::Terminate, Door::Unix,  Rule::Loopback, [[UID, ___, UID], [UID, ___, UID], [UID, ___, UID]]),
    (Asks::Terminate, Door::Unix,  Rule::Custom,   [[TOK, TKN, TOK], [TOK, TKN, TOK], [TOK, TKN, TOK]]),
    (Asks::Terminate, Door::Unix,  Rule::Disabled, [[HID, ___, HID], [HID, ___, HID], [HID, ___, HID]]),
    (Asks::Terminate, Door::Tls,   Rule::Default,  [[KEY, NON, NON], [KEY, NON, NON], [NON, NON, NON]]),
    (Asks::Terminate, Door::Tls,   Rule::Loopback, [[ALL, ALL, ALL], [ALL, ALL, ALL], [ALL, ALL, ALL]]),
    (Asks::Terminate, Door::Tls,   Rule::Custom,   [[TOK, TKN, TOK], [TOK, TKN, TOK], [TOK, TKN, TOK]]),
    (Asks::Terminate, Door::Tls,   Rule::Disabled, [[HID, HID, HID], [HID, HID, HID], [HID, HID, HID]]),
    // Behind a proxy that ends TLS, the server sees the proxy's certificate, and never the caller's.
    (Asks::Terminate, Door::Mtls,  Rule::Default,  [[KEY, SHY, NON], [KEY, KEY, NON], [NON, NON, NON]]),
    (Asks::Terminate, Door::Mtls,  Rule::Loopback, [[ALL, SHY, ALL], [ALL, ALL, ALL], [ALL, ALL, ALL]]),
    (Asks::Terminate, Door::Mtls,  Rule::Custom,   [[CRT, SHY, CRT], [WHO, WHO, WHO], [WHO, WHO, WHO]]),
    (Asks::Terminate, Door::Mtls,  Rule::Disabled, [[HID, SHY, HID], [HID, HID, HID], [HID, HID, HID]]),

    (Asks::Call,      Door::Tcp,   Rule::Default,  [[OPN, ___, OPN], [OPN, ___, OPN], [OPN, ___, OPN]]),
    (Asks::Call,      Door::Unix,  Rule::Default,  [[OPN, ___, OPN], [OPN, ___, OPN], [OPN, ___, OPN]]),
    (Asks::Call,      Door::Tls,   Rule::Default,  [[OPN, ___, OPN], [OPN, ___, OPN], [OPN, ___, OPN]]),
    (Asks::Call,      Door::Mtls,  Rule::Default,  [[OPN, SHY, OPN], [OPN, OPN, OPN], [OPN, OPN, OPN]]),

    (Asks::Call, Door::Tcp,  Rule::ConnectionTokens, [[PLN, LOG, PLN], [PLN, LOG, PLN], [PLN, LOG, PLN]]),
    (Asks::Call, Door::Unix, Rule::ConnectionTokens, [[BEA, LOG, BEA], [BEA, LOG, BEA], [BEA, LOG, BEA]]),
    (Asks::Call, Door::Tls,  Rule::ConnectionTokens, [[BEA, LOG, BEA], [BEA, LOG, BEA], [BEA, LOG, BEA]]),
    (Asks::Call, Door::Mtls, Rule::ConnectionTokens, [[BEA, LOG, BEA], [BEA, LOG, BEA], [BEA, LOG, BEA]]),

    (Asks::Call, Door::Tcp,  Rule::CallTokens,       [[PLN, LOG, PLN], [PLN, LOG, PLN], [PLN, LOG, PLN]]),
    (Asks::Call, Door::Unix, Rule::CallTokens,       [[BEA, LOG, BEA], [BEA, LOG, BEA], [BEA, LOG, BEA]]),
    (Asks::Call, Door::Tls,  Rule::CallTokens,       [[BEA, LOG, BEA], [BEA, LOG, BEA], [BEA, LOG, BEA]]),
    (Asks::Call, Door::Mtls, Rule::CallTokens,       [[BEA, LOG, BEA], [BEA, LOG, BEA], [BEA, LOG, BEA]]),

    // Behind a proxy on a Unix socket the kernel names the proxy, and behind one that ends TLS the certificate is the proxy's.
    (Asks::Terminate, Door::Tcp,  Rule::Roles,      [[NOB, ___, NOB], [NOB, ___, NOB], [NOB, ___, NOB]]),
    (Asks::Terminate, Door::Unix, Rule::Roles,      [[ROL, ___, ROL], [ROL, ___, ROL], [ROL, ___, ROL]]),
    (Asks::Terminate, Door::Mtls, Rule::Roles,      [[ROL, SHY, ROL], [NOB, NOB, NOB], [NOB, NOB, NOB]]),
    (Asks::Terminate, Door::Tls,  Rule::TokenRoles, [[ROL, LOG, ROL], [ROL, LOG, ROL], [ROL, LOG, ROL]]),
];
