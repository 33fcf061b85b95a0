//! A VM that runs out of something: room on its disk, descriptors.

use std::time::{Duration, Instant};

use figspan_tests::hosts::{Bed, Shop, measured, row};
use figspan_tests::process::eventually;
use figspan_tests::web::Connection;

use super::UNIT;

const CHAIN: &str = "cat /var/lib/figspan-agent/identity/chain.pem";

#[test]
fn an_agent_with_a_full_disk_renews_its_certificate_and_serves() {
    let bed = Bed::start_with("10.97.0.1:7443", "certificate_lifetime = \"10s\"");
    let mut vm = bed.vm("vm-1", 11);
    let shop = Shop::open(&vm.namespace);
    vm.boot();
    vm.run("mkdir -m 700 /var/lib/figspan-agent && mount -t tmpfs -o size=256k,mode=700 tmpfs /var/lib/figspan-agent");
    bed.set_up(&vm, &shop);
    bed.serves();
    vm.run("cd /var/lib/figspan-agent && { cat /dev/zero > full 2>/dev/null; [ -s full ]; }");
    let kept = vm.run(CHAIN);
    let load = bed.load(40);
    // Longer than the certificate that is on the disk.
    load.run_for(Duration::from_secs(13));
    let report = load.stop(&[&shop]);
    assert_eq!(vm.run(CHAIN), kept, "nothing could be written");
    let journal = vm.journal(UNIT);
    assert!(journal.contains("cannot be kept") && journal.contains("No space left"), "{journal}");
    measured("disk full for longer than a certificate lives", None, None, &report, "");
    report.assert_unharmed();
    vm.run("rm /var/lib/figspan-agent/full");
    let start = Instant::now();
    eventually("the next certificate is kept", Duration::from_secs(15), || vm.run(CHAIN) != kept);
    row("room again", format_args!("certificate kept after {:.1} s", start.elapsed().as_secs_f64()));
}

#[test]
fn an_agent_without_descriptors_sheds_with_503_and_recovers() {
    let bed = Bed::start();
    let mut vm = bed.vm("vm-1", 11);
    let shop = Shop::open(&vm.namespace);
    vm.write("/etc/systemd/system/figspan-agent.service.d/few.conf", "[Service]\nLimitNOFILE=256\n");
    bed.serve(&mut vm, &shop);
    let process = vm.main_process(UNIT);
    let load = bed.load(30);
    let statuses: Vec<u16> = bed.outside.inside(|| {
        let one = |number: usize| {
            std::thread::spawn(move || {
                Connection::open("10.97.0.1:8080".parse().unwrap()).get(&format!("/slow/{}", 3000 + number)).status()
            })
        };
        let all: Vec<_> = (0..400).map(one).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let ended = Instant::now();
    let back = load.served_after(ended, Duration::from_secs(10));
    let report = load.stop(&[&shop]);
    let count = |status: u16| statuses.iter().filter(|seen| **seen == status).count();
    let remarks = format!("{} of the 400 served, {} shed with 503", count(200), count(503));
    measured("256 descriptors, 400 slow requests at once", None, Some(back), &report, remarks);
    report.assert_honest();
    assert!(count(200) > 100 && count(503) > 50 && count(200) + count(503) == 400, "{statuses:?}");
    assert!(report.reasons.iter().all(|reason| reason.starts_with("503")), "{report}");
    assert_eq!((vm.main_process(UNIT), vm.property(UNIT, "NRestarts").as_str()), (process, "0"));
    assert!(back < Duration::from_secs(2), "{back:?}");
}
