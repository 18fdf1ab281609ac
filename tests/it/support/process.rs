//! Starts that must fail, and folders that must stay as they were.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::{process::Command, time::timeout};

use super::server::PATIENCE;

/// Runs the server, which must end with exit code 2 and one line on stderr, and nothing on stdout; answers the line.
pub async fn refused(mut command: Command) -> String {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = timeout(PATIENCE, child.output()).await.expect("the start ends in time").expect("it runs");
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    let line = stderr.strip_suffix('\n').unwrap_or_else(|| panic!("no whole line: {stderr:?}"));
    assert!(!line.is_empty() && !line.contains('\n'), "not exactly one line: {stderr:?}");
    line.to_owned()
}

/// Every file under a folder: its kind and rights, and its bytes.
pub fn contents(folder: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder that can be read") {
            let path = entry.expect("an entry").path();
            let kind = fs::symlink_metadata(&path).expect("an entry");
            let bytes = if kind.is_file() { fs::read(&path).expect("a file") } else { Vec::new() };
            if kind.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path, (kind.mode(), bytes));
        }
    }
    found
}
