//! What the system does to a host on demand, by preload.c: a full disk under the mail folder, a clock that jumps.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Of all hosts that were started with its [`env`](Preload::env).
pub(crate) struct Preload {
    library: PathBuf,
    faults: File,
    file: PathBuf,
}

impl Preload {
    /// Both files are put into `folder`. Needs `cc`, as building the host does.
    pub(crate) fn compiled(folder: &Path) -> Self {
        let (library, file) = (folder.join("preload.so"), folder.join("faults"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/preload.c");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&library).arg(source);
        assert!(cc.status().expect("cc starts").success(), "preload.c can't be compiled");
        fs::write(&file, [0; 32]).unwrap();
        let faults = File::options().read(true).write(true).open(&file).unwrap();
        Self { library, faults, file }
    }

    pub(crate) fn env(&self) -> [(&str, &str); 2] {
        [("LD_PRELOAD", self.library.to_str().unwrap()), ("FAULTS_FILE", self.file.to_str().unwrap())]
    }

    pub(crate) fn clock_ahead(&self, seconds: i64) {
        self.faults.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    }

    /// How many writes were refused until now, and how often the clock was shown as another.
    pub(crate) fn done(&self) -> [i64; 2] {
        [16, 24].map(|at| {
            let mut bytes = [0; 8];
            self.faults.read_exact_at(&mut bytes, at).unwrap();
            i64::from_ne_bytes(bytes)
        })
    }

    pub(crate) fn disk_full(&self, full: bool) {
        self.faults.write_all_at(&i64::from(full).to_ne_bytes(), 8).unwrap();
    }
}
