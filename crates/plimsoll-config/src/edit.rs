//! One change of a backend's servers in the text of a configuration, with everything else kept to the byte.
//!
//! A text goes in and the same text with the change comes out, spliced at the places that the parser tells, so comments, order and spaces
//! stay as they were written. Servers may stand as strings, as inline tables, as `[[backend.NAME.servers]]`, and in a listener's `to`.
//! (A library that edits its own tree of a text, `toml_edit`, moves the comments of neighbours in arrays, and sees no `${ENV}`.)
//! Never judges what comes out: whoever calls loads it and sees whether it says what it should.

mod splice;

use crate::interpolate::Lookup;
use crate::model::{Server, ServerState};
use crate::problem::Report;
use crate::source::{self, Raw, RawKey, RawValue, Source};
use splice::Text;

/// What is to be otherwise.
#[derive(Debug, Clone, PartialEq)]
pub enum Edit {
    /// A further server, behind the others.
    Add(Server),
    /// Other settings of a server that is there, which it has under the same name.
    Set {
        /// As they are.
        from: Server,
        /// As they are to be.
        to: Server,
    },
    /// The server of this name is to go.
    Remove(String),
}

/// Makes the change in `text`; `None` if it has no such backend. `max_requests` is what servers of the backend have that don't say their
/// own.
///
/// # Errors
/// The servers stand in a way that this cannot change, in a sentence for the operator.
pub fn edit(
    text: &str,
    backend: &str,
    edit: &Edit,
    max_requests: u32,
    env: Lookup<'_>,
) -> Result<Option<String>, String> {
    let source = Source { path: String::new(), text: text.to_owned() };
    let entries = source::parse(0, &source, env, &mut Report::default()).ok_or("it is not TOML")?;
    let Some(place) = place(&entries, backend) else { return Ok(None) };
    let text = Text(text);
    let (list, items) = match place {
        Place::List(raw, items) => (raw, items),
        Place::Missing(first) => {
            let Edit::Add(server) = edit else { return Err(missing(edit)) };
            let line = format!("servers = [{}]", entry(server, max_requests));
            return text.line_before(first.at.start, &line).map(Some);
        }
    };
    let edited = match edit {
        Edit::Add(server) if text.is_header(items.last()) => {
            let keys = keys(None, server, max_requests);
            text.add_table(
                items,
                &keys.iter().map(|(key, value)| format!("{key} = {value}")).collect::<Vec<_>>(),
            )
        }
        Edit::Add(server) => text.add(list, items, &entry(server, max_requests)),
        Edit::Set { from, to } => {
            let item = &items[find(items, &from.name).ok_or_else(|| missing(edit))?];
            let keys = keys(Some(from), to, max_requests);
            match &item.value {
                RawValue::Table(there) => text.set(item, there, &keys),
                _ => text.to_table(item, std::ptr::eq(item, list), &keys),
            }
        }
        Edit::Remove(name) => {
            let at = find(items, name).ok_or_else(|| missing(edit))?;
            if std::ptr::eq(&items[at], list) {
                return Err("it is the only one where it stands: edit the file by hand".to_owned());
            }
            text.remove(items, at)
        }
    };
    edited.map(Some)
}

fn missing(edit: &Edit) -> String {
    let name = match edit {
        Edit::Add(server) | Edit::Set { from: server, .. } => &server.name,
        Edit::Remove(name) => name,
    };
    format!("the file lists no server `{name}` there: it has changed since it was taken, so reload first")
}

fn missing_place() -> String {
    "the servers stand in a way that only a person can change: edit the file by hand".to_owned()
}

/// Where a backend's servers stand.
enum Place<'a> {
    /// The value, and its items; one that stands without brackets is its own item.
    List(&'a Raw, &'a [Raw]),
    /// Nowhere yet; the first key of the backend.
    Missing(&'a RawKey),
}

fn place<'a>(entries: &'a [(RawKey, Raw)], backend: &str) -> Option<Place<'a>> {
    if let Some(bind) = backend.strip_prefix("listen ") {
        let RawValue::List(listeners) = get(entries, "listen")? else { return None };
        let found = listeners.iter().find_map(|listener| {
            let RawValue::Table(keys) = &listener.value else { return None };
            let has = matches!(get(keys, "bind"), Some(RawValue::Text(text)) if text == bind);
            has.then(|| raw(keys, "to")).flatten()
        });
        return found.map(list);
    }
    let RawValue::Table(backends) = get(entries, "backend")? else { return None };
    let RawValue::Table(keys) = get(backends, backend)? else { return None };
    match raw(keys, "servers") {
        Some(servers) => Some(list(servers)),
        None => keys.first().map(|(key, _)| Place::Missing(key)),
    }
}

fn list(raw: &Raw) -> Place<'_> {
    match &raw.value {
        RawValue::List(items) => Place::List(raw, items),
        _ => Place::List(raw, std::slice::from_ref(raw)),
    }
}

fn raw<'a>(entries: &'a [(RawKey, Raw)], name: &str) -> Option<&'a Raw> {
    entries.iter().find(|(key, _)| key.name == name).map(|(_, raw)| raw)
}

fn get<'a>(entries: &'a [(RawKey, Raw)], name: &str) -> Option<&'a RawValue> {
    raw(entries, name).map(|raw| &raw.value)
}

/// A server's name is its address unless it has another one.
fn find(items: &[Raw], name: &str) -> Option<usize> {
    items.iter().position(|item| match &item.value {
        RawValue::Text(address) => address == name,
        RawValue::Table(keys) => {
            let said = get(keys, "name").or_else(|| get(keys, "address"));
            matches!(said, Some(RawValue::Text(text)) if text == name)
        }
        _ => false,
    })
}

/// The keys of `to` that differ from `from`, or from what they are by default, with their values as TOML.
fn keys(from: Option<&Server>, to: &Server, max_requests: u32) -> Vec<(&'static str, String)> {
    // `:3000` is a name that says where it is, too.
    let says_where = crate::address::parse_server(&to.name).is_ok_and(|address| address == to.address);
    let address = if says_where { to.name.clone() } else { to.address.to_string() };
    let default = Server { max_requests, ..Server::new(&address, to.address.clone()) };
    let mut keys = Vec::new();
    let mut key = |name, differs: bool, value: String| {
        if differs {
            keys.push((name, value));
        }
    };
    let from_or = from.unwrap_or(&default);
    key("address", from.is_none_or(|from| from.address != to.address), quoted(&address));
    key("name", from_or.name != to.name, quoted(&to.name));
    key("weight", from_or.weight != to.weight, to.weight.to_string());
    key("priority", from_or.priority != to.priority, to.priority.to_string());
    key("backup", from_or.backup != to.backup, to.backup.to_string());
    key("max_requests", from_or.max_requests != to.max_requests, to.max_requests.to_string());
    key("state", from_or.state != to.state, quoted(ServerState::as_str(to.state)));
    keys
}

/// A server as an item of an array.
fn entry(server: &Server, max_requests: u32) -> String {
    let keys = keys(None, server, max_requests);
    match &keys[..] {
        [(_, address)] => address.clone(),
        _ => table(&keys),
    }
}

fn table(keys: &[(&'static str, String)]) -> String {
    let keys: Vec<String> = keys.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    format!("{{ {} }}", keys.join(", "))
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => quoted.push_str(&format!("\\u{:04X}", control as u32)),
            plain => quoted.push(plain),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> Server {
        let parsed = crate::address::parse_server(text).unwrap();
        Server { max_requests: 1024, ..Server::new(text, parsed) }
    }

    fn change(text: &str, backend: &str, what: &Edit) -> String {
        let edited = edit(text, backend, what, 1024, &|name| (name == "HOST").then(|| "10.0.0.7".to_owned()));
        edited.unwrap().unwrap_or_else(|| panic!("no {backend} in {text}"))
    }

    fn add(text: &str, new: Server) -> String {
        change(text, "web", &Edit::Add(new))
    }

    fn set(text: &str, from: Server, with: impl Fn(&mut Server)) -> String {
        let mut to = from.clone();
        with(&mut to);
        change(text, "web", &Edit::Set { from, to })
    }

    fn remove(text: &str, name: &str) -> String {
        change(text, "web", &Edit::Remove(name.to_owned()))
    }

    const LINES: &str = "# head\n[backend.web] # here\nservers = [\n    \"10.0.0.1:1\", # one\n    # about two\n    { address = \"10.0.0.2:1\", name = 'two' }, # two\n]\nbalance = \"p2c\"\n";

    #[test]
    fn an_item_a_line_stays_so() {
        let added = add(LINES, server("10.0.0.3:1"));
        assert_eq!(added, LINES.replace("# two\n]", "# two\n    \"10.0.0.3:1\",\n]"));
        let without = LINES.replace("'two' }, #", "'two' } #");
        let added = add(&without, Server { weight: 2, name: "c\"".to_owned(), ..server("10.0.0.3:1") });
        let line = "    { address = \"10.0.0.3:1\", name = \"c\\\"\", weight = 2 }\n]";
        assert_eq!(added, LINES.replace("# two\n]", &format!("# two\n{line}")));
        assert_eq!(remove(LINES, "10.0.0.1:1"), LINES.replace("    \"10.0.0.1:1\", # one\n", ""));
        assert_eq!(
            remove(&without, "two"),
            LINES.replace("    { address = \"10.0.0.2:1\", name = 'two' }, # two\n", "")
        );
    }

    #[test]
    fn settings_change_where_they_stand_and_are_added_where_they_do_not() {
        let set_weight = |server: &mut Server| server.weight = 5;
        let table = "{ address = \"10.0.0.1:1\", weight = 5 }, # one";
        assert_eq!(
            set(LINES, server("10.0.0.1:1"), set_weight),
            LINES.replace("\"10.0.0.1:1\", # one", table)
        );
        let two = Server { name: "two".to_owned(), ..server("10.0.0.2:1") };
        let once = set(LINES, two.clone(), set_weight);
        assert_eq!(once, LINES.replace("'two' }", "'two', weight = 5 }"));
        let again = set(&once, Server { weight: 5, ..two }, |server| {
            (server.weight, server.state) = (6, ServerState::Drain);
        });
        assert_eq!(again, LINES.replace("'two' }", "'two', weight = 6, state = \"drain\" }"));
    }

    #[test]
    fn one_line_stays_one_line() {
        let text = "backend.web.servers = [\"10.0.0.1:1\", \"10.0.0.2:1\" , \"10.0.0.3:1\"] # all\n";
        assert_eq!(add(text, server("[::1]:1")), text.replace("3:1\"]", "3:1\", \"[::1]:1\"]"));
        for (name, left) in [
            ("10.0.0.1:1", "[\"10.0.0.2:1\" , \"10.0.0.3:1\"]"),
            ("10.0.0.2:1", "[\"10.0.0.1:1\", \"10.0.0.3:1\"]"),
            ("10.0.0.3:1", "[\"10.0.0.1:1\", \"10.0.0.2:1\"]"),
        ] {
            assert_eq!(remove(text, name), format!("backend.web.servers = {left} # all\n"), "{name}");
        }
        let empty = "backend = { web = { discover = { file = \"x\" }, servers = [] } }";
        assert_eq!(add(empty, server(":1")), empty.replace("[]", "[\":1\"]"));
    }

    const TABLES: &str = "[backend.web]\r\nbalance = \"p2c\"\r\n\r\n# one\r\n[[backend.web.servers]] # first\r\naddress = \"10.0.0.1:1\" # here\r\n\r\n  [[backend.web.servers]]\r\n  weight = 2\r\n  address = \"10.0.0.2:1\"\r\n\r\n[admin]\r\nbind = \":1\"\r\n";

    #[test]
    fn tables_with_headers_are_added_changed_and_removed() {
        let added = add(TABLES, Server { weight: 3, ..server("10.0.0.3:1") });
        let table = "  [[backend.web.servers]]\r\n  address = \"10.0.0.3:1\"\r\n  weight = 3\r\n\r\n[admin]";
        assert_eq!(added, TABLES.replace("[admin]", table));
        let set_weight = |server: &mut Server| server.weight = 5;
        let first = TABLES.replace("# here\r\n", "# here\r\nweight = 5\r\n");
        assert_eq!(set(TABLES, server("10.0.0.1:1"), set_weight), first);
        let second = Server { weight: 2, ..server("10.0.0.2:1") };
        assert_eq!(set(TABLES, second, set_weight), TABLES.replace("weight = 2", "weight = 5"));
        let gone = "  [[backend.web.servers]]\r\n  weight = 2\r\n  address = \"10.0.0.2:1\"\r\n\r\n";
        assert_eq!(remove(TABLES, "10.0.0.2:1"), TABLES.replace(gone, ""));
    }

    #[test]
    fn a_listeners_servers_stand_in_its_to() {
        let text =
            "[[listen]]\nbind = \":80\"\nto = \"web\"\n[[listen]]\nbind = \":81\"\nto = \"${HOST}:1\" # x\n";
        let new = Edit::Add(server("10.0.0.2:1"));
        let added = change(text, "listen :81", &new);
        assert_eq!(added, text.replace("\"${HOST}:1\"", "[\"${HOST}:1\", \"10.0.0.2:1\"]"));
        let from = server("10.0.0.7:1");
        let to = Server { state: ServerState::Maint, ..from.clone() };
        let told = change(text, "listen :81", &Edit::Set { from, to });
        assert_eq!(told, text.replace("\"${HOST}:1\"", "[{ address = \"${HOST}:1\", state = \"maint\" }]"));
        assert_eq!(edit(text, "listen :82", &new, 1024, &|_| None), Ok(None));
        assert!(
            edit(text, "listen :81", &Edit::Remove("10.0.0.7:1".to_owned()), 1024, &|_| Some(
                "10.0.0.7".to_owned()
            ))
            .is_err()
        );
    }

    #[test]
    fn a_backend_without_servers_gets_some_and_others_are_left() {
        let text = "[backend.web]\n  # by name\n  discover = { dns = \"a:1\" }\n";
        let added = add(text, Server { backup: true, ..server("10.0.0.2:1") });
        let line = "  servers = [{ address = \"10.0.0.2:1\", backup = true }]\n  discover";
        assert_eq!(added, text.replace("  discover", line));
        assert_eq!(edit(text, "api", &Edit::Remove("x".to_owned()), 1024, &|_| None), Ok(None));
        let gone = edit(LINES, "web", &Edit::Remove("x".to_owned()), 1024, &|_| None);
        assert!(gone.is_err_and(|reason| reason.contains("`x`")));
    }

    #[test]
    fn whatever_is_made_is_read_as_it_was_meant() {
        let listen = "[[listen]]\nbind = \":80\"\nto = \"web\"\n[admin]\nbind = \"127.0.0.1:1\"\n";
        let texts = [LINES.to_owned(), TABLES.replace("[admin]\r\nbind = \":1\"\r\n", "")];
        for text in texts.map(|text| text + listen) {
            let read = |text: &str| {
                let source = Source { path: "x".to_owned(), text: text.to_owned() };
                let loaded = crate::load(&[source], &|_| None)
                    .unwrap_or_else(|e| panic!("{}\n{text}", e.render(false)));
                loaded.config.backends[0].servers.clone()
            };
            let before = read(&text);
            let new = Server {
                weight: 9,
                priority: 3,
                max_requests: 7,
                name: "n ü\\".to_owned(),
                ..server("unix:/a b")
            };
            let after = read(&add(&text, new.clone()));
            assert_eq!(after.last(), Some(&new));
            assert_eq!(after[..before.len()], before);
            for (place, server) in before.iter().enumerate() {
                let mut expected = before.clone();
                expected.remove(place);
                assert_eq!(read(&remove(&text, &server.name)), expected);
                let to = Server { weight: 77, state: ServerState::Maint, backup: true, ..server.clone() };
                let changed =
                    read(&change(&text, "web", &Edit::Set { from: server.clone(), to: to.clone() }));
                assert_eq!(changed[place], to);
            }
        }
    }
}
