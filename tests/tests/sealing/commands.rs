//! What `pub` and `keys` say to somebody who asks for what cannot be.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use waypost_tests::{Program, Server, ServerOptions, required_program, waypost};

struct Keys(tempfile::TempDir);

impl Keys {
    /// A directory where ann has keys.
    fn of_ann() -> Self {
        let keys = Self(tempfile::tempdir().unwrap());
        let output = keys.run(&["keys", "new", "ann"]);
        assert!(output.status.success());
        keys
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = waypost();
        command.args(arguments);
        self.ended(command)
    }

    fn ended(&self, mut command: Command) -> Output {
        command.env("WAYPOST_KEYS", self.path("keys"));
        command.stdin(Stdio::null()).output().unwrap()
    }

    fn publish(&self, server: &Server, arguments: &[&str]) -> Output {
        let port = server.mqtt().port().to_string();
        self.run(&[&["pub", "-p", &port, "-t", "chat/lobby"], arguments].concat())
    }
}

#[track_caller]
fn check(output: &Output, code: i32, said: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains(said), "{error}");
    assert_eq!(output.status.code(), Some(code), "{error}");
}

/// Goal: who publishes where the server takes only what is sealed reads what to do about it, not only a reason code's name.
#[test]
fn pub_says_why_the_server_refused() {
    let policy = "[[topic]]\nfilter = \"chat/#\"\nseal = \"required\"\n";
    let server = ServerOptions::new().configuration(policy).start();
    let keys = Keys::of_ann();
    for qos in ["1", "2"] {
        let refused = keys.publish(&server, &["-m", "in the clear", "-q", qos]);
        let said = "the policy of chat/# takes only sealed messages: seal it";
        check(&refused, 0x83, said);
    }
    let taken = keys.publish(
        &server,
        &["-m", "for her eyes", "-q", "1", "--seal-for", "ann"],
    );
    check(&taken, 0, "");
}

/// Goal: what cannot be sealed, or would lie about what is sealed, is refused before anything is sent.
#[test]
fn pub_refuses_what_a_sealed_message_cannot_be() {
    let server = Server::start();
    let keys = Keys::of_ann();
    let property = ["-D", "publish"];
    for (arguments, said) in [
        (&["payload-format-indicator", "1"][..], "is bytes"),
        (&["content-type", "text/plain"], "application/cose"),
        (
            &["user-property", "content-encoding", "zstd"],
            "said inside",
        ),
    ] {
        let arguments = [&["-m", "x", "--seal-for", "ann"], &property[..], arguments].concat();
        check(&keys.publish(&server, &arguments), 2, said);
    }
    for (arguments, said) in [
        (
            &["-m", "x", "--seal-for", "eve"][..],
            "no keys of the name eve",
        ),
        (&["-m", "x", "--seal-for", "../ann"], "is not a name"),
        (&["-n", "--seal-for", "ann"], "nothing that could be sealed"),
        (
            &["-m", "x", "--seal-for", "ann", "--encrypt", "des"],
            "obsolete",
        ),
    ] {
        check(&keys.publish(&server, arguments), 2, said);
    }
}

/// Goal: a private key that could not be written whole leaves no half of it, which would stand in the way of the next attempt.
/// Method: a limit of no bytes for files, as a full disk is, that a signal does not turn into an end.
#[test]
fn an_export_that_fails_leaves_nothing_behind() {
    let keys = Keys::of_ann();
    let file = keys.path("ann.private.json");
    let mut command = Command::new("sh");
    let program = waypost().get_program().to_owned();
    command
        .args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"])
        .arg(program)
        .args(["keys", "export", "ann", "--private", "-o", &file]);
    check(&keys.ended(command), 1, "ann.private.json: File too large");
    assert!(!Path::new(&file).exists());
    let again = keys.run(&["keys", "export", "ann", "--private", "-o", &file]);
    check(&again, 0, "");
}

/// Goal: the example in Python takes a file that has no key, or half of one, for a mistake, and says which file and why.
#[test]
fn the_python_example_says_what_is_wrong_with_a_file() {
    if required_program(Program::Python).is_none() {
        return;
    }
    let keys = Keys::of_ann();
    let public = keys.path("ann.json");
    check(&keys.run(&["keys", "export", "ann", "-o", &public]), 0, "");
    let (none, empty) = (keys.path("none.json"), keys.path("empty.json"));
    std::fs::write(&empty, "[{}]").unwrap();
    let directory = keys.path("keys");
    for (file, said) in [
        (&none, "none.json: No such file"),
        (&directory, "keys: Is a directory"),
        (&empty, "empty.json: not a key"),
        (&public, "ann.json: public keys open and sign nothing"),
    ] {
        let example = "/../examples/sealing/sealing.py";
        let mut python = required_program(Program::Python).unwrap();
        python.arg(format!("{}{example}", env!("CARGO_MANIFEST_DIR")));
        python.args(["sub", "letters/#", "--key", file]);
        let output = keys.ended(python);
        check(&output, 1, said);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}
