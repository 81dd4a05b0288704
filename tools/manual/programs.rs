//! The pages of the programs: what their command lines say of themselves, and what they do not.

use std::path::{Path, PathBuf};

use clap::{Arg, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::roff::{Inline, bold, roman};
use msrprelay::cli;

use crate::page::{Page, value};

/// One program that is shipped.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    section: &'static str,
    command: fn() -> Command,
    /// Sections beside those of the command line: heading, and terms with what they mean.
    more: &'static [(&'static str, &'static [(&'static str, &'static str)])],
    see_also: &'static [&'static str],
}

pub(crate) fn all() -> [Program; 3] {
    [MSRPRELAY, MSRPRELAYCTL, MSRPCLIENT]
}

const MSRPRELAY: Program = Program {
    name: "msrprelay",
    section: "8",
    command: cli::msrprelay::Args::command,
    more: &[
        (
            "FILES",
            &[
                (
                    "/etc/msrprelay/config.ini",
                    "The configuration, see msrprelay.ini(5). A config.ini in the directory of the \
                     program as it was called comes first, unless that is a directory of the system \
                     such as /usr/bin. One file only is read.",
                ),
                ("/etc/msrprelay/tls/", "Place for certificates and their keys."),
                (
                    "/run/msrprelay/",
                    "msrprelay.pid, when the relay runs in the background, and msrprelay.sock for \
                     msrprelayctl(8).",
                ),
                (
                    "/usr/share/msrprelay/tls/",
                    "make-selfsigned.sh and make-ca-signed.sh, which make certificates, and a README \
                     on them.",
                ),
                ("/usr/share/msrprelay/config.ini.sample", "Every option with its default."),
            ],
        ),
        (
            "SERVICE",
            &[
                (
                    "systemctl status msrprelay",
                    "Shows numbers of sessions and connections, and whether the last reload failed or \
                     the database is away. `msrprelayctl status` tells why.",
                ),
                (
                    "systemctl reload msrprelay, service msrprelay reload",
                    "Waits until the new configuration is in force. With a broken file it fails and \
                     changes nothing.",
                ),
                (
                    "service msrprelay restart",
                    "Under init.d checks the configuration first, and with a broken one leaves the \
                     running relay alone. systemd stops the relay before it looks at the file: run \
                     `msrprelay --check-config` first. `systemctl status msrprelay` then names all \
                     faults, and the relay starts once they are mended.",
                ),
                (
                    "systemctl enable msrprelay.socket && systemctl restart msrprelay",
                    "Has systemd hold the listening socket, so that no connection is refused while the \
                     relay is restarted. `enable --now` fails beside a running relay, because systemd \
                     opens no socket of a service that is up. The addresses in msrprelay.socket must \
                     be those in config.ini.",
                ),
                (
                    "/etc/default/msrprelay, systemctl edit msrprelay",
                    "More options for the relay: DAEMON_ARGS for init.d, and under systemd \
                     Environment=\"MSRPRELAY_OPTIONS=--config-file FILE\". Also the limit on open \
                     files: OPEN_FILES, or LimitNOFILE=.",
                ),
            ],
        ),
    ],
    see_also: &["msrprelay.ini(5)", "msrprelayctl(8)", "msrpclient(1)", "systemctl(1)"],
};

const MSRPRELAYCTL: Program = Program {
    name: "msrprelayctl",
    section: "8",
    command: cli::msrprelayctl::Args::command,
    more: &[],
    see_also: &["msrprelay(8)", "msrprelay.ini(5)"],
};

const MSRPCLIENT: Program = Program {
    name: "msrpclient",
    section: "1",
    command: cli::msrpclient::Args::command,
    more: &[(
        "ENVIRONMENT",
        &[("MSRP_PASSWORD", "The password, when there is no `--password-file`.")],
    )],
    see_also: &["msrprelay(8)"],
};

impl Program {
    pub(crate) fn file_name(&self) -> String {
        format!("{}.{}", self.name, self.section)
    }

    /// Where each shell looks for it.
    pub(crate) fn completion_file(&self, directory: &Path, shell: Shell) -> PathBuf {
        directory.join(match shell {
            Shell::Zsh => format!("_{}", self.name),
            Shell::Fish => format!("{}.fish", self.name),
            _ => self.name.to_owned(),
        })
    }

    /// The command line, with usage and help ready to be asked for.
    pub(crate) fn command(&self) -> Command {
        let mut command = (self.command)().name(self.name).bin_name(self.name);
        command.build();
        command
    }

    pub(crate) fn page(&self) -> String {
        let mut command = self.command();
        let purpose = command.get_about().map(ToString::to_string).unwrap_or_default();
        let mut page =
            Page::new(self.name, self.section, &lower_case(purpose.trim_end_matches('.')));

        page.section("SYNOPSIS");
        for usage in usages(&mut command) {
            page.verbatim(&usage);
        }
        page.section("DESCRIPTION");
        page.text(&description(&command));
        let commands: Vec<&Command> =
            command.get_subcommands().filter(|command| command.get_name() != "help").collect();
        if !commands.is_empty() {
            page.section("COMMANDS");
        }
        for subcommand in commands {
            page.subsection(&format!("{} {}", self.name, subcommand.get_name()));
            page.text(&description(subcommand));
            describe_arguments(&mut page, subcommand);
            if let Some(remarks) = subcommand.get_after_help() {
                let remarks = remarks.to_string();
                let (heading, lines) = remarks.split_once('\n').unwrap_or((&remarks, ""));
                page.text(heading);
                page.verbatim(lines);
            }
        }
        page.section("OPTIONS");
        describe_arguments(&mut page, &command);
        if let Some(remarks) = command.get_after_help() {
            page.remarks(&remarks.to_string());
        }
        for (heading, entries) in self.more {
            page.section(heading);
            for (term, text) in *entries {
                page.entry([bold(*term)], text);
            }
        }
        page.see_also(self.see_also);
        page.finish()
    }
}

/// The custom of whatis(1): no capital at the beginning, but for an abbreviation.
fn lower_case(purpose: &str) -> String {
    let mut letters = purpose.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => {
            format!("{}{}", first.to_lowercase(), letters.as_str())
        }
        _ => purpose.to_owned(),
    }
}

/// One line for each thing that can be typed.
fn usages(command: &mut Command) -> Vec<String> {
    let names: Vec<String> =
        command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let mut usages = Vec::new();
    for name in names.iter().filter(|name| *name != "help") {
        let subcommand = command.find_subcommand_mut(name).expect("it was just listed");
        usages.push(usage(subcommand));
    }
    if usages.is_empty() {
        usages.push(usage(command));
    }
    usages
}

fn usage(command: &mut Command) -> String {
    command.render_usage().to_string().trim_start_matches("Usage: ").replace("\n       ", "\n")
}

fn description(command: &Command) -> String {
    let text = command.get_long_about().or_else(|| command.get_about());
    let text = text.map(ToString::to_string).unwrap_or_default();
    // Help texts of one line have no full stop.
    if text.ends_with('.') { text } else { format!("{text}.") }
}

/// Arguments first, then options; those that every command takes stand only once, with the program.
fn describe_arguments(page: &mut Page, command: &Command) {
    let arguments = command.get_arguments().filter(|argument| !argument.is_hide_set());
    let of_its_own = |argument: &&Arg| {
        command.get_bin_name().is_none_or(|name| !name.contains(' '))
            || (argument.get_id() != "help" && argument.get_id() != "version")
    };
    let (positional, options): (Vec<&Arg>, Vec<&Arg>) =
        arguments.filter(of_its_own).partition(|argument| argument.is_positional());
    for argument in positional.into_iter().chain(options) {
        let help = argument.get_long_help().or_else(|| argument.get_help());
        let mut help = help.map(ToString::to_string).unwrap_or_default();
        if !help.ends_with('.') {
            help.push('.');
        }
        let default = argument.get_default_values();
        if !default.is_empty() && argument.get_action().takes_values() {
            let default: Vec<_> = default.iter().map(|value| value.to_string_lossy()).collect();
            help.extend([" The default is ", &default.join(" "), "."]);
        }
        page.entry(term(argument), &help);
    }
}

/// `-h, --help` or `--relay HOST[:PORT]`
fn term(argument: &Arg) -> Vec<Inline> {
    let mut term = Vec::new();
    if let Some(short) = argument.get_short() {
        term.push(bold(format!("-{short}")));
    }
    if let Some(long) = argument.get_long() {
        if !term.is_empty() {
            term.push(roman(", "));
        }
        term.push(bold(format!("--{long}")));
    }
    if argument.get_action().takes_values() || argument.is_positional() {
        for name in argument.get_value_names().unwrap_or_default() {
            if !term.is_empty() {
                term.push(roman(" "));
            }
            term.push(value(name));
        }
    }
    term
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As it stands in a page.
    fn escaped(text: &str) -> String {
        text.replace('-', r"\-")
    }

    fn flags(command: &Command) -> Vec<String> {
        let own = command
            .get_arguments()
            .filter(|argument| !argument.is_hide_set())
            .filter_map(|argument| argument.get_long().map(|long| format!("--{long}")));
        own.chain(command.get_subcommands().flat_map(flags)).collect()
    }

    #[test]
    fn every_flag_and_command_stands_in_the_page_and_is_completed() {
        for program in all() {
            let page = program.page();
            let command = program.command();
            let flags = flags(&command);
            assert!(flags.len() > 2, "{}: {flags:?}", program.name);
            let bash = {
                let mut script = Vec::new();
                clap_complete::generate(
                    Shell::Bash,
                    &mut program.command(),
                    program.name,
                    &mut script,
                );
                String::from_utf8(script).unwrap()
            };
            for flag in flags {
                let entry = format!(".TP\n\\fB{}\\fR", escaped(&flag));
                let with_short = format!(", \\fB{}\\fR", escaped(&flag));
                assert!(page.contains(&entry) || page.contains(&with_short), "{flag}\n{page}");
                assert!(bash.contains(&flag), "{flag}");
            }
            for subcommand in command.get_subcommands().map(Command::get_name) {
                let heading = format!(".SS \"{} {subcommand}\"", program.name);
                assert!(subcommand == "help" || page.contains(&heading), "{heading}\n{page}");
            }
        }
    }
}
