//! A netrc file, read as curl and so Nix reads it: machines and their logins, macros and comments left out.
//!
//! Takes whatever curl takes. Messages give the line and never its text. Absent: which entry counts for a host;
//! the first that fits does, and `default` fits every one.

use std::iter::Peekable;
use std::str::Chars;

use ncps_proto::{Login, NetrcEntry, Secret};

/// The logins of a netrc file, in its order.
///
/// # Errors
/// Where a quotation does not end with its line, or a word is missing at the end.
pub(super) fn parse(text: &str) -> Result<Vec<NetrcEntry>, String> {
    let mut file = File::default();
    for (number, line) in text.lines().enumerate() {
        file.line(line).map_err(|reason| format!("line {}: {reason}", number + 1))?;
    }
    if file.awaits.is_some() {
        return Err("it ends in the middle of an entry".to_owned());
    }
    file.end_entry();
    Ok(file.entries)
}

/// What the next word is.
#[derive(Clone, Copy)]
enum Value {
    Machine,
    Login,
    Password,
    /// The name of an account, which HTTP has no use for.
    Account,
}

/// A machine's entry, or the default one, whose words are still coming.
#[derive(Default)]
struct Open {
    host: Option<String>,
    user: Option<String>,
    password: Option<String>,
}

#[derive(Default)]
struct File {
    entries: Vec<NetrcEntry>,
    open: Option<Open>,
    awaits: Option<Value>,
    /// Within a macro, which an empty line ends.
    in_macro: bool,
}

impl File {
    fn line(&mut self, line: &str) -> Result<(), &'static str> {
        let mut rest = line.chars().peekable();
        if self.in_macro {
            self.in_macro = !line.trim().is_empty();
            return Ok(());
        }
        while let Some(word) = word(&mut rest)? {
            match self.awaits.take() {
                Some(value) => self.value(value, word),
                None => self.keyword(&word.to_ascii_lowercase()),
            }
            if self.in_macro {
                break;
            }
        }
        Ok(())
    }

    fn keyword(&mut self, word: &str) {
        match word {
            "machine" => self.awaits = Some(Value::Machine),
            "default" => self.begin_entry(None),
            "login" => self.awaits = Some(Value::Login),
            "password" => self.awaits = Some(Value::Password),
            "account" => self.awaits = Some(Value::Account),
            "macdef" => self.in_macro = true,
            // curl passes over what it does not know.
            _ => {}
        }
    }

    fn value(&mut self, value: Value, word: String) {
        match (value, &mut self.open) {
            (Value::Machine, _) => self.begin_entry(Some(word.to_ascii_lowercase())),
            (Value::Login, Some(open)) => open.user = Some(word),
            (Value::Password, Some(open)) => open.password = Some(word),
            (Value::Account, _) | (_, None) => {}
        }
    }

    fn begin_entry(&mut self, host: Option<String>) {
        self.end_entry();
        self.open = Some(Open { host, ..Open::default() });
    }

    /// An entry that says neither user nor password is none.
    fn end_entry(&mut self) {
        let Some(Open { host, user, password }) = self.open.take() else { return };
        if user.is_some() || password.is_some() {
            let password = Secret::new(password.unwrap_or_default());
            let login = Login { user: user.unwrap_or_default(), password };
            self.entries.push(NetrcEntry { host, login });
        }
    }
}

/// The next word of a line; `None` at its end or where a comment begins.
fn word(rest: &mut Peekable<Chars<'_>>) -> Result<Option<String>, &'static str> {
    while rest.next_if(|c| c.is_whitespace()).is_some() {}
    match rest.peek() {
        None | Some('#') => Ok(None),
        Some('"') => quoted(rest).map(Some),
        Some(_) => Ok(Some(std::iter::from_fn(|| rest.next_if(|c| !c.is_whitespace())).collect())),
    }
}

fn quoted(rest: &mut Peekable<Chars<'_>>) -> Result<String, &'static str> {
    const OPEN: &str = "a quotation does not end";
    rest.next();
    let mut text = String::new();
    loop {
        match rest.next().ok_or(OPEN)? {
            '"' => return Ok(text),
            '\\' => text.push(match rest.next().ok_or(OPEN)? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                other => other,
            }),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quote(text: &str) -> String {
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{}\"", escaped.replace('\n', "\\n").replace('\r', "\\r"))
    }

    proptest! {
        #[test]
        fn whatever_is_quoted_comes_back(user in ".*", password in "(?s).*") {
            let text = format!("machine a login {} password {}", quote(&user), quote(&password));
            let entries = parse(&text).expect("it is well-formed");
            prop_assert_eq!(&entries[0].login, &Login { user, password: Secret::new(password) });
        }

        #[test]
        fn whatever_it_is_it_is_read_or_refused(words in proptest::collection::vec("machine|default|login|password|macdef|account|#|\"|\n|\n\n|[a-z\\\\]{1,3}", 0..20)) {
            parse(&words.join(" ")).ok();
        }
    }

    /// Each entry as `host user password`; the default one's host is `*`.
    fn read(text: &str) -> Vec<String> {
        let entries = parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        let shown = entries.iter().map(|entry| {
            let host = entry.host.as_deref().unwrap_or("*");
            format!("{host} {} {}", entry.login.user, entry.login.password.reveal())
        });
        shown.collect()
    }

    #[test]
    fn entries_are_on_one_line_or_on_many() {
        assert_eq!(read("machine a.example login me password pw"), ["a.example me pw"]);
        assert_eq!(
            read("machine A.example\n\tlogin me\r\n  password pw\n\nmachine b password x login y"),
            ["a.example me pw", "b y x"]
        );
        assert_eq!(read("machine\n a\n login\n me\n password\n pw\n"), ["a me pw"], "words are words");
        assert_eq!(read("MACHINE a LOGIN me PASSWORD pw"), ["a me pw"]);
    }

    #[test]
    fn order_and_repetition_are_kept() {
        let text = "machine a login x password 1\ndefault login d password 2\nmachine a login y password 3";
        assert_eq!(read(text), ["a x 1", "* d 2", "a y 3"]);
        assert_eq!(read("machine a login x login y password p"), ["a y p"]);
    }

    #[test]
    fn half_a_login_is_one_and_none_is_none() {
        assert_eq!(read("machine a password pw"), ["a  pw"]);
        assert_eq!(read("machine a login me"), ["a me "]);
        assert_eq!(read("machine a\nmachine b login me"), ["b me "]);
        assert_eq!(read("login me password pw"), Vec::<String>::new(), "of nobody");
        assert_eq!(read(""), Vec::<String>::new());
    }

    #[test]
    fn quotes_escape_and_hold_spaces() {
        let text = r#"machine a login "me too" password "a \"b\\c\t#d" # "#;
        assert_eq!(read(text), ["a me too a \"b\\c\t#d"]);
        assert_eq!(read("machine a login x\"y password \"\""), ["a x\"y "]);
    }

    #[test]
    fn comments_and_what_is_unknown_are_passed_over() {
        let text = "# machine no login no password no\nmachine a # here\n login me\n#password no\npassword p#w port 80";
        assert_eq!(read(text), ["a me p#w"]);
    }

    #[test]
    fn accounts_and_macros_have_no_use() {
        let text = "machine a login me account login password pw\nmacdef init\ncd /x\nmachine no login no\n\nmachine b login you";
        assert_eq!(read(text), ["a me pw", "b you "]);
        assert_eq!(read("macdef last\nmachine no login no"), Vec::<String>::new());
    }

    #[test]
    fn what_is_broken_is_told_by_its_line_alone() {
        for (text, expected) in [
            ("machine a\nlogin \"hunter2", "line 2: a quotation"),
            ("machine a password \"hunter2\\", "line 1: a quotation"),
            ("machine hunter2 login", "in the middle"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
        }
    }
}
