//! Packets find their shard by connection id: a classic BPF program on the SO_REUSEPORT group (socket(7),
//! SO_ATTACH_REUSEPORT_CBPF). The kernel offers no safe call for it, so this small file is allowed to be unsafe.
#![allow(unsafe_code, reason = "setsockopt with a BPF program has no safe wrapper")]

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use libc::{BPF_A, BPF_ABS, BPF_ALU, BPF_B, BPF_JA, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_MOD, BPF_RET, sock_filter, sock_fprog};

/// Long headers (RFC 9000, section 17.2): flags, version (4), length of the destination id, the id.
const ID_IN_LONG_HEADER: u32 = 6;
/// Short headers (RFC 9000, section 17.3): flags, the id.
const ID_IN_SHORT_HEADER: u32 = 1;
/// Set in the first byte of long headers.
const LONG_HEADER: u32 = 0x80;

/// The program: the index of the socket that shall get the packet, in the order in which the sockets were bound. A packet too
/// short for it ends the program with index 0.
fn program(shards: u32) -> [sock_filter; 7] {
    let step = |code: u32, k: u32| sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let load_byte = |at: u32| step(BPF_LD | BPF_B | BPF_ABS, at);
    [
        load_byte(0),
        sock_filter { code: (BPF_JMP | BPF_JSET | BPF_K) as u16, jt: 0, jf: 2, k: LONG_HEADER },
        load_byte(ID_IN_LONG_HEADER),
        step(BPF_JMP | BPF_JA, 1),
        load_byte(ID_IN_SHORT_HEADER),
        step(BPF_ALU | BPF_MOD | BPF_K, shards),
        step(BPF_RET | BPF_A, 0),
    ]
}

/// Attaches the program to the group that the socket belongs to.
pub(super) fn attach(socket: &UdpSocket, shards: usize) -> io::Result<()> {
    let shards = u32::try_from(shards).map_err(io::Error::other)?;
    if shards == 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no shards"));
    }
    let mut filter = program(shards);
    let program = sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel copies `len` instructions from `filter`, which outlives the call, and checks them itself; the option's
    // length is that of the structure passed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size_of::<sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
