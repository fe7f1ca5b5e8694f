//! Files nobody wrote: the reader answers each of them, and every mistake has its line.

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert, prop_oneof, proptest};
use proptest::sample::select;

use super::load::Loading;
use super::*;

const NAME: &str = "waypost.toml";

fn load(text: &str) -> Result<Config, LoadError> {
    let mut loading = Loading::new();
    loading.read_text(Path::new(NAME), text);
    loading.complete_doors();
    validate::validate(&mut loading);
    loading.finish()
}

fn check(text: &str) {
    let lines = text.matches('\n').count() + 1;
    match load(text) {
        Ok(config) => {
            // What is understood can be shown and is understood again.
            for setting in SETTINGS {
                let value = setting.show(&config);
                let line = format!("{} = {value}\n", setting.key);
                assert!(line.parse::<toml::Table>().is_ok(), "{line}");
            }
            assert!(config.doors().len() >= config.listen.own.len());
        }
        Err(error) => {
            assert!(!error.problems.is_empty());
            for problem in &error.problems {
                let Origin::File { line, .. } = problem.origin() else {
                    panic!("{problem} has no line\n{text}");
                };
                assert!((1..=lines).contains(&line), "{problem}\n{text}");
                let told = problem.to_string();
                assert!(told.starts_with(&format!("{NAME}:{line}: ")), "{told}");
                // A message is one line, and not the file again.
                assert!(!told.contains('\n') && told.len() < 2_000, "{told}");
            }
        }
    }
}

fn a_name() -> impl Strategy<Value = String> {
    let arrays = array::arrays();
    let mut names: Vec<String> = SETTINGS
        .iter()
        .flat_map(|setting| [setting.section, setting.key])
        .chain(array::NAMES)
        .chain(
            arrays
                .iter()
                .flat_map(|array| array.keys.iter().map(|key| key.name)),
        )
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    prop_oneof![9 => select(names), 1 => "[a-z_]{0,8}"]
}

/// Right for some key, nearly right, or of any type.
fn a_value() -> impl Strategy<Value = String> {
    let arrays = array::arrays();
    let mut values: Vec<String> = SETTINGS
        .iter()
        .map(|setting| setting.show(&Config::default()))
        .chain(
            arrays
                .iter()
                .flat_map(|array| array.keys.iter().map(|key| key.example.to_owned())),
        )
        .collect();
    let odd = [
        "true",
        "0",
        "-1",
        "1e400",
        "9223372036854775807",
        "0xff",
        "1979-05-27",
        "{}",
        "[[]]",
        "[]",
        "\"\"",
        "\"\\u0000\"",
        "\"0.0.0.0:1\"",
        "\"127.0.0.1:8080\"",
        "\"unix\"",
        "\"mqtt\"",
        "\"wss\"",
        "\"a/#/b\"",
        "\"18446744073709551616TiB\"",
        "\"10.0.0.0/33\"",
        "{ protocol = \"ws\", address = \"[::1]:1\" }",
        "[{ filter = \"a\" }, 5]",
        "nan",
        "'''\n'''",
    ];
    values.extend(odd.map(str::to_owned));
    prop_oneof![9 => select(values), 1 => any::<String>().prop_map(|text| literal::quoted(&text))]
}

fn a_line() -> impl Strategy<Value = String> {
    let name = a_name;
    prop_oneof![
        2 => name().prop_map(|name| format!("[{name}]\n")),
        2 => name().prop_map(|name| format!("[[{name}]]\n")),
        1 => Just("[[listener]]\nprotocol = \"mqtts\"\naddress = \"127.0.0.1:1\"\n".to_owned()),
        1 => Just("[[topic]]\nfilter = \"a/+\"\n".to_owned()),
        8 => (name(), a_value()).prop_map(|(name, value)| format!("{name} = {value}\n")),
        1 => (name(), name(), a_value()).prop_map(|(a, b, value)| format!("{a}.{b} = {value}\n")),
        1 => "\\PC{0,12}\n",
    ]
}

/// A section and a value for a key that it really has: what gets past the first look.
fn a_setting() -> impl Strategy<Value = String> {
    (0..SETTINGS.len(), a_value()).prop_map(|(index, value)| {
        let setting = &SETTINGS[index];
        format!("{}.{} = {value}\n", setting.section, setting.key)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        check(&text);
    }

    #[test]
    fn any_lines_are_answered(lines in vec(a_line(), 0..12)) {
        check(&lines.concat());
    }

    #[test]
    fn any_settings_are_answered(lines in vec(a_setting(), 1..5), tail in vec(a_line(), 0..4)) {
        check(&(lines.concat() + &tail.concat()));
    }

    /// Goal: the environment and flags are no less careful. Method: any text as the value of any variable.
    #[test]
    fn any_variable_is_answered(index in 0..SETTINGS.len(), value in any::<String>()) {
        let name = SETTINGS[index].variable();
        if let Err(told) = load_environment(&[(&name, &value)]) {
            prop_assert!(told.contains(&name), "{}", told);
        }
    }
}
