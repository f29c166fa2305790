//! Links between documents: the file is there, and the heading in it.

use std::collections::BTreeSet;

use super::pages::{Page, pages, root};

/// As they are made of headings: small letters, spaces as dashes, nothing else but letters, digits and dashes.
fn anchors(page: &Page) -> BTreeSet<String> {
    let headings = page.prose().filter_map(|(_, line)| line.strip_prefix('#'));
    let anchor = |heading: &str| -> String {
        let kept = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
    };
    headings.map(anchor).collect()
}

/// Targets that are on no other host.
fn targets(page: &Page) -> Vec<(usize, String)> {
    let of_line = |(number, line): (usize, &str)| {
        let links = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        let own = links.map(|(target, _)| target.to_owned()).filter(|target| !target.contains("://"));
        own.map(|target| (number, target)).collect::<Vec<_>>()
    };
    page.prose().flat_map(of_line).collect()
}

#[test]
fn links_lead_somewhere() {
    let pages = pages();
    for page in &pages {
        let dir = root().join(&page.name).parent().expect("a folder").to_owned();
        for (line, target) in targets(page) {
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let path = if file.is_empty() { root().join(&page.name) } else { dir.join(file) };
            assert!(path.exists(), "{}:{line}: {target}", page.name);
            let path = path.canonicalize().expect("it exists");
            let linked =
                pages.iter().find(|page| root().join(&page.name).canonicalize().is_ok_and(|own| own == path));
            let is_there = anchor.is_empty() || linked.is_some_and(|linked| anchors(linked).contains(anchor));
            assert!(is_there, "{}:{line}: no heading for {target}", page.name);
        }
    }
}
