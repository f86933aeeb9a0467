//! Documents whose commands are carried out as they stand.

use super::manifests::root;
use super::{Ended, Process};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a person would type: the blocks of a document marked `sh`, in their order, with the heading each is under.
pub fn blocks(document: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join(document)).expect("a document");
    let (mut heading, mut found, mut block) = (String::new(), Vec::new(), None::<String>);
    for line in text.lines() {
        match (&mut block, line) {
            (None, "```sh") => block = Some(String::new()),
            (Some(done), "```") => {
                found.push((heading.clone(), std::mem::take(done)));
                block = None;
            }
            (Some(commands), line) => {
                commands.push_str(line);
                commands.push('\n');
            }
            (None, line) => {
                if let Some(named) = line.strip_prefix("## ") {
                    named.clone_into(&mut heading);
                }
            }
        }
    }
    found
}

/// A folder in which commands are carried out, with programs of its own before the machine's.
pub struct Desk {
    folder: PathBuf,
    variables: Vec<(String, OsString)>,
}

impl Desk {
    /// In this folder.
    pub fn at(folder: &Path) -> Self {
        let programs = folder.join("bin");
        fs::create_dir_all(&programs).expect("a writable folder");
        let machine = std::env::var_os("PATH").expect("a path");
        let path = std::env::join_paths([programs].into_iter().chain(std::env::split_paths(&machine)));
        Self { folder: folder.to_owned(), variables: vec![("PATH".to_owned(), path.expect("a path"))] }
    }

    /// A program of its own: a script of bash.
    pub fn program(&self, name: &str, script: &str) {
        let file = self.folder.join("bin").join(name);
        fs::write(&file, format!("#!/bin/bash\n{script}\n")).expect("a writable folder");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }

    /// A variable of its environment, which has nothing of the machine's but the path.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.into()));
    }

    /// Carries commands out; the first that fails ends it.
    pub async fn carry_out(&self, commands: &str) -> Ended {
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", commands]).current_dir(&self.folder);
        bash.env_clear().envs(self.variables.iter().map(|(name, value)| (name, value)));
        Process::spawn(bash, Some(Vec::new())).end().await
    }

    /// The same, and all is well.
    pub async fn does(&self, commands: &str) -> String {
        let ended = self.carry_out(commands).await;
        assert_eq!(ended.code, Some(0), "{commands}\n{}\n{}", ended.out, ended.err);
        ended.out
    }
}
