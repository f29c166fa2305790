//! Filters of system calls, as systemd installs them (seccomp). Knows numbers and what happens; which calls are allowed is
//! in `system-service.txt`.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use syscalls::Sysno;

const SYSTEM_SERVICE: &str = include_str!("system-service.txt");
/// `EAFNOSUPPORT`: what systemd lets a socket of another family fail with.
const NO_SUCH_FAMILY: u32 = 97;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Any other call kills the process.
pub(super) fn only_of_services() -> Result<(), String> {
    let allowed =
        SYSTEM_SERVICE.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace);
    // Some are calls of other architectures.
    let known = allowed.filter_map(|name| name.parse::<Sysno>().ok());
    let rules = known.map(|call| (i64::from(call.id()), Vec::new())).collect();
    install(rules, SeccompAction::KillProcess, SeccompAction::Allow)
}

/// Sockets of other families fail.
pub(super) fn only_families(names: &str) -> Result<(), String> {
    let is_not = |name| {
        let family = family(name)?;
        let condition = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family);
        condition.map_err(|error| error.to_string())
    };
    let none_of_them = names.split(' ').map(is_not).collect::<Result<Vec<_>, _>>()?;
    let rule = SeccompRule::new(none_of_them).map_err(|error| error.to_string())?;
    let rules = Rules::from([(i64::from(Sysno::socket.id()), vec![rule])]);
    install(rules, SeccompAction::Allow, SeccompAction::Errno(NO_SUCH_FAMILY))
}

fn family(name: &str) -> Result<u64, String> {
    match name {
        "AF_UNIX" => Ok(1),
        "AF_INET" => Ok(2),
        "AF_INET6" => Ok(10),
        other => Err(format!("RestrictAddressFamilies={other} is not known here")),
    }
}

fn install(rules: Rules, others: SeccompAction, these: SeccompAction) -> Result<(), String> {
    let machine = std::env::consts::ARCH.try_into().map_err(|error| format!("{error}"))?;
    let filter = SeccompFilter::new(rules, others, these, machine).map_err(|error| error.to_string())?;
    let program: BpfProgram = filter.try_into().map_err(|error| format!("{error}"))?;
    seccompiler::apply_filter(&program).map_err(|error| error.to_string())
}
