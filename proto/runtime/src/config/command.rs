//! The command line that the tables of fields make.
//!
//! Every value stays text here, without defaults and without checks, so that [`super::Resolver`] can report
//! all problems of all sources together. Older names are flags of their own, hidden, so that giving both is
//! noticed.

use clap::{Arg, ArgAction, Command, ValueHint};

use super::field::{Field, Kind};
use super::names;

/// The id of `--config` in the matches.
pub(super) const CONFIG: &str = "config";

/// A program that takes these fields and `--config`, before and after the names of sub-commands.
#[must_use]
pub fn command(name: &'static str, about: &'static str, groups: &[&[Field]]) -> Command {
    Command::new(name)
        .about(about)
        .version(crate::version::VERSION)
        .arg(config_arg().global(true))
        .args(args(groups).into_iter().map(|arg| arg.global(true)))
}

/// The same of a program that does nothing without a sub-command.
#[must_use]
pub fn root_command(name: &'static str, about: &'static str, groups: &[&[Field]]) -> Command {
    command(name, about, groups).subcommand_required(true).arg_required_else_help(true)
}

/// `--config`, which isn't a field: it can't be in the file that it names.
#[must_use]
pub fn config_arg() -> Arg {
    Arg::new(CONFIG)
        .long("config")
        .value_name("FILE")
        .value_hint(ValueHint::FilePath)
        .overrides_with(CONFIG)
        .help("Configuration file: YAML, TOML or JSON [env: NCPS_CONFIG_FILE] [default: $XDG_CONFIG_HOME/ncps/config.yaml, if there is one]")
}

/// The arguments of these fields, for a sub-command. A field in several tables makes one argument.
#[must_use]
pub fn args(groups: &[&[Field]]) -> Vec<Arg> {
    names::unique(groups).iter().flat_map(arguments).collect()
}

/// What of a program its help says nothing about: commands and arguments, by the words that lead to them.
#[cfg(any(test, feature = "test-util"))]
#[must_use]
pub fn undescribed(mut program: Command) -> Vec<String> {
    // With what clap adds by itself.
    program.build();
    let mut found = Vec::new();
    let mut left = vec![(program.get_name().to_owned(), &program)];
    while let Some((name, command)) = left.pop() {
        if command.get_about().is_none() {
            found.push(name.clone());
        }
        let silent = command.get_arguments().filter(|arg| !arg.is_hide_set() && arg.get_help().is_none());
        found.extend(silent.map(|arg| format!("{name} {arg}")));
        let below = command.get_subcommands().filter(|below| !below.is_hide_set());
        left.extend(below.map(|below| (format!("{name} {}", below.get_name()), below)));
    }
    found
}

fn arguments(field: &Field) -> impl Iterator<Item = Arg> + use<> {
    let field = *field;
    names::flags(&field).map(move |flag| {
        let other_name = flag != field.flag;
        argument(&field, flag).hide(field.hidden || other_name)
    })
}

fn argument(field: &Field, flag: &'static str) -> Arg {
    let arg = Arg::new(flag).long(flag).value_name(field.value_name).help(help(field));
    match field.kind {
        // A negative number is a value that can't be used, not a flag.
        Kind::Value => arg.action(ArgAction::Set).overrides_with(flag).allow_negative_numbers(true),
        Kind::List => arg.action(ArgAction::Append),
        Kind::Switch => arg
            .action(ArgAction::Set)
            .overrides_with(flag)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
    }
}

fn help(field: &Field) -> String {
    let mut text = field.help.to_owned();
    if !field.env.is_empty() {
        text += &format!(" [env: {}]", field.env);
    }
    if let Some(default) = field.default.filter(|text| !text.is_empty()) {
        text += &format!(" [default: {default}]");
    }
    text
}
