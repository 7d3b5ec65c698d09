//! A private RabbitMQ with an Erlang port mapper of its own, so that no other
//! Erlang node on the machine is met or disturbed.

use std::{
    ffi::OsString,
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    apt,
    error::{Context, Error},
    instance::{Instance, Launch, Started},
    interrupt::Interrupt,
    ports,
    servers::{Setting, foreign_settings},
};

/// Name of the process, its port and its directory.
pub const NAME: &str = "rabbitmq";
/// Name of the port mapper's process and port.
pub const PORT_MAPPER: &str = "epmd";
/// Of the broker's user.
const USER: &str = "assettrack";
/// How long a first start may take on a loaded machine with two cores.
const START_DEADLINE: Duration = Duration::from_secs(120);
/// How long the port mapper may take.
const PORT_MAPPER_DEADLINE: Duration = Duration::from_secs(10);

/// Both programs of a RabbitMQ installation.
#[derive(Clone, Debug)]
pub struct Installation {
    server: PathBuf,
    port_mapper: PathBuf,
}

/// A broker that boots, or one that ran already.
pub struct Starting {
    url: String,
    port: u16,
    started: Option<Started>,
}

/// Finds RabbitMQ. What Debian has in PATH insists on being root or `rabbitmq`
/// and on its own directories; the script behind it does not.
pub fn find() -> Option<Installation> {
    let behind = PathBuf::from("/usr/lib/rabbitmq/bin/rabbitmq-server");
    let server = if apt::is_program(&behind) { behind } else { apt::find_in_path("rabbitmq-server")? };
    apt::find_in_path("erl")?;
    Some(Installation { server, port_mapper: apt::find_in_path("epmd")? })
}

/// Starts the broker; [`Starting::await_ready`] waits for it.
pub fn start(instance: &mut Instance, setting: &Setting) -> Result<Starting, Error> {
    let port = instance.port(NAME)?;
    let password = &setting.credentials.rabbitmq;
    let url = format!("amqp://{USER}:{password}@127.0.0.1:{port}/%2f");
    if instance.is_running(NAME) {
        return Ok(Starting { url, port, started: None });
    }
    // Looked for before anything is started, so this cannot fail here.
    let Some(installation) = find() else { return Err(Error::Missing(Vec::new())) };
    let home = setting.data.join(NAME);
    write_settings(&home, port, setting)?;

    let mapper_port = instance.port(PORT_MAPPER)?;
    let environment = vec![("ERL_EPMD_ADDRESS".to_owned(), OsString::from("127.0.0.1"))];
    if !instance.is_running(PORT_MAPPER) {
        let mut mapper = instance.start(Launch {
            name: PORT_MAPPER.to_owned(),
            program: installation.port_mapper,
            arguments: vec!["-port".into(), mapper_port.to_string().into()],
            environment: environment.clone(),
            hidden: foreign_settings(),
            account: setting.account.clone(),
            directory: home.clone(),
            port: Some(mapper_port),
            admin_port: None,
        })?;
        mapper.await_ready(PORT_MAPPER_DEADLINE, setting.interrupt, || {
            if ports::listens(mapper_port) { Ok(()) } else { Err("it does not listen".to_owned()) }
        })?;
    }
    let distribution_port = instance.port("rabbitmq-distribution")?;
    let started = instance.start(Launch {
        name: NAME.to_owned(),
        program: installation.server,
        arguments: Vec::new(),
        environment: broker_environment(&home, environment, mapper_port, distribution_port),
        hidden: foreign_settings(),
        account: setting.account.clone(),
        directory: home,
        port: Some(port),
        admin_port: None,
    })?;
    Ok(Starting { url, port, started: Some(started) })
}

impl Starting {
    /// Whether there is nothing to wait for.
    pub fn runs_already(&self) -> bool {
        self.started.is_none()
    }

    /// Waits until the broker speaks AMQP, and tells its URL.
    pub fn await_ready(self, interrupt: &Interrupt) -> Result<String, Error> {
        if let Some(mut started) = self.started {
            started.await_ready(START_DEADLINE, interrupt, || speaks_amqp(self.port))?;
        }
        Ok(self.url)
    }
}

/// Opens a connection as an AMQP client does. RabbitMQ listens last of all, so
/// users and queues are there when it answers.
pub fn speaks_amqp(port: u16) -> Result<(), String> {
    const TIMEOUT: Duration = Duration::from_secs(2);
    const PROTOCOL_HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";
    const METHOD_FRAME: u8 = 1;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.write_all(PROTOCOL_HEADER)?;
        let mut first = [0];
        stream.read_exact(&mut first)?;
        Ok::<u8, std::io::Error>(first[0])
    };
    match ask() {
        Ok(METHOD_FRAME) => Ok(()),
        Ok(_) => Err(format!("what listens on port {port} does not speak AMQP 0-9-1")),
        Err(error) => Err(format!("port {port} does not answer: {error}")),
    }
}

fn write_settings(home: &Path, port: u16, setting: &Setting) -> Result<(), Error> {
    let password = &setting.credentials.rabbitmq;
    // The user is made when the broker starts on no data.
    let configuration = format!(
        "listeners.tcp.1 = 127.0.0.1:{port}\n\
         default_user = {USER}\n\
         default_pass = {password}\n\
         vm_memory_high_watermark.absolute = 512MB\n\
         disk_free_limit.absolute = 200MB\n\
         raft.wal_max_size_bytes = 67108864\n\
         log.file = false\n\
         log.console = true\n\
         log.console.level = info\n\
         log.console.formatter = json\n"
    );
    // The directory stands in for the system's conf.d, and stays empty.
    let directory = home.join("conf.d");
    fs::create_dir_all(&directory).on("make", &directory)?;
    let files =
        [("rabbitmq.conf", configuration.as_str()), ("enabled_plugins", "[].\n"), ("environment", "")];
    for (name, text) in files {
        let path = home.join(name);
        fs::write(&path, text).on("write", &path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).on("close to others", &path)?;
    }
    if let Some(account) = &setting.account {
        account.own(home)?;
        account.own(&directory)?;
        for (name, _) in files {
            account.own(&home.join(name))?;
        }
    }
    Ok(())
}

fn broker_environment(
    home: &Path,
    mut environment: Vec<(String, OsString)>,
    mapper_port: u16,
    distribution_port: u16,
) -> Vec<(String, OsString)> {
    let mut set = |name: &str, value: OsString| environment.push((name.to_owned(), value));
    set("HOME", home.into());
    // The same name in every checkout: each has a port mapper of its own.
    set("RABBITMQ_NODENAME", "assettrack@localhost".into());
    set("RABBITMQ_CONFIG_FILE", home.join("rabbitmq.conf").into());
    set("RABBITMQ_CONFIG_FILES", home.join("conf.d").into());
    set("RABBITMQ_CONF_ENV_FILE", home.join("environment").into());
    set("RABBITMQ_ENABLED_PLUGINS_FILE", home.join("enabled_plugins").into());
    set("RABBITMQ_MNESIA_BASE", home.join("mnesia").into());
    set("RABBITMQ_LOG_BASE", home.join("log").into());
    set("RABBITMQ_PID_FILE", home.join("pid").into());
    set("RABBITMQ_DIST_PORT", distribution_port.to_string().into());
    set("ERL_EPMD_PORT", mapper_port.to_string().into());
    let loopback = "-kernel inet_dist_use_interface {127,0,0,1}";
    set("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", loopback.into());
    // Locale names of the machine may not exist for a bare user.
    set("LC_ALL", "C.UTF-8".into());
    environment
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
        thread,
    };

    use super::speaks_amqp;

    #[test]
    fn only_an_amqp_answer_is_ready() {
        for (answer, ready) in
            [(&b"\x01\x00\x00"[..], true), (b"HTTP/1.1 400", false), (b"AMQP\x00\x00\x09\x01", false)]
        {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut header = [0; 8];
                stream.read_exact(&mut header).unwrap();
                stream.write_all(answer).unwrap();
                header
            });
            assert_eq!(speaks_amqp(port).is_ok(), ready, "{answer:?}");
            assert_eq!(&server.join().unwrap(), b"AMQP\x00\x00\x09\x01");
        }
    }
}
