//! How many bytes a TCP peer has acknowledged, by the kernel's own count (tcp(7), TCP_INFO).
//!
//! The kernel offers no safe call for it, so this small file is allowed to be unsafe.
#![allow(unsafe_code, reason = "getsockopt with TCP_INFO has no safe wrapper")]

use std::os::fd::AsRawFd;

use tokio::net::TcpStream;

/// Where `tcpi_bytes_acked` (u64) is in the kernel's `struct tcp_info`. Fields are only ever added behind; libc's own structure
/// ends before this one.
const BYTES_ACKED: usize = 120;
const END: usize = BYTES_ACKED + size_of::<u64>();

/// Bytes that the peer has acknowledged on a connection that we opened; `None` where the kernel does not tell (before 4.1).
pub fn bytes_acked(tcp: &TcpStream) -> Option<u64> {
    let mut info = [0u8; 256];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `info` and stores in `length` how many it wrote.
    let result = unsafe { libc::getsockopt(tcp.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut length) };
    if result != 0 || (length as usize) < END {
        return None;
    }
    let acked = u64::from_ne_bytes(info[BYTES_ACKED..END].try_into().ok()?);
    // Our SYN is counted as one byte.
    acked.checked_sub(1)
}
