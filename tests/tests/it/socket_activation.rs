//! As a service of systemd: the socket is handed over, and the service manager is told when the process is ready
//! and when it stops.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::Command;

use ncps_tests::{Connection, Installation, Mode, Process, both_modes, in_time};
use tokio::net::UnixDatagram;

const UNDER_TEST: &str = env!("CARGO_BIN_EXE_under_test");

/// What systemd does: the socket becomes the descriptor 3 of a process that knows that it is meant.
const HAND_OVER: &str = "exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"";

/// A service manager that holds the socket, whatever becomes of the process.
struct Manager {
    socket: TcpListener,
    notified: UnixDatagram,
    dir: tempfile::TempDir,
}

impl Manager {
    fn new() -> Manager {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let notified = UnixDatagram::bind(dir.path().join("notify")).expect("bound");
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        Manager { socket, notified, dir }
    }

    fn addr(&self) -> SocketAddr {
        self.socket.local_addr().expect("bound")
    }

    /// Starts the program that has the edge, with the socket.
    fn start(&self, installation: &Installation) -> Process {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", HAND_OVER, "sh", UNDER_TEST]);
        command.args(installation.edge_command(&installation.edge_data())).env_clear();
        command.env("HOME", self.dir.path()).env("NOTIFY_SOCKET", self.dir.path().join("notify"));
        let socket: OwnedFd = self.socket.try_clone().expect("another descriptor").into();
        Process::spawn_with_input(command, socket)
    }

    async fn told(&self) -> String {
        let mut buffer = [0; 256];
        let received = in_time("a notification", self.notified.recv(&mut buffer)).await.expect("received");
        String::from_utf8_lossy(&buffer[..received]).into_owned()
    }
}

both_modes! {
    async fn the_socket_is_taken_over_and_the_manager_is_told(mode) {
        let manager = Manager::new();
        let mut installation = Installation::new(mode, UNDER_TEST);
        installation.start_control();
        let mut edge = manager.start(&installation);
        assert_eq!(manager.told().await, "READY=1\n");
        edge.ready(manager.addr()).await;
        let own = Connection::open(installation.addr()).await;
        assert!(own.is_err(), "--server-addr is not listened at");

        assert_eq!(edge.terminate().await.code(), Some(0));
        // Where control took its time it was told twice that the edge has started.
        let mut last = manager.told().await;
        while last == "READY=1\n" {
            last = manager.told().await;
        }
        assert_eq!(last, "STOPPING=1\n");
        installation.terminate().await;
    }

    async fn who_comes_during_a_restart_waits_and_is_answered(mode) {
        let manager = Manager::new();
        let mut installation = Installation::new(mode, UNDER_TEST);
        installation.start_control();
        let mut edge = manager.start(&installation);
        edge.ready(manager.addr()).await;
        edge.terminate().await;
        let mut early = Connection::open(manager.addr()).await.expect("the socket is the manager's");
        early.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("written");
        let mut again = manager.start(&installation);
        assert_eq!(early.read().await.expect("answered").status, 200);
        drop(early);
        assert_eq!(again.terminate().await.code(), Some(0));
        installation.terminate().await;
    }
}

/// The manager would kill and start it for as long as control is away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_that_waits_for_control_has_started() {
    let manager = Manager::new();
    let mut installation = Installation::new(Mode::Split, UNDER_TEST);
    let mut edge = manager.start(&installation);
    assert_eq!(manager.told().await, "READY=1\n");
    for (path, status) in [("/healthz", 200), ("/readyz", 503)] {
        assert_eq!(ncps_tests::get(manager.addr(), path).await.expect("answered").status, status);
    }
    assert_eq!(edge.terminate().await.code(), Some(0));
    installation.terminate().await;
}
