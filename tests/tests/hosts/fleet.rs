//! Many VMs at once: one grant, and the examples of docs/08-fleet.md as they stand there: the user data carried out by cloud-init when
//! the VMs boot, the playbook by Ansible over ssh. Packages come from the signed repository.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use figspan_tests::architecture::{read, root};
use figspan_tests::hosts::bed::package;
use figspan_tests::hosts::{Archive, Bed, Host, Shop, Tree, row, run};
use figspan_tests::process::text;

use super::UNIT;
use super::repository::publish;

/// Where the examples say that the workload is.
const WORKLOAD: &str = "127.0.0.1:8080";
/// The repository, where every VM reaches it.
const REPOSITORY: &str = "10.97.0.1:8000";

/// What the maker of an image tells cloud-init: the network is there already, and nothing is to be had from elsewhere.
const IMAGE: &str = "datasource_list: [NoCloud]\nnetwork: {config: disabled}\nlocale: false\napt: {preserve_sources_list: true}\n";

/// The block of the document that begins so.
fn example(beginning: &str) -> String {
    let text = read(&root().join("docs/08-fleet.md"));
    let block = text.split("```yaml\n").find(|block| block.starts_with(beginning)).and_then(|rest| rest.split("```").next());
    block.unwrap_or_else(|| panic!("no block of the document begins with {beginning}")).to_owned()
}

fn repository(bed: &Bed, folder: &Path) -> Archive {
    let (out, packages) = (folder.join("repository"), folder.join("packages"));
    std::fs::create_dir(&packages).unwrap();
    let agent = package("figspan-agent");
    std::fs::copy(&agent, packages.join(agent.file_name().unwrap())).unwrap();
    let archive = Archive::serve_at(&bed.outside, REPOSITORY.parse().unwrap(), &out);
    publish(&packages, &out, &archive);
    archive
}

/// A VM as a cloud makes it from an image that knows the repository, with a workload; not booted.
fn image(bed: &Bed, folder: &Path, name: &str, number: u8) -> (Host, Shop) {
    let vm = bed.vm_of(Tree::Cloud, name, number);
    let keyring = folder.join("repository/pool/main/figspan-archive-keyring_1_all.deb");
    run("dpkg-deb", &["-x", &keyring.display().to_string(), &vm.path("/").display().to_string()]);
    // Debian's own archive cannot be reached from here.
    let _ = std::fs::remove_file(vm.path("/etc/apt/sources.list"));
    vm.write("/etc/cloud/cloud.cfg.d/99-image.cfg", IMAGE);
    let shop = Shop::open_at(&vm.namespace, WORKLOAD.parse::<SocketAddr>().unwrap());
    (vm, shop)
}

/// What a cloud hands to a VM (cloud-init's data source NoCloud).
fn seed(vm: &Host, user_data: &str) {
    let folder = "/var/lib/cloud/seed/nocloud";
    vm.write(&format!("{folder}/meta-data"), &format!("instance-id: {0}\nlocal-hostname: {0}\n", vm.name()));
    vm.write(&format!("{folder}/user-data"), user_data);
}

fn boot(vms: &mut [(Host, Shop)]) {
    std::thread::scope(|scope| vms.iter_mut().for_each(|(vm, _)| drop(scope.spawn(move || vm.boot()))));
}

/// All of them serve, each under the name that the template gives it.
fn serve(bed: &Bed, what: &str, vms: &[(Host, Shop)]) {
    bed.hub.accepts("monolith", vms.len());
    let agents = bed.hub.json(&["get", "agents"]).to_string();
    assert!(vms.iter().all(|(vm, _)| agents.contains(&format!("\"{}\"", vm.name()))), "{agents}");
    let load = bed.load(60);
    load.run_for(Duration::from_secs(2));
    let report = load.stop(&vms.iter().map(|(_, shop)| shop).collect::<Vec<_>>());
    row(what, &report);
    report.assert_unharmed();
}

#[test]
fn three_vms_join_with_one_grant_by_cloud_init_and_a_fourth_hears_why_not() {
    let (bed, folder) = (Bed::start(), tempfile::tempdir().unwrap());
    let _archive = repository(&bed, folder.path());
    let grant = bed.hub.json(&["grant", "create", "vm-{hostname}", "--uses", "3", "--uplinks", "monolith"]);
    let (token, example) = (grant["token"].as_str().unwrap(), example("#cloud-config"));
    assert_eq!(example.matches("figspan1.…").count(), 1, "the token alone is the reader's to fill in");
    let user_data = example.replace("figspan1.…", token);
    let mut vms: Vec<_> =
        (11..).zip(["vm-1", "vm-2", "vm-3", "vm-4"]).map(|(number, name)| image(&bed, folder.path(), name, number)).collect();
    vms[..3].iter().for_each(|(vm, _)| seed(vm, &user_data));
    seed(&vms[3].0, "#cloud-config\n{}\n");
    boot(&mut vms);
    for (vm, _) in &vms[..3] {
        let status = vm.run("cloud-init status --long");
        assert!(status.contains("status: done"), "{status}\n{}", vm.read("/var/log/cloud-init.log"));
        assert_eq!(vm.run("stat -c '%a %U' /etc/credstore/figspan.token").trim(), "600 root");
    }
    serve(&bed, "three VMs by one grant and cloud-init", &vms[..3]);

    let late = &vms[3].0;
    seed(late, &user_data);
    late.run("cloud-init clean && cloud-init init --local && cloud-init init && cloud-init modules --mode=config && cloud-init modules --mode=final");
    late.has(UNIT, "ActiveState", "failed", Duration::from_secs(10));
    assert_eq!(late.property(UNIT, "ExecMainStatus"), "77");
    let journal = late.journal(UNIT);
    assert!(journal.contains("redeemed as often as it may be"), "{journal}");
}

/// Lets `admin` in by key and become root, as clouds do, and what ssh is to know of the VM.
fn let_in(vm: &Host, address: &str, key: &str) -> String {
    vm.write("/etc/cloud/cloud-init.disabled", "");
    vm.write("/etc/sudoers.d/admin", "admin ALL=(ALL) NOPASSWD: ALL\n");
    vm.write("/root/admin.pub", key);
    format!("{address} {}", vm.read("/etc/ssh/ssh_host_ed25519_key.pub"))
}

/// Runs the playbook as the document says; what Ansible said.
fn play(bed: &Bed, folder: &Path) -> String {
    let mut ansible = Command::new("nsenter");
    ansible.args([&format!("--net={}", bed.outside.path()), "ansible-playbook", "-i", "hosts", "agents.yml", "-e", "@vault.yml"]);
    ansible.current_dir(folder).env("HOME", folder).env("ANSIBLE_VAULT_PASSWORD_FILE", folder.join("password"));
    ansible.env("ANSIBLE_SSH_ARGS", "-o ControlMaster=auto -o ControlPersist=5s").env("LC_ALL", "C.UTF-8").env("ANSIBLE_NOCOLOR", "1");
    let output = ansible.output().unwrap_or_else(|error| panic!("nsenter: {error}"));
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn three_vms_join_by_ansible_over_ssh_and_a_second_run_changes_nothing() {
    let (bed, folder) = (Bed::start(), tempfile::tempdir().unwrap());
    let folder = folder.path();
    let _archive = repository(&bed, folder);
    let key = folder.join("key").display().to_string();
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &key]);
    let public = read(&folder.join("key.pub"));
    let mut vms: Vec<_> = (11..).zip(["vm-1", "vm-2", "vm-3"]).map(|(number, name)| image(&bed, folder, name, number)).collect();
    let addresses = ["10.97.0.11", "10.97.0.12", "10.97.0.13"];
    let known: String = vms.iter().zip(addresses).map(|((vm, _), address)| let_in(vm, address, &public)).collect();
    boot(&mut vms);
    for (vm, _) in &vms {
        vm.run("useradd -m -s /bin/bash admin && install -D -o admin -m 600 /root/admin.pub /home/admin/.ssh/authorized_keys");
        vm.run("chmod 440 /etc/sudoers.d/admin && chown admin: /home/admin/.ssh");
    }

    // What the document leaves to the reader: the inventory, and the token, encrypted.
    let ssh = format!("-i {key} -o UserKnownHostsFile={}", folder.join("known_hosts").display());
    let inventory =
        format!("[monoliths]\n{}\n\n[monoliths:vars]\nansible_user=admin\nansible_ssh_common_args={ssh}\n", addresses.join("\n"));
    let grant = bed.hub.json(&["grant", "create", "vm-{hostname}", "--uses", "3", "--uplinks", "monolith"]);
    let token = grant["token"].as_str().unwrap();
    for (file, content) in [
        ("hosts", inventory),
        ("known_hosts", known),
        ("agents.yml", example("- hosts:")),
        ("password", "of the vault\n".to_owned()),
        ("vault.yml", format!("figspan_token: {token}\n")),
    ] {
        std::fs::write(folder.join(file), content).unwrap();
        std::fs::set_permissions(folder.join(file), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let at = |file: &str| folder.join(file).display().to_string();
    run("ansible-vault", &["encrypt", "--vault-password-file", &at("password"), &at("vault.yml")]);
    assert!(read(&folder.join("vault.yml")).starts_with("$ANSIBLE_VAULT;") && !read(&folder.join("vault.yml")).contains(token));

    let first = play(&bed, folder);
    for address in addresses {
        assert!(first.lines().any(|line| line.starts_with(address) && !line.contains("changed=0") && line.contains("failed=0")), "{first}");
    }
    assert!(!first.contains(token), "the token is told nobody");
    serve(&bed, "three VMs by one grant and Ansible", &vms);
    let second = play(&bed, folder);
    assert_eq!(second.matches("changed=0").count(), 3, "{second}");
}
