//! msrprelay.ini(5): the table of options as a page.

use clap_mangen::roff::{bold, roman};
use msrprelay::{
    config::{ConfigOption, Contents},
    relay::options::sections,
};

use crate::page::{Page, value};

const DESCRIPTION: &str = "config.ini is the one file that msrprelay(8) reads. It is read at the \
start and at each reload (`msrprelayctl reload`, `systemctl reload msrprelay`, SIGHUP); a file with \
errors then changes nothing. `msrprelay --check-config` says what is wrong with a file.

Only `certificate` and `key` have to be set, and users: those of [Memory], or a database. \
/usr/share/msrprelay/config.ini.sample has every option with its default.";

const SYNTAX: &str = "Options stand in sections, each on a line of its own: `name = value` or \
`name: value`. Lines that begin with # or ; are comments; there are none behind a value. A line that \
begins with a blank continues the value above it. Nothing is quoted or escaped, but %% is read as %. \
In names - and _ are the same, in [Memory] they are not.

The section [DEFAULT] has values for all other sections but [Memory]. An empty value means: not set. \
A name of a file without / at its beginning is looked up in the directory of the configuration file, \
then in /etc/msrprelay. `msrprelay` warns of names that it does not know; a bad value, a line that is \
none of these, and an option that is set twice are errors.";

const EXAMPLE: &str = "[Relay]
certificate = tls/relay.crt
key = tls/relay.key
backend = memory

[Memory]
alice@example.com = secret";

pub(crate) fn page() -> String {
    let mut page = Page::new("msrprelay.ini", "5", "configuration of the MSRP relay");
    page.section("SYNOPSIS");
    page.text("/etc/msrprelay/config.ini");
    page.section("DESCRIPTION");
    page.text(DESCRIPTION);
    page.section("SYNTAX");
    page.text(SYNTAX);
    for section in sections() {
        page.section(&format!("[{}]", section.name));
        page.text(section.doc);
        if let Contents::Entries { example, .. } = section.contents {
            page.verbatim(example);
        }
        for option in section.options() {
            let mut term = vec![bold(option.name)];
            if !option.default.is_empty() {
                term.extend([roman(" = "), value(option.default)]);
            }
            page.entry(term, &explanation(option));
        }
    }
    page.section("EXAMPLE");
    page.verbatim(EXAMPLE);
    page.see_also(&["msrprelay(8)", "msrprelayctl(8)"]);
    page.finish()
}

/// What the option does, and the values accepted where that does not say so already.
fn explanation(option: &ConfigOption) -> String {
    let mut text = option.explanation();
    let accepted = option.accepted();
    let accepted = accepted.trim_start_matches("accepted is ");
    if !text.contains(accepted) {
        text.extend([" Accepted is ", accepted, "."]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_stands_in_the_page() {
        let page = page();
        for section in sections() {
            assert!(page.contains(&format!(".SH [{}]", section.name)), "{page}");
            for option in section.options() {
                let entry = format!(".TP\n\\fB{}\\fR", option.name);
                assert!(page.contains(&entry), "{}\n{page}", option.name);
            }
        }
    }

    /// Nobody copies an example that the relay refuses.
    #[test]
    fn the_example_is_a_good_configuration() {
        let config =
            msrprelay::relay::Config::parse(EXAMPLE, std::path::Path::new("/etc/msrprelay/x"))
                .unwrap();
        // A warning would say that [Memory] has no user.
        assert!(config.origin.warnings.is_empty(), "{:?}", config.origin.warnings);
    }
}
