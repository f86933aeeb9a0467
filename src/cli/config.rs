//! `perch config`: the configuration that holds, and who wrote each value. As text it is TOML that loads again, with
//! the origins as comments. Secrets are shown as what they are in a configuration: references.

use super::check::refuse;
use super::exit::Exit;
use super::output::Format;
use crate::config::{self, Environ, Loaded, Place};
use std::io::{self, Write};
use std::path::Path;

/// What `perch config` can be told.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ConfigArgs {
    /// How to print the configuration: TOML for people, or JSON
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
    /// Print the manual instead: every key, its default, and why. A file to start from
    #[arg(long)]
    pub defaults: bool,
}

/// Prints the effective configuration, or what is wrong with it, and returns how it ended. `named` is the file of `-c`.
///
/// # Errors
/// Nothing but a handle that cannot be written.
pub fn run(
    named: Option<&Path>,
    env: &Environ,
    args: &ConfigArgs,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    if args.defaults {
        out.write_all(config::MANUAL.as_bytes())?;
        return Ok(Exit::Done);
    }
    let path = config::locate(named, env);
    match (config::load(path.as_deref(), env), args.output) {
        (Err(problems), output) => return refuse(&problems, output, out, err),
        (Ok(loaded), Format::Text) => write_toml(&loaded, out)?,
        (Ok(loaded), Format::Json) => write_json(&loaded, out)?,
    }
    Ok(Exit::Done)
}

fn write_toml(loaded: &Loaded, out: &mut dyn Write) -> io::Result<()> {
    let mut open = None;
    for origin in &loaded.origins {
        let (section, name) = origin.key.rsplit_once('.').unwrap_or(("", &origin.key));
        if open != Some(section) {
            let blank = if open.is_some() { "\n" } else { "" };
            writeln!(out, "{blank}[{section}]")?;
            open = Some(section);
        }
        let set = if origin.is_reference { " (set)" } else { "" };
        writeln!(out, "{:<40}  # {}{set}", format!("{name} = {}", origin.value), source(&origin.place))?;
    }
    Ok(())
}

/// `default`, `perch.toml:12` or the variable's name, in one line.
fn source(place: &Place) -> String {
    let source = match (place, place.line()) {
        (Place::Default { .. }, _) => "default".to_owned(),
        (_, Some(line)) => format!("{}:{line}", place.file().unwrap_or_default()),
        (_, None) => place.to_string(),
    };
    source.replace(char::is_control, "?")
}

fn write_json(loaded: &Loaded, out: &mut dyn Write) -> io::Result<()> {
    let settings = config::as_json(&loaded.origins);
    writeln!(out, "{}", serde_json::json!({ "settings": settings }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "[limits]\nwindow = \"2s\"\n[limits.products]\ndefault = 5\n[admin]\ntoken = \"env:ADMIN\"\n";

    fn environ() -> Environ {
        [
            ("FINCH_CLIENT_ID", "3fa85f64"),
            ("FINCH_CLIENT_SECRET", "hunter2"),
            ("ADMIN", "hunter2"),
            ("PERCH_LOG__LEVEL", "debug"),
            ("PERCH_FINCH__CLIENT_ID", "0123"),
        ]
        .into_iter()
        .collect()
    }

    fn print(text: &str, args: &ConfigArgs) -> (Exit, String, String) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("perch.toml");
        std::fs::write(&path, text).expect("written");
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run(Some(&path), &environ(), args, &mut out, &mut err).expect("memory can be written");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (code, text(out), text(err))
    }

    #[test]
    fn every_value_is_shown_with_who_wrote_it() {
        let (code, out, _) = print(TEXT, &ConfigArgs::default());
        assert_eq!(code, Exit::Done);
        let comment = |setting: &str| {
            let line = out
                .lines()
                .find(|line| line.starts_with(setting))
                .unwrap_or_else(|| panic!("{setting}: {out}"));
            line.split("  # ").nth(1).unwrap_or_default().to_owned()
        };
        assert_eq!(comment("base_url = \"https://api.tryfinch.com\""), "default");
        assert_eq!(comment("client_secret = \"env:FINCH_CLIENT_SECRET\""), "default (set)");
        assert_eq!(comment("client_id = \"0123\""), "PERCH_FINCH__CLIENT_ID");
        assert!(comment("window = \"2s\"").ends_with("perch.toml:2"));
        assert!(comment("company = 5").ends_with("perch.toml:4"), "a product shows the default it falls to");
        assert!(comment("token = \"env:ADMIN\"").ends_with("perch.toml:6 (set)"));
        assert_eq!(comment("level = \"debug\""), "PERCH_LOG__LEVEL");
        assert!(!out.contains("hunter2"));
    }

    #[test]
    fn what_is_printed_loads_again_as_the_same() {
        let (_, first, _) = print(TEXT, &ConfigArgs::default());
        let (code, second, err) = print(&first, &ConfigArgs::default());
        assert_eq!(code, Exit::Done, "{err}");
        let values = |text: &str| {
            let lines =
                text.lines().map(|line| line.split("  # ").next().unwrap_or_default().trim_end().to_owned());
            lines.collect::<Vec<_>>()
        };
        assert_eq!(values(&first), values(&second));
    }

    #[test]
    fn programs_get_every_key_with_its_place() {
        let (code, out, _) = print(TEXT, &ConfigArgs { output: Format::Json, ..ConfigArgs::default() });
        let answer: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        let settings = &answer["settings"];
        assert_eq!(code, Exit::Done);
        assert_eq!(settings["limits.queue.total"], serde_json::json!({"value": 10000, "from": "default"}));
        assert_eq!(
            (
                settings["limits.window"]["value"].as_str(),
                settings["limits.window"]["place"]["line"].as_u64()
            ),
            (Some("2s"), Some(2))
        );
        assert_eq!(settings["log.level"]["place"]["variable"], "PERCH_LOG__LEVEL");
        assert_eq!(settings["admin.token"]["set"], true);
        assert!(!out.contains("hunter2"));
    }

    #[test]
    fn the_manual_can_be_had_as_a_file_to_start_from() {
        let (code, out, _) = print("not even TOML", &ConfigArgs { defaults: true, ..ConfigArgs::default() });
        assert_eq!((code, out.as_str()), (Exit::Done, config::MANUAL));
    }

    #[test]
    fn a_bad_configuration_ends_with_64() {
        let (code, out, err) = print("[limts]\nwindow = 1", &ConfigArgs::default());
        assert_eq!((code, out.as_str()), (Exit::BadConfiguration, ""));
        assert!(err.contains("did you mean `limits.window`?"), "{err}");
    }
}
