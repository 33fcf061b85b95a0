//! Debian's Tomcat on a VM, from Debian's packages and as Debian's unit starts it: its examples, and a shop that keeps a book
//! (`tests/hosts/shop`), compiled on the VM. The book is a file of the VM, so it outlives whatever is done to the rest.

use std::time::Duration;

use figspan_ledger::{Ledger, Verb};

use super::Host;
use crate::process::{eventually, text};

/// Where Debian's Tomcat listens.
const ADDRESS: &str = "127.0.0.1:8080";

/// Where the shop writes.
const BOOK: &str = "/var/log/tomcat10/book";

const COMPILE: &str = "java -cp /usr/share/java/eclipse-jdt-core.jar org.eclipse.jdt.internal.compiler.batch.Main -17 -proc:none \
                       -cp /usr/share/tomcat10/lib/servlet-api.jar -d /root/shop/WEB-INF/classes /root/Shop.java";

/// How long Tomcat may take to start, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(90);

/// Makes a VM's Tomcat say in its session ids which VM they are of (jvmRoute), before the VM boots.
pub fn prepare(host: &Host) {
    let file = "/etc/tomcat10/server.xml";
    let plain = "<Engine name=\"Catalina\" defaultHost=\"localhost\">";
    let server = host.read(file);
    assert!(server.contains(plain), "{file} is not as expected");
    let named = format!("<Engine name=\"Catalina\" defaultHost=\"localhost\" jvmRoute=\"{}\">", host.name());
    host.write(file, &server.replacen(plain, &named, 1));
    host.write("/etc/default/tomcat10", "JAVA_OPTS=\"-Djava.awt.headless=true -Xmx192m -XX:+UseSerialGC -XX:TieredStopAtLevel=1\"\n");
}

/// Puts the shop and the examples onto a VM that runs, and waits until they answer.
pub fn open(host: &Host) {
    host.copy(&crate::architecture::root().join("tests/hosts/shop/Shop.java"), "/root/Shop.java");
    // Sessions outlive an orderly end of Tomcat.
    host.write("/root/shop/META-INF/context.xml", "<Context><Manager pathname=\"SESSIONS.ser\"/></Context>\n");
    // Whole, or Tomcat takes it up before its classes are there.
    host.run(&format!("mkdir -p /root/shop/WEB-INF/classes && {COMPILE} && mv /root/shop /var/lib/tomcat10/webapps/"));
    opens(host);
}

/// Waits until the shop answers.
pub fn opens(host: &Host) {
    let ask = "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /shop/orders HTTP/1.0\\r\\n\\r\\n' >&3 && head -n 1 <&3";
    eventually(&format!("the shop of {} opens", host.name()), PATIENCE, || text(&host.output(ask)).contains(" 200 "));
}

/// An uplink for everybody and one for the sessions of this VM, as docs/05-tomcat.md has them.
pub fn uplinks(host: &Host) -> String {
    let uplink = |name: &str| {
        format!(
            "[[uplink]]\nname = \"{name}\"\naddress = \"{ADDRESS}\"\n\
             health = {{ type = \"http\", path = \"/shop/orders\", interval = \"500ms\", rise = 1, fall = 1 }}\n\n"
        )
    };
    uplink("monolith") + &uplink(&format!("session-{}", host.name()))
}

/// Adds what a VM's shop wrote to a book.
pub fn read_book(host: &Host, into: &Ledger) {
    for row in host.read(BOOK).lines() {
        let mut cells = row.split(' ');
        let mut cell = || cells.next().unwrap_or_else(|| panic!("half a row: {row:?}"));
        let (id, method, sum) = (cell(), cell(), cell());
        let hex = |text| u64::from_str_radix(text, 16).unwrap_or_else(|error| panic!("{row:?}: {error}"));
        let verb = method.parse().ok().and_then(|method| Verb::of(&method)).unwrap_or_else(|| panic!("{row:?}"));
        into.enter(hex(id), verb, hex(sum));
    }
}
