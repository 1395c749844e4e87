//! What no safe wrapper offers: a network interface whose packets this process carries, waiting for
//! them, and pulling the plug of a mounted ext4. The only unsafe code of this crate.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use tokio::io::unix::AsyncFd;

/// Layer 3, and packets without a header of their own.
const IFF_TUN: i16 = 0x0001;
const IFF_NO_PI: i16 = 0x1000;
/// What is neither written nor in the journal's own commit yet is lost.
const SHUTDOWN_WITHOUT_LOG: u32 = 2;

/// The kernel's `struct ifreq`, as far as it is needed here.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

nix::ioctl_write_ptr_bad!(tun_set_interface, nix::request_code_write!(b'T', 202, size_of::<i32>()), InterfaceRequest);
nix::ioctl_read!(ext4_shutdown, b'X', 125, u32);

/// Makes an interface in the calling thread's network namespace. It is gone when the file is closed.
pub fn open_interface(name: &str) -> io::Result<File> {
    let nonblocking = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let file = OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open("/dev/net/tun")?;
    let mut request = InterfaceRequest { name: [0; 16], flags: IFF_TUN | IFF_NO_PI, rest: [0; 22] };
    // One byte is left for the end of the text.
    for (to, from) in request.name[..15].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: the descriptor is open, and the kernel reads and writes one `ifreq` at this address, which
    // has its size and layout and outlives the call.
    unsafe { tun_set_interface(file.as_raw_fd(), &raw const request) }?;
    Ok(file)
}

/// Waits on a file with the runtime that the caller is in.
pub fn watch(file: File) -> io::Result<AsyncFd<File>> {
    // SAFETY: a `File` owns one open descriptor until it is dropped, and nothing replaces it.
    Ok(unsafe { AsyncFd::register(file) }?)
}

/// Stops the file system that holds this folder as a power cut would: dirty pages and the open part
/// of the journal never reach the disk, and every later call fails.
pub fn cut_power(folder: &Path) -> io::Result<()> {
    let file = File::open(folder)?;
    let mut how = SHUTDOWN_WITHOUT_LOG;
    // SAFETY: the descriptor is open, and the kernel reads one `u32` at this address during the call.
    unsafe { ext4_shutdown(file.as_raw_fd(), &raw mut how) }?;
    Ok(())
}
