//! `refresh` and `status`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use lockgate_publish::catalogue::Catalogue;
use lockgate_publish::documents::ExpiryDays;
use lockgate_publish::keys::Keyring;
use lockgate_publish::publish;
use lockgate_publish::status::{self, Status, Verdict};
use serde_json::json;

use crate::answer::Answer;
use crate::cli::Place;
use crate::cli::edits::Refresh;
use crate::open;

/// `status` where somebody has to act.
const SOMETHING_ENDS: u8 = 4;

pub(crate) fn refresh(refresh: Refresh, now: Timestamp) -> anyhow::Result<Answer> {
    let Refresh { place, snapshot_days, timestamp_days } = refresh;
    let repository = open(place)?;
    let keys = Keyring::load(repository.keys_dir())?;
    let expiry = ExpiryDays { snapshot: snapshot_days, timestamp: timestamp_days, ..ExpiryDays::default() };
    let done = publish::refresh(&repository, &keys, expiry, now)?;
    let what = if done.snapshot { "timestamp and snapshot" } else { "timestamp" };
    Ok(Answer {
        text: format!("Signed the {what} again; the timestamp is good until {}.\n", done.expires),
        json: json!({ "snapshot": done.snapshot, "expires": done.expires, "first-end": done.first_end }),
        exit_code: 0,
    })
}

pub(crate) fn status(place: Place, now: Timestamp) -> anyhow::Result<Answer> {
    let repository = open(place)?;
    let live = publish::live(&repository)?;
    let nothing = BTreeMap::new();
    let catalogue = Catalogue::new(repository.dir(), &live, &nothing)?;
    let status = status::status(&live, &catalogue, now)?;
    let exit_code = if status.verdict == Verdict::Good { 0 } else { SOMETHING_ENDS };
    Ok(Answer { text: in_words(&status), json: serde_json::to_value(&status)?, exit_code })
}

fn in_words(status: &Status) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    for end in &status.ends {
        let (mark, remedy) = match end.verdict {
            Verdict::Good => ("      ", String::new()),
            Verdict::Soon => ("SOON  ", format!(": {}", end.remedy)),
            Verdict::Ended => ("ENDED ", format!(": {}", end.remedy)),
        };
        let _ = writeln!(text, "{mark}{} ({} days)  {}{remedy}", end.ends, end.days, end.what);
    }
    let _ = writeln!(text);
    for missing in &status.missing {
        let _ = writeln!(text, "MISSING {missing}");
    }
    for held in &status.held {
        let _ = writeln!(text, "held: {held}");
    }
    for revoked in &status.revoked {
        let _ = writeln!(text, "revoked: {revoked}");
    }
    let _ = writeln!(
        text,
        "{}",
        match status.verdict {
            Verdict::Good => "Nothing ends soon.",
            Verdict::Soon => "Something ends soon.",
            Verdict::Ended => "Something has ended, or is missing.",
        }
    );
    text
}
