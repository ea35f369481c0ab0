//! Which process has taken a port or a socket file, and who is connected to it, as far as /proc shows it.

use std::collections::HashSet;
use std::path::Path;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its id.
    pub pid: u32,
    /// Its program's name.
    pub name: String,
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// States in /proc/net/tcp: TCP_ESTABLISHED and TCP_LISTEN in the kernel's net/tcp_states.h.
const ESTABLISHED: &str = "01";
const LISTENING: &str = "0A";

/// Who listens at this TCP port.
pub fn of_port(port: u16) -> Option<Owner> {
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        let table = std::fs::read_to_string(table).ok()?;
        of_inode(listening_inode(&table, port)?)
    })
}

/// Who listens at this socket file; the one that `likely` names is looked at before all others.
pub fn of_socket(path: &Path, likely: Option<u32>) -> Option<Owner> {
    let table = std::fs::read_to_string("/proc/net/unix").ok()?;
    let inode = socket_inode(&table, path.to_str()?)?;
    likely.and_then(|pid| holds(pid, inode)).or_else(|| of_inode(inode))
}

/// `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …`: proc(5).
fn listening_inode(table: &str, port: u16) -> Option<&str> {
    let suffix = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, state) = (fields.next()?, fields.nth(1)?);
        if local.ends_with(&suffix) && state == LISTENING { fields.nth(5) } else { None }
    })
}

/// Flags of a socket that accepts, in /proc/net/unix: `__SO_ACCEPTCON` in the kernel's net.h. The connections that
/// it has accepted carry its path as well.
const ACCEPTING: &str = "00010000";

/// `Num RefCount Protocol Flags Type St Inode Path`: proc(5).
fn socket_inode<'a>(table: &'a str, path: &str) -> Option<&'a str> {
    table.lines().skip(1).find_map(|line| {
        let rest = line.strip_suffix(path)?.strip_suffix(' ')?;
        let mut fields = rest.split_ascii_whitespace().skip(3);
        if fields.next()? == ACCEPTING { fields.nth(2) } else { None }
    })
}

/// The process that holds the socket. Only our own user's processes show theirs.
fn of_inode(inode: &str) -> Option<Owner> {
    let processes = std::fs::read_dir("/proc").ok()?;
    processes.flatten().find_map(|process| holds(process.file_name().to_str()?.parse().ok()?, inode))
}

/// The process, if it holds the socket.
fn holds(pid: u32, inode: &str) -> Option<Owner> {
    sockets_of(pid).any(|held| held == inode).then(|| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Owner { pid, name: name.trim_end().to_owned() }
    })
}

/// The inodes of the sockets that a process of ours holds.
fn sockets_of(pid: u32) -> impl Iterator<Item = String> {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    descriptors.filter_map(|descriptor| {
        let link = std::fs::read_link(descriptor.path()).ok()?;
        Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
    })
}

/// All connections of the machine at one moment. To read them takes milliseconds: the kernel walks all its tables.
#[derive(Debug)]
pub struct Connections {
    unix: String,
    tcp: [String; 2],
}

impl Connections {
    /// Those of now.
    pub fn now() -> Self {
        let read = |table: &str| std::fs::read_to_string(table).unwrap_or_default();
        Self { unix: read("/proc/net/unix"), tcp: ["/proc/net/tcp", "/proc/net/tcp6"].map(read) }
    }

    /// How many of others a process serves at this socket file, if it has one, and at these TCP ports.
    pub fn served(&self, pid: u32, socket: &Path, ports: &[u16]) -> usize {
        let held: HashSet<String> = sockets_of(pid).collect();
        let tcp: usize = self.tcp.iter().map(|table| established(table, ports, &held)).sum();
        if socket.as_os_str().is_empty() {
            return tcp;
        }
        tcp + accepted(&self.unix, socket.to_str().unwrap_or_default(), &held)
    }
}

fn accepted(table: &str, path: &str, held: &HashSet<String>) -> usize {
    let of_path = table.lines().filter_map(|line| line.strip_suffix(path)?.strip_suffix(' '));
    let inodes = of_path.filter_map(|rest| {
        let mut fields = rest.split_ascii_whitespace().skip(3);
        if fields.next()? == ACCEPTING { None } else { fields.nth(2) }
    });
    inodes.filter(|inode| held.contains(*inode)).count()
}

fn established(table: &str, ports: &[u16], held: &HashSet<String>) -> usize {
    let of_ports = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, state) = (fields.next()?, fields.nth(1)?);
        let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
        if state == ESTABLISHED && ports.contains(&port) { fields.nth(5) } else { None }
    });
    of_ports.filter(|inode| held.contains(*inode)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_the_kernel_are_read() {
        let tcp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             \x20  0: 0100007F:C383 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 111 1 0 20\n\
             \x20  1: 0100007F:C383 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 222 1 0 100\n";
        assert_eq!(listening_inode(tcp, 0xC383), Some("222"));
        assert_eq!(listening_inode(tcp, 0x1F90), None);
        assert_eq!(listening_inode("garbage\n:C383\n\n", 0xC383), None);
        let unix = "Num       RefCount Protocol Flags    Type St Inode Path\n\
             0000: 00000003 00000000 00000000 0001 03 333\n\
             0000: 00000003 00000000 00000000 0001 03 555 /run/a b.sock\n\
             0000: 00000002 00000000 00010000 0001 01 444 /run/a b.sock\n";
        assert_eq!(socket_inode(unix, "/run/a b.sock"), Some("444"));
        assert_eq!(socket_inode(unix, "/run/b"), None);
        let held = |inodes: &[&str]| inodes.iter().map(|inode| (*inode).to_owned()).collect();
        assert_eq!(accepted(unix, "/run/a b.sock", &held(&["444", "555"])), 1);
        assert_eq!(accepted(unix, "/run/a b.sock", &held(&["444"])), 0);
        assert_eq!(established(tcp, &[0xC383], &held(&["111", "222"])), 1);
        assert_eq!(established(tcp, &[0x1F90], &held(&["111", "222"])), 0);
    }

    #[test]
    fn we_own_what_we_listen_at() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let owner = of_port(listener.local_addr().unwrap().port()).unwrap();
        assert_eq!(owner.pid, std::process::id());
    }

    #[test]
    fn whoever_has_connected_is_counted_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a b.sock");
        let (tcp, unix) = (
            std::net::TcpListener::bind("127.0.0.1:0").unwrap(),
            std::os::unix::net::UnixListener::bind(&path).unwrap(),
        );
        let port = tcp.local_addr().unwrap().port();
        let count = || Connections::now().served(std::process::id(), &path, &[port]);
        assert_eq!(count(), 0);
        let client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let served = tcp.accept().unwrap();
        assert_eq!(count(), 1);
        let other = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let served_too = unix.accept().unwrap();
        assert_eq!(count(), 2);
        drop((client, served, other, served_too));
        assert_eq!(count(), 0);
    }
}
