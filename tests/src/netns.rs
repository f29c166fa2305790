//! Several hosts on one machine: network namespaces on one bridge, each with an address of its own and a cable that can be
//! pulled out. Nothing of it can be reached from outside: what a test serves there it serves on a socket of the host
//! ([`crate::ReservedPort::on`], [`crate::Link::tcp_on`]), and what it runs there it starts with [`Host::command`].
//!
//! To make namespaces takes root and `ip` of iproute2. Where these are not to be had the tests that want them pass without
//! having tried; with `NCPS_REQUIRE_NETNS=1` they fail. Absent: delay and loss by the kernel (links do that), IPv6.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// Networks that this process has made: each has names of its own.
static MADE: AtomicUsize = AtomicUsize::new(0);

/// A switch. Its address range is its own: other networks may have the same.
#[derive(Debug)]
pub struct Network {
    switch: Arc<Namespace>,
    hosts: AtomicU8,
}

/// A host on it. Dropped, it is gone, with all its sockets.
#[derive(Debug)]
pub struct Host {
    namespace: Namespace,
    addr: Ipv4Addr,
    /// It outlives its hosts.
    _switch: Arc<Namespace>,
}

impl Network {
    /// A new one without hosts. `None`, and a note, where namespaces can't be made.
    ///
    /// # Panics
    /// If they can't, and `NCPS_REQUIRE_NETNS` is `1`.
    pub fn find() -> Option<Network> {
        match Network::new() {
            Ok(network) => Some(network),
            Err(why) => {
                let required = std::env::var("NCPS_REQUIRE_NETNS").is_ok_and(|value| value == "1");
                assert!(!required, "NCPS_REQUIRE_NETNS is set and there are no network namespaces: {why}");
                println!("skipped: network namespaces can't be made here: {why}");
                None
            }
        }
    }

    fn new() -> Result<Network, String> {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let switch = Namespace::new(format!("ncps-{}-{number}", std::process::id()))?;
        switch.ip(&["link", "add", "br0", "type", "bridge"])?;
        switch.ip(&["link", "set", "br0", "up"])?;
        // Whether something can run there, too.
        run(switch.command("true"))?;
        Ok(Network { switch: Arc::new(switch), hosts: AtomicU8::new(0) })
    }

    /// One host more.
    ///
    /// # Panics
    /// If there are 200 already, or the system makes no more.
    pub fn host(&self) -> Host {
        let number = 1 + self.hosts.fetch_add(1, Ordering::Relaxed);
        assert!(number <= 200, "too many hosts");
        self.plug_in(number).unwrap_or_else(|why| panic!("a host can't be made: {why}"))
    }

    fn plug_in(&self, number: u8) -> Result<Host, String> {
        let (socket, addr) = (format!("port{number}"), Ipv4Addr::new(10, 0, 0, number));
        let namespace = Namespace::new(format!("{}-{number}", self.switch.0))?;
        let cable = ["link", "add", &socket, "type", "veth", "peer", "name", "eth0", "netns", &namespace.0];
        self.switch.ip(&cable)?;
        self.switch.ip(&["link", "set", &socket, "master", "br0", "up"])?;
        namespace.ip(&["addr", "add", &format!("{addr}/24"), "dev", "eth0"])?;
        namespace.ip(&["link", "set", "eth0", "up"])?;
        Ok(Host { namespace, addr, _switch: Arc::clone(&self.switch) })
    }
}

impl Host {
    /// Its address.
    pub const fn addr(&self) -> Ipv4Addr {
        self.addr
    }

    /// A program, to be run there, with nothing in its environment but a `PATH`.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.namespace.command(program)
    }

    /// Pulls its cable out. Nobody is told: what is sent is lost.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn unplug(&self) {
        self.must(&["link", "set", "eth0", "down"]);
    }

    /// Plugs it in again.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn plug(&self) {
        self.must(&["link", "set", "eth0", "up"]);
    }

    /// Has no way to another host any more: who tries is told that it is unreachable, what is sent back is lost.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn loses(&self, other: &Host) {
        self.must(&["route", "add", "unreachable", &format!("{}/32", other.addr)]);
    }

    /// Has it again.
    ///
    /// # Panics
    /// If it had lost none.
    pub fn finds(&self, other: &Host) {
        self.must(&["route", "del", "unreachable", &format!("{}/32", other.addr)]);
    }

    fn must(&self, args: &[&str]) {
        self.namespace.ip(args).unwrap_or_else(|why| panic!("ip {args:?}: {why}"));
    }

    /// The file that stands for it: who opens it may go there.
    pub(crate) fn file(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.namespace.0)
    }
}

/// By its name. Dropped, it is removed; processes that still run there keep it alive, without a name.
#[derive(Debug)]
struct Namespace(String);

impl Namespace {
    fn new(name: String) -> Result<Namespace, String> {
        let mut add = Command::new("ip");
        add.args(["netns", "add", &name]);
        run(add)?;
        let namespace = Namespace(name);
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// `ip` with what it sees there.
    fn ip(&self, args: &[&str]) -> Result<(), String> {
        let mut ip = Command::new("ip");
        ip.args(["-n", &self.0]).args(args);
        run(ip)
    }

    /// `ip` becomes the program: a signal to it is one to the program.
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.args(["netns", "exec", &self.0]).arg(program);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let mut del = Command::new("ip");
        del.args(["netns", "del", &self.0]);
        if let Err(why) = run(del) {
            eprintln!("the network namespace {} is left behind: {why}", self.0);
        }
    }
}

fn run(mut command: Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}
