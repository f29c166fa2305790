//! Patterns for names: `*` stands for any text, `?` for one character. Everything else means itself.

/// A pattern.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(Vec<char>);

impl Pattern {
    /// Every text is one.
    pub(crate) fn new(text: &str) -> Pattern {
        Pattern(text.chars().collect())
    }

    /// Whether all of `text` is like it. Takes no more than the product of both lengths.
    pub(crate) fn fits(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let (mut at, mut seen) = (0, 0);
        // Where the last star is, and how much of the text it has taken.
        let mut star = None;
        while seen < text.len() {
            match self.0.get(at) {
                Some('*') => {
                    star = Some((at, seen));
                    at += 1;
                }
                Some(&c) if c == '?' || c == text[seen] => (at, seen) = (at + 1, seen + 1),
                _ => match star {
                    Some((place, taken)) => {
                        star = Some((place, taken + 1));
                        (at, seen) = (place + 1, taken + 1);
                    }
                    None => return false,
                },
            }
        }
        self.0[at..].iter().all(|c| *c == '*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        let fits = |pattern, text| Pattern::new(pattern).fits(text);
        for (pattern, text) in [
            ("*", ""),
            ("", ""),
            ("hello-*", "hello-2.12"),
            ("*-2.1?", "hello-2.12"),
            ("*o*o*", "foo"),
            ("h*", "h"),
        ] {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("", "a"), ("hello", "hello-2"), ("?", ""), ("*x", "hello"), ("a?c", "ac"), ("[ab]", "a")]
        {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_ages() {
        let pattern = Pattern::new(&"*a".repeat(40));
        assert!(!pattern.fits(&"a".repeat(39)) && pattern.fits(&"a".repeat(200)));
    }
}
