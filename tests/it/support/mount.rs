//! Small file systems that can be full or read-only, for those who may mount.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::skip;

/// A file system in memory over a folder; unmounted when dropped.
pub struct Mount(PathBuf);

impl Mount {
    /// Mounts one of so many KiB; none where this process may not mount, which it says.
    pub fn memory(folder: &Path, kib: u32) -> Option<Self> {
        let options = format!("size={kib}k,mode=755");
        if mount(&["-t", "tmpfs", "-o", &options, "tmpfs"], folder) {
            return Some(Self(folder.to_owned()));
        }
        skip("the right to mount a file system (root, or CAP_SYS_ADMIN in a container)");
        None
    }

    pub fn make_read_only(&self) {
        assert!(mount(&["-o", "remount,ro"], &self.0), "a file system with a file open for writing stays writable");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: the server may still have files open when a test fails.
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

fn mount(arguments: &[&str], folder: &Path) -> bool {
    let mounted = Command::new("mount").args(arguments).arg(folder).output();
    mounted.is_ok_and(|output| output.status.success())
}
