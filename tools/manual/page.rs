//! A manual page under way: what all pages have in common.

use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

/// Writes a page for man(1).
pub(crate) struct Page(Roff);

impl Page {
    /// Begins with the section NAME.
    pub(crate) fn new(title: &str, section: &str, purpose: &str) -> Self {
        let mut roff = Roff::new();
        let source = concat!("msrprelay ", env!("CARGO_PKG_VERSION"));
        roff.control("TH", [title, section, "", source, "MSRP relay"]);
        // A command line that is copied from the page must not have been hyphenated.
        roff.control("nh", []);
        roff.control("ad", ["l"]);
        let mut page = Self(roff);
        page.section("NAME");
        page.0.text([roman(format!("{title} - {purpose}"))]);
        page
    }

    pub(crate) fn section(&mut self, name: &str) {
        self.0.control("SH", [name]);
    }

    pub(crate) fn subsection(&mut self, name: &str) {
        self.0.control("SS", [name]);
    }

    /// Paragraphs, separated by empty lines.
    pub(crate) fn text(&mut self, text: &str) {
        for paragraph in text.split("\n\n") {
            self.0.control("PP", []);
            self.0.text(marked(paragraph));
        }
    }

    /// A term and what it means.
    pub(crate) fn entry(&mut self, term: impl IntoIterator<Item = Inline>, text: &str) {
        self.0.control("TP", []);
        self.0.text(term.into_iter().collect::<Vec<_>>());
        let mut paragraphs = text.split("\n\n");
        self.0.text(marked(paragraphs.next().unwrap_or_default()));
        for paragraph in paragraphs {
            self.0.control("IP", []);
            self.0.text(marked(paragraph));
        }
    }

    /// Lines that stand as they are.
    pub(crate) fn verbatim(&mut self, lines: &str) {
        self.0.control("PP", []);
        self.0.control("RS", ["4"]);
        self.0.control("nf", []);
        for line in lines.lines() {
            self.0.text([roman(line)]);
        }
        self.0.control("fi", []);
        self.0.control("RE", []);
    }

    /// What a help text ends with: headings with indented lines below them.
    pub(crate) fn remarks(&mut self, text: &str) {
        for block in text.split("\n\n") {
            let (heading, lines) = block.split_once('\n').unwrap_or((block, ""));
            self.section(&heading.trim_end_matches(':').to_uppercase());
            let lines: Vec<&str> = lines.lines().map(str::trim_start).collect();
            self.verbatim(&lines.join("\n"));
        }
    }

    pub(crate) fn see_also(&mut self, pages: &[&str]) {
        self.section("SEE ALSO");
        let mut text = Vec::new();
        for page in pages {
            let (name, section) = page.split_once('(').unwrap_or((page, ""));
            if !text.is_empty() {
                text.push(roman(", "));
            }
            text.extend([bold(name), roman(format!("({section}"))]);
        }
        self.0.text(text);
    }

    pub(crate) fn finish(self) -> String {
        self.0.to_roff()
    }
}

/// Text with what is typed in bold: what stands between backticks, and flags.
fn marked(text: &str) -> Vec<Inline> {
    let mut inlines = Vec::new();
    for (index, part) in text.split('`').enumerate() {
        if index % 2 == 1 {
            inlines.push(bold(part));
            continue;
        }
        for word in part.split_inclusive(char::is_whitespace) {
            let flag = word.trim_end_matches(|c: char| c.is_whitespace() || ".,;:)".contains(c));
            let leading = flag.trim_start_matches('(');
            if leading.starts_with("--") {
                inlines.push(roman(&flag[..flag.len() - leading.len()]));
                inlines.push(bold(leading));
                inlines.push(roman(word[flag.len()..].replace('\n', " ")));
            } else {
                inlines.push(roman(word.replace('\n', " ")));
            }
        }
    }
    inlines
}

/// `NAME` as the value of an option or argument.
pub(crate) fn value(name: &str) -> Inline {
    italic(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_bold() {
        let mut roff = Roff::new();
        roff.text(marked("Needs --key (or --no-tls), and `x y`."));
        let text = roff.to_roff();
        for bold in [r"\fB\-\-key\fR", r"\fB\-\-no\-tls\fR), and", r"\fBx y\fR."] {
            assert!(text.contains(bold), "{bold} in {text}");
        }
    }
}
