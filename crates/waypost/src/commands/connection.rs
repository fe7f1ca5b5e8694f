//! The arguments that say where to connect and as whom, shared by the commands that are clients.

use std::path::PathBuf;

use waypost_mqtt::{Property, PropertyBuffer, ProtocolVersion, QoS, ReasonCode, Topic};

use super::property::{self, Carrier};
use crate::Failure;
use waypost_client::door::endpoint::{Endpoint, Scheme};
use waypost_client::door::tls::TlsOptions;
use waypost_client::door::{Door, DoorError, NoWay};
use waypost_client::protocol::event::Closed;
use waypost_client::protocol::options::{Acknowledge, Options, WillOptions};
use waypost_client::{Builder, ConnectError};

/// mosquitto's exit code for a lost connection.
pub const CODE_LOST: u8 = 7;
/// Messages sent and not acknowledged, as mosquitto's clients do.
const IN_FLIGHT_DEFAULT: u16 = 20;

/// Where the server is and who connects.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct ServerArgs {
    #[arg(
        long,
        short = 'L',
        value_name = "URL",
        conflicts_with_all = ["host", "port", "unix"],
        help = "The server: mqtt://[USER[:PASSWORD]@]HOST[:PORT]; also mqtts, ws, wss, unix:///PATH"
    )]
    url: Option<String>,
    /// The server's name or address
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    host: String,
    /// The server's port [default: 1883, with TLS 8883]
    #[arg(short, long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// The server's Unix socket
    #[arg(long, value_name = "PATH", conflicts_with_all = ["host", "port"])]
    unix: Option<String>,
    /// User name
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// Password
    #[arg(short = 'P', long = "pw", value_name = "PASSWORD")]
    password: Option<String>,
    /// Seconds without traffic before a ping; 0: never
    #[arg(
        short,
        long = "keepalive",
        value_name = "SECONDS",
        default_value_t = 60
    )]
    keep_alive: u16,
    /// Protocol: mqttv5 (or 5), mqttv311 (or 311), mqttv31 (or 31)
    #[arg(short = 'V', long, value_name = "VERSION", default_value = "mqttv5", value_parser = parse_version)]
    protocol_version: ProtocolVersion,
    #[command(flatten)]
    tls: TlsArgs,
}

/// Whom to trust and what to show where the server speaks TLS; any of these asks for it.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "TLS")]
struct TlsArgs {
    /// Trust the authorities in this file (PEM) [default: the system's]
    #[arg(long, value_name = "FILE")]
    cafile: Option<PathBuf>,
    /// Trust the authorities in the files of this directory
    #[arg(long, value_name = "DIR")]
    capath: Option<PathBuf>,
    /// The client's own certificate (PEM, with what it is signed by)
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The private key of the client's certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Take a trusted certificate whatever name it is for
    #[arg(long)]
    insecure: bool,
    /// The oldest TLS to speak: tlsv1.2 or tlsv1.3
    #[arg(long, value_name = "VERSION", value_parser = ["tlsv1.2", "tlsv1.3"])]
    tls_version: Option<String>,
}

/// Which client it is, and its session and will.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Session")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct SessionArgs {
    /// Client id [default: a new one each time]
    #[arg(short, long = "id", value_name = "ID")]
    id: Option<String>,
    /// Client id that begins with this and ends with the process id
    #[arg(short = 'I', long, value_name = "PREFIX", conflicts_with = "id")]
    id_prefix: Option<String>,
    /// Keep the session when the connection ends (needs -i)
    #[arg(short = 'c', long, requires = "id")]
    disable_clean_session: bool,
    /// Seconds the session outlives its connection (MQTT 5) [default: for ever with -c, else 0]
    #[arg(short = 'x', long, value_name = "SECONDS")]
    session_expiry_interval: Option<u32>,
    /// MQTT 5 property: PACKET NAME VALUE, or PACKET user-property NAME VALUE
    #[arg(short = 'D', long = "property", num_args = 3..=4, value_names = ["PACKET", "NAME", "VALUE"], action = clap::ArgAction::Append)]
    properties: Vec<String>,
    /// Topic of the message the server sends when this client's connection fails
    #[arg(long, value_name = "TOPIC")]
    will_topic: Option<String>,
    /// The will's payload
    #[arg(long, value_name = "TEXT", requires = "will_topic")]
    will_payload: Option<String>,
    /// The will's QoS
    #[arg(long, value_name = "QOS", requires = "will_topic", default_value = "0", value_parser = parse_qos)]
    will_qos: QoS,
    /// Retain the will
    #[arg(long, requires = "will_topic")]
    will_retain: bool,
    /// Say on standard error what happens
    #[arg(short, long, conflicts_with = "quiet")]
    pub debug: bool,
    /// Say nothing on standard error but why it failed
    #[arg(long)]
    pub quiet: bool,
}

/// A server that the arguments name.
#[derive(Debug)]
pub struct Server {
    /// As the user wrote it.
    pub endpoint: Endpoint,
    /// The way there.
    pub door: Door,
    version: ProtocolVersion,
}

impl ServerArgs {
    /// Finds the server.
    pub fn server(&self) -> Result<Server, Failure> {
        let endpoint = self.endpoint()?;
        let door = Door::find(&endpoint, &self.tls.options()).map_err(|error| match error {
            NoWay::Unresolved(error) => unreachable(&endpoint, &error),
            error => Failure::usage(error.to_string()),
        })?;
        Ok(Server {
            endpoint,
            door,
            version: self.protocol_version,
        })
    }

    fn endpoint(&self) -> Result<Endpoint, Failure> {
        if let Some(url) = &self.url {
            let endpoint =
                Endpoint::parse(url).map_err(|error| Failure::usage(error.to_string()))?;
            if self.tls.is_asked_for() && !endpoint.scheme.is_tls() {
                return Err(no_tls(endpoint.scheme));
            }
            return Ok(endpoint);
        }
        if let Some(path) = &self.unix {
            if self.tls.is_asked_for() {
                return Err(no_tls(Scheme::Unix));
            }
            return Ok(Endpoint::unix(path));
        }
        if self.host.contains("://") {
            return Err(
                Failure::usage(format!("--host takes a name, not `{}`", self.host))
                    .hint(format!("write --url {}", self.host)),
            );
        }
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        // Port 8883 is for nothing else, as mosquitto's clients take it too.
        let tls = self.tls.is_asked_for() || self.port == Some(Scheme::Mqtts.port_default());
        let scheme = if tls { Scheme::Mqtts } else { Scheme::Mqtt };
        Ok(Endpoint::host(scheme, host, self.port))
    }

    /// How a client `id` with a session of its own connects.
    pub fn options(&self, server: &Server, client_id: String) -> Options {
        let endpoint = &server.endpoint;
        let password = self.password.as_ref().or(endpoint.password.as_ref());
        Options {
            version: self.protocol_version,
            client_id,
            clean_start: true,
            keep_alive: self.keep_alive,
            user_name: self.username.clone().or_else(|| endpoint.user_name.clone()),
            password: password.map(|text| text.clone().into_bytes()),
            will: None,
            properties: PropertyBuffer::new(),
            in_flight_max: IN_FLIGHT_DEFAULT,
            resume_seconds: 0,
            acknowledge: Acknowledge::AtOnce,
        }
    }
}

impl TlsArgs {
    fn is_asked_for(&self) -> bool {
        self.cafile.is_some()
            || self.capath.is_some()
            || self.cert.is_some()
            || self.insecure
            || self.tls_version.is_some()
    }

    fn options(&self) -> TlsOptions {
        TlsOptions {
            ca_file: self.cafile.clone(),
            ca_path: self.capath.clone(),
            certificate: self.cert.clone().zip(self.key.clone()),
            any_name: self.insecure,
            only_13: self.tls_version.as_deref() == Some("tlsv1.3"),
        }
    }
}

impl SessionArgs {
    /// How the client connects; what `-D` says for other packets is left to [`Self::properties`].
    pub fn options(&self, arguments: &ServerArgs, server: &Server) -> Result<Options, Failure> {
        let id = match (&self.id, &self.id_prefix) {
            (Some(id), _) => id.clone(),
            (None, Some(prefix)) => format!("{prefix}{}", std::process::id()),
            (None, None) => format!("waypost-{:016x}", random()),
        };
        let mut options = arguments.options(server, id);
        let version5 = options.version == ProtocolVersion::V5;
        if !version5 && !self.properties.is_empty() {
            return Err(Failure::usage("properties (-D) need MQTT 5").hint("leave out -V"));
        }
        options.clean_start = !self.disable_clean_session;
        options.properties = self.properties(Carrier::Connect)?;
        let forever = self.disable_clean_session.then_some(u32::MAX);
        if let Some(seconds) = self.session_expiry_interval.or(forever)
            && version5
            && options
                .properties
                .as_properties()
                .session_expiry_interval()
                .is_none()
        {
            options
                .properties
                .push(Property::SessionExpiryInterval(seconds));
        }
        if let Some(topic) = &self.will_topic {
            check_topic(topic)?;
            options.will = Some(WillOptions {
                topic: topic.clone(),
                payload: self.will_payload.clone().unwrap_or_default().into_bytes(),
                qos: self.will_qos,
                retain: self.will_retain,
                properties: self.properties(Carrier::Will)?,
            });
        }
        Ok(options)
    }

    /// The `-D` properties of one packet.
    pub fn properties(&self, carrier: Carrier) -> Result<PropertyBuffer, Failure> {
        property::collect(&self.properties, carrier)
    }

    /// Says `text` on standard error when `--debug` asks for it.
    pub fn debug(&self, text: &str) {
        if self.debug {
            eprintln!("{text}");
        }
    }
}

impl Server {
    /// A client that connects there.
    pub fn client(&self, options: Options) -> Builder {
        Builder::through(self.door.clone()).options(options)
    }

    /// Why there is no first connection, as its user reads it.
    pub fn refusal(&self, error: &ConnectError) -> Failure {
        match error {
            ConnectError::Closed(why) => self.failure(why),
            error => Failure::new(error.to_string()),
        }
    }

    /// The end of a connection as its user reads it.
    pub fn failure(&self, closed: &Closed) -> Failure {
        match closed {
            Closed::Unreachable(error) => unreachable(&self.endpoint, error),
            Closed::Door(error) => {
                let failure = Failure::new(format!("{}: {error}", self.endpoint));
                let failure = match error {
                    DoorError::ClosedBeforeMqtt => failure.code(CODE_LOST),
                    _ => failure,
                };
                match error.hint(&self.endpoint) {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                }
            }
            Closed::Refused { reason, .. } => {
                let failure = Failure::new(closed.to_string()).code(self.refusal_code(*reason));
                match reason {
                    ReasonCode::UnsupportedProtocolVersion => {
                        failure.hint("ask for another version: -V mqttv311")
                    }
                    ReasonCode::BadUserNameOrPassword | ReasonCode::NotAuthorized => {
                        failure.hint("say who you are: -u NAME -P PASSWORD")
                    }
                    ReasonCode::ClientIdentifierNotValid => {
                        failure.hint("choose another id: -i ID")
                    }
                    _ => failure,
                }
            }
            Closed::Disconnected {
                reason: ReasonCode::SessionTakenOver,
                ..
            } => Failure::new(closed.to_string())
                .code(CODE_LOST)
                .hint("another client uses the same id; choose one with -i"),
            Closed::Protocol(_) if self.version == ProtocolVersion::V5 => {
                Failure::new(closed.to_string()).hint("an older server may want -V mqttv311")
            }
            Closed::Lost(_) | Closed::Disconnected { .. } | Closed::Silent(_) => {
                Failure::new(format!("{}: {closed}", self.endpoint)).code(CODE_LOST)
            }
            Closed::Protocol(_) | Closed::Finished => Failure::new(closed.to_string()),
        }
    }

    /// The CONNACK code as the version writes it, which is what mosquitto's clients exit with.
    fn refusal_code(&self, reason: ReasonCode) -> u8 {
        if self.version == ProtocolVersion::V5 {
            return reason.as_u8();
        }
        match reason {
            ReasonCode::UnsupportedProtocolVersion => 1,
            ReasonCode::ClientIdentifierNotValid => 2,
            ReasonCode::ServerUnavailable => 3,
            ReasonCode::BadUserNameOrPassword => 4,
            _ => 5,
        }
    }
}

fn no_tls(scheme: Scheme) -> Failure {
    let secret = match scheme {
        Scheme::Unix => {
            return Failure::usage("a Unix socket has no TLS").hint("leave out what is for TLS");
        }
        scheme if scheme.is_websocket() => Scheme::Wss,
        _ => Scheme::Mqtts,
    };
    Failure::usage(format!("{scheme}:// is not encrypted"))
        .hint(format!("write {secret}://, or leave out what is for TLS"))
}

fn unreachable(endpoint: &Endpoint, error: &std::io::Error) -> Failure {
    use std::io::ErrorKind;
    let failure = Failure::new(format!("cannot reach {endpoint}: {error}"));
    match (endpoint.scheme, error.kind()) {
        (Scheme::Unix, ErrorKind::ConnectionRefused | ErrorKind::NotFound) => {
            let start = format!("`waypost serve --unix {}`", endpoint.host);
            failure.hint(format!("is a server running there? {start} starts one"))
        }
        (Scheme::Unix, _) => failure.hint("check the path, and who may open it"),
        (Scheme::Mqtt, ErrorKind::ConnectionRefused) => {
            failure.hint("is a server running there? `waypost serve` starts one")
        }
        (scheme, ErrorKind::ConnectionRefused) => failure.hint(format!(
            "is a server running there, and does it serve {scheme}?"
        )),
        _ => failure.hint("check --host and --port, or --url"),
    }
}

/// Fails on what is not a topic name, and says why.
pub fn check_topic(topic: &str) -> Result<(), Failure> {
    match Topic::parse(topic) {
        Ok(_) => Ok(()),
        Err(error) => {
            let failure = Failure::usage(format!("`{topic}` is not a topic: {error}"));
            Err(if topic.contains(['+', '#']) {
                failure.hint("wildcards (+ and #) are for `waypost sub`")
            } else {
                failure
            })
        }
    }
}

/// Reads a QoS for clap.
pub fn parse_qos(text: &str) -> Result<QoS, String> {
    let number = text
        .parse::<u8>()
        .map_err(|_| "write 0, 1 or 2".to_owned())?;
    QoS::try_from(number).map_err(|_| "write 0, 1 or 2".to_owned())
}

fn parse_version(text: &str) -> Result<ProtocolVersion, String> {
    match text.to_ascii_lowercase().as_str() {
        "mqttv5" | "5" | "5.0" => Ok(ProtocolVersion::V5),
        "mqttv311" | "311" | "3.1.1" | "4" => Ok(ProtocolVersion::V311),
        "mqttv31" | "31" | "3.1" | "3" => Ok(ProtocolVersion::V31),
        _ => Err("write mqttv5, mqttv311 or mqttv31".to_owned()),
    }
}

/// A number nobody else has: for client ids, not for secrets.
pub fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_in_all_their_spellings() {
        for (text, version) in [
            ("mqttv5", ProtocolVersion::V5),
            ("5", ProtocolVersion::V5),
            ("mqttv311", ProtocolVersion::V311),
            ("3.1.1", ProtocolVersion::V311),
            ("31", ProtocolVersion::V31),
        ] {
            assert_eq!(parse_version(text), Ok(version), "{text}");
        }
        assert!(parse_version("6").is_err());
    }

    #[test]
    fn qos_is_0_1_or_2() {
        assert_eq!(parse_qos("2"), Ok(QoS::ExactlyOnce));
        assert!(parse_qos("3").is_err());
        assert!(parse_qos("x").is_err());
    }
}
