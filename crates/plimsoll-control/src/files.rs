//! From a path to a checked configuration: reads the file and what it includes, and hands the texts to `plimsoll-config`.
//!
//! Include patterns are relative to the main file. Hidden files and those an editor leaves behind (`.x.toml.swp`) match no
//! wildcard. Never writes, and never reads more than `LARGEST` bytes of one file.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use glob::MatchOptions;
use plimsoll_config::{Loaded, Problems, Source};
use serde_json::{Value, json};

/// Where a configuration is looked for when none is named, in this order.
pub const DEFAULT_PATHS: [&str; 2] = ["plimsoll.toml", "/etc/plimsoll/plimsoll.toml"];

/// Bytes of one file: far above any configuration, so that `/dev/zero` or a log file cannot fill the memory.
const LARGEST: u64 = 16 << 20;

/// Files of one configuration: a pattern that matches a whole disk is a mistake.
const MOST_FILES: usize = 10_000;

/// Why there is no configuration.
#[derive(Debug)]
pub enum LoadError {
    /// No file was named and there is none in the usual places.
    NoDefault,
    /// A file cannot be read, or an include pattern matches nothing that can be.
    Unreadable {
        /// The file or pattern.
        path: String,
        /// What is wrong with it, in one line.
        reason: String,
        /// What to do about it.
        help: String,
    },
    /// The text has problems.
    Problems(Problems),
}

/// The first of `DEFAULT_PATHS` that exists.
pub fn default_path() -> Result<PathBuf, LoadError> {
    // A file that is there and cannot be read is an error later on, rather than a reason to take the next one.
    let found = DEFAULT_PATHS.iter().find(|path| Path::new(path).symlink_metadata().is_ok());
    found.map(PathBuf::from).ok_or(LoadError::NoDefault)
}

/// Loads the configuration at `path`, with its includes and with `${NAME}` from the environment.
pub fn load_file(path: &Path) -> Result<Loaded, LoadError> {
    load_with(path, &|name| std::env::var(name).ok())
}

fn load_with(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, LoadError> {
    plimsoll_config::load(&read_all(path)?, env).map_err(LoadError::Problems)
}

/// The texts of the configuration at `path`: the main file's first, then those of its includes.
pub fn read_all(path: &Path) -> Result<Vec<Source>, LoadError> {
    let mut sources = vec![read(path)?];
    let patterns = plimsoll_config::includes(&sources[0]).map_err(LoadError::Problems)?;
    for included in expand(path, &patterns)? {
        sources.push(read(&included)?);
    }
    Ok(sources)
}

/// The files that `patterns` name, each once, sorted; the main file itself is left out, so that `*.toml` beside it works.
fn expand(main: &Path, patterns: &[String]) -> Result<BTreeSet<PathBuf>, LoadError> {
    let folder = main.parent().unwrap_or(Path::new(""));
    let itself = main.canonicalize().ok();
    let mut files = BTreeSet::new();
    for pattern in patterns {
        for file in matches(folder, pattern)? {
            if file.canonicalize().ok() != itself {
                files.insert(file);
            }
        }
        if files.len() > MOST_FILES {
            let reason = format!("more than {MOST_FILES} files are included");
            return Err(unreadable(pattern, reason, "include a narrower pattern"));
        }
    }
    Ok(files)
}

/// The files of one pattern. A wildcard may match nothing, as in a fresh `conf.d`; a plain name must be there.
fn matches(folder: &Path, pattern: &str) -> Result<Vec<PathBuf>, LoadError> {
    if !pattern.contains(['*', '?', '[']) {
        return Ok(vec![folder.join(pattern)]);
    }
    // Only the pattern is one: a folder called `a[1]` is meant as it stands.
    let folder = glob::Pattern::escape(&folder.to_string_lossy());
    let full = Path::new(&folder).join(pattern);
    let options = MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    let found = glob::glob_with(&full.to_string_lossy(), options).map_err(|error| {
        unreadable(pattern, format!("not a pattern: {}", error.msg), "use *, ? and [a-z] as in a shell")
    })?;
    found
        .take(MOST_FILES + 1)
        .map(|entry| entry.map_err(|error| cannot_read(error.path(), error.error())))
        .collect()
}

fn read(path: &Path) -> Result<Source, LoadError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
    read.map_err(|error| cannot_read(path, &error))?;
    let shown = path.display().to_string();
    if bytes.len() as u64 > LARGEST {
        return Err(unreadable(&shown, "larger than 16 MiB", "name a configuration in TOML"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source { path: shown, text }),
        Err(error) => {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
            Err(unreadable(&shown, format!("line {line} is not UTF-8"), "save the file as UTF-8"))
        }
    }
}

fn cannot_read(path: &Path, error: &io::Error) -> LoadError {
    let (reason, help) = match error.kind() {
        io::ErrorKind::NotFound => {
            ("there is no such file".to_owned(), "check the path and the working directory")
        }
        io::ErrorKind::PermissionDenied => (
            "no permission to read it".to_owned(),
            "let the user that runs plimsoll read the file and enter its folders",
        ),
        io::ErrorKind::IsADirectory => ("this is a directory".to_owned(), "name a file in it"),
        _ => (error.to_string(), "check the path"),
    };
    unreadable(&path.display().to_string(), reason, help)
}

fn unreadable(path: &str, reason: impl Into<String>, help: &str) -> LoadError {
    LoadError::Unreadable { path: path.to_owned(), reason: reason.into(), help: help.to_owned() }
}

impl LoadError {
    /// For people; ends with a line end.
    pub fn render(&self, color: bool) -> String {
        match self {
            LoadError::Problems(problems) => problems.render(color),
            LoadError::NoDefault | LoadError::Unreadable { .. } => {
                let (message, help) = self.message();
                format!("error: {message}\n  = help: {help}\n")
            }
        }
    }

    /// For machines: an array in the form of `Problems::to_json`, without a place where there is none.
    pub fn to_json(&self) -> Value {
        let (path, code) = match self {
            LoadError::Problems(problems) => return problems.to_json(),
            LoadError::NoDefault => (None, "no-file"),
            LoadError::Unreadable { path, .. } => (Some(path), "unreadable"),
        };
        let (message, help) = self.message();
        json!([{
            "file": path, "line": null, "column": null, "message": message, "help": help, "code": code, "related": [],
        }])
    }

    /// What is wrong and what to do about it; for `Problems` only how many there are.
    fn message(&self) -> (String, String) {
        match self {
            LoadError::NoDefault => (
                format!("no configuration: there is neither ./{} nor {}", DEFAULT_PATHS[0], DEFAULT_PATHS[1]),
                "name one, or see it work at once with `plimsoll demo`; `plimsoll run --listen :8080 --to :8000,:8001` \
                 needs no file"
                    .to_owned(),
            ),
            LoadError::Unreadable { path, reason, help } => (format!("cannot read {path}: {reason}"), help.clone()),
            LoadError::Problems(problems) => (format!("{} problems", problems.len()), String::new()),
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for LoadError {}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A folder of its own, removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str, files: &[(&str, &str)]) -> Folder {
            let root = std::env::temp_dir().join(format!("plimsoll-files-{}-{name}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Folder(root)
        }

        fn load(&self) -> Result<Loaded, LoadError> {
            load_with(&self.0.join("main.toml"), &|_| None)
        }

        fn error(&self) -> String {
            self.load().unwrap_err().render(false)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const LISTEN: &str = "[[listen]]\nbind = \":8080\"\nto = [\"127.0.0.1:3000\"]\n";
    const ROUTE: &str =
        "[backend.api]\nservers = [\"127.0.0.1:3001\"]\n[[route]]\nhost = \"a.example\"\nto = \"api\"\n";

    #[test]
    fn wildcards_include_what_is_there_sorted_and_without_hidden_files_or_itself() {
        let main = format!("include = [\"*.toml\", \"conf.d/*.toml\", \"none.d/*\"]\n{LISTEN}");
        let files = [
            ("main.toml", &*main),
            ("conf.d/a.toml", ROUTE),
            ("conf.d/.b.toml", "]["),
            ("conf.d/c.txt", "]["),
        ];
        let loaded = Folder::new("wild[1]", &files).load().unwrap();
        assert_eq!(loaded.config.routes.len(), 1);
        assert_eq!(loaded.config.backends.len(), 2);
    }

    #[test]
    fn a_file_matched_twice_counts_once() {
        let main = format!("include = [\"conf.d/a.toml\", \"conf.d/*.toml\"]\n{LISTEN}");
        let folder = Folder::new("twice", &[("main.toml", &main), ("conf.d/a.toml", ROUTE)]);
        assert_eq!(folder.load().unwrap().config.routes.len(), 1);
    }

    #[test]
    fn problems_in_an_included_file_name_that_file() {
        let main = format!("include = [\"a.toml\"]\n{LISTEN}");
        let folder = Folder::new("place", &[("main.toml", &main), ("a.toml", "nonsense = 1\n")]);
        assert!(folder.error().contains("a.toml:1:1"), "{}", folder.error());
    }

    #[test]
    fn files_that_cannot_be_read_say_why_and_what_to_do() {
        let none = Folder::new("none", &[]);
        assert!(none.error().contains("main.toml: there is no such file\n  = help: "), "{}", none.error());
        let folder = Folder::new("folder", &[("main.toml/x", "")]);
        assert!(folder.error().contains("this is a directory"), "{}", folder.error());
        let include = Folder::new("include", &[("main.toml", "include = [\"gone.toml\"]\n")]);
        assert!(include.error().contains("gone.toml: there is no such file"), "{}", include.error());
        let binary = Folder::new("binary", &[("main.toml", "")]);
        fs::write(binary.0.join("main.toml"), b"a = 1\n# \xff\n").unwrap();
        assert!(binary.error().contains("line 2 is not UTF-8"), "{}", binary.error());
    }

    #[test]
    fn what_cannot_be_read_is_json_of_the_same_form() {
        let error = Folder::new("json", &[]).load().unwrap_err().to_json();
        assert_eq!(error[0]["code"], "unreadable");
        assert_eq!(error[0]["line"], Value::Null);
        assert!(error[0]["file"].as_str().unwrap().ends_with("main.toml"));
    }
}
