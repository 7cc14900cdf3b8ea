//! Changes of servers that the configuration's file keeps.
//!
//! The file that lists the server is found among the main one and its includes, changed at that one place, and loaded with all the others: it
//! must say what was ordered and nothing else besides. Only then is it written, beside the old one and to the disk, and renamed into its
//! place by [`Prepared::commit`]. Symbolic links are followed; mode and owner stay. Whatever fails leaves the file as it was.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use plimsoll_config::model::{Backend, Config, Server};
use plimsoll_config::{Edit, Source};

use crate::files::{self, LoadError};
use crate::wanted::Lasting;

/// Why a file does not keep a change. Then it is as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unkept {
    /// It cannot, in a sentence.
    Impossible(String),
    /// It could not be written, in a sentence.
    Unwritten(String),
}

/// A file that is written, and not yet in its place.
#[derive(Debug)]
pub struct Prepared {
    /// The main file, for the texts of all.
    main: PathBuf,
    /// All texts as they were and as they are to be.
    before: Vec<Source>,
    after: Vec<Source>,
    /// What is to be renamed, and to what; none if the file says so already.
    renamed: Option<(Beside, PathBuf)>,
}

/// A file beside another one, removed unless it is renamed.
#[derive(Debug)]
struct Beside(PathBuf);

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0); // after the rename it is not there
    }
}

/// Makes the configuration at `main` say of `backend` what is lasting, up to the last step.
///
/// # Errors
/// It cannot be; nothing has changed.
pub fn prepare(main: &Path, backend: &str, lasting: &Lasting) -> Result<Prepared, Unkept> {
    let env = |name: &str| std::env::var(name).ok();
    let broken = |error: &LoadError| {
        Unkept::Impossible(format!(
            "the file is not in order as it is, so nothing is written: {}",
            error.render(false)
        ))
    };
    let before = files::read_all(main).map_err(|error| broken(&error))?;
    let load = |sources: &[Source]| plimsoll_config::load(sources, &env).map_err(LoadError::Problems);
    let is = load(&before).map_err(|error| broken(&error))?.config;
    let nothing = |after| Prepared { main: main.to_owned(), before: before.clone(), after, renamed: None };
    let spec = spec(&is, backend)?;
    let Some(edit) = edit_of(spec, lasting)? else { return Ok(nothing(before.clone())) };
    let mut after = before.clone();
    let place = change(&mut after, spec, &edit, &env)?;
    let mut wanted = is.clone();
    let of = wanted.backends.iter_mut().filter(|spec| spec.name == backend);
    of.for_each(|spec| lasting.apply(&mut spec.servers));
    let refuse =
        |reason: String| Unkept::Impossible(format!("{} would not hold it: {reason}", before[place].path));
    let says = load(&after).map_err(|error| refuse(error.render(false)))?.config;
    if says != wanted {
        return Err(refuse("with the change in it, it says something else; edit it by hand".to_owned()));
    }
    if after == before {
        return Ok(nothing(after));
    }
    let (path, text) = (&before[place].path, &after[place].text);
    let written = write_beside(Path::new(path), text);
    let renamed = written.map_err(|error| {
        Unkept::Unwritten(format!(
            "cannot write a new {path} into its folder, which the process must be allowed to: {error}"
        ))
    })?;
    Ok(Prepared { main: main.to_owned(), before, after, renamed: Some(renamed) })
}

fn spec<'c>(config: &'c Config, backend: &str) -> Result<&'c Backend, Unkept> {
    let found = config.backends.iter().find(|spec| spec.name == backend);
    found.ok_or_else(|| {
        Unkept::Impossible(format!("the file has no backend `{backend}` any more: reload first"))
    })
}

/// `None` if there is nothing to change.
fn edit_of(spec: &Backend, lasting: &Lasting) -> Result<Option<Edit>, Unkept> {
    let name = match lasting {
        Lasting::Nothing => return Ok(None),
        Lasting::Put(server) => &server.name,
        Lasting::Set { server, .. } | Lasting::Remove(server) => server,
    };
    let there = spec.servers.iter().find(|server| server.name == *name);
    let gone = || Unkept::Impossible(format!("the file does not list `{name}` any more: reload first"));
    Ok(Some(match (lasting, there) {
        (Lasting::Put(server), None) => Edit::Add(server.clone()),
        (Lasting::Remove(_), Some(_)) => Edit::Remove(name.clone()),
        (_, Some(from)) => {
            let mut to: Vec<Server> = vec![from.clone()];
            lasting.apply(&mut to);
            let to = to.pop().ok_or_else(gone)?;
            if to == *from {
                return Ok(None);
            }
            Edit::Set { from: from.clone(), to }
        }
        (_, None) => return Err(gone()),
    }))
}

/// Changes the one text that has the backend; which it is.
fn change(
    sources: &mut [Source],
    spec: &Backend,
    edit: &Edit,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<usize, Unkept> {
    for (place, source) in sources.iter_mut().enumerate() {
        let edited = plimsoll_config::edit(&source.text, &spec.name, edit, spec.max_requests, env);
        let edited = edited.map_err(|reason| Unkept::Impossible(format!("{}: {reason}", source.path)))?;
        if let Some(text) = edited {
            source.text = text;
            return Ok(place);
        }
    }
    let reason = format!("no file lists the servers of `{}` where they could be changed", spec.name);
    Err(Unkept::Impossible(reason))
}

/// The text in a file beside the one that `path` leads to, on the disk and with its mode and owner; and where that one is.
fn write_beside(path: &Path, text: &str) -> io::Result<(Beside, PathBuf)> {
    let target = path.canonicalize()?;
    // Who may not write the file may not replace it either.
    let about = OpenOptions::new().write(true).open(&target)?.metadata()?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    // Hidden, and with another ending: no `include` takes it for a configuration.
    let beside = target.with_file_name(format!(".{name}.{}-{since}.new", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let beside = Beside(beside);
    file.write_all(text.as_bytes())?;
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (about.uid(), about.gid()) {
        fchown(&file, Some(about.uid()), Some(about.gid()))?;
    }
    file.set_permissions(about.permissions())?;
    file.sync_all()?;
    Ok((beside, target))
}

impl Prepared {
    /// Puts the file in its place. Gives all texts, as they were and as they are now.
    ///
    /// # Errors
    /// Somebody else has changed one of the files meanwhile, or it cannot be renamed. Nothing has changed.
    pub fn commit(self) -> Result<(Vec<Source>, Vec<Source>), Unkept> {
        let Some((beside, target)) = self.renamed else { return Ok((self.before, self.after)) };
        if files::read_all(&self.main).ok().as_ref() != Some(&self.before) {
            let reason = "somebody else has changed the configuration this very moment: ask again";
            return Err(Unkept::Unwritten(reason.to_owned()));
        }
        fs::rename(&beside.0, &target).map_err(|error| Unkept::Unwritten(irreplaceable(&target, &error)))?;
        // That the name is on the disk too is worth trying for; without it the old file is there after a crash, whole.
        if let Some(folder) = target.parent() {
            let _ = File::open(folder).and_then(|folder| folder.sync_all());
        }
        Ok((self.before, self.after))
    }
}

/// Why a file cannot be replaced, and what to do about it.
fn irreplaceable(path: &Path, error: &io::Error) -> String {
    let help = match error.kind() {
        // EBUSY: something is mounted there.
        io::ErrorKind::ResourceBusy => {
            "; it is a mount of its own, as of one file in a container: mount its folder instead"
        }
        _ => "",
    };
    format!("cannot replace {}: {error}{help}", path.display())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use plimsoll_config::model::ServerState;

    use super::*;

    const MAIN: &str =
        "# main\ninclude = [\"conf.d/*.toml\"]\n[[listen]]\nbind = \":0\"\nto = \"web\" # all\n";
    const WEB: &str = "# web\n[backend.web]\nservers = [\n  \"10.0.0.1:1\", # one\n  \"10.0.0.2:1\",\n]\n";

    /// A folder with a main file and one that it includes.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let root = std::env::temp_dir().join(format!("plimsoll-persist-{}-{name}", std::process::id()));
            fs::create_dir_all(root.join("conf.d")).unwrap();
            fs::write(root.join("main.toml"), MAIN).unwrap();
            fs::write(root.join("conf.d/web.toml"), WEB).unwrap();
            Folder(root)
        }

        fn web(&self) -> String {
            fs::read_to_string(self.0.join("conf.d/web.toml")).unwrap()
        }

        fn prepare(&self, lasting: &Lasting) -> Result<Prepared, Unkept> {
            prepare(&self.0.join("main.toml"), "web", lasting)
        }

        /// The names of all that is in `conf.d`.
        fn names(&self) -> Vec<String> {
            let names = fs::read_dir(self.0.join("conf.d")).unwrap();
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn weight(weight: u16) -> Lasting {
        Lasting::Set { server: "10.0.0.1:1".to_owned(), state: None, weight: Some(weight) }
    }

    #[test]
    fn a_file_that_is_a_mount_of_its_own_says_what_to_mount_instead() {
        let busy = io::Error::from_raw_os_error(rustix::io::Errno::BUSY.raw_os_error());
        let said = irreplaceable(Path::new("/etc/plimsoll.toml"), &busy);
        assert!(
            said.starts_with("cannot replace /etc/plimsoll.toml: ")
                && said.ends_with("mount its folder instead")
        );
        let full = io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error());
        assert!(irreplaceable(Path::new("/a"), &full).ends_with("(os error 28)"));
    }

    #[test]
    fn the_included_file_is_replaced_with_its_mode_and_through_its_link() {
        let folder = Folder::new("link");
        let (real, link) = (folder.0.join("real.txt"), folder.0.join("conf.d/web.toml"));
        fs::rename(&link, &real).unwrap();
        symlink("../real.txt", &link).unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        let (before, after) = folder.prepare(&weight(5)).unwrap().commit().unwrap();
        assert_eq!(folder.web(), WEB.replace("\"10.0.0.1:1\"", "{ address = \"10.0.0.1:1\", weight = 5 }"));
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(real.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!((before[1].text.as_str(), after[1].text.clone()), (WEB, folder.web()));
        assert_eq!(fs::read_to_string(folder.0.join("main.toml")).unwrap(), MAIN);
        assert_eq!(folder.names(), ["web.toml"]);
    }

    #[test]
    fn without_a_commit_nothing_is_there() {
        let folder = Folder::new("drop");
        let prepared = folder.prepare(&Lasting::Remove("10.0.0.2:1".to_owned())).unwrap();
        assert_eq!(folder.names().len(), 2);
        drop(prepared);
        assert_eq!((folder.names().len(), folder.web().as_str()), (1, WEB));
        assert!(folder.prepare(&weight(1)).unwrap().renamed.is_none(), "it says so already");
    }

    #[test]
    fn what_changed_meanwhile_is_not_overwritten() {
        let folder = Folder::new("meanwhile");
        let prepared = folder.prepare(&weight(5)).unwrap();
        let other = WEB.replace("one", "another");
        fs::write(folder.0.join("conf.d/web.toml"), &other).unwrap();
        assert!(matches!(prepared.commit(), Err(Unkept::Unwritten(_))));
        assert_eq!((folder.web(), folder.names().len()), (other, 1));
    }

    #[test]
    fn a_file_that_would_be_wrong_or_is_wrong_is_left_alone() {
        let folder = Folder::new("wrong");
        // A backend needs a server.
        folder.prepare(&Lasting::Remove("10.0.0.2:1".to_owned())).unwrap().commit().unwrap();
        let one = folder.web();
        let gone = folder.prepare(&Lasting::Set {
            server: "10.0.0.2:1".to_owned(),
            state: Some(ServerState::Drain),
            weight: None,
        });
        assert!(matches!(gone, Err(Unkept::Impossible(reason)) if reason.contains("reload first")));
        fs::write(folder.0.join("main.toml"), format!("{MAIN}nonsense = 1\n")).unwrap();
        let broken = folder.prepare(&weight(5)).unwrap_err();
        assert!(matches!(&broken, Unkept::Impossible(reason) if reason.contains("nonsense")), "{broken:?}");
        assert_eq!((folder.web(), folder.names().len()), (one, 1));
    }

    #[test]
    fn a_file_that_cannot_be_made_beside_is_an_error_that_changes_nothing() {
        let folder = Folder::new("full");
        // Longer than a name may be: the same failure at the same step, on any machine and for any user.
        let long = format!("{}.toml", "x".repeat(245));
        fs::rename(folder.0.join("conf.d/web.toml"), folder.0.join("conf.d").join(&long)).unwrap();
        let failed = folder.prepare(&weight(5)).unwrap_err();
        assert!(
            matches!(&failed, Unkept::Unwritten(reason) if reason.contains("cannot write")),
            "{failed:?}"
        );
        assert_eq!(fs::read_to_string(folder.0.join("conf.d").join(&long)).unwrap(), WEB);
        assert_eq!(folder.names(), [long]);
    }
}
