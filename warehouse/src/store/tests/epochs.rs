//! Tokens of an earlier epoch: whatever was known under one moves, whatever comes with one means another, and a retraction
//! reaches both, in whichever order it is all told.

use super::*;

/// Ann and Bob in the two epochs before.
const ANN_BEFORE: Token = [0xa1; 16];
const BOB_BEFORE: Token = [0xb1; 16];
const ANN_FIRST: Token = [0xa0; 16];

fn renewed(patients: u64) -> Renewals {
    Renewals { patients, ..Renewals::default() }
}

#[test]
fn what_is_known_under_a_former_token_moves_and_what_comes_later_with_it_follows() {
    let mut scene = Scene::new();
    let before = [(ANN_BEFORE, 1.5), (BOB_BEFORE, 2.5)];
    let _ = scene.apply(&Sent::extract("A81001", 1, 1, &before));
    let _ = scene.apply(&Sent::extract("B82002", 1, 1, &[(ANN_BEFORE, 3.5)]));
    let _ = scene.apply(&Sent::extract("B82002", 2, 1, &[(ANN_BEFORE, 4.5)]).of("other"));
    // Told by one site, in one module: it is so for all of them.
    let now = [(ANN, 5.5)];
    let telling = Sent::extract("C83003", 1, 5, &now).telling(&[ANN_BEFORE]);
    assert_eq!(scene.renewals(&telling), renewed(1));
    assert_eq!(scene.values_under(&ANN), [1.5, 3.5, 5.5]);
    assert_eq!((scene.values_under(&ANN_BEFORE).len(), scene.values_under(&BOB_BEFORE).len()), (0, 1));
    assert_eq!(scene.store.tables().unwrap()[1].patients, 1);
    assert_eq!((scene.count("patient"), scene.count("link")), (5, 5));
    // A site that has not heard of the new epoch yet.
    let _ = scene.apply(&Sent::extract("D84004", 1, 6, &[(ANN_BEFORE, 6.5)]));
    assert_eq!(scene.values_under(&ANN), [1.5, 3.5, 5.5, 6.5]);
    // The same word again changes nothing.
    let again = Sent::extract("A81001", 3, 7, &now).telling(&[ANN_BEFORE]);
    assert_eq!(scene.renewals(&again), renewed(0));
    // A retraction under the new token finds everything, in its module.
    assert_eq!(
        scene.apply(&Sent::retraction("D84004", 2, 8, &[(ANN, 0.0)])),
        Applied::Deleted { patients: 1, rows: 4 }
    );
    assert_eq!(scene.rows(), []);
    assert_eq!(scene.rows_of("other/events"), [of("B82002", 4.5)]);
}

#[test]
fn a_retraction_under_the_former_token_reaches_what_has_moved_and_keeps_out_the_new_one() {
    let mut scene = Scene::new();
    let _ = scene.apply(&Sent::extract("A81001", 1, 1, &[(ANN_BEFORE, 1.5)]));
    let now = [(ANN, 2.5)];
    let _ = scene.apply(&Sent::extract("B82002", 1, 5, &now).telling(&[ANN_BEFORE]));
    assert_eq!(
        scene.apply(&Sent::retraction("A81001", 2, 6, &[(ANN_BEFORE, 0.0)])),
        Applied::Deleted { patients: 1, rows: 2 }
    );
    assert_eq!(scene.apply(&Sent::extract("B82002", 2, 7, &now)), Applied::Rows { rows: 0, retracted: 1 });
    // Withdrawn there, under either token.
    assert_eq!(
        scene.apply(&Sent::extract("A81001", 3, 8, &[(ANN_BEFORE, 3.5)])),
        Applied::Rows { rows: 1, retracted: 0 }
    );
    assert_eq!(scene.apply(&Sent::extract("B82002", 3, 9, &now)), Applied::Rows { rows: 1, retracted: 0 });
    assert_eq!(scene.values_under(&ANN), [2.5, 3.5]);
}

#[test]
fn after_a_deletion_neither_token_is_anywhere_and_the_former_one_brings_nobody_back() {
    let mut scene = Scene::new();
    let before: Vec<(Token, f64)> = (0..2_000_u32)
        .map(|number| {
            let mut token = [9; 16];
            token[..4].copy_from_slice(&number.to_be_bytes());
            (token, 0.5)
        })
        .chain([(ANN_BEFORE, 1.5)])
        .collect();
    let _ = scene.apply(&Sent::extract("A81001", 1, 1, &before));
    let now = [(ANN, 2.5)];
    let _ = scene.apply(&Sent::extract("A81001", 2, 5, &now).of("other").telling(&[ANN_BEFORE]));
    let purpose = "care".parse().unwrap();
    let rekey = scene.key.purpose(&purpose, "patient");
    let tokens = [rekey.token(&ANN), rekey.token(&ANN_BEFORE), ANN, ANN_BEFORE];
    let found = |scene: &Scene, tokens: &[Token]| {
        let disk = scene.on_disk();
        disk.windows(16).filter(|window| tokens.iter().any(|token| window == token)).count()
    };
    assert!(found(&scene, &tokens) > 0, "the search would not find them");
    for module in ["m", "other"] {
        let _ =
            scene.apply(&Sent::retraction("A81001", 3 + module.len() as u64, 6, &[(ANN, 0.0)]).of(module));
    }
    scene.store.erase().unwrap();
    assert_eq!(found(&scene, &tokens), 0, "a token is left");
    assert_eq!(scene.count("renewed"), 1);
    // A courier brings what was sent before the epoch.
    let late = Sent::extract("B82002", 1, 1, &[(ANN_BEFORE, 7.5)]);
    assert_eq!(scene.apply(&late), Applied::Rows { rows: 0, retracted: 1 });
    assert_eq!(found(&scene, &tokens), 0, "a token came back");
}

#[test]
fn a_retraction_that_was_there_first_reaches_the_former_token_when_it_is_told() {
    let mut scene = Scene::new();
    let _ = scene.apply(&Sent::extract("A81001", 1, 1, &[(ANN_BEFORE, 1.5), (BOB_BEFORE, 2.5)]));
    // At a practice that never had the former token.
    assert_eq!(
        scene.apply(&Sent::retraction("B82002", 1, 5, &[(ANN, 0.0)])),
        Applied::Deleted { patients: 0, rows: 0 }
    );
    let both = [(ANN, 3.5), (BOB, 4.5)];
    let telling = Sent::extract("C83003", 1, 4, &both).telling(&[ANN_BEFORE, BOB_BEFORE]);
    let told = scene.apply_telling(&telling);
    assert_eq!(told.renewals, Renewals { rows_deleted: 1, ..renewed(2) });
    assert_eq!(told.applied, Applied::Rows { rows: 1, retracted: 1 });
    assert_eq!(scene.rows(), [of("A81001", 2.5), of("C83003", 4.5)]);
    // And it is gone from the disk before anything else is said.
    assert!(scene.store.is_erase_due().unwrap());
    scene.store.erase().unwrap();
    assert!(!scene.store.is_erase_due().unwrap());
    let stored = scene.key.purpose(&"care".parse().unwrap(), "patient").token(&ANN_BEFORE);
    assert!(!scene.on_disk().windows(16).any(|window| window == stored), "the former token is left");
}

#[test]
fn two_words_under_two_tokens_are_weighed_as_under_one() {
    let (before, now) = ([(ANN_BEFORE, 1.5)], [(ANN, 2.5)]);
    // Retracted under the former token; the site has sent the new one since: the objection was withdrawn.
    let mut scene = Scene::new();
    let _ = scene.apply(&Sent::retraction("A81001", 1, 1, &before));
    let _ = scene.apply(&Sent::extract("A81001", 2, 5, &now));
    let telling = Sent::extract("B82002", 1, 6, &now).telling(&[ANN_BEFORE]);
    assert_eq!(scene.apply(&telling), Applied::Rows { rows: 1, retracted: 0 });
    assert_eq!((scene.rows().len(), scene.count("retracted")), (2, 0));
    // Another site has: it stays out, and so does what the other had sent.
    let mut scene = Scene::new();
    let _ = scene.apply(&Sent::retraction("A81001", 1, 1, &before));
    let _ = scene.apply(&Sent::extract("B82002", 1, 5, &now));
    let telling = Sent::extract("B82002", 2, 6, &now).telling(&[ANN_BEFORE]);
    assert_eq!(scene.apply(&telling), Applied::Rows { rows: 0, retracted: 1 });
    assert_eq!((scene.rows().len(), scene.count("retracted")), (0, 1));
    // Retracted under both: the later one says when it is over.
    let mut scene = Scene::new();
    let _ = scene.apply(&Sent::retraction("A81001", 1, 7, &before));
    let _ = scene.apply(&Sent::retraction("B82002", 1, 5, &now));
    let _ = scene.apply(&Sent::extract("C83003", 1, 6, &now).telling(&[ANN_BEFORE]));
    assert_eq!(scene.count("retracted"), 1);
    assert_eq!(scene.apply(&Sent::extract("B82002", 2, 9, &now)), Applied::Rows { rows: 0, retracted: 1 });
    assert_eq!(scene.apply(&Sent::extract("A81001", 2, 9, &now)), Applied::Rows { rows: 1, retracted: 0 });
}

#[test]
fn epochs_are_followed_one_after_another_in_whichever_order_they_are_told() {
    for turned in [false, true] {
        let mut scene = Scene::new();
        let _ = scene.apply(&Sent::extract("A81001", 1, 1, &[(ANN_FIRST, 1.5)]));
        let _ = scene.apply(&Sent::extract("B82002", 1, 3, &[(ANN_BEFORE, 2.5)]));
        let (before, now) = ([(ANN_BEFORE, 3.5)], [(ANN, 4.5)]);
        let mut telling = [
            Sent::extract("C83003", 1, 5, &before).telling(&[ANN_FIRST]),
            Sent::extract("D84004", 1, 9, &now).telling(&[ANN_BEFORE]),
        ];
        if turned {
            telling.reverse();
        }
        for telling in &telling {
            assert_eq!(scene.renewals(telling), renewed(1));
        }
        assert_eq!(scene.values_under(&ANN), [1.5, 2.5, 3.5, 4.5]);
        let _ = scene.apply(&Sent::retraction("E85005", 1, 10, &[(ANN_FIRST, 0.0)]));
        assert_eq!(scene.rows(), []);
        let late = Sent::extract("A81001", 2, 2, &[(ANN_FIRST, 5.5)]);
        assert_eq!(scene.apply(&late), Applied::Rows { rows: 0, retracted: 1 });
    }
}

#[test]
fn a_bundle_that_comes_too_late_still_tells() {
    let mut scene = Scene::new();
    let _ = scene.apply(&Sent::extract("A81001", 3, 6, &[(BOB, 9.5)]));
    let _ = scene.apply(&Sent::extract("B82002", 1, 1, &[(ANN_BEFORE, 1.5)]));
    let late = Sent::extract("A81001", 2, 5, &[(ANN, 2.5)]).telling(&[ANN_BEFORE]);
    let told = scene.apply_telling(&late);
    assert_eq!((told.applied, told.renewals), (Applied::Replaced, renewed(1)));
    assert_eq!(scene.values_under(&ANN), [1.5]);
}

#[test]
fn a_site_that_lies_changes_nothing_that_was_told_and_stops_nobody() {
    let mut scene = Scene::new();
    let _ = scene.apply(&Sent::extract("A81001", 1, 1, &[(ANN_BEFORE, 1.5)]));
    let _ = scene.apply(&Sent::extract("A81001", 2, 2, &[(ANN, 2.5)]).telling(&[ANN_BEFORE]));
    // Another former token, a circle, and itself.
    let other = Sent::extract("B82002", 1, 5, &[(BOB, 3.5)]).telling(&[ANN_BEFORE]);
    assert_eq!(scene.renewals(&other), Renewals { contradicted: 1, ..Renewals::default() });
    let circle = Sent::extract("B82002", 2, 6, &[(ANN_BEFORE, 3.5)]).telling(&[ANN]);
    assert_eq!(scene.renewals(&circle), Renewals::default());
    let itself = Sent::extract("B82002", 3, 7, &[(BOB, 3.5)]).telling(&[BOB]);
    assert_eq!(scene.renewals(&itself), Renewals::default());
    // One patient twice in a bundle, under both tokens and under one.
    let twice = [(ANN, 4.5), (ANN_BEFORE, 5.5), (ANN, 6.5)];
    let applied = scene.apply(&Sent::extract("C83003", 1, 8, &twice));
    assert_eq!(applied, Applied::Rows { rows: 3, retracted: 0 });
    // Two of one bundle who become one.
    let two = [(BOB_BEFORE, 7.5), (BOB, 8.5)];
    let _ = scene.apply(&Sent::extract("D84004", 1, 8, &two));
    let _ = scene.apply(&Sent::extract("E85005", 1, 9, &[(BOB, 9.5)]).telling(&[BOB_BEFORE]));
    assert_eq!(scene.values_under(&BOB), [3.5, 7.5, 8.5, 9.5]);
}
