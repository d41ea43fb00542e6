//! What kind of filesystem a file lies on. SQLite's write-ahead log needs shared memory and locks that work, which network
//! filesystems only pretend to have.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// One line of `/proc/self/mountinfo`.
struct Mount {
    point: PathBuf,
    kind: String,
}

/// The name of the filesystem that holds this file or folder, as the kernel calls it (`ext4`, `nfs4`); none where the system does
/// not say.
pub(crate) fn filesystem(path: &Path) -> Option<String> {
    let canonical = fs::canonicalize(path).or_else(|error| match path.parent() {
        Some(folder) => fs::canonicalize(folder),
        None => Err(error),
    });
    kind_at(&mounts(), &canonical.ok()?)
}

/// Whether a filesystem of this name is on another machine, or passes files on without the locks and the shared memory that
/// SQLite needs.
pub(crate) fn is_remote(kind: &str) -> bool {
    const REMOTE: [&str; 16] = [
        "9p",
        "afs",
        "ceph",
        "cifs",
        "coda",
        "davfs",
        "glusterfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
        "sshfs",
        "vboxsf",
        "prl_fs",
    ];
    let kind = kind.strip_prefix("fuse.").unwrap_or(kind);
    REMOTE.contains(&kind) || ["rclone", "s3fs", "gcsfuse", "curlftpfs"].contains(&kind)
}

/// Whether this very file, and not its folder, was mounted (into a container): its write-ahead log would then lie on another
/// filesystem than the file.
pub(crate) fn is_mounted_alone(path: &Path) -> bool {
    mounts().iter().any(|mount| mount.point == path)
}

fn mounts() -> Vec<Mount> {
    // Absent on other systems than Linux: then nothing is known.
    parse(&fs::read("/proc/self/mountinfo").unwrap_or_default())
}

/// Where mounts lie on top of each other, the last one is seen.
fn kind_at(mounts: &[Mount], path: &Path) -> Option<String> {
    mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.components().count())
        .map(|mount| mount.kind.clone())
}

/// `36 35 98:0 /root /mount/point rw,noatime master:1 - ext3 /dev/root rw`: the optional fields before the dash vary in number.
fn parse(mountinfo: &[u8]) -> Vec<Mount> {
    let mount = |line: &[u8]| {
        let mut fields = line.split(|&byte| byte == b' ');
        let point = unescape(fields.nth(4)?);
        fields.find(|field| *field == b"-")?;
        let kind = String::from_utf8_lossy(fields.next()?).into_owned();
        Some(Mount { point, kind })
    };
    mountinfo.split(|&byte| byte == b'\n').filter_map(mount).collect()
}

/// Spaces and the like stand as three octal digits behind a backslash.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let octal = tail.get(..3).filter(|_| *first == b'\\').and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = b"22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 27 0:50 / /mnt/my\\040share rw,relatime shared:7 master:1 - cifs //server/share rw
41 27 0:51 / /data rw - ext4 /dev/vdb rw
42 41 0:52 / /data rw - nfs4 server:/data rw
43 27 0:53 /volume/a.db /var/lib/a.db rw - ext4 /dev/vdc rw
a line that makes no sense
";

    #[test]
    fn the_innermost_and_last_mount_counts() {
        let mounts = parse(MOUNTS);
        let kind = |path: &str| kind_at(&mounts, Path::new(path));
        assert_eq!(kind("/home/a.db").as_deref(), Some("ext4"));
        assert_eq!(kind("/mnt/my share/a.db").as_deref(), Some("cifs"));
        assert_eq!(kind("/data/a.db").as_deref(), Some("nfs4"));
        assert_eq!(kind("/database/a.db").as_deref(), Some("ext4"));
        assert!(mounts.iter().any(|mount| mount.point == Path::new("/var/lib/a.db")));
    }

    #[test]
    fn network_filesystems_are_known_by_name() {
        for remote in ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "fuse.rclone", "vboxsf"] {
            assert!(is_remote(remote), "{remote}");
        }
        for local in ["ext4", "xfs", "btrfs", "overlay", "tmpfs", "zfs", "fuse.ntfs-3g", "apfs"] {
            assert!(!is_remote(local), "{local}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_file_that_does_not_exist_yet_lies_where_its_folder_does() {
        assert_eq!(filesystem(Path::new("/proc/waypost.db")).as_deref(), Some("proc"));
        assert_eq!(filesystem(Path::new("/proc/self/status")).as_deref(), Some("proc"));
        assert_eq!(filesystem(Path::new("/no/such/folder/waypost.db")), None);
        assert!(!is_mounted_alone(Path::new("/proc/self/status")));
        assert!(is_mounted_alone(Path::new("/proc")));
    }
}
