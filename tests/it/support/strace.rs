//! Faults in what a server asks of the kernel: strace(1) makes a system call fail, wait, or be the last.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, ChildStderr, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{Server, server::PATIENCE};

/// An strace that is attached; it lets go when dropped.
pub struct Strace {
    child: Child,
    /// Kept open: strace would die of writing to nobody.
    _messages: BufReader<ChildStderr>,
}

impl Strace {
    /// Injects faults into one thread, which is looked for by its name; see `--inject` in strace(1).
    pub fn thread(server: &Server, name: &str, injection: &str) -> Self {
        let folder = format!("/proc/{}/task", server.id());
        let is_named = |thread: &PathBuf| fs::read_to_string(thread.join("comm")).is_ok_and(|it| it.trim_end() == name);
        let find =
            || fs::read_dir(&folder).expect("the server runs").flatten().map(|entry| entry.path()).find(is_named);
        // A thread takes its name by itself, which may be a moment after the server listens.
        let began = Instant::now();
        let thread = loop {
            match find() {
                Some(thread) => break thread,
                None => assert!(began.elapsed() < PATIENCE, "no thread {name}"),
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let id = thread.file_name().expect("a number");
        Self::attach(&["-p", &id.to_string_lossy()], injection)
    }

    /// Injects faults into all threads, those to come too.
    pub fn process(server: &Server, injection: &str) -> Self {
        Self::attach(&["-f", "-p", &server.id().to_string()], injection)
    }

    fn attach(to: &[&str], injection: &str) -> Self {
        let call = injection.split(':').next().expect("a system call");
        let mut child = Command::new("strace")
            .args(["-o", "/dev/null", &format!("--trace={call}"), &format!("--inject={injection}")])
            .args(to)
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace is installed");
        let mut messages = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut line = String::new();
        messages.read_line(&mut line).expect("text");
        assert!(line.contains("attached"), "{line}");
        Self { child, _messages: messages }
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // Not killed: only an strace that ends by itself leaves no system call half traced.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}
