//! The VFS itself: C function pointers that forward to SQLite's own, and tell the [`Watched`] folders what they do.
//!
//! SQLite gives each VFS the memory for its open files: ours is a [`Handle`], and behind it the real VFS's own.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr;
use std::sync::{Arc, Once};

use rusqlite::ffi;

use crate::disk::Watched;
use crate::fault::Operation;
use crate::log::{Name, Op};

mod forward;

const NAME: &CStr = c"waypost-faultfs";

static INSTALLED: Once = Once::new();

/// Makes this the default VFS of the process.
pub(crate) fn install() {
    INSTALLED.call_once(|| {
        // SAFETY: SQLite gives a pointer to a VFS that it never frees, or null.
        let real = unsafe { ffi::sqlite3_vfs_find(ptr::null()) };
        assert!(!real.is_null(), "SQLite was built without a VFS");
        // SAFETY: it was just checked, and the fields read are constant once a VFS is registered.
        let (handle_bytes, path_bytes) = unsafe { ((*real).szOsFile, (*real).mxPathname) };
        let own = c_int::try_from(size_of::<Handle>()).expect("a few words");
        let vfs = Box::new(ffi::sqlite3_vfs {
            // Version 3 adds only system calls to replace, for tests of SQLite's own.
            iVersion: 2,
            szOsFile: own + handle_bytes,
            mxPathname: path_bytes,
            pNext: ptr::null_mut(),
            zName: NAME.as_ptr(),
            pAppData: real.cast::<c_void>(),
            xOpen: Some(open),
            xDelete: Some(delete),
            xAccess: Some(forward::access),
            xFullPathname: Some(forward::full_pathname),
            // Nothing under test loads extensions; SQLite asks for these only then.
            xDlOpen: None,
            xDlError: None,
            xDlSym: None,
            xDlClose: None,
            xRandomness: Some(forward::randomness),
            xSleep: Some(forward::sleep),
            xCurrentTime: Some(forward::current_time),
            xGetLastError: Some(forward::last_error),
            xCurrentTimeInt64: Some(forward::current_time_int64),
            xSetSystemCall: None,
            xGetSystemCall: None,
            xNextSystemCall: None,
        });
        // SAFETY: the box is leaked, so that the VFS lives as long as the process; SQLite guards its list by a mutex.
        let code = unsafe { ffi::sqlite3_vfs_register(Box::leak(vfs), 1) };
        assert_eq!(code, ffi::SQLITE_OK, "SQLite refused the VFS");
    });
}

/// An open file as SQLite sees it. The real VFS's follows in memory.
#[repr(C)]
struct Handle {
    /// SQLite looks for the methods here.
    base: ffi::sqlite3_file,
    /// The real file, behind this.
    real: *mut ffi::sqlite3_file,
    /// A `Box<Watch>`, or null where nobody watches the folder.
    watch: *mut Watch,
}

struct Watch {
    watched: Arc<Watched>,
    name: Name,
    /// The first sync of this handle syncs the folder, too, as in the unix VFS.
    folder_due: bool,
}

impl Watch {
    /// The watched file at this path, or null. Opened with these flags.
    fn new(path: *const c_char, flags: c_int) -> *mut Self {
        let found = path_of(path).and_then(Watched::of);
        found.map_or(ptr::null_mut(), |(watched, name)| {
            let companion = ffi::SQLITE_OPEN_MAIN_JOURNAL
                | ffi::SQLITE_OPEN_SUPER_JOURNAL
                | ffi::SQLITE_OPEN_WAL;
            let folder_due = flags & ffi::SQLITE_OPEN_CREATE != 0 && flags & companion != 0;
            Box::into_raw(Box::new(Self { watched, name, folder_due }))
        })
    }
}

/// A path as SQLite gives it: full, links followed; null for a temporary file.
fn path_of<'a>(path: *const c_char) -> Option<&'a Path> {
    if path.is_null() {
        return None;
    }
    // SAFETY: SQLite's file names end with a zero and live as long as the call.
    let text = unsafe { CStr::from_ptr(path) };
    Some(Path::new(OsStr::from_bytes(text.to_bytes())))
}

/// The VFS that we stand in front of.
///
/// # Safety
/// `vfs` is the one that [`install`] registered.
unsafe fn real_vfs(vfs: *mut ffi::sqlite3_vfs) -> *mut ffi::sqlite3_vfs {
    // SAFETY: `install` put it there; it is constant.
    unsafe { (*vfs).pAppData.cast() }
}

/// Calls a method of the real file behind a handle.
macro_rules! call {
    ($handle:expr, $method:ident $(, $argument:expr)*) => {{
        let real = (*$handle).real;
        let method = (*(*real).pMethods).$method.expect("the unix VFS has all methods");
        method(real $(, $argument)*)
    }};
}
use call;

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    path: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    let handle = file.cast::<Handle>();
    // SAFETY: SQLite gave as much memory as `szOsFile` says: a handle, and behind it what the real VFS needs. A handle's size is
    // a multiple of its alignment, which is that of a pointer, so that the real file is aligned, too.
    let real = unsafe { handle.add(1) }.cast::<ffi::sqlite3_file>();
    let watch = Watch::new(path, flags);
    let base = ffi::sqlite3_file { pMethods: ptr::null() };
    // SAFETY: as above; whatever was in that memory needs no drop.
    unsafe { handle.write(Handle { base, real, watch }) };
    // SAFETY: `watch` is null or a box that only this handle owns.
    let watch = unsafe { watch.as_ref() };
    let mut state = watch.map(|watch| watch.watched.lock());
    // SAFETY: all pointers are SQLite's own; the real VFS gets itself and memory of the size that it asked for.
    let code = unsafe {
        (*real).pMethods = ptr::null();
        let vfs = real_vfs(vfs);
        (*vfs).xOpen.expect("a VFS opens files")(vfs, path, real, flags, out_flags)
    };
    if code == ffi::SQLITE_OK {
        // SAFETY: the real file is open, so that its methods may be called; SQLite may call ours from now on.
        unsafe {
            (*handle).base.pMethods = &raw const forward::METHODS;
            if let (Some(watch), Some(state)) = (watch, &mut state) {
                state.opened(&watch.name, || content(handle));
            }
        }
        return code;
    }
    drop(state);
    // SAFETY: as SQLite would do it: a real file that has methods in spite of its failure wants to be closed. The box was made
    // above, and nobody else has it.
    unsafe {
        if !(*real).pMethods.is_null() {
            call!(handle, xClose);
        }
        release(handle);
    }
    code
}

/// Gives the watch of a handle back.
///
/// # Safety
/// The handle was initialised by [`open`] and is not used by another thread.
unsafe fn release(handle: *mut Handle) {
    // SAFETY: the handle is initialised; a watch that is not null came from `Box::into_raw` and is taken out only here.
    unsafe {
        let watch = std::mem::replace(&mut (*handle).watch, ptr::null_mut());
        if !watch.is_null() {
            drop(Box::from_raw(watch));
        }
    }
}

/// All that is in a file that was just opened.
///
/// # Safety
/// The real file behind the handle is open.
unsafe fn content(handle: *mut Handle) -> Vec<u8> {
    let mut size = 0;
    // SAFETY: the file is open, the place for the size is ours.
    let code = unsafe { call!(handle, xFileSize, &raw mut size) };
    assert_eq!(code, ffi::SQLITE_OK, "the size of a file that was just opened");
    let mut bytes = vec![0_u8; usize::try_from(size).expect("a test's file fits into memory")];
    let length = c_int::try_from(bytes.len()).expect("a test's file is small");
    if length > 0 {
        // SAFETY: the buffer is as long as we say.
        let code = unsafe { call!(handle, xRead, bytes.as_mut_ptr().cast(), length, 0) };
        assert_eq!(code, ffi::SQLITE_OK, "reading a file that was just opened");
    }
    bytes
}

unsafe extern "C" fn delete(
    vfs: *mut ffi::sqlite3_vfs,
    path: *const c_char,
    sync_folder: c_int,
) -> c_int {
    let watched = path_of(path).and_then(Watched::of);
    let mut state = watched.as_ref().map(|(watched, _)| watched.lock());
    // SAFETY: SQLite's own arguments, for the VFS that they are meant for.
    let code = unsafe {
        let vfs = real_vfs(vfs);
        (*vfs).xDelete.expect("a VFS deletes files")(vfs, path, sync_folder)
    };
    if let (Some(state), Some((_, name)), ffi::SQLITE_OK) = (&mut state, &watched, code) {
        state.deleted(name, sync_folder & 1 != 0);
    }
    code
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    let handle = file.cast::<Handle>();
    // SAFETY: SQLite closes a file once, and does not use it afterwards.
    unsafe {
        let code = call!(handle, xClose);
        release(handle);
        code
    }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    length: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    let handle = file.cast::<Handle>();
    // SAFETY: SQLite calls methods of a file only while it is open, from one thread at a time.
    let watch = unsafe { (*handle).watch.as_ref() };
    let Some(watch) = watch else {
        // SAFETY: SQLite's own arguments.
        return unsafe { call!(handle, xWrite, from, length, offset) };
    };
    let mut state = watch.watched.lock();
    let struck = state.strikes(Operation::Write, &watch.name);
    let length = match struck {
        Some((_, true)) => length / 2,
        Some((code, false)) => return code,
        None => length,
    };
    // SAFETY: at most what SQLite wanted to be written.
    let code = unsafe { call!(handle, xWrite, from, length, offset) };
    if code == ffi::SQLITE_OK {
        let count = usize::try_from(length).expect("a length");
        // SAFETY: SQLite's buffer holds at least so many bytes, and stays as it is during the call.
        let bytes = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), count) };
        let offset = u64::try_from(offset).expect("a place in a file");
        state.written(&watch.name, offset, bytes.len());
        state.note(Op::Write { file: watch.name.clone(), offset, bytes: bytes.into() });
    }
    struck.map_or(code, |(code, _)| code)
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    into: *mut c_void,
    length: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    let handle = file.cast::<Handle>();
    // SAFETY: SQLite's own arguments, for a file that is open.
    let code = unsafe { call!(handle, xRead, into, length, offset) };
    // SAFETY: SQLite calls methods of a file only while it is open, from one thread at a time.
    if let Some(watch) = unsafe { (*handle).watch.as_ref() } {
        let state = watch.watched.lock();
        if let Some(rot) = state.rot_of(&watch.name) {
            let count = usize::try_from(length).expect("a length");
            // SAFETY: SQLite's buffer holds at least so many bytes, which nobody else has during the call; the unix VFS has set all
            // of them, with zeros behind the end of the file.
            let bytes = unsafe { std::slice::from_raw_parts_mut(into.cast::<u8>(), count) };
            rot.harm(u64::try_from(offset).expect("a place in a file"), bytes);
        }
    }
    code
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    let handle = file.cast::<Handle>();
    // SAFETY: SQLite calls methods of a file only while it is open, from one thread at a time.
    let watch = unsafe { (*handle).watch.as_ref() };
    let mut state = watch.map(|watch| (watch, watch.watched.lock()));
    if let Some((watch, state)) = &mut state
        && let Some((code, _)) = state.strikes(Operation::Truncate, &watch.name)
    {
        return code;
    }
    // SAFETY: SQLite's own arguments.
    let code = unsafe { call!(handle, xTruncate, size) };
    if let (Some((watch, state)), ffi::SQLITE_OK) = (&mut state, code) {
        let size = u64::try_from(size).expect("a size");
        state.note(Op::Truncate { file: watch.name.clone(), size });
    }
    code
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    let handle = file.cast::<Handle>();
    // SAFETY: SQLite calls methods of a file only while it is open, from one thread at a time, so that nobody else has the watch.
    let Some(watch) = (unsafe { (*handle).watch.as_mut() }) else {
        // SAFETY: SQLite's own arguments.
        return unsafe { call!(handle, xSync, flags) };
    };
    let mut state = watch.watched.lock();
    if let Some((code, _)) = state.strikes(Operation::Sync, &watch.name) {
        return code;
    }
    // SAFETY: SQLite's own arguments.
    let code = unsafe { call!(handle, xSync, flags) };
    if code == ffi::SQLITE_OK {
        let folder = std::mem::take(&mut watch.folder_due);
        state.note(Op::Sync { file: watch.name.clone(), folder });
    }
    code
}
