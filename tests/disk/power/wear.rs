//! What is written to a disk, in its blocks.

use std::collections::BTreeSet;

use waypost_faultfs::{Disk, Op};

/// What a memory card writes at the least.
const BLOCK: u64 = 4_096;

/// Bytes of the blocks that these files' writes took since a place of the log. A block is written once for all that comes between two syncs
/// of its file, and what was not synced once more.
pub fn written(disk: &Disk, since: usize, database: &str) -> u64 {
    let files = [database.to_owned(), format!("{database}-wal")];
    let is_one = |name: &str| files.iter().any(|file| file == name);
    let (mut blocks, mut dirty) = (0, BTreeSet::new());
    for op in &disk.log().ops()[since..] {
        match op {
            Op::Write { file, offset, bytes } if is_one(file) => {
                let end = offset + bytes.len() as u64;
                dirty.extend(
                    (offset / BLOCK..end.div_ceil(BLOCK)).map(|block| (file.clone(), block)),
                );
            }
            Op::Sync { file, .. } => {
                let before = dirty.len();
                dirty.retain(|(other, _)| other != file);
                blocks += before - dirty.len();
            }
            _ => {}
        }
    }
    (blocks + dirty.len()) as u64 * BLOCK
}
