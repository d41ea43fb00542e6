//! What needs no more than to be passed on.

use std::ffi::{c_char, c_int, c_void};

use rusqlite::ffi;

use super::{Handle, call, close, read, real_vfs, sync, truncate, write};

/// What SQLite can do with an open file.
pub(super) static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 3,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: Some(fetch),
    xUnfetch: Some(unfetch),
};

/// Methods of a file that call the real file's with the same arguments.
macro_rules! file_methods {
    ($($name:ident => $method:ident ( $($argument:ident: $type:ty),* ) -> $result:ty;)*) => {$(
        unsafe extern "C" fn $name(file: *mut ffi::sqlite3_file, $($argument: $type),*) -> $result {
            let handle = file.cast::<Handle>();
            // SAFETY: SQLite calls methods of a file only while it is open; the arguments are its own.
            unsafe { call!(handle, $method $(, $argument)*) }
        }
    )*};
}

file_methods! {
    file_size => xFileSize(size: *mut ffi::sqlite3_int64) -> c_int;
    lock => xLock(level: c_int) -> c_int;
    unlock => xUnlock(level: c_int) -> c_int;
    check_reserved_lock => xCheckReservedLock(result: *mut c_int) -> c_int;
    file_control => xFileControl(operation: c_int, argument: *mut c_void) -> c_int;
    sector_size => xSectorSize() -> c_int;
    device_characteristics => xDeviceCharacteristics() -> c_int;
    shm_map => xShmMap(page: c_int, size: c_int, extend: c_int, at: *mut *mut c_void) -> c_int;
    shm_lock => xShmLock(offset: c_int, count: c_int, flags: c_int) -> c_int;
    shm_barrier => xShmBarrier() -> ();
    shm_unmap => xShmUnmap(delete: c_int) -> c_int;
    fetch => xFetch(offset: ffi::sqlite3_int64, length: c_int, at: *mut *mut c_void) -> c_int;
    unfetch => xUnfetch(offset: ffi::sqlite3_int64, at: *mut c_void) -> c_int;
}

/// Methods of the VFS that call the real one's with the same arguments.
macro_rules! vfs_methods {
    ($($name:ident => $method:ident ( $($argument:ident: $type:ty),* ) -> $result:ty;)*) => {$(
        pub(super) unsafe extern "C" fn $name(
            vfs: *mut ffi::sqlite3_vfs,
            $($argument: $type),*
        ) -> $result {
            // SAFETY: SQLite's own arguments, for the VFS that they are meant for.
            unsafe {
                let vfs = real_vfs(vfs);
                (*vfs).$method.expect("the unix VFS has all methods")(vfs, $($argument),*)
            }
        }
    )*};
}

vfs_methods! {
    access => xAccess(path: *const c_char, flags: c_int, result: *mut c_int) -> c_int;
    full_pathname => xFullPathname(path: *const c_char, length: c_int, into: *mut c_char) -> c_int;
    randomness => xRandomness(length: c_int, into: *mut c_char) -> c_int;
    sleep => xSleep(microseconds: c_int) -> c_int;
    current_time => xCurrentTime(days: *mut f64) -> c_int;
    last_error => xGetLastError(length: c_int, into: *mut c_char) -> c_int;
    current_time_int64 => xCurrentTimeInt64(ms: *mut ffi::sqlite3_int64) -> c_int;
}
