//! A RabbitMQ of one's own: a node in a temporary directory on free ports, gone with the test.

use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bandy::mq::client::{Config, Connection};
use bandy::shutdown::Shutdown;
use bandy::transport::Address;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::support::until;

/// Where Debian has it; its wrapper in the path changes the user.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// It takes ten seconds on an idle machine.
const START_TIMEOUT: Duration = Duration::from_secs(180);

pub struct RabbitMq {
    directory: tempfile::TempDir,
    port: u16,
    /// Of its management API and of its metrics; 0 without.
    management: u16,
    prometheus: u16,
    ports: [u16; 2],
    /// Erlang's name server: ours alone, for a node that starts one itself leaves it behind.
    names: Child,
    child: Child,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl RabbitMq {
    /// Starts one and waits until it lets guest in.
    pub async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), "[].", [0, 0]).await
    }

    /// One that speaks TLS as well, knows who comes by the common name of a certificate, and has what `definitions` say;
    /// and the port where it does.
    pub async fn start_with_certificates(
        authority: &str,
        identity: [String; 2],
        definitions: &str,
    ) -> (Self, u16) {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let [certificate, key] = identity;
        let file = directory.path().join("definitions.json");
        std::fs::write(&file, definitions).unwrap();
        let settings = format!(
            "listeners.ssl.1 = 127.0.0.1:{port}\nssl_options.cacertfile = {authority}\n\
             ssl_options.certfile = {certificate}\nssl_options.keyfile = {key}\nssl_options.verify = verify_peer\n\
             ssl_options.fail_if_no_peer_cert = false\nauth_mechanisms.1 = PLAIN\nauth_mechanisms.2 = EXTERNAL\n\
             ssl_cert_login_from = common_name\nload_definitions = {}\n",
            file.display()
        );
        std::fs::write(directory.path().join("rabbitmq.conf"), settings).unwrap();
        (Self::start_in(directory, "[rabbitmq_auth_mechanism_ssl].", [0, 0]).await, port)
    }

    /// The same with its management API and its metrics, whose figures are a second old at most.
    pub async fn start_with_management() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (management, prometheus) = (free_port(), free_port());
        let settings = format!(
            "management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\n\
             prometheus.tcp.ip = 127.0.0.1\nprometheus.tcp.port = {prometheus}\ncollect_statistics_interval = 1000\n"
        );
        std::fs::write(directory.path().join("rabbitmq.conf"), settings).unwrap();
        let plugins = "[rabbitmq_management,rabbitmq_prometheus].";
        let started = Self::start_in(directory, plugins, [management, prometheus]).await;
        until("the management API answers", || TcpStream::connect(("127.0.0.1", management)).is_ok());
        started
    }

    async fn start_in(
        directory: tempfile::TempDir,
        plugins: &str,
        [management, prometheus]: [u16; 2],
    ) -> Self {
        assert!(Path::new(SERVER).exists(), "{SERVER} is missing: apt-get install rabbitmq-server");
        std::fs::write(directory.path().join("plugins"), plugins).unwrap();
        let (port, ports) = (free_port(), [free_port(), free_port()]);
        let names = Command::new("epmd")
            .args(["-port", &ports[1].to_string()])
            // It complains of every look at its port.
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("epmd listens", || TcpStream::connect(("127.0.0.1", ports[1])).is_ok());
        let child = spawn(directory.path(), port, ports);
        let started = Self { directory, port, management, prometheus, ports, names, child };
        started.ready().await;
        started
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Port of its management API.
    pub fn management(&self) -> u16 {
        self.management
    }

    /// Port of its metrics.
    pub fn prometheus(&self) -> u16 {
        self.prometheus
    }

    /// Its endpoint, with its management API.
    pub fn url(&self) -> String {
        format!("amqp://127.0.0.1:{}/?admin=http://127.0.0.1:{}", self.port, self.management)
    }

    pub fn config(&self) -> Config {
        Config::new(Address::tcp("127.0.0.1", self.port))
    }

    /// Ends it without warning, as a power cut does.
    pub fn kill(&mut self) {
        let group = Pid::from_child(&self.child);
        kill_process_group(group, Signal::KILL).unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again with what it had. Does not wait.
    pub fn restart(&mut self) {
        self.child = spawn(self.directory.path(), self.port, self.ports);
    }

    async fn ready(&self) {
        let deadline = Instant::now() + START_TIMEOUT;
        let shutdown = Shutdown::new();
        loop {
            match Connection::open(&self.config(), &shutdown).await {
                Ok(connection) => return connection.close().await.unwrap(),
                Err(error) if Instant::now() < deadline => {
                    // Nothing announces it but the port itself.
                    assert!(error.is_transient(), "{error}");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(error) => panic!("{error}: {}", self.log()),
            }
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("output")).unwrap_or_default()
    }
}

fn spawn(directory: &Path, port: u16, [distribution, epmd]: [u16; 2]) -> Child {
    let output = std::fs::File::create(directory.join("output")).unwrap();
    let at = |name: &str| directory.join(name);
    Command::new(SERVER)
        .env("HOME", directory)
        .env("RABBITMQ_NODENAME", format!("bandy{port}@localhost"))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", port.to_string())
        .env("RABBITMQ_DIST_PORT", distribution.to_string())
        .env("ERL_EPMD_PORT", epmd.to_string())
        .env("RABBITMQ_MNESIA_BASE", at("data"))
        .env("RABBITMQ_LOG_BASE", at("log"))
        .env("RABBITMQ_LOGS", at("log/rabbit.log"))
        .env("RABBITMQ_PID_FILE", at("pid"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", at("plugins"))
        .env("RABBITMQ_CONFIG_FILE", at("rabbitmq"))
        .env("RABBITMQ_ADVANCED_CONFIG_FILE", at("advanced.config"))
        .env("RABBITMQ_SCHEMA_DIR", at("schema"))
        .env("RABBITMQ_GENERATED_CONFIG_DIR", at("schema"))
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .process_group(0)
        .spawn()
        .unwrap()
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
        let _ = self.names.kill();
        let _ = self.names.wait();
    }
}
