//! What stands behind figspan: Debian's Tomcat, and the part that was extracted from it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use figspan_tests::port;

use super::{folder, listening};

/// A Tomcat with its examples, in a base folder of its own; ends with this value.
pub struct Tomcat {
    pub name: &'static str,
    pub address: SocketAddr,
    base: PathBuf,
    child: Child,
}

impl Tomcat {
    pub fn start(name: &'static str) -> Self {
        let examples = Path::new("/usr/share/tomcat10-examples/examples");
        assert!(examples.exists(), "tomcat10-examples is missing: run tests/monolith/install");
        let base = folder(name);
        for part in ["logs", "temp", "webapps", "work"] {
            std::fs::create_dir(base.join(part)).unwrap();
        }
        let copied = Command::new("cp").arg("-rL").arg("/etc/tomcat10").arg(base.join("conf")).status().unwrap();
        assert!(copied.success());
        std::os::unix::fs::symlink(examples, base.join("webapps/examples")).unwrap();
        let address = port::kept();
        let file = base.join("conf/server.xml");
        let server = std::fs::read_to_string(&file).unwrap();
        let changed = server
            .replacen("<Connector port=\"8080\"", &format!("<Connector address=\"127.0.0.1\" port=\"{}\"", address.port()), 1)
            .replacen(
                "<Engine name=\"Catalina\" defaultHost=\"localhost\">",
                &format!("<Engine name=\"Catalina\" defaultHost=\"localhost\" jvmRoute=\"{name}\">"),
                1,
            )
            // The log is the witness: each line at once.
            .replacen(
                "className=\"org.apache.catalina.valves.AccessLogValve\"",
                "className=\"org.apache.catalina.valves.AccessLogValve\" buffered=\"false\"",
                1,
            );
        for part in ["127.0.0.1", "jvmRoute=", "buffered="] {
            assert!(changed.contains(part), "server.xml is not as expected: {part}");
        }
        std::fs::write(&file, changed).unwrap();
        let log = std::fs::File::create(base.join("logs/console.log")).unwrap();
        let child = Command::new("/usr/share/tomcat10/bin/catalina.sh")
            .arg("run")
            .env("CATALINA_HOME", "/usr/share/tomcat10")
            .env("CATALINA_BASE", &base)
            .env("CATALINA_TMPDIR", base.join("temp"))
            .env("JAVA_OPTS", "-Xmx256m -Djava.awt.headless=true")
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let tomcat = Self { name, address, base, child };
        listening(name, address, Duration::from_secs(60));
        tomcat
    }

    fn access_log(&self) -> String {
        let logs = std::fs::read_dir(self.base.join("logs")).unwrap().map(|entry| entry.unwrap().path());
        logs.filter(|path| path.to_string_lossy().contains("access_log")).map(|path| std::fs::read_to_string(path).unwrap()).collect()
    }

    /// Lines of the access log, the agents' own health checks left out.
    pub fn access_log_lines(&self) -> usize {
        self.access_log().lines().filter(|line| !line.contains("/examples/index.html")).count()
    }

    pub fn access_log_count(&self, method: &str) -> usize {
        self.access_log().lines().filter(|line| line.contains(&format!("\"{method} "))).count()
    }
}

impl Drop for Tomcat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The extracted part: tests/monolith/orders.py.
pub struct Orders {
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    child: Child,
    // Its end is the program's.
    _stdin: ChildStdin,
}

impl Orders {
    pub fn start() -> Self {
        let mut child = python("orders.py").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = |key: &str| -> SocketAddr {
            let port = line.split_whitespace().find_map(|part| part.strip_prefix(key)).unwrap_or_else(|| panic!("orders.py said {line:?}"));
            ([127, 0, 0, 1], port.parse().unwrap()).into()
        };
        Self { http: port("http="), grpc: port("grpc="), _stdin: child.stdin.take().unwrap(), child }
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A script of tests/monolith in the environment that `install` made.
pub fn python(script: &str) -> Command {
    let root = figspan_tests::architecture::root();
    let interpreter = root.join("target/monolith/venv/bin/python");
    assert!(interpreter.exists(), "the Python clients are missing: run tests/monolith/install");
    let mut command = Command::new(interpreter);
    command.arg(root.join("tests/monolith").join(script));
    command
}
