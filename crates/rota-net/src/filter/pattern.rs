//! Texts in which a star stands for anything.

use memchr::memmem;

/// The pieces between the stars: at least one, and none has a star that is not meant as itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Pattern(pub(super) Vec<String>);

impl Pattern {
    /// Whether it is all of that text. It takes time in proportion to the text and to itself.
    pub(super) fn is(&self, text: &[u8]) -> bool {
        let [first, rest @ ..] = &self.0[..] else { return false };
        let Some(text) = text.strip_prefix(first.as_bytes()) else { return false };
        match rest {
            [] => text.is_empty(),
            [middle @ .., last] => find_all(text, middle).is_some_and(|text| text.ends_with(last.as_bytes())),
        }
    }

    /// The only text that it is all of; none where it has a star.
    pub(super) fn whole(&self) -> Option<&str> {
        match &self.0[..] {
            [whole] => Some(whole),
            _ => None,
        }
    }

    /// Whether it is in that text somewhere; both are in small letters.
    pub(super) fn is_in(&self, text: &[u8]) -> bool {
        find_all(text, &self.0).is_some()
    }
}

/// What of a text is left behind all of the pieces, each found after the one before; none if one is not there.
fn find_all<'a>(mut text: &'a [u8], pieces: &[String]) -> Option<&'a [u8]> {
    for piece in pieces {
        let at = memmem::find(text, piece.as_bytes())?;
        text = &text[at + piece.len()..];
    }
    Some(text)
}
