//! The machine's disk: what the kernel refuses is an error, and nothing less.

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

use super::*;

fn errno(result: io::Result<()>) -> Option<i32> {
    result.expect_err("the kernel refuses").raw_os_error()
}

#[test]
fn a_sync_is_the_kernels_own() {
    // Nothing else tells so cheaply that the call is made: of this device there is nothing to sync.
    let null = RealDisk.open(Path::new("/dev/null"), false).unwrap();
    assert_eq!(errno(null.sync()), Some(Errno::INVAL.raw_os_error()));
    assert_eq!(errno(RealDisk.sync_dir(Path::new("/proc"))), Some(Errno::INVAL.raw_os_error()));
}

#[test]
fn a_write_without_room_is_an_error() {
    let full = RealDisk.open(Path::new("/dev/full"), false).unwrap();
    assert_eq!(errno(full.write_at(0, b"x")), Some(Errno::NOSPC.raw_os_error()));
}

#[test]
fn a_write_that_stops_in_the_middle_is_gone_on_with() {
    let memory = memfd_create("certeus-test", MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&memory, 4096).unwrap();
    fcntl_add_seals(&memory, SealFlags::GROW).unwrap();
    let file = RealFile::new(memory.into());
    // The kernel writes the first page, says so, and refuses the second one when it is asked again.
    let result = file.write_at(0, &[[1; 3000], [2; 3000]].concat());
    assert_eq!(errno(result), Some(Errno::PERM.raw_os_error()));
    let mut page = [0; 4096];
    assert_eq!(file.read_at(0, &mut page).unwrap(), 4096);
    assert_eq!((page[0], page[2999], page[3000], page[4095]), (1, 1, 2, 2));
}
