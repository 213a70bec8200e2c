//! Query: the parameters of a page, `?procedure=kv.v1.Kv&most=10`.

use std::{borrow::Cow, str::FromStr, time::Duration};

use percent_encoding::percent_decode_str;

/// The parameters of a request. Each is checked when it is read, and in the end no other may be there.
#[derive(Debug)]
pub(crate) struct Query<'a> {
    given: Vec<(&'a str, Cow<'a, str>)>,
    /// Those that the page knows, for the text about one that it does not know.
    known: Vec<&'static str>,
}

impl<'a> Query<'a> {
    /// Reads the part of a URI behind `?`.
    ///
    /// # Errors
    ///
    /// A value that is no UTF-8.
    pub(crate) fn new(text: Option<&'a str>) -> Result<Self, String> {
        let entries = text
            .unwrap_or_default()
            .split('&')
            .filter(|entry| !entry.is_empty());
        let given = entries.map(|entry| {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            let value = percent_decode_str(value).decode_utf8();
            let value = value.map_err(|_| format!("the value of {name} is no UTF-8\n"))?;
            Ok((name, value))
        });
        Ok(Self {
            given: given.collect::<Result<_, String>>()?,
            known: Vec::new(),
        })
    }

    /// Takes a parameter, as text.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<Cow<'a, str>> {
        self.known.push(name);
        let index = self.given.iter().position(|(given, _)| *given == name)?;
        Some(self.given.swap_remove(index).1)
    }

    /// Takes a parameter that is a number.
    ///
    /// # Errors
    ///
    /// A value that is none.
    pub(crate) fn number<T: FromStr>(&mut self, name: &'static str) -> Result<Option<T>, String> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let number = value.parse();
        number
            .map(Some)
            .map_err(|_| format!("{name}={value} is no whole number\n"))
    }

    /// Takes a parameter that is a time in seconds, such as `0.25`.
    ///
    /// # Errors
    ///
    /// A value that is none.
    pub(crate) fn seconds(&mut self, name: &'static str) -> Result<Option<Duration>, String> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let seconds = value.parse().ok();
        let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        time.map(Some)
            .ok_or_else(|| format!("{name}={value} is no number of seconds, such as 0.25\n"))
    }

    /// Checks that all parameters are taken.
    ///
    /// # Errors
    ///
    /// One that the page does not know, with those that it knows.
    pub(crate) fn end(self) -> Result<(), String> {
        match self.given.first() {
            None => Ok(()),
            Some((name, _)) => Err(format!(
                "this page has no parameter {name}, or takes it once; it has: {}\n",
                self.known.join(", ")
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_by_their_names() {
        let mut query = Query::new(Some("procedure=kv.v1.Kv%2Frpc_fetch&slower_than=0.25&most=7")).unwrap();
        assert_eq!(query.number::<usize>("most"), Ok(Some(7)));
        assert_eq!(query.take("procedure").as_deref(), Some("kv.v1.Kv/rpc_fetch"));
        assert_eq!(query.seconds("slower_than"), Ok(Some(Duration::from_millis(250))));
        assert_eq!(query.take("format"), None);
        assert_eq!(query.end(), Ok(()));
        assert_eq!(Query::new(None).unwrap().end(), Ok(()));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let mut query = Query::new(Some("most=many&slower_than=-1&mots=3")).unwrap();
        assert_eq!(
            query.number::<usize>("most"),
            Err("most=many is no whole number\n".to_owned())
        );
        assert_eq!(
            query.seconds("slower_than"),
            Err("slower_than=-1 is no number of seconds, such as 0.25\n".to_owned())
        );
        assert_eq!(
            query.end(),
            Err("this page has no parameter mots, or takes it once; it has: most, slower_than\n".to_owned())
        );
        assert!(Query::new(Some("procedure=%ff")).is_err());
        let mut twice = Query::new(Some("most=1&most=2")).unwrap();
        assert_eq!(twice.number::<usize>("most"), Ok(Some(1)));
        assert!(twice.end().is_err());
    }
}
