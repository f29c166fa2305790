//! A command line, understood as far as it can be. What can't is taken out and noted, so that every mistyped flag
//! is reported, and together with the values that can't be used.
//!
//! clap says what is wrong with the first of them and what may have been meant; it is asked again without that one.
//! Absent: any look at values, which [`super::Resolver`] takes.

use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Command, Error};

use super::field::Field;
use super::problem::without_userinfo;
use super::{ConfigErrors, names};

/// What was typed, and what was wrong with the typing.
#[derive(Debug)]
pub struct CommandLine {
    pub(super) matches: ArgMatches,
    pub(super) problems: Vec<String>,
}

/// Nothing to go on with: help was asked for, or it isn't clear what to do.
#[derive(Debug)]
pub struct Answer {
    /// What clap says.
    pub error: Error,
    /// What else was wrong.
    pub problems: Option<ConfigErrors>,
}

impl CommandLine {
    /// Understands `args`, the program's name first. `fields` are those that the command takes anywhere: a flag
    /// that was meant is shown with its other names.
    ///
    /// # Errors
    /// The [`Answer`] where there is no telling what to do.
    pub fn parse<A: Into<OsString>>(
        mut command: Command,
        fields: &[&[Field]],
        args: impl IntoIterator<Item = A>,
    ) -> Result<CommandLine, Box<Answer>> {
        let mut args: Vec<OsString> = args.into_iter().map(Into::into).collect();
        let alone = !command.is_subcommand_required_set();
        let mut mistakes = Mistakes { fields, alone, problems: Vec::new(), value_may_follow: None };
        // Every round takes an argument away, so there is a last one.
        loop {
            let error = match command.try_get_matches_from_mut(&args) {
                Ok(matches) => return Ok(CommandLine { matches, problems: mistakes.problems }),
                Err(error) => error,
            };
            if !mistakes.take_out(&error, &mut args) {
                let problems = Some(mistakes.problems).filter(|p| !p.is_empty()).map(ConfigErrors);
                return Err(Box::new(Answer { error, problems }));
            }
        }
    }

    /// Whether a sub-command was named.
    #[must_use]
    pub fn has_subcommand(&self) -> bool {
        self.matches.subcommand_name().is_some()
    }

    /// The sub-command and its part of the line; what was wrong with the line goes along.
    #[must_use]
    pub fn subcommand(mut self) -> Option<(String, CommandLine)> {
        let (name, matches) = self.matches.remove_subcommand()?;
        Some((name, CommandLine { matches, problems: self.problems }))
    }
}

struct Mistakes<'a> {
    fields: &'a [&'a [Field]],
    /// The program does something without a sub-command, so that a word is just an argument.
    alone: bool,
    problems: Vec<String>,
    /// Where an unknown flag stood that had no `=`: what follows may have been its value.
    value_may_follow: Option<usize>,
}

impl Mistakes<'_> {
    /// Takes what clap complains of out of the line. `false` where nothing could be taken out.
    fn take_out(&mut self, error: &Error, args: &mut Vec<OsString>) -> bool {
        let kind = match error.kind() {
            ErrorKind::InvalidSubcommand => ContextKind::InvalidSubcommand,
            _ => ContextKind::InvalidArg,
        };
        let Some(at) = text(error, kind).and_then(|name| position(args, first_word(name))) else {
            return false;
        };
        let follows = self.value_may_follow.take() == Some(at) && !is_flag(&args[at]);
        let problem = match error.kind() {
            _ if follows => None,
            ErrorKind::InvalidSubcommand if self.alone => Some(self.unknown(&args[at], error)),
            ErrorKind::UnknownArgument => Some(self.unknown(&args[at], error)),
            ErrorKind::InvalidValue => Some(self.without_value(&args[at])),
            _ => return false,
        };
        let taken = args.remove(at);
        let may_have_value = is_flag(&taken) && !taken.to_string_lossy().contains('=');
        self.value_may_follow = Some(at).filter(|_| may_have_value);
        self.problems.extend(problem);
        true
    }

    fn unknown(&self, arg: &OsStr, error: &Error) -> String {
        let shown = arg.to_string_lossy();
        if !is_flag(arg) {
            return format!("unexpected argument {}", without_userinfo(&shown));
        }
        let flag = name_of(&shown);
        if let Some(field) = self.field(flag) {
            return format!("{field}: is no option of this command, or has to stand after its name");
        }
        match text(error, ContextKind::SuggestedArg) {
            Some(meant) => format!("unknown flag {flag}: did you mean {}?", self.names(meant)),
            None => format!("unknown flag {flag}, see --help"),
        }
    }

    fn without_value(&self, arg: &OsStr) -> String {
        format!("{}: needs a value", self.names(name_of(&arg.to_string_lossy())))
    }

    /// A flag with its other names.
    fn names(&self, flag: &str) -> String {
        self.field(flag).map_or_else(|| flag.to_owned(), Field::to_string)
    }

    fn field(&self, flag: &str) -> Option<&Field> {
        let name = flag.strip_prefix("--")?;
        self.fields.iter().copied().flatten().find(|field| names::flags(field).any(|other| other == name))
    }
}

fn text(error: &Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text),
        _ => None,
    }
}

/// clap names an argument as help does: `--flag <VALUE>`.
fn first_word(text: &str) -> &str {
    text.split(' ').next().unwrap_or(text)
}

/// Without `=` and value, which may be a secret.
fn name_of(arg: &str) -> &str {
    arg.split('=').next().unwrap_or(arg)
}

fn is_flag(arg: &OsStr) -> bool {
    arg.to_string_lossy().starts_with('-')
}

/// Where this name stands in the line: alone, before `=`, or as a letter among others (`-abc`).
fn position(args: &[OsString], name: &str) -> Option<usize> {
    let letter = name.strip_prefix('-').filter(|rest| !rest.starts_with('-') && rest.chars().count() == 1);
    let is_meant = |arg: &OsString| {
        let arg = arg.to_string_lossy();
        let cluster = arg.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
        arg == name
            || (is_flag(OsStr::new(name)) && name_of(&arg) == name)
            || letter.is_some_and(|letter| cluster.is_some_and(|cluster| cluster.contains(letter)))
    };
    // The first is the program's name.
    args.iter().skip(1).position(is_meant).map(|at| at + 1)
}

/// The name that is most like this one, by the measure by which clap finds the flag that was meant.
pub(super) fn most_alike(name: &str, fields: &[Field]) -> Option<Field> {
    let keys: Vec<&'static str> = fields.iter().flat_map(names::keys).collect();
    let flags = keys.into_iter().map(|key| Arg::new(key).long(key));
    let command = Command::new("").no_binary_name(true).args(flags);
    let error = command.try_get_matches_from([format!("--{name}")]).err()?;
    let meant = text(&error, ContextKind::SuggestedArg)?.trim_start_matches('-');
    fields.iter().copied().find(|field| names::keys(field).any(|key| key == meant))
}

#[cfg(test)]
mod tests {
    use super::super::{Alias, args, root_command};
    use super::*;

    const HOST: Field = Field::value("cache-hostname", "CACHE_HOSTNAME", "cache.hostname", "Name.");
    const PORT: Field = Field::value("port", "PORT", "port", "Port.").aliases(&[Alias::flag("old-port")]);
    const SIGN: Field = Field::switch("sign", "", "", "Sign.");
    const GLOBAL: &[Field] = &[PORT];
    const OWN: &[Field] = &[HOST, SIGN];

    fn parse(line: &str) -> Result<CommandLine, Box<Answer>> {
        let serve = Command::new("serve").args(args(&[OWN]));
        let root = root_command("ncps", "test", &[GLOBAL]).subcommand(serve);
        CommandLine::parse(root, &[GLOBAL, OWN], line.split(' '))
    }

    fn problems(line: &str) -> Vec<String> {
        parse(line).expect("it is clear what to do").problems
    }

    #[test]
    fn every_mistyped_flag_is_noted_and_the_others_count() {
        let line = "ncps --prot=1 serve --cache-hostnam=a --sign --xyzzy --cache-hostname=b";
        let (name, line) = parse(line).expect("clear").subcommand().expect("serve");
        assert_eq!(line.matches.get_one::<String>("cache-hostname").map(String::as_str), Some("b"));
        assert_eq!(name, "serve");
        assert_eq!(
            line.problems,
            [
                "unknown flag --prot: did you mean --port (PORT, port)?",
                "unknown flag --cache-hostnam: did you mean --cache-hostname (CACHE_HOSTNAME, cache.hostname)?",
                "unknown flag --xyzzy, see --help",
            ]
        );
    }

    #[test]
    fn values_of_mistyped_flags_are_taken_along_and_not_shown() {
        let line = "ncps --passwd hunter2 serve --cache-hostnam a --toekn=hunter2";
        let problems = problems(line);
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(!problems.concat().contains("hunter2"), "{problems:?}");
        assert_eq!(super::tests::problems("ncps --bogus serve").len(), 1, "a command is no value");
    }

    #[test]
    fn what_is_no_flag_is_noted() {
        assert_eq!(
            problems("ncps serve x --sign false https://me:hunter2@x -z"),
            [
                "unexpected argument x",
                "unexpected argument false",
                "unexpected argument https://***@x",
                "unknown flag -z, see --help"
            ]
        );
    }

    #[test]
    fn where_a_sub_command_may_be_left_out_another_word_is_noted_as_well() {
        let edge = super::super::command("ncps-edge", "test", &[OWN]).subcommand(Command::new("config"));
        let line = "ncps-edge x --bogus hunter2 https://me:hunter2@x".split(' ');
        let line = CommandLine::parse(edge, &[OWN], line).expect("it is clear what to do");
        let problems = [
            "unexpected argument x",
            "unknown flag --bogus, see --help",
            "unexpected argument https://***@x",
        ];
        assert_eq!((line.has_subcommand(), &line.problems[..]), (false, &problems.map(str::to_owned)[..]));
    }

    #[test]
    fn values_may_be_missing() {
        let [cut, followed] = ["ncps serve --old-port", "ncps serve --cache-hostname --sign"].map(problems);
        assert_eq!(cut, ["--port (PORT, port): needs a value"]);
        assert_eq!(followed, ["--cache-hostname (CACHE_HOSTNAME, cache.hostname): needs a value"]);
        assert_eq!(problems("ncps serve --port -1"), Vec::<String>::new(), "a number, if no good one");
    }

    #[test]
    fn a_flag_in_the_wrong_place_is_told_so() {
        let problems = problems("ncps --cache-hostname=a serve");
        assert!(matches!(&*problems, [one] if one.contains("has to stand after its name")), "{problems:?}");
    }

    #[test]
    fn no_command_and_help_are_answers() {
        for (line, noted) in [("ncps", false), ("ncps sreve", false), ("ncps --bogus", true)] {
            let answer = parse(line).expect_err("no telling what to do");
            assert!(answer.error.use_stderr(), "{line}");
            assert_eq!(answer.problems.is_some(), noted, "{line}");
        }
        for line in ["ncps serve --help", "ncps serve --bogus --help"] {
            assert!(!parse(line).expect_err("help").error.use_stderr());
        }
    }
}
