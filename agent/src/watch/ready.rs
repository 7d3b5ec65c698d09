//! Waiting for a file descriptor.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers `fd` with the runtime.
///
/// tokio deprecates the safe constructor because a type could close its
/// descriptor while it is registered. An `OwnedFd` cannot, so what the unsafe one
/// asks for holds, and this crate stays free of unsafe code.
#[allow(deprecated)]
pub(crate) fn registered(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, interest)
}
