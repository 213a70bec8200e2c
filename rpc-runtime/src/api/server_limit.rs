//! ServerLimit: the limits by which a server refuses requests.

/// A limit by which a server refuses a request before its handler begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerLimit {
    MaxCalls,
    CallBytes,
    SendBytes,
    MaxMessage,
    MetadataBytes,
    DecodeBytes,
    MaxBufferedBytes,
    MaxWaitingHandlers,
    /// Middleware, of the library or of the user.
    Middleware,
    /// A limit that no setting changes.
    Fixed,
}

impl ServerLimit {
    pub(crate) const COUNT: usize = Self::ALL.len();

    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Self; 10] = [
        Self::MaxCalls,
        Self::CallBytes,
        Self::SendBytes,
        Self::MaxMessage,
        Self::MetadataBytes,
        Self::DecodeBytes,
        Self::MaxBufferedBytes,
        Self::MaxWaitingHandlers,
        Self::Middleware,
        Self::Fixed,
    ];

    /// Returns its label in the metrics: the name of the setting, without its type.
    pub(crate) fn label(self) -> &'static str {
        let setting = self.setting();
        setting.split_once("::").map_or(setting, |(_, name)| name)
    }

    /// Returns the setting, as log lines name it.
    pub(crate) fn setting(self) -> &'static str {
        match self {
            Self::MaxCalls => "Limits::max_calls",
            Self::CallBytes => "Limits::call_bytes",
            Self::SendBytes => "Limits::send_bytes",
            Self::MaxMessage => "Limits::max_message",
            Self::MetadataBytes => "Limits::metadata_bytes",
            Self::DecodeBytes => "Limits::decode_bytes",
            Self::MaxBufferedBytes => "ServerBuilder::max_buffered_bytes",
            Self::MaxWaitingHandlers => "ServerBuilder::max_waiting_handlers",
            Self::Middleware => "middleware",
            Self::Fixed => "fixed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_at_its_number_and_has_a_label_of_its_own() {
        for (number, limit) in ServerLimit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, number);
        }
        let mut labels: Vec<_> = ServerLimit::ALL.into_iter().map(ServerLimit::label).collect();
        assert_eq!((labels[2], labels[6]), ("send_bytes", "max_buffered_bytes"));
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), ServerLimit::COUNT);
    }
}
