//! A search for what must be nowhere: each text in the forms in which bytes may hold it, in any letter case, also inside of
//! zstd frames.

use std::io::Read as _;
use std::path::Path;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder};
use anyhow::Context as _;

use crate::opened::files;

/// Texts to search for, ready.
#[derive(Debug)]
pub struct Search {
    /// As bytes, in any letter case: plain, UTF-16 and hexadecimal.
    folded: AhoCorasick,
    /// Base64, where letter case matters.
    exact: AhoCorasick,
    folded_names: Vec<String>,
    exact_names: Vec<String>,
}

/// The shortest text that can be searched for: a shorter one is found by chance.
const TEXT_BYTES_MIN: usize = 6;
/// The first bytes of a zstd frame (RFC 8878, section 3.1.1).
const ZSTD_MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
/// A frame that opens to more than this is cut off.
const FRAME_BYTES_MAX: u64 = 64 << 20;

impl Search {
    /// A search for any of these texts.
    pub fn new<'t>(texts: impl IntoIterator<Item = &'t str>) -> anyhow::Result<Self> {
        let (mut folded, mut folded_names) = (Vec::new(), Vec::new());
        let (mut exact, mut exact_names) = (Vec::new(), Vec::new());
        for text in texts {
            anyhow::ensure!(text.len() >= TEXT_BYTES_MIN, "`{text}` is too short to be searched for");
            for (form, bytes) in [
                ("plain", text.as_bytes().to_vec()),
                ("UTF-16LE", text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
                ("UTF-16BE", text.encode_utf16().flat_map(u16::to_be_bytes).collect()),
                ("hexadecimal", data_encoding::HEXLOWER.encode(text.as_bytes()).into_bytes()),
            ] {
                folded.push(bytes);
                folded_names.push(format!("`{text}` ({form})"));
            }
            for bytes in base64_forms(text.as_bytes()) {
                exact.push(bytes);
                exact_names.push(format!("`{text}` (base64)"));
            }
        }
        let build = |patterns: &[Vec<u8>], fold| {
            AhoCorasickBuilder::new().ascii_case_insensitive(fold).build(patterns).context("the search")
        };
        Ok(Self { folded: build(&folded, true)?, exact: build(&exact, false)?, folded_names, exact_names })
    }

    /// What of it is in these bytes, or in zstd frames among them; none: nothing.
    pub fn find(&self, bytes: &[u8]) -> Option<String> {
        if let Some(found) = self.find_plain(bytes) {
            return Some(found);
        }
        let starts = bytes.windows(4).enumerate().filter(|(_, four)| *four == ZSTD_MAGIC);
        starts.map(|(start, _)| opened_frame(&bytes[start..])).find_map(|frame| {
            let found = self.find_plain(&frame)?;
            Some(format!("{found} in a zstd frame"))
        })
    }

    fn find_plain(&self, bytes: &[u8]) -> Option<String> {
        let folded = self.folded.find(bytes).map(|found| &self.folded_names[found.pattern().as_usize()]);
        let exact = || self.exact.find(bytes).map(|found| &self.exact_names[found.pattern().as_usize()]);
        folded.or_else(exact).cloned()
    }

    /// Every file below a folder that holds any of it, and what; names of files count too.
    pub fn find_in_files(&self, folder: &Path) -> anyhow::Result<Vec<String>> {
        let mut found = Vec::new();
        for path in files(folder)? {
            let name = path.display().to_string();
            let bytes = std::fs::read(&path)?;
            if let Some(what) = self.find(name.as_bytes()).or_else(|| self.find(&bytes)) {
                found.push(format!("{name}: {what}"));
            }
        }
        Ok(found)
    }
}

/// What a frame holds, as far as it can be opened: it may be cut off, or not be one.
fn opened_frame(bytes: &[u8]) -> Vec<u8> {
    let mut opened = Vec::new();
    if let Ok(decoder) = zstd::stream::read::Decoder::new(bytes) {
        // What came out before an error is searched too.
        let _ = decoder.single_frame().take(FRAME_BYTES_MAX).read_to_end(&mut opened);
    }
    opened
}

/// The text's own characters in base64, for each place at which it may begin, without those that its neighbours share.
fn base64_forms(text: &[u8]) -> Vec<Vec<u8>> {
    let form = |shift: usize| {
        let shifted = [&vec![0; shift][..], text].concat();
        let encoded = data_encoding::BASE64_NOPAD.encode(&shifted).into_bytes();
        // Bits of the bytes before it are in the first characters, bits of those after it in the last.
        let first = (shift * 8).div_ceil(6);
        let last = (shift + text.len()) * 8 / 6;
        encoded[first..last].to_vec()
    };
    (0..3).map(form).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Secret-Name 7";

    #[test]
    fn it_is_found_in_every_form_and_place() {
        let search = Search::new([TEXT, "999 123 4567"]).expect("a search");
        let utf16: Vec<u8> = TEXT.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let around = |middle: &[u8]| [b"before ", middle, b" after"].concat();
        let mut hidden = vec![
            around(TEXT.as_bytes()),
            around(TEXT.to_uppercase().as_bytes()),
            around(&utf16),
            around(data_encoding::HEXUPPER.encode(TEXT.as_bytes()).as_bytes()),
            b"NHS 999 123 4567".to_vec(),
        ];
        for shift in ["", "a", "ab", "abc"] {
            let text = format!("{shift}{TEXT}, and more");
            hidden.push(around(data_encoding::BASE64.encode(text.as_bytes()).as_bytes()));
        }
        for plain in hidden.clone() {
            let frame = zstd::bulk::compress(&plain, 3).expect("a frame");
            hidden.push(around(&frame));
            // The frame is cut off, but not what is searched for.
            hidden.push(around(
                &zstd::bulk::compress(&[plain, vec![0; 1 << 20]].concat(), 3).expect("a frame"),
            ));
        }
        for bytes in &hidden {
            assert!(search.find(bytes).is_some(), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn it_is_not_found_where_it_is_not() {
        let search = Search::new([TEXT]).expect("a search");
        for bytes in [b"".as_slice(), b"Secret-Name 8", &ZSTD_MAGIC, &[0; 100]] {
            assert_eq!(search.find(bytes), None);
        }
        assert!(Search::new(["short"]).is_err());
    }
}
